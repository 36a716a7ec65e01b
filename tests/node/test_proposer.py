"""The proposer against a scripted engine: groups, bounds, hand-over again, deadlines, one answer each."""

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.node.proposer import Cause, CommandTooLarge, Proposer, ProposerLimits, QueueFull, Unavailable
from cluster.raft.messages import Group

SMALL = ProposerLimits(group_commands_max=4, group_bytes_max=100, group_cost_max=10, queue_commands_max=20)


class ScriptedEngine:
    """Takes groups, or says no; applies when told to. Payloads are tuples of commands, joined by a zero byte."""

    def __init__(self, limits: ProposerLimits = SMALL) -> None:
        self.now = 100.0
        self.takes = True
        self.handed: list[tuple[bytes, list[bytes]]] = []
        self.soon: list[Callable[[], None]] = []
        self.answers: dict[bytes, list[object]] = {}
        self._drawn = 0
        self.proposer: Proposer[str] = Proposer(
            limits=limits,
            pack=b"\0".join,
            hand_over=self._hand_over,
            monotonic=lambda: self.now,
            random_bytes=self._random_bytes,
            call_soon=self.soon.append,
        )

    def _hand_over(self, group: Group) -> bool:
        self.handed.append((group.group_id, group.payload.split(b"\0")))
        return self.takes

    def _random_bytes(self, count: int) -> bytes:
        self._drawn += 1
        return self._drawn.to_bytes(count, "big")

    def submit(self, *commands: bytes, cost: int = 1, within: float = 10.0) -> None:
        for command in commands:
            answers = self.answers.setdefault(command, [])
            self.proposer.submit(command, cost, self.now + within, answers.append)

    def run_soon(self) -> None:
        while self.soon:
            self.soon.pop(0)()

    def after(self, seconds: float) -> None:
        self.now += seconds
        self.proposer.tick()
        self.run_soon()

    def apply(self, number: int) -> None:
        """Apply the group of that hand-over, each command answered by itself in capitals."""
        group_id, commands = self.handed[number]
        self.proposer.applied(group_id, [command.decode().upper() for command in commands])
        self.run_soon()

    def contents(self) -> list[list[bytes]]:
        return [commands for _, commands in self.handed]


def test_a_command_is_handed_over_at_once_and_answered_by_the_own_apply() -> None:
    engine = ScriptedEngine()
    engine.submit(b"a")
    assert engine.handed == []  # never from within the caller's stack
    engine.run_soon()
    assert engine.contents() == [[b"a"]]
    engine.apply(0)
    assert engine.answers == {b"a": ["A"]}
    assert (engine.proposer.unanswered, engine.proposer.groups_in_flight) == (0, 0)


def test_what_arrives_in_one_turn_goes_in_one_group() -> None:
    engine = ScriptedEngine()
    engine.submit(b"a", b"b", b"c")
    engine.run_soon()
    assert engine.contents() == [[b"a", b"b", b"c"]]


def test_beyond_the_groups_in_flight_commands_accumulate_until_one_is_applied() -> None:
    engine = ScriptedEngine()
    for command in (b"a", b"b", b"c", b"d"):
        engine.submit(command)
        engine.run_soon()
    assert engine.contents() == [[b"a"], [b"b"]]
    engine.apply(1)
    assert engine.contents() == [[b"a"], [b"b"], [b"c", b"d"]]


def test_groups_are_bounded_by_count() -> None:
    engine = ScriptedEngine()
    engine.submit(*(bytes([letter]) for letter in b"abcdefg"))
    engine.run_soon()
    assert [len(commands) for commands in engine.contents()] == [4, 3]


def test_groups_are_bounded_by_bytes() -> None:
    engine = ScriptedEngine()
    engine.submit(b"a" * 60, b"b" * 60)
    engine.run_soon()
    assert [len(commands) for commands in engine.contents()] == [1, 1]


def test_groups_are_bounded_by_cost_and_a_dear_command_goes_alone() -> None:
    engine = ScriptedEngine(ProposerLimits(group_cost_max=10, groups_in_flight_max=9))
    engine.submit(b"a", b"b", cost=5)
    engine.submit(b"dear", cost=1000)
    engine.submit(b"c")
    engine.run_soon()
    assert engine.contents() == [[b"a", b"b"], [b"dear"], [b"c"]]


