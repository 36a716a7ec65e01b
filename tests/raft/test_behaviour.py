"""How a cluster behaves: elections, transfers, time, disagreement, and what a chance network may do to it."""

from __future__ import annotations

from collections import Counter

import pytest

from cluster.raft.agreement import CHECKPOINT
from cluster.raft.engine import RaftSettings
from cluster.raft.errors import Diverged, FrameRefused
from cluster.raft.messages import (
    Append,
    AppendReply,
    Heartbeat,
    HeartbeatReply,
    PreVote,
    PreVoteRequest,
    Refused,
    TimeoutNow,
    VoteRequest,
)
from cluster.raft.timestamps import FOLLOWER_LEAD_MS_MAX
from datastore.files import RealFiles
from datastore.journal import Journal
from tests.raft.stage import IDENTITY, START_INDEX, Letter, Stage, entries, entry, group, member


# -- elections --------------------------------------------------------------------------------------------------------
def test_three_members_elect_one_leader_by_themselves() -> None:
    stage = Stage("abc")
    stage.run(3.0)
    assert Counter(actor.engine.status().role for actor in stage.actors.values()) == {"leader": 1, "follower": 2}
    assert all(actor.engine.status().quorum for actor in stage.actors.values())
    assert {actor.leaders[-1] for actor in stage.actors.values()} == {stage["a"].engine.status().leader}


def test_after_the_leaders_death_another_takes_over_with_all_that_was_committed() -> None:
    stage = Stage("abc")
    stage.elect("a")
    stage.propose("a", b"x", b"y")
    stage.isolate("a")
    stage.run(4.0)
    leader = next(name for name in "bc" if stage[name].is_leader)
    assert stage[leader].machine.payloads == [b"x", b"y"]
    stage.propose(leader, b"z")
    stage.heal()
    stage.run(1.0)
    assert [actor.machine.payloads for actor in stage.actors.values()] == [[b"x", b"y", b"z"]] * 3


def test_a_leader_whose_disk_never_answers_makes_room() -> None:
    stage = Stage("abc")
    a = stage.elect("a")
    a.disk_hangs = True
    stage.propose("b", b"x")
    stage.run(4.0)
    assert not a.is_leader
    leader = next(name for name in "bc" if stage[name].is_leader)
    stage.network.clear()
    stage.propose(leader, b"y")
    stage.run(1.0)
    assert stage[leader].machine.payloads[-1] == b"y"
    a.disk_hangs = False
    stage.run(1.0)
    assert a.machine.payloads == stage[leader].machine.payloads


def test_what_a_deposed_leader_alone_holds_is_taken_back() -> None:
    stage = Stage("abc")
    a = stage.elect("a")
    stage.isolate("a")
    a.engine.hand_over(group(b"never committed"))
    stage.settle()
    stage.elect("b")
    stage.propose("b", b"committed")
    stage.heal()
    stage.run(1.0)
    assert [actor.machine.payloads for actor in stage.actors.values()] == [[b"committed"]] * 3
    assert stage["a"].log == stage["b"].log


def test_a_pre_vote_is_denied_to_a_log_behind_and_tells_a_newer_term() -> None:
    stage = Stage("a", "abc")
    stage.say("b", "a", Append(1, 0, 1, entries(4, b"2")), 4)
    stage.run(2.0)
    stage.network.clear()
    stage.say("c", "a", PreVoteRequest(9, 1, 0), 3)
    stage.say("c", "a", PreVoteRequest(4, 9, 4), 3)
    stage.say("c", "a", PreVoteRequest(9, 2, 4), 3)
    answers = [letter.frame for letter in stage.network if isinstance(letter.body, PreVote)]
    assert [(answer.term, answer.body) for answer in answers] == [
        (4, PreVote(9, False)),
        (4, PreVote(4, False)),
        (4, PreVote(9, True)),
    ]
    assert stage["a"].engine.status().term == 4


