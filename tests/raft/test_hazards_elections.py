"""Elections, terms and votes; who may speak; how leadership is handed on."""

from __future__ import annotations

import pytest

from cluster.raft.errors import FrameRefused, RolledBack, SafetyViolation
from cluster.raft.messages import (
    Append,
    AppendReply,
    Heartbeat,
    HeartbeatReply,
    Outdated,
    TimeoutNow,
    Vote,
    VoteRequest,
)
from tests.raft.stage import Stage, entries, member


def test_hazard_10_an_isolated_member_does_not_raise_its_term() -> None:
    stage = Stage("abc")
    a = stage.elect("a")
    stage.isolate("c")
    before = stage["c"].engine.status().term
    stage.run(8.0)
    assert stage["c"].engine.status().term == before
    stage.heal()
    stage.run(1.0)
    assert a.is_leader, "who comes back disturbs nobody"
    assert stage["c"].machine.payloads == a.machine.payloads


def test_hazard_10_no_vote_against_a_live_leader() -> None:
    stage = Stage("a", "abc")
    stage.run(2.0)
    stage.say("b", "a", Append(1, 0, 1, ()), 1)
    stage.say("c", "a", VoteRequest(50, 1, transfer=False), 2)
    stage.settle()
    assert stage.sent(Vote) == []
    assert stage["a"].engine.status().term == 1
    stage.time.now += 1.0
    stage.say("c", "a", VoteRequest(50, 1, transfer=False), 2)
    stage.settle()
    assert len(stage.sent(Vote, "c")) == 1, "once the leader is silent, the vote is given"


def test_hazard_10_a_leader_of_an_older_term_learns_of_it() -> None:
    stage = Stage("a", "abc")
    stage.say("b", "a", Append(1, 0, 1, ()), 5)
    stage.say("c", "a", Append(1, 0, 1, ()), 2)
    stage.sync()
    assert stage.sent(Outdated, "c") == [Outdated()]
    stage = Stage("a", "abc")
    stage.lead("a")
    stage.say("c", "a", Outdated(), 5)
    assert (stage["a"].engine.status().role, stage["a"].engine.status().term) == ("follower", 5)


def test_hazard_10_a_leader_without_a_majority_gives_up_in_an_election_timeout() -> None:
    stage = Stage("abc")
    a = stage.elect("a")
    stage.isolate("a")
    stage.run(stage.settings.election_timeout_max + 0.3)
    assert not a.is_leader


def test_hazard_15_a_vote_counts_once() -> None:
    stage = Stage("a", "abcde")
    term = stage.campaign("a", "bcde")
    for _ in range(4):
        stage.say("b", "a", Vote(), term)
    assert not stage["a"].is_leader
    stage.say("c", "a", Vote(), term)
    assert stage["a"].is_leader


def test_hazard_15_a_stranger_has_no_vote() -> None:
    stage = Stage("a", "abc")
    term = stage.campaign("a", "b")
    with pytest.raises(FrameRefused, match="not a member"):
        stage.say("x", "a", Vote(), term)
    assert not stage["a"].is_leader


def test_hazard_24_a_stranger_is_no_leader_and_no_connection() -> None:
    stage = Stage("a", "abc")
    stage["a"].engine.connected(member("x"))
    assert stage["a"].core._SyncObj__connectedNodes == {*stage["a"].core.otherNodes}
    with pytest.raises(FrameRefused, match="not a member"):
        stage.say("x", "a", Append(1, 0, 1, ()), 99)
    assert stage["a"].engine.status().term == 0
    assert stage["a"].engine.status().leader is None


def test_hazard_26_nobody_elects_itself_but_in_a_cluster_of_one() -> None:
    with pytest.raises(SafetyViolation, match="not in the configuration"):
        Stage("a", "b")
    alone = Stage("a", "a")
    alone.run(2.0)
    assert alone["a"].is_leader


