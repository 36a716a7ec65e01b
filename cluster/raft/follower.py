"""The follower's side of AppendEntries: what reaches the engine's append handler, and what is acknowledged.

The handler is sound only for a message whose entries are all new and whose `prev` is where they go; `matching` makes
each message such a one.  Commit index and acknowledgement never go beyond what was compared.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cluster.raft.elections import Elections
from cluster.raft.entries import stamp_of, unpack
from cluster.raft.errors import FrameRefused, SafetyViolation
from cluster.raft.matching import Matched, Rejected, match
from cluster.raft.messages import Append, AppendReply, HeartbeatReply, Outdated
from cluster.raft.pysyncobj_patches import Core
from cluster.raft.timestamps import FOLLOWER_LEAD_MS_MAX
from cluster.raft.wire import Clock, Wire
from datastore.journal import Journal, JournalEntry


class Follower:
    """`log_event(name, **fields)` is told what an operator should know."""

    def __init__(
        self,
        journal: Journal,
        wire: Wire,
        clock: Clock,
        elections: Elections,
        log_event: Callable[..., None],
    ) -> None:
        self._journal = journal
        self._wire = wire
        self._clock = clock
        self._elections = elections
        self._log_event = log_event
        self.core: Core  # set by the engine, which the core needs first
        self.leader_commit_index: int | None = None  # what a leader was heard to have committed since the start
        self._acknowledges: Matched | None = None

    def leader_committed(self, index: int) -> None:
        self.leader_commit_index = max(self.leader_commit_index or 0, index)

    def on_append(self, peer: str, term: int, append: Append) -> None:
        if not self.follow(peer, term):
            return
        entries = append.journal_entries()
        self._check_terms(entries, append.prev_term, term)
        self.leader_committed(append.commit_index)
        if self._stamped_too_far_ahead(entries, append.commit_index):
            self._log_event("stamp_refused", leader=peer, lead_ms_max=FOLLOWER_LEAD_MS_MAX)
            self._wire.post(peer, HeartbeatReply())
            return
        outcome = match(append.prev_index, append.prev_term, entries, self._journal, self.core.commit_index)
        if isinstance(outcome, Rejected):
            self._wire.post(peer, AppendReply(False, outcome.hint))
        else:
            self._append(peer, term, outcome, append.commit_index)

    def on_heartbeat(self, peer: str, term: int) -> None:
        if self.follow(peer, term):
            self._wire.post(peer, HeartbeatReply())

    def follow(self, peer: str, term: int) -> bool:
        """Takes `peer` for the leader of `term` and restarts the election timer; False where that term is over."""
        if term < self.core.term:
            self._wire.post(peer, Outdated())
            return False
        if term == self.core.term and (self.core.is_leader or self.core.leader not in (None, peer)):
            raise SafetyViolation(f"two leaders in term {term}")
        self._elections.heard_leader()
        # Without `prevLogIdx` the handler touches no log; commit index 0, since nothing was compared.
        self.core.deliver(peer, {"type": "append_entries", "term": term, "commit_index": 0})
        return True

    def engine_acknowledges(self, peer: str, message: dict[str, Any]) -> None:
        """The engine answers an append: with success only, since what it rejects was rejected before it."""
        matched = self._acknowledges
        if matched is None:
            return
        if not message["success"]:
            raise SafetyViolation("the engine refused entries that match")
        self._wire.post(peer, AppendReply(True, matched.index), claims=True)

    def _append(self, peer: str, term: int, matched: Matched, commit_index: int) -> None:
        if matched.entries:
            prev_index, prev_term = matched.prev_index, matched.prev_term
        else:
            # Nothing is new: nothing may be removed from a tail that nobody contradicted.
            prev_index, prev_term = self._journal.last_index, self._journal.last_term
        self._acknowledges = matched
        try:
            self.core.deliver(
                peer,
                {
                    "type": "append_entries",
                    "term": term,
                    "commit_index": min(commit_index, matched.index),
                    "entries": list(matched.entries),
                    "prevLogIdx": prev_index,
                    "prevLogTerm": prev_term,
                },
            )
        finally:
            self._acknowledges = None

    @staticmethod
    def _check_terms(entries: list[JournalEntry], prev_term: int, term: int) -> None:
        last = prev_term
        for entry in entries:
            if not last <= entry.term <= term:
                raise FrameRefused("entries whose terms are out of order")
            unpack(entry.data)  # a malformed entry must never get as far as the log
            last = entry.term

    def _stamped_too_far_ahead(self, entries: list[JournalEntry], commit_index: int) -> bool:
        limit = self._clock.wall_ms() + FOLLOWER_LEAD_MS_MAX
        for entry in reversed(entries):
            if entry.index <= commit_index:
                return False
            stamp = stamp_of(entry.data)
            if stamp is not None:
                # Stamps never decrease, so the last one speaks for all.
                return stamp > limit
        return False
