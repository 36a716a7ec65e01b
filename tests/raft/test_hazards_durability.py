"""Nothing is said, counted or applied that the disk does not hold; nothing on it is lost, whenever the power goes."""

from __future__ import annotations

import random

import pytest

from cluster.raft.errors import SafetyViolation
from cluster.raft.messages import Append, AppendReply, Heartbeat, HeartbeatReply, Vote, VoteRequest
from datastore.errors import Damaged, StorageFailed
from datastore.journal import Journal, JournalEntry, JournalLimits
from tests.raft.stage import DIRECTORY, IDENTITY, Stage, entries, entry, group, member
from tests.simulation.memory_files import MemoryFiles


class PowerCut(BaseException):
    pass


def test_hazard_03_an_acknowledgement_waits_for_the_sync_of_what_it_claims() -> None:
    stage = Stage("a", "abc")
    stage.say("b", "a", Append(1, 0, 1, entries(1, b"2")), 1)
    stage.tick()
    assert stage.bodies("b") == []
    stage.sync()
    assert stage.bodies("b") == [AppendReply(True, 2)]


def test_hazard_03_a_vote_waits_for_its_sync() -> None:
    stage = Stage("a", "abc")
    stage.run(2.0)
    stage.network.clear()
    stage.say("b", "a", VoteRequest(1, 0, transfer=False), 3)
    assert stage.sent(Vote) == []
    stage["a"].crash()
    assert stage["a"].journal.voted_for in (None, member("b")), "forgotten with the vote, or kept"
    stage.run(2.0)
    stage.say("b", "a", VoteRequest(1, 0, transfer=False), 3)
    stage.sync()
    assert stage.sent(Vote) == [Vote()]


def test_hazard_03_no_frame_of_a_term_leaves_before_the_term_is_on_disk() -> None:
    stage = Stage("a", "abc")
    stage.say("b", "a", Heartbeat(), 7)
    assert stage.network == []
    stage.sync()
    assert stage.bodies() == [HeartbeatReply()]


def test_hazard_03_a_leader_counts_itself_only_up_to_what_it_has_synced() -> None:
    stage = Stage("a", "abc")
    a = stage["a"]
    term = stage.lead("a")
    a.engine.hand_over(group(b"x"))
    index = a.journal.last_index
    stage.say("b", "a", AppendReply(True, index), term)
    stage.tick()
    assert a.core.commit_index < index
    stage.sync()
    stage.tick()
    assert a.core.commit_index == index
    assert a.machine.payloads == [b"x"]


def test_hazard_03_nothing_is_applied_beyond_the_synced_index() -> None:
    """A cluster of one commits from memory; a follower may hear of a commit before its own disk is ready."""
    stage = Stage("a", "a")
    stage.run(2.0)
    alone = stage["a"]
    alone.engine.hand_over(group(b"x"))
    stage.tick()
    assert alone.machine.payloads == []
    assert alone.engine.status().commit_index < alone.journal.last_index
    alone.sync()
    stage.tick()
    assert alone.machine.payloads == [b"x"]
    stage = Stage("a", "abc")
    stage.say("b", "a", Append(1, 0, 2, entries(1, b"y")), 1)
    stage.tick()
    assert stage["a"].machine.payloads == []
    stage.settle()
    assert stage["a"].machine.payloads == [b"y"]


def test_hazard_04_a_snapshot_replaces_the_log_in_one_step() -> None:
    for cut_at in range(60):
        files = MemoryFiles(random.Random(cut_at))
        files.make_directory("/node")
        keys = Stage("a").keys
        chance = random.Random(cut_at).randbytes
        journal = Journal.create(files, DIRECTORY, IDENTITY, member("a"), keys, chance, 1, 0)
        journal.set_term(3, member("b"))
        for index in range(2, 9):
            journal.append(JournalEntry(entry(b"%d" % index), index, 3))
        journal.sync()
        left = cut_at

        def cut(operation: str, path: str) -> None:
            nonlocal left
            if left == 0:
                raise PowerCut
            left -= 1

        files.before = cut
        journal.install(20, 3)
        journal.append(JournalEntry(entry(b"21"), 21, 3))
        done = False
        try:
            journal.sync()
            done = True
        except PowerCut:
            pass
        files.crash()
        found = Journal.open(files, DIRECTORY, IDENTITY, keys, chance)
        span = (found.base_index, found.last_index)
        assert span in {(1, 8), (20, 20), (20, 21)}, "the old log or the new one, whole"
        assert (found.current_term, found.voted_for) == (3, member("b"))
        if done:
            assert span == (20, 21)
            return
    raise AssertionError("the sync never ended")