def test_hazard_28_a_member_that_came_back_with_less_is_refused() -> None:
    stage = Stage("abc")
    stage.elect("a")
    stage.propose("a", b"one")
    stage.run(0.3)
    copy = stage["b"].files.snapshot()
    stage.propose("a", b"two", b"three")
    stage.run(0.3)
    stage["b"].journal.close()
    stage["b"].files.kill()
    stage["b"].files.restore(copy)
    stage["b"].restart()
    with pytest.raises(RolledBack, match="older copy"):
        stage.run(1.0)
    assert any(event == "member_rolled_back" for name in "ac" for event, _ in stage[name].events)


def test_hazard_29_a_leader_whose_only_follower_is_being_filled_stays() -> None:
    stage = Stage("abc")
    a = stage.elect("a")
    stage.isolate("b")
    stage.propose("a", *(b"%d" % n for n in range(10)))
    a.shelf.take(a.engine.status().term)
    a.journal.compact(a.machine.applied.index)
    stage.heal()
    stage.isolate("c")
    stage["b"].shelf.deferred = True  # its disk is slow
    term = a.engine.status().term
    stage.run(4 * stage.settings.election_timeout_max)
    assert (a.is_leader, a.engine.status().term) == (True, term)
    stage["b"].shelf.deferred = False
    stage["b"].shelf.answer()
    stage.run(2.0)
    assert stage["b"].machine.payloads == a.machine.payloads


def test_hazard_33_a_wished_for_election_is_recognised_by_the_voters() -> None:
    stage = Stage("abc")
    a = stage.elect("a")
    stage.propose("a", b"x")
    stage.run(0.2)
    a.engine.transfer_leadership(member("c"))
    stage.run(0.2)
    assert stage["c"].is_leader
    assert not a.is_leader


def test_hazard_33_a_transfer_that_came_to_nothing_does_not_keep_the_timer_from_being_reset() -> None:
    stage = Stage("a", "abc")
    a = stage["a"]
    stage.run(2.0)
    stage.say("b", "a", Heartbeat(), 5)
    stage.say("b", "a", TimeoutNow(), 5)
    stage.time.now += 1.0
    stage.say("c", "a", VoteRequest(0, 0, transfer=False), 6)  # ends term 5, and gets no vote
    stage.tick()
    for _ in range(3):
        stage.say("c", "a", Heartbeat(), 6)
    assert a.core._SyncObj__raftElectionDeadline > stage.time.now, "a live leader holds the timer back"
    stage.sync()
    assert stage.sent(HeartbeatReply, "c")


def test_hazard_02_votes_of_an_earlier_term_elect_nobody() -> None:
    stage = Stage("a", "abc")
    term = stage.campaign("a", "b")
    stage.say("b", "a", Vote(), term - 1)
    stage.say("c", "a", AppendReply(True, 1), term)
    assert not stage["a"].is_leader


def test_a_vote_is_given_once_a_term_also_after_a_restart() -> None:
    """Paper, section 5.2; the vote is read back from the journal."""
    stage = Stage("a", "abc")
    stage.run(2.0)
    stage.say("b", "a", VoteRequest(1, 0, transfer=False), 3)
    stage.settle()
    assert len(stage.sent(Vote, "b")) == 1
    stage["a"].crash()
    stage.run(2.0)
    stage.say("c", "a", VoteRequest(9, 0, transfer=False), 3)
    stage.settle()
    assert stage.sent(Vote, "c") == []


def test_entries_of_an_older_candidate_get_no_vote() -> None:
    """Paper, section 5.4.1."""
    stage = Stage("a", "abc")
    stage.say("b", "a", Append(1, 0, 1, entries(2, b"2", b"3")), 2)
    stage.run(2.0)
    for last_index, last_term in ((9, 1), (2, 2)):
        stage.say("c", "a", VoteRequest(last_index, last_term, transfer=False), 9)
        stage.settle()
    assert stage.sent(Vote) == []