def test_a_candidate_of_an_old_term_catches_up_by_a_denial() -> None:
    stage = Stage("a", "abc")
    stage.run(2.0)
    stage.say("b", "a", PreVote(1, False), 7)
    assert stage["a"].engine.status().term == 7


def test_members_of_different_terms_without_a_leader_come_together() -> None:
    stage = Stage("abc")
    for name, term in (("a", 9), ("b", 2), ("c", 5)):
        stage[name].core.enter()
        stage[name].core.step_down(term)
    stage.isolate("c")
    stage.run(6.0)
    assert any(stage[name].is_leader for name in "ab")


def test_a_restart_does_not_help_against_a_live_leader() -> None:
    stage = Stage("a", "abc")
    stage.say("b", "a", Append(1, 0, 1, ()), 1)
    stage.settle()
    stage["a"].crash()
    stage.network.clear()
    stage.say("c", "a", PreVoteRequest(2, 5, 1), 1)
    stage.say("c", "a", VoteRequest(5, 1, transfer=False), 2)
    stage.settle()
    assert stage.bodies("c") == [PreVote(2, False)]


# -- transfer ---------------------------------------------------------------------------------------------------------
def test_a_transfer_loses_nothing() -> None:
    stage = Stage("abc")
    a = stage.elect("a")
    for number in range(30):
        if number == 10:
            a.engine.transfer_leadership(member("b"))
        for name in "abc":
            given = group(b"%s %d" % (name.encode(), number))
            if not stage[name].engine.hand_over(given):
                stage[name].refused.append(given.group_id)
        stage.run(0.02)
    stage.run(1.0)
    assert stage["b"].is_leader
    refused = {group_id for actor in stage.actors.values() for group_id in actor.refused}
    applied = stage["a"].machine.payloads
    offered = {group(b"%s %d" % (name, n)).group_id for name in (b"a", b"b", b"c") for n in range(30)}
    assert {group(payload).group_id for payload in applied} | refused == offered, "each is applied or refused by name"
    assert len(applied) == len(set(applied))
    assert len(refused) < 30
    assert stage["b"].machine.payloads == stage["c"].machine.payloads == applied


def test_a_transfer_to_nobody_ends_and_the_leader_goes_on() -> None:
    stage = Stage("abc")
    a = stage.elect("a")
    stage.isolate("c")
    a.engine.transfer_leadership(member("c"))
    stage.run(0.1)
    assert a.engine.transferring
    stage.run(1.0)
    assert a.is_leader
    assert not a.engine.transferring
    stage.propose("a", b"x")
    assert a.machine.payloads == [b"x"]


def test_only_the_leader_may_wish_for_an_election() -> None:
    stage = Stage("a", "abc")
    stage.say("b", "a", Heartbeat(), 3)
    for sender, term in (("c", 3), ("b", 2)):
        stage.say(sender, "a", TimeoutNow(), term)
    stage.settle()
    assert stage["a"].engine.status().term == 3


# -- time -------------------------------------------------------------------------------------------------------------
def test_a_leader_ahead_of_a_majority_stamps_nothing_and_hands_leadership_on() -> None:
    stage = Stage("abc")
    a = stage.elect("a")
    a.clock.offset_ms = 3_000
    stage.run(0.2)
    given = group(b"x")
    a.engine.hand_over(given)
    assert a.refused == [given.group_id]
    assert all(b"x" not in held.data for held in a.log)
    stage.run(1.0)
    assert not a.is_leader
    leader = next(actor for actor in stage.actors.values() if actor.is_leader)
    leader.engine.hand_over(group(b"y"))
    stage.run(0.1)
    assert a.machine.payloads == [b"y"]


def test_a_leader_that_has_not_heard_clocks_lately_stamps_nothing() -> None:
    stage = Stage("a", "abc")
    a = stage["a"]
    stage.lead("a")
    stage.time.now += 1.1
    a.engine.hand_over(group(b"x"))
    assert a.refused == [group(b"x").group_id]


