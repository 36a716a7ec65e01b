"""How the remedy of each hazard is taken out.

In its place comes either the engine's own code or the simplest thing that one would have written.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pysyncobj.syncobj as engine_module
import pytest
from pysyncobj.syncobj import SyncObj

from cluster.raft import follower, matching, pysyncobj_patches
from cluster.raft.applying import Applier
from cluster.raft.elections import Elections
from cluster.raft.engine import Engine
from cluster.raft.follower import Follower
from cluster.raft.log import EngineLog
from cluster.raft.matching import Matched
from cluster.raft.messages import AppendReply
from cluster.raft.proposals import Proposals
from cluster.raft.pysyncobj_patches import Core
from cluster.raft.reception import Reception
from cluster.raft.replication import Replication
from cluster.raft.snapshot_transfer import SnapshotReceiver, SnapshotSender
from cluster.raft.wire import Wire, _Held
from datastore.journal import Journal
from datastore.journal_output import SegmentOutput

Patch = pytest.MonkeyPatch
TakeOut = Callable[[Patch], None]


def replacing(owner: Any, name: str, value: Any) -> TakeOut:
    def take_out(patch: Patch) -> None:
        patch.setattr(owner, name, value, raising=name not in ("min", "max"))

    take_out.__name__ = f"{getattr(owner, '__name__', '').split('.')[-1]}.{name}"
    return take_out


def nothing(*_: Any, **__: Any) -> None:
    """In the place of a method that does something."""


def first(one: int, _: int) -> int:
    """In the place of `min` or `max`: no bound."""
    return one


def messages_pass_untouched(patch: Patch) -> None:
    """The engine gets the leader's message as it came, and deletes whatever stands behind `prev`."""

    def untouched(self: Follower, peer: str, term: int, matched: Matched, commit_index: int) -> None:
        self._acknowledges = matched
        message = {"type": "append_entries", "term": term, "commit_index": min(commit_index, matched.index)}
        prev = {"prevLogIdx": matched.prev_index, "prevLogTerm": matched.prev_term}
        self.core.deliver(peer, {**message, **prev, "entries": list(matched.entries)})

    patch.setattr(
        follower,
        "match",
        lambda prev, term, entries, log, commit: Matched(
            entries[-1].index if entries else prev, prev, term, tuple(entries)
        ),
    )
    patch.setattr(Follower, "_append", untouched)


def prev_moves_to_the_own_tail(patch: Patch) -> None:
    """The simple remedy, which acknowledges what was never compared."""
    real = matching.match

    def match(prev: int, term: int, entries: Any, log: Any, commit: int) -> Any:
        outcome = real(prev, term, entries, log, commit)
        if isinstance(outcome, Matched) and not outcome.entries:
            return Matched(log.last_index, log.last_index, log.last_term, ())
        return outcome

    patch.setattr(follower, "match", match)


def known_entries_are_dropped_by_index(patch: Patch) -> None:
    """A conflict goes unnoticed: what stands at the same index is taken for the same."""

    def match(prev: int, term: int, entries: Any, log: Any, commit: int) -> Any:
        new = tuple(entry for entry in entries if entry.index > log.last_index)
        return Matched(entries[-1].index if entries else prev, log.last_index, log.last_term, new)

    patch.setattr(follower, "match", match)


def frames_carry_the_term_of_their_leaving(patch: Patch) -> None:
    real = Wire._send
    patch.setattr(
        Wire,
        "_send",
        lambda self, held: real(self, type(held)(held.needs, held.member, self._journal.current_term, held.body)),
    )


def any_term_counts(patch: Patch) -> None:
    patch.setattr(Replication, "_is_current", lambda self, peer, term: self.core.is_leader and peer in self.progress)


def frames_do_not_wait(patch: Patch) -> None:
    def post(self: Wire, member: str, body: Any, *, claims: bool = False) -> None:
        self._send(_Held(0, member, self._journal.current_term, body))

    patch.setattr(Wire, "post", post)


def the_leader_counts_its_memory(patch: Patch) -> None:
    def tell(self: Replication, peer: str, *, alive_only: bool = False, heard: bool = True) -> None:
        self.core.acknowledge(peer, None if alive_only else self.progress[peer].match, heard=heard)

    patch.setattr(Replication, "_tell_engine", tell)


def a_reset_clears_before_it_writes(patch: Patch) -> None:
    def write(self: SegmentOutput, steps: Any, superseded: Any) -> None:
        for name in superseded:
            self._files.remove(f"{self._directory}/{name}")
        if superseded:
            self._files.sync_directory(self._directory)
        for step in steps:
            if step.new_segment is None:
                assert self._file is not None
                self._file.append(b"".join(step.parts))
                self._file.sync()
            else:
                self._begin(step.new_segment, b"".join(step.parts))

    patch.setattr(SegmentOutput, "write", write)


def the_journal_takes_any_index(patch: Patch) -> None:
    def append(self: Journal, entry: Any) -> None:
        self._entries.append(entry)
        self._change(entry)

    patch.setattr(Journal, "append", append)