def test_hazard_04_an_entry_is_added_only_behind_the_last_one() -> None:
    stage = Stage("a", "abc")
    for index in (1, 3):
        with pytest.raises(AssertionError, match="appended after"):
            stage["a"].core._SyncObj__raftLog.add(entry(b"x"), index, 1)


def test_hazard_05_a_start_believes_nothing_committed_that_the_data_file_does_not_hold() -> None:
    stage = Stage("a", "abc")
    stage.say("b", "a", Append(1, 0, 3, entries(1, b"2", b"3", b"uncommitted 4")), 1)
    stage.settle()
    stage["a"].shelf.take(1)
    stage["a"].crash()
    assert stage["a"].core.commit_index == 3
    stage.say("c", "a", Append(4, 1, 1, ()), 2)
    stage.settle()
    assert b"uncommitted 4" not in stage["a"].machine.payloads


def test_hazard_05_damage_is_a_named_error_and_never_an_empty_start() -> None:
    stage = Stage("a", "abc")
    stage.say("b", "a", Append(1, 0, 1, entries(3, b"2", b"3")), 3)
    stage.sync()
    a = stage["a"]
    a.journal.close()
    path, contents = max(a.files.snapshot().items())
    a.files.overwrite(path, contents[:-20] + bytes([contents[-20] ^ 1]) + contents[-19:])
    with pytest.raises(Damaged):
        a.restart()


def test_hazard_07_a_segment_has_a_limit() -> None:
    limits = JournalLimits(segment_bytes_max=4096, record_bytes_max=2048)
    stage = Stage("a", "abc", limits=limits)
    payloads = [bytes([n]) * 500 for n in range(40)]
    stage.say("b", "a", Append(1, 0, 1, entries(1, *payloads)), 1)
    stage.settle()
    files = stage["a"].files.snapshot()
    assert all(len(contents) <= limits.segment_bytes_max for contents in files.values())
    stage["a"].crash()
    assert stage["a"].journal.last_index == 41


def test_hazard_07_memory_leads_the_disk_only_for_what_nobody_was_told() -> None:
    stage = Stage("a", "abc")
    stage.say("b", "a", Append(1, 0, 1, entries(1, b"2")), 1)
    stage.sync()
    stage.network.clear()
    stage.say("b", "a", Append(2, 1, 3, entries(1, b"3")), 1)
    stage["a"].files.failing_syncs = 1
    with pytest.raises(StorageFailed):
        stage.sync()
    stage.tick()
    assert stage.sent(AppendReply) == []
    assert stage["a"].machine.payloads == [b"2"]


def test_hazard_17_a_failed_sync_is_final() -> None:
    stage = Stage("a", "abc")
    stage.say("b", "a", Append(1, 0, 1, entries(1, b"2")), 1)
    a = stage["a"]
    a.files.failing_syncs = 1
    pending = a.journal.begin_sync()
    assert pending is not None
    with pytest.raises(StorageFailed):
        pending.run()
    with pytest.raises(StorageFailed):
        pending.run()  # the kernel may have dropped the pages: a sync that succeeds now proves nothing
    a.engine.synced()
    assert stage.network == []


def test_hazard_18_a_start_keeps_the_whole_journal() -> None:
    stage = Stage("a", "abc")
    stage.say("b", "a", Append(1, 0, 8, entries(1, *(b"%d" % n for n in range(2, 12)))), 1)
    stage.settle()
    stage["a"].shelf.take(1)  # published, and the power goes before anything else is done
    stage["a"].crash()
    stage.tick()
    assert stage["a"].journal.last_index == 11
    assert stage["a"].core.applied_index == 8
    stage.say("b", "a", Append(11, 1, 11, ()), 1)
    stage.settle()
    assert stage.last(AppendReply, "b") == AppendReply(True, 11)


def test_hazard_18_the_engine_can_clear_nothing() -> None:
    stage = Stage("a", "abc")
    stage.say("b", "a", Append(1, 0, 1, entries(1, b"2")), 1)
    with pytest.raises(SafetyViolation, match="clear"):
        stage["a"].core._SyncObj__raftLog.clear()
    assert stage["a"].journal.last_index == 2


def test_hazard_28_what_identifies_a_member_is_kept_with_its_journal() -> None:
    stage = Stage("a", "abc")
    stage["a"].crash()
    assert stage["a"].journal.member_id == member("a")