def test_a_command_that_no_group_can_hold_is_refused() -> None:
    engine = ScriptedEngine()
    with pytest.raises(CommandTooLarge):
        engine.submit(b"x" * 101)
    assert engine.proposer.unanswered == 0


def test_a_full_queue_refuses_and_takes_again_once_answered() -> None:
    engine = ScriptedEngine()
    engine.submit(*(b"%d" % number for number in range(20)))
    engine.run_soon()
    with pytest.raises(QueueFull):
        engine.submit(b"one more")
    engine.apply(0)
    engine.submit(b"x")


def test_the_queue_is_bounded_in_bytes_and_gives_back_what_it_held() -> None:
    engine = ScriptedEngine(ProposerLimits(group_bytes_max=100, queue_bytes_max=200, groups_in_flight_max=1))
    engine.submit(b"a" * 100, b"b" * 100, within=1.0)
    engine.run_soon()
    with pytest.raises(QueueFull):
        engine.submit(b"c")
    engine.after(1.0)
    engine.submit(b"d" * 100, b"e" * 100)


def test_the_same_group_is_handed_over_again_to_a_new_leader() -> None:
    engine = ScriptedEngine()
    engine.submit(b"a")
    engine.run_soon()
    engine.proposer.leader_changed(None)
    engine.run_soon()
    assert len(engine.handed) == 1
    engine.proposer.leader_changed("b2")
    assert len(engine.handed) == 1  # not from within the engine's stack
    engine.run_soon()
    assert engine.handed[0] == engine.handed[1]


def test_the_same_group_is_handed_over_again_after_a_snapshot() -> None:
    engine = ScriptedEngine()
    engine.submit(b"a")
    engine.run_soon()
    engine.proposer.snapshot_installed()
    engine.run_soon()
    assert engine.handed[0] == engine.handed[1]


def test_silence_is_bounded_and_doubles() -> None:
    engine = ScriptedEngine()
    engine.submit(b"a", within=30.0)
    engine.run_soon()
    times = []
    for _ in range(1000):
        before = len(engine.handed)
        engine.after(0.01)
        if len(engine.handed) > before:
            times.append(round(engine.now - 100.0, 2))
    assert times == pytest.approx([0.4, 1.2, 2.8, 6.0, 9.2], abs=0.06)


def test_a_refused_group_comes_again_soon() -> None:
    engine = ScriptedEngine()
    engine.submit(b"a")
    engine.run_soon()
    engine.proposer.refused(engine.handed[0][0])
    engine.after(0.01)
    assert len(engine.handed) == 1
    engine.after(0.8)
    assert len(engine.handed) == 2
    engine.proposer.refused(b"unknown")


def test_without_a_leader_it_tries_again_until_one_takes_it() -> None:
    engine = ScriptedEngine()
    engine.takes = False
    engine.submit(b"a")
    engine.run_soon()
    engine.after(0.05)
    engine.after(0.1)
    assert len(engine.handed) == 3
    engine.takes = True
    engine.after(0.2)
    engine.apply(3)
    assert engine.answers == {b"a": ["A"]}


def test_a_group_never_changes_under_its_id_when_a_command_in_it_expires() -> None:
    """Results are matched by place: a late application of the first hand-over must still fit."""
    engine = ScriptedEngine()
    engine.submit(b"a", within=0.3)
    engine.submit(b"b", within=10.0)
    engine.run_soon()
    engine.after(0.5)
    assert engine.answers == {b"a": [Unavailable(Cause.DEADLINE)], b"b": []}
    assert engine.handed[1] == engine.handed[0]
    engine.apply(0)
    assert engine.answers == {b"a": [Unavailable(Cause.DEADLINE)], b"b": ["B"]}


def test_a_group_whose_commands_all_expired_is_dropped() -> None:
    engine = ScriptedEngine()
    engine.submit(b"a", within=0.3)
    engine.run_soon()
    engine.after(0.3)
    assert engine.proposer.groups_in_flight == 0
    engine.after(60.0)
    assert len(engine.handed) == 1
    engine.apply(0)
    assert engine.answers == {b"a": [Unavailable(Cause.DEADLINE)]}


