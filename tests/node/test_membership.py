"""The next step from the members there are to those that were asked for."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cluster.node.membership import GIVE_UP_S, HAND_ON_AGAIN_S, HandOn, MembershipDriver, next_step
from cluster.raft.errors import ChangeRefused
from cluster.raft.membership import Configuration, objection
from cluster.state.records import Member

ABC = Configuration(("a", "b", "c"))


def _members(names: str, *, leaving: str = "", learners: str = "") -> dict[str, Member]:
    return {name: Member(name, "", "", name not in learners, name in leaving) for name in names}


def test_nothing_is_to_be_done() -> None:
    assert next_step(_members("abc"), ABC, "a", lambda _: True) is None


def test_a_new_member_learns_and_votes_once_it_is_filled() -> None:
    members = _members("abcd", learners="d")
    learning = next_step(members, ABC, "a", lambda _: False)
    assert learning == ABC.with_learner("d")
    assert next_step(members, learning, "a", lambda _: False) is None
    assert next_step(members, learning, "a", lambda _: True) == Configuration(("a", "b", "c", "d"))


def test_a_member_that_leaves_is_taken_out_and_a_leader_hands_on_first() -> None:
    assert next_step(_members("abc", leaving="c"), ABC, "a", lambda _: True) == Configuration(("a", "b"))
    assert next_step(_members("abc", leaving="a"), ABC, "a", lambda _: True) == HandOn()


@given(st.sets(st.sampled_from("abcdef"), min_size=1), st.sets(st.sampled_from("abcdef")))
def test_every_step_is_permitted_and_the_steps_end_where_they_should(voters: set[str], wanted: set[str]) -> None:
    configuration = Configuration(tuple(sorted(voters)))
    leader = min(voters)
    members = _members("".join(sorted({*wanted, leader})))
    for _ in range(20):
        step = next_step(members, configuration, leader, lambda _: True)
        if step is None:
            break
        assert isinstance(step, Configuration)
        assert objection(configuration, step) is None
        configuration = step
    assert configuration.voters == tuple(sorted({*wanted, leader}))


class _Engine:
    member_id = "a"
    transferring = False

    def __init__(self) -> None:
        self.configuration = ABC
        self.asked: list[object] = []
        self.refuses = False

    def is_filled(self, member_id: str) -> bool:
        return True

    def change_configuration(self, new: Configuration) -> None:
        if self.refuses:
            raise ChangeRefused("another change is under way")
        self.asked.append(new)

    def transfer_leadership(self, member_id: str | None = None) -> None:
        self.asked.append(("transfer", member_id))


class _Driven:
    """A driver with its time in the test's hand."""

    def __init__(self, members: dict[str, Member]) -> None:
        self.engine = _Engine()
        self.members = members
        self.now = 100.0
        self.settled: list[tuple[str, bool]] = []
        self.driver = MembershipDriver(
            self.engine, lambda: self.members, lambda: self.now, lambda *settled: self.settled.append(settled)
        )

    def step(self, seconds: float = 0.0) -> None:
        self.now += seconds
        self.driver.step()


def test_the_driver_asks_the_engine_and_keeps_the_reason_of_a_refusal() -> None:
    driven = _Driven(_members("abc", leaving="c"))
    driven.step()
    assert driven.engine.asked == [Configuration(("a", "b"))]
    driven.engine.refuses = True
    driven.step()
    assert driven.driver.refused == "another change is under way"


def test_a_removal_that_can_not_be_made_is_given_up() -> None:
    driven = _Driven(_members("abc", leaving="c"))
    driven.engine.refuses = True
    driven.step()
    driven.step(GIVE_UP_S - 0.1)
    assert driven.settled == []
    driven.step(0.2)
    assert driven.settled == [("c", False)]
    driven.members = _members("abc")
    driven.step()
    driven.members = _members("abc", leaving="c")
    driven.step(GIVE_UP_S)
    assert driven.settled == [("c", False)], "the next one has its time"


def test_a_removal_of_one_that_no_configuration_has_is_over() -> None:
    driven = _Driven(_members("abcd", leaving="d", learners="d"))
    driven.step()
    driven.step(GIVE_UP_S)
    assert driven.settled == [("d", True)]
    assert driven.engine.asked == []


def test_another_leader_begins_to_count_anew() -> None:
    driven = _Driven(_members("abc", leaving="c"))
    driven.engine.refuses = True
    driven.step()
    driven.driver.pause()
    driven.step(GIVE_UP_S)
    assert driven.settled == []


def test_leadership_is_not_handed_on_all_the_time() -> None:
    driven = _Driven(_members("abc", leaving="a"))
    driven.step()
    driven.step(0.1)
    assert driven.engine.asked == [("transfer", None)]
    driven.step(HAND_ON_AGAIN_S)
    assert driven.engine.asked == 2 * [("transfer", None)]
