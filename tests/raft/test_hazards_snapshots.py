"""Snapshots on the wire, and compaction."""

from __future__ import annotations

import hashlib

import pytest

from cluster.raft.engine import RaftSettings, SnapshotMeta
from cluster.raft.errors import SafetyViolation
from cluster.raft.messages import Append, AppendReply, Heartbeat, HeartbeatReply, SnapshotChunk, SnapshotReply
from tests.raft.stage import Actor, Machine, Stage, entries


def snapshot_at(index: int, term: int) -> tuple[SnapshotMeta, bytes]:
    """A data file of another member that stands there, after entries of that term."""
    machine = Machine()
    for number in range(2, index + 1):
        machine.apply(number, term, 5, ())
    data = machine.packed()
    name = hashlib.sha256(data).hexdigest()[:16]
    return SnapshotMeta(index, term, 5, machine.applied.running_digest, len(data), name), data


def chunk(meta: SnapshotMeta, data: bytes, offset: int, length: int) -> SnapshotChunk:
    return SnapshotChunk(*_fields(meta), offset, data[offset : offset + length])


def _fields(meta: SnapshotMeta) -> tuple[str, int, int, int, bytes, int]:
    return meta.name, meta.index, meta.term, meta.stamp_ms, meta.running_digest, meta.size_bytes


def test_hazard_19_a_snapshot_with_a_part_missing_is_not_acknowledged() -> None:
    stage = Stage("a", "abc")
    a = stage["a"]
    meta, data = snapshot_at(20, 2)
    stage.say("b", "a", chunk(meta, data, 0, 100), 2)
    stage.say("b", "a", chunk(meta, data, 200, len(data)), 2)  # the part between was lost
    stage.settle()
    assert stage.sent(AppendReply) == []
    assert stage.last(SnapshotReply) == SnapshotReply(meta.name, 100)
    assert a.machine.applied.index == 1
    stage.say("b", "a", chunk(meta, data, 100, len(data)), 2)
    stage.settle()
    assert stage.sent(AppendReply) == [AppendReply(True, 20)]
    assert (a.machine.applied.index, a.journal.base_index) == (20, 20)


def test_hazard_19_a_snapshot_that_can_not_be_read_is_not_acknowledged() -> None:
    stage = Stage("a", "abc")
    stage.say("b", "a", Append(1, 0, 1, entries(1, b"uncommitted")), 1)
    meta, data = snapshot_at(20, 2)
    stage.say("b", "a", chunk(meta, data[:-1] + b"?", 0, len(data)), 2)
    stage.settle()
    assert stage.last(SnapshotReply) == SnapshotReply(meta.name, 0)
    assert AppendReply(True, 20) not in stage.sent(AppendReply)
    assert stage["a"].machine.log == []
    assert stage["a"].journal.last_index == 2


def test_hazard_19_a_snapshot_is_acknowledged_only_once_installed_and_synced() -> None:
    stage = Stage("a", "abc")
    a = stage["a"]
    a.shelf.deferred = True
    meta, data = snapshot_at(20, 2)
    stage.say("b", "a", chunk(meta, data, 0, len(data)), 2)
    stage.sync()
    a.shelf.answer()  # stored
    stage.sync()
    assert stage.sent(AppendReply) == []
    a.shelf.answer()  # verified and decoded
    assert stage.sent(AppendReply) == []
    stage.sync()
    assert stage.sent(AppendReply) == [AppendReply(True, 20)]


def test_hazard_20_a_late_snapshot_takes_nothing_back() -> None:
    stage = Stage("a", "abc")
    a = stage["a"]
    stage.say("b", "a", Append(1, 0, 6, entries(1, *(b"%d" % n for n in range(2, 9)))), 1)
    stage.settle()
    before = (a.machine.payloads, a.log)
    for index in (3, 7):  # applied long ago; not committed yet, and held with the same term
        meta, data = snapshot_at(index, 1)
        stage.say("b", "a", chunk(meta, data, 0, len(data)), 1)
        stage.settle()
        assert stage.last(AppendReply) == AppendReply(True, index)
    assert (a.machine.payloads, a.log) == before
    assert a.core.applied_index == 6