def a_failed_sync_is_tried_again(patch: Patch) -> None:
    real = SegmentOutput.write

    def write(self: SegmentOutput, steps: Any, superseded: Any) -> None:
        self._failed = False
        real(self, steps, superseded)

    patch.setattr(SegmentOutput, "write", write)


def the_stored_commit_index_is_believed(patch: Patch) -> None:
    patch.setattr(EngineLog, "getRaftCommitIndex", lambda self: self._journal.last_index)


def the_fallback_is_the_engines_own(patch: Patch) -> None:
    real = pysyncobj_patches.SyncObjConf
    patch.setattr(
        pysyncobj_patches, "SyncObjConf", lambda **options: real(**{**options, "leaderFallbackTimeout": 30.0})
    )


def last_applied_moves_after_apply(patch: Patch) -> None:
    real = Applier._apply

    def apply(self: Applier, index: int) -> None:
        real(self, index)
        self.core._SyncObj__raftLastApplied = index

    patch.setattr(Core, "entry_applied", lambda self: self.applied_index + 1)
    patch.setattr(Applier, "_apply", apply)


def the_engine_notifies(patch: Patch) -> None:
    patch.setattr(engine_module, "PIPE_NOTIFIER_ENABLED", True)


def every_message_carries_the_commit_index(patch: Patch) -> None:
    real = Core.deliver
    patch.setattr(
        Core,
        "deliver",
        lambda self, peer, message: real(
            self, peer, message if "prevLogIdx" in message else {**message, "commit_index": 50}
        ),
    )


def the_engine_changes_members(patch: Patch) -> None:
    real = pysyncobj_patches.SyncObjConf
    patch.setattr(
        pysyncobj_patches, "SyncObjConf", lambda **options: real(**{**options, "dynamicMembershipChange": True})
    )


def a_snapshot_is_acknowledged_when_it_has_arrived(patch: Patch) -> None:
    real = SnapshotReceiver._install

    def install(self: SnapshotReceiver, peer: str, receiving: Any) -> None:
        self._wire.post(peer, AppendReply(True, receiving.meta.index), claims=True)
        real(self, peer, receiving)

    patch.setattr(SnapshotReceiver, "_install", install)


def parts_are_stored_as_they_come(patch: Patch) -> None:
    real = SnapshotReceiver.on_chunk

    def on_chunk(self: SnapshotReceiver, peer: str, term: int, chunk: Any) -> None:
        if self._receiving is not None:
            self._receiving.stored = chunk.offset
        real(self, peer, term, chunk)

    patch.setattr(SnapshotReceiver, "on_chunk", on_chunk)


def parts_are_read_whenever_asked(patch: Patch) -> None:
    def pump(self: SnapshotSender, peer: str) -> bool:
        self._read(peer, self._sending[peer])
        return True

    patch.setattr(SnapshotSender, "pump", pump)


def the_engine_may_start_without_itself(patch: Patch) -> None:
    real = Engine.__init__

    def init(self: Engine, **given: Any) -> None:
        real(self, **{**given, "members": [given["member_id"]]})

    patch.setattr(Engine, "__init__", init)


def heartbeats_get_no_answer(patch: Patch) -> None:
    patch.setattr(Follower, "on_heartbeat", lambda self, peer, term: self.follow(peer, term))


def proposals_wait_in_the_engines_queue(patch: Patch) -> None:
    patch.setattr(Core, "propose", lambda self, data: self._applyCommand(data, None))
    patch.setattr(Proposals, "_under_way", lambda _: 0)


def the_engine_applies(patch: Patch) -> None:
    patch.delattr(Core, "_SyncObj__applyLogEntries")


def the_engine_compacts(patch: Patch) -> None:
    patch.delattr(Core, "_SyncObj__tryLogCompaction")


def the_engine_sends_entries(patch: Patch) -> None:
    """As it does: chunks from its batch size on, and the whole tail after each acknowledgement."""
    patch.setattr(Core, "_SyncObj__sendAppendEntries", SyncObj._SyncObj__sendAppendEntries)


def stamps_begin_anew(patch: Patch) -> None:
    patch.setattr(Proposals, "last_stamp_ms", lambda _: 0)


def only_the_log_is_asked_for_the_last_stamp(patch: Patch) -> None:
    real = Proposals.__init__

    def init(self: Proposals, *given: Any) -> None:
        real(self, *given[:-1], lambda: 0)

    patch.setattr(Proposals, "__init__", init)


def a_wish_for_an_election_is_not_remembered(patch: Patch) -> None:
    patch.setattr(
        Elections,
        "on_timeout_now",
        lambda self, peer, term: self.core.deliver(peer, {"type": "timeout_now", "term": term}),
    )


strangers_are_heard = replacing(Reception, "admit", lambda *_: True)


def any_entry_passes(patch: Patch) -> None:
    patch.setattr(follower, "unpack", lambda _: None)
    patch.setattr(follower, "stamp_of", lambda _: None)