@pytest.mark.parametrize("jump_ms", [0, 3_600_000, -3_600_000])
def test_a_clock_that_is_not_trusted_stamps_nothing_and_hands_leadership_on(jump_ms: int) -> None:
    stage = Stage("abc")
    a = stage.elect("a")
    a.clock.sound = False
    a.clock.offset_ms = jump_ms
    stage.run(0.2)
    a.engine.hand_over(group(b"x"))
    assert a.refused == [group(b"x").group_id]
    stage.run(1.0)
    assert not a.is_leader
    leader = next(actor for actor in stage.actors.values() if actor.is_leader)
    leader.engine.hand_over(group(b"y"))
    stage.run(0.1)
    assert leader.machine.payloads == [b"y"]


def test_a_follower_refuses_what_is_stamped_far_ahead_of_its_clock() -> None:
    stage = Stage("a", "abc")
    a = stage["a"]
    now = a.clock.wall_ms()
    far = entry(b"far", now + FOLLOWER_LEAD_MS_MAX + 1)
    near = entry(b"near", now + FOLLOWER_LEAD_MS_MAX)
    stage.say("b", "a", Append(1, 0, 1, ((far, 1),)), 1)
    stage.settle()
    assert stage.bodies("b") == [HeartbeatReply()]
    assert [event for event, _ in a.events] == ["stamp_refused"]
    stage.say("b", "a", Append(1, 0, 1, ((near, 1),)), 1)
    stage.settle()
    assert stage.last(AppendReply) == AppendReply(True, 2)


def test_what_is_committed_is_taken_whatever_its_stamp() -> None:
    stage = Stage("a", "abc")
    far = entry(b"far", stage["a"].clock.wall_ms() + 10**9)
    stage.say("b", "a", Append(1, 0, 2, ((far, 1),)), 1)
    stage.settle()
    assert stage["a"].machine.payloads == [b"far"]


# -- disagreement -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("differing", ["a", "b", "c"])
def test_the_minority_leaves_when_two_of_three_agree(differing: str) -> None:
    """Whether it leads or follows: followers have nothing else to say to each other."""
    stage = Stage("abc")
    stage.elect("a")
    stage.run(0.5)
    stage[differing].machine.twist()
    stage.propose("a", *(b"%d" % number for number in range(CHECKPOINT)))
    with pytest.raises(Diverged) as raised:
        stage.run(3.0)
    assert raised.value.index == CHECKPOINT
    left = [name for name in "abc" if any(event == "state_diverged" for event, _ in stage[name].events)]
    assert left == [differing], "and nobody else does"


# -- who may speak ----------------------------------------------------------------------------------------------------
def test_another_incarnation_or_a_borrowed_name_is_refused() -> None:
    stage = Stage("ab", "abc")
    stage.run(2.0)
    letter = next(letter for letter in stage.network if (letter.sender, letter.to) == ("a", "c"))
    with pytest.raises(FrameRefused, match="speaks for another"):
        stage["b"].engine.receive(member("c"), letter.data)
    foreign = Stage("a", "abc")
    sender = foreign["a"].engine._reception.sender
    object.__setattr__(sender, "incarnation", "2" * 32)
    with pytest.raises(FrameRefused, match="another incarnation"):
        foreign.say("b", "a", Heartbeat(), 1)


def test_a_refusal_meant_for_an_earlier_process_stops_nobody() -> None:
    stage = Stage("a", "abc")
    stage.say("b", "a", Refused(b"another process"), 1)
    stage.tick()


def test_a_first_frame_that_comes_late_keeps_nobody_out() -> None:
    stage = Stage("a", "abc")
    stage.say("b", "a", Heartbeat(), 5, session=b"second", start_term=5)
    stage.say("b", "a", Heartbeat(), 3, session=b"first", start_term=3)  # delayed by the network
    stage.network.clear()
    stage.sync()
    stage.say("b", "a", Heartbeat(), 5, session=b"second", start_term=5)
    stage.sync()
    assert HeartbeatReply() in stage.bodies("b")
    assert stage.sent(Refused, "b") == [Refused(b"first")]