def leader_with_a_follower_behind(*, deferred: bool) -> tuple[Stage, Actor]:
    stage = Stage("abc", settings=RaftSettings(snapshot_chunk_bytes=40))
    a = stage.elect("a")
    stage.isolate("c")
    stage.propose("a", *(b"%d" % n for n in range(20)))
    a.shelf.take(a.engine.status().term)
    a.journal.compact(a.machine.applied.index)
    a.shelf.deferred = deferred
    stage.heal()
    stage.run(0.3)
    return stage, a


def test_hazard_22_a_follower_behind_costs_a_tick_no_more_than_a_part() -> None:
    stage, a = leader_with_a_follower_behind(deferred=True)
    assert a.shelf.reads == 1
    stage.network.clear()
    for _ in range(50):
        a.core._SyncObj__sendAppendEntries()
    assert a.shelf.reads == 1, "one part under way"
    assert len(stage.network) <= 2


def test_a_follower_far_behind_is_filled_in_parts() -> None:
    stage, a = leader_with_a_follower_behind(deferred=False)
    stage.run(1.0)
    assert a.shelf.reads >= 5
    assert stage["c"].machine.payloads == a.machine.payloads
    assert stage["c"].machine.applied.running_digest == a.machine.applied.running_digest


def test_hazard_25_the_engine_compacts_nothing() -> None:
    stage = Stage("abc")
    a = stage.elect("a")
    stage.propose("a", *(b"%d" % n for n in range(10)))
    a.core.forceLogCompaction()
    stage.run(0.5)
    assert a.journal.base_index == 1
    with pytest.raises(SafetyViolation, match="compact"):
        a.core._SyncObj__raftLog.deleteEntriesTo(3)
    assert a.journal.base_index == 1


def test_hazard_25_a_follower_slightly_late_needs_no_snapshot() -> None:
    stage = Stage("abc")
    a = stage.elect("a")
    stage.isolate("c")
    stage.propose("a", *(b"%d" % n for n in range(10)))
    a.shelf.take(a.engine.status().term)
    a.core.forceLogCompaction()
    stage.heal()
    stage.run(0.5)
    assert a.shelf.reads == 0
    assert stage["c"].machine.payloads == a.machine.payloads


def test_hazard_08_the_engine_writes_no_dump() -> None:
    stage = Stage("a", "abc")
    stage.say("b", "a", Append(1, 0, 4, entries(1, b"2", b"3", b"4")), 1)
    stage.settle()
    stage["a"].core.forceLogCompaction()
    before = stage["a"].files.snapshot()
    stage.settle()
    assert stage["a"].files.snapshot() == before
    assert stage["a"].shelf.saved == Machine().packed()


def test_hazard_29_a_follower_that_is_being_filled_answers() -> None:
    stage = Stage("a", "abc")
    stage["a"].shelf.deferred = True
    meta, data = snapshot_at(20, 2)
    stage.say("b", "a", chunk(meta, data, 0, 100), 2)
    stage.say("b", "a", Heartbeat(), 2)
    stage.settle()
    assert HeartbeatReply() in stage.bodies("b")


def test_a_deposed_leader_sends_no_part_in_its_successors_term() -> None:
    """A part that was being read when the office was lost would claim the new term for this node."""
    stage, a = leader_with_a_follower_behind(deferred=True)
    stage.isolate("a")
    stage.elect("b")
    stage.heal()
    stage.run(0.2)
    assert not a.is_leader
    stage.network.clear()
    a.shelf.answer()
    assert stage.sent(SnapshotChunk) == []


def test_without_a_snapshot_that_reaches_the_log_a_leader_goes_on() -> None:
    stage = Stage("abc")
    a = stage.elect("a")
    stage.isolate("c")
    stage.propose("a", *(b"%d" % n for n in range(5)))
    a.journal.compact(a.machine.applied.index)
    stage.heal()
    stage.run(1.0)
    assert a.is_leader
    a.shelf.take(a.engine.status().term)
    stage.run(1.0)
    assert stage["c"].machine.payloads == a.machine.payloads
