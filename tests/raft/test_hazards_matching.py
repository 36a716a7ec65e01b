"""What the engine's append handler would do to a follower's log, and what a leader believes of its followers."""

from __future__ import annotations

import pytest

from cluster.raft.errors import FrameRefused, SafetyViolation
from cluster.raft.messages import Append, AppendReply, Heartbeat, SnapshotChunk
from tests.raft.stage import EPOCH_MS, Stage, entries, entry

MEMBERSHIP, VERSION = b"\x02", b"\x03"  # types of entry that the engine would act on


def test_hazard_01_a_late_append_removes_nothing_that_matches() -> None:
    stage = Stage("a", "abc")
    a = stage["a"]
    stage.say("b", "a", Append(1, 0, 1, entries(1, b"2", b"3", b"4", b"5")), 1)
    for late in (Append(1, 0, 1, ()), Append(1, 0, 1, entries(1, b"2")), Append(2, 1, 1, ())):
        stage.say("b", "a", late, 1)
        assert a.journal.last_index == 5, "an acknowledged tail is kept"


def test_hazard_01_only_what_was_compared_is_acknowledged_and_committed() -> None:
    stage = Stage("a", "abc")
    stage.say("b", "a", Append(1, 0, 1, entries(1, b"old 2", b"old 3", b"old 4", b"old 5")), 1)
    # The leader of term 3 holds entry 2 and others of its own behind it; it has committed up to 5.
    stage.say("c", "a", Append(1, 0, 5, entries(1, b"old 2")), 3)
    stage.settle()
    assert stage.last(AppendReply, "c") == AppendReply(True, 2)
    assert stage["a"].machine.payloads == [b"old 2"]


def test_hazard_01_what_conflicts_is_replaced_from_the_first_conflict_on() -> None:
    stage = Stage("a", "abc")
    stage.say("b", "a", Append(1, 0, 1, entries(1, b"2", b"3", b"4")), 1)
    stage.say("c", "a", Append(1, 0, 2, (*entries(1, b"2"), *entries(3, b"new 3"))), 3)
    stage.settle()
    assert [(held.index, held.term) for held in stage["a"].log] == [(2, 1), (3, 3)]
    assert stage.last(AppendReply, "c") == AppendReply(True, 3)


def test_hazard_01_a_conflict_at_the_commit_index_is_fatal() -> None:
    stage = Stage("a", "abc")
    stage.say("b", "a", Append(1, 0, 3, entries(1, b"2", b"3")), 1)
    with pytest.raises(SafetyViolation, match="committed index 3"):
        stage.say("c", "a", Append(2, 1, 3, entries(3, b"other 3")), 3)


def test_hazard_02_an_acknowledgement_of_another_term_counts_nothing() -> None:
    stage = Stage("a", "abc")
    a = stage["a"]
    term = stage.lead("a")
    stage.say("b", "a", Heartbeat(), term + 1)  # deposed
    second = stage.lead("a")
    stage.say("b", "a", AppendReply(True, a.journal.last_index), term)
    stage.settle()
    assert a.machine.log == [], "no follower holds any entry in this term"
    stage.say("b", "a", AppendReply(True, a.journal.last_index), second)
    stage.settle()
    assert a.machine.log, "one of this term counts"


def test_hazard_02_a_frame_carries_the_term_in_which_it_was_made() -> None:
    stage = Stage("a", "abc")
    stage.say("b", "a", Append(1, 0, 1, entries(1, b"2")), 1)
    stage.say("c", "a", Heartbeat(), 4)  # before the acknowledgement could leave
    stage.sync()
    acknowledgements = [letter.frame for letter in stage.network if isinstance(letter.body, AppendReply)]
    assert [frame.term for frame in acknowledgements] == [1]


def test_hazard_14_nothing_is_committed_by_a_message_that_compares_nothing() -> None:
    stage = Stage("a", "abc")
    a = stage["a"]
    stage.say("b", "a", Append(1, 0, 1, entries(1, b"deposed 2", b"deposed 3")), 1)
    chunk = SnapshotChunk("s", 50, 2, EPOCH_MS, bytes(32), 1000, 0, b"part")
    for unmatched in (Heartbeat(), chunk, Append(40, 2, 50, ())):
        stage.say("c", "a", unmatched, 2)
        stage.settle()
        assert a.core.commit_index == 1
    assert a.machine.log == []


def test_hazard_14_a_commit_index_beyond_what_matches_is_capped() -> None:
    stage = Stage("a", "abc")
    stage.say("b", "a", Append(1, 0, 1, entries(1, b"2", b"deposed 3")), 1)
    stage.say("c", "a", Append(2, 1, 50, ()), 2)
    stage.settle()
    assert stage["a"].machine.payloads == [b"2"]


def test_hazard_16_a_change_of_members_in_the_log_is_refused_at_the_door() -> None:
    stage = Stage("a", "abc")
    with pytest.raises(FrameRefused, match="never written"):
        stage.say("b", "a", Append(1, 0, 1, ((MEMBERSHIP + b"whatever", 1),)), 1)
    assert stage["a"].journal.last_index == 1


def test_hazard_16_the_engine_changes_no_members() -> None:
    stage = Stage("a", "abc")
    stage.lead("a")
    before = stage["a"].journal.last_index
    with pytest.raises(Exception, match="dynamicMembershipChange is disabled"):
        stage["a"].core.addNodeToCluster("d")
    assert stage["a"].journal.last_index == before


def test_hazard_21_a_rejection_leads_only_into_the_leaders_log() -> None:
    stage = Stage("a", "abc")
    term = stage.lead("a")
    stage.say("b", "a", AppendReply(False, 99), term)
    stage.run(0.2)
    assert stage.last(Append, "b").prev_index == stage["a"].journal.last_index


def test_hazard_21_a_late_rejection_leads_not_below_what_matches() -> None:
    stage = Stage("a", "abc")
    term = stage.lead("a")
    last = stage["a"].journal.last_index
    stage.say("b", "a", AppendReply(True, last), term)
    stage.network.clear()
    stage.say("b", "a", AppendReply(False, last), term)
    stage.run(0.2)
    assert {append.prev_index for append in stage.sent(Append, "b")} == {last}


def test_hazard_23_an_entry_for_another_code_version_is_refused_at_the_door() -> None:
    stage = Stage("a", "abc")
    with pytest.raises(FrameRefused, match="never written"):
        stage.say("b", "a", Append(1, 0, 3, ((VERSION + b"99", 1), *entries(1, b"3"))), 1)
    assert stage["a"].journal.last_index == 1


def test_hazard_27_a_long_conflict_is_found_in_a_round_trip_a_term() -> None:
    stage = Stage("a", "abc")
    stage.say("b", "a", Append(1, 0, 1, tuple((entry(b"%d" % n), 1) for n in range(60))), 1)
    stage.sync()
    # The leader of term 3 holds nothing of that tail; as leaders do, it looks at the index it is told.
    asked_at, rounds = 60, 0
    while True:
        stage.network.clear()
        stage.say("c", "a", Append(asked_at, 2 if asked_at > 1 else 0, 1, ()), 3)
        stage.sync()
        reply = stage.last(AppendReply, "c")
        if reply.success:
            break
        rounds += 1
        asked_at = reply.index - 1
        assert rounds <= 3, "one round trip an entry"