def test_a_member_that_begins_behind_a_snapshot_speaks_of_its_term() -> None:
    stage = Stage("a", "abc", base=(40, 6))
    stage.say("b", "a", Append(40, 6, 40, ()), 6)
    stage.sync()
    assert [letter.frame.term for letter in stage.network] == [6]
    assert stage.bodies("b") == [AppendReply(True, 40)]


# -- replication ------------------------------------------------------------------------------------------------------
def test_each_entry_is_sent_once() -> None:
    stage = Stage("abc")
    stage.elect("a")
    counted: Counter[tuple[str, int]] = Counter()

    def count(letter: Letter) -> bool:
        if isinstance(letter.body, Append):
            counted.update((letter.to, held.index) for held in letter.body.journal_entries())
        return False

    for number in range(40):
        stage["a"].engine.hand_over(group(b"%d" % number))
        for _ in range(8):
            stage.sync()
            stage.deliver(count)
            stage.tick()
    assert set(counted.values()) == {1}
    assert len(counted) >= 2 * 20


def test_lost_entries_are_sent_again() -> None:
    stage = Stage("abc")
    stage.elect("a")
    stage.isolate("c")
    stage.propose("a", *(b"%d" % n for n in range(5)))
    stage.heal()  # the connection never ended, for all that the members know
    stage.run(1.0)
    assert stage["c"].machine.payloads == stage["a"].machine.payloads


def test_groups_that_wait_share_an_entry_within_its_bounds() -> None:
    stage = Stage("a", "abc", settings=RaftSettings(entry_cost_max=10))
    a = stage["a"]
    term = stage.lead("a")
    for number in range(12):
        a.engine.hand_over(group(b"%d" % number, cost=4))
    assert a.journal.last_index - a.core.applied_index == a.stage.settings.entries_in_flight_max
    for _ in range(12):
        stage.say("b", "a", AppendReply(True, a.journal.last_index), term)
        stage.settle()
    assert a.machine.payloads == [b"%d" % n for n in range(12)]
    assert max(len(told.payloads) for told in a.machine.log) == 2


def test_a_full_queue_is_said() -> None:
    stage = Stage("a", "abc", settings=RaftSettings(waiting_groups_max=3))
    stage.lead("a")
    for number in range(8):
        stage["a"].engine.hand_over(group(b"%d" % number))
    assert stage["a"].refused


def test_a_cluster_of_one_on_real_files(tmp_path: str) -> None:
    stage = Stage("a", "a")
    a = stage["a"]
    files, directory = RealFiles(), f"{tmp_path}/journal"
    given = (files, directory, IDENTITY)
    journal = Journal.create(*given, member("a"), stage.keys, a.random.randbytes, START_INDEX, 0)
    a.journal = journal
    a.engine = a._make_engine()
    stage.run(2.0)
    stage.propose("a", b"x", b"y")
    journal.close()
    found = Journal.open(*given, stage.keys, a.random.randbytes)
    assert [held.data[-1:] for held in found.entries(3, 1 << 20)] == [b"x", b"y"]
    found.close()


def test_a_leader_that_comes_back_with_less_in_its_own_term_is_refused() -> None:
    stage = Stage("a", "abc")
    stage.say("b", "a", Append(1, 0, 1, (), 9), 5, session=b"first", start_term=5, start_index=9)
    stage.sync()
    stage.network.clear()
    stage.say("b", "a", Heartbeat(), 5, session=b"second", start_term=5, start_index=8)
    assert stage.last(Refused, "b").session == b"second"
    stage.network.clear()
    stage.say("b", "a", Heartbeat(), 5, session=b"third", start_term=5, start_index=9)
    assert not stage.sent(Refused, "b")
