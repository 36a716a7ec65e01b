"""Applies what is committed *and* on this node's own disk, once each, a slice of time at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from cluster.raft import entries
from cluster.raft.digests import Digests
from cluster.raft.errors import RemovedFromCluster
from cluster.raft.membership import Configuration, Membership
from cluster.raft.messages import Group
from cluster.raft.pysyncobj_patches import Core
from cluster.raft.settings import RaftSettings
from datastore.journal import Journal


@dataclass(frozen=True, slots=True)
class Applied:
    """Where the state machine stands when the engine is made: the data file's entry."""

    index: int
    stamp_ms: int
    running_digest: bytes


class StateMachine(Protocol):
    def apply(self, index: int, term: int, stamp_ms: int, groups: Sequence[Group]) -> bytes:
        """Called for every index in order; total: it never raises.  Returns the running digest (32 bytes)."""

    def configure(self, index: int, term: int, stamp_ms: int, configuration: Configuration) -> bytes:
        """In place of `apply` for an entry that changes the members."""


class Applier:
    """`stamp_ms`: of the last applied entry that has one."""

    def __init__(
        self,
        journal: Journal,
        state_machine: StateMachine,
        digests: Digests,
        membership: Membership,
        applied: Applied,
        settings: RaftSettings,
        monotonic: Callable[[], float],
    ) -> None:
        self._journal = journal
        self._state_machine = state_machine
        self._digests = digests
        self._membership = membership
        self.stamp_ms = applied.stamp_ms
        self.running_digest = applied.running_digest
        self._settings = settings
        self._monotonic = monotonic
        self._announced = 0
        self._listed = membership.is_listed_at_base
        self.core: Core  # set by the engine, which the core needs first
        self.busy = False

    def apply_committed(self) -> bool:
        """True where the commit index has moved since the last call, so that followers should hear of it."""
        committed = self.core.commit_index
        limit = min(committed, self._journal.synced_index)
        started = self._monotonic()
        self.busy = False
        while self.core.applied_index < limit:
            if self._monotonic() - started > self._settings.apply_slice:
                self.busy = True
                break
            self._apply(self.core.entry_applied())
        moved = committed > self._announced
        self._announced = committed
        return moved

    def snapshot_installed(self, stamp_ms: int, running_digest: bytes, configuration: Configuration) -> None:
        self.stamp_ms = stamp_ms
        self._listed = self._membership.member_id in configuration.members
        self.running_digest = running_digest

    def _apply(self, index: int) -> None:
        entry = self._journal.entry(index)
        assert entry is not None, "a committed entry is in the journal until it has been applied"
        envelope = entries.unpack(entry.data)
        if envelope.stamp_ms is not None:
            self.stamp_ms = envelope.stamp_ms
        configuration = envelope.configuration
        if configuration is None:
            self.running_digest = self._state_machine.apply(index, entry.term, self.stamp_ms, envelope.groups)
        else:
            self.running_digest = self._state_machine.configure(index, entry.term, self.stamp_ms, configuration)
            self._membership.applied(index)
            was_listed, self._listed = self._listed, self._membership.member_id in configuration.members
            if was_listed and not self._listed:  # a member that is being filled meets changes from before its time
                raise RemovedFromCluster
        self._digests.applied(index, self.running_digest)