def test_commands_expire_while_they_wait_for_a_group() -> None:
    engine = ScriptedEngine(ProposerLimits(groups_in_flight_max=1))
    engine.submit(b"a", within=10.0)
    engine.run_soon()
    engine.submit(b"b", within=20.0)
    engine.submit(b"c", within=0.5)
    engine.after(0.5)
    assert engine.answers[b"c"] == [Unavailable(Cause.DEADLINE)]
    engine.apply(0)
    assert engine.contents()[-1] == [b"b"]


def test_foreign_and_repeated_applications_answer_nothing_twice() -> None:
    engine = ScriptedEngine()
    engine.submit(b"a")
    engine.run_soon()
    engine.proposer.applied(b"f" * 16, ["X"])
    engine.apply(0)
    engine.apply(0)
    assert engine.answers == {b"a": ["A"]}


def test_a_callback_that_raises_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    engine = ScriptedEngine()

    def broken(outcome: object) -> None:
        raise RuntimeError("no")

    engine.submit(b"a")
    engine.proposer.submit(b"b", 1, 200.0, broken)
    engine.submit(b"c")
    engine.run_soon()
    engine.apply(0)
    assert (engine.answers[b"a"], engine.answers[b"c"]) == (["A"], ["C"])
    assert "RuntimeError" in caplog.text


def test_a_leader_that_applies_within_the_hand_over() -> None:
    engine = ScriptedEngine()

    def apply_at_once(group: Group) -> bool:
        engine.proposer.applied(group.group_id, ["done"])
        return True

    engine.proposer._hand_over = apply_at_once
    engine.submit(b"a")
    engine.run_soon()
    assert engine.answers == {b"a": ["done"]}
    assert engine.proposer.groups_in_flight == 0


def test_stop_answers_everything_once_and_what_comes_after_too() -> None:
    engine = ScriptedEngine(ProposerLimits(groups_in_flight_max=1))
    engine.submit(b"a")
    engine.run_soon()
    engine.submit(b"b")
    engine.proposer.stop()
    engine.submit(b"c")
    engine.run_soon()
    stopped = [Unavailable(Cause.STOPPED)]
    assert engine.answers == {b"a": stopped, b"b": stopped, b"c": stopped}
    engine.apply(0)
    assert engine.answers[b"a"] == stopped
    assert engine.proposer.unanswered == 0


STEP = st.one_of(
    st.tuples(st.just("submit"), st.integers(0, 30)),
    st.tuples(st.just("apply"), st.integers(0, 50)),
    st.tuples(st.just("refuse"), st.integers(0, 50)),
    st.tuples(st.sampled_from(["leader", "none", "snapshot", "takes", "refuses"]), st.just(0)),
    st.tuples(st.just("wait"), st.sampled_from([1, 10, 50, 400])),
)


@given(st.lists(STEP, max_size=80))
def test_any_history_answers_each_command_exactly_once(steps: Sequence[tuple[str, int]]) -> None:
    engine = ScriptedEngine()
    actions: dict[str, Callable[[], None]] = {
        "leader": lambda: engine.proposer.leader_changed("b2"),
        "none": lambda: engine.proposer.leader_changed(None),
        "snapshot": engine.proposer.snapshot_installed,
        "takes": lambda: setattr(engine, "takes", True),
        "refuses": lambda: setattr(engine, "takes", False),
    }
    submitted = 0
    for what, number in steps:
        if what == "submit":
            try:
                engine.submit(b"%d" % submitted, cost=1 + number % 12, within=number / 10)
                submitted += 1
            except QueueFull:
                engine.answers.pop(b"%d" % submitted)
        elif what in {"apply", "refuse"} and number < len(engine.handed):
            if what == "apply":
                engine.apply(number)
            else:
                engine.proposer.refused(engine.handed[number][0])
        elif what == "wait":
            engine.after(number / 1000)
        elif what in actions:
            actions[what]()
    engine.after(10.0)
    engine.after(0.0)
    assert [len(answers) for answers in engine.answers.values()] == [1] * submitted
    assert (engine.proposer.unanswered, engine.proposer.groups_in_flight, engine.proposer._held_bytes) == (0, 0, 0)
