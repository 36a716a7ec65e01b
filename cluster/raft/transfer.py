"""Hands leadership to another member without losing a request (dissertation, section 3.10).

Proposals pause, the target catches up, it is told to start an election at once; if nothing has come of it after an
election timeout, this node goes on leading.
"""

from __future__ import annotations

from collections.abc import Callable

from cluster.raft.membership import Membership
from cluster.raft.proposals import Proposals
from cluster.raft.pysyncobj_patches import Core
from cluster.raft.replication import Replication
from cluster.raft.settings import RaftSettings
from datastore.journal import Journal


class Transfer:
    def __init__(
        self,
        membership: Membership,
        journal: Journal,
        replication: Replication,
        proposals: Proposals,
        settings: RaftSettings,
        monotonic: Callable[[], float],
    ) -> None:
        self._membership = membership
        self._journal = journal
        self._replication = replication
        self._proposals = proposals
        self._settings = settings
        self._monotonic = monotonic
        self.core: Core  # set by the engine, which the core needs first
        self._target: str | None = None
        self._asked = False
        self._until = 0.0
        self.active = False

    def start(self, target: str | None) -> None:
        if not self.core.is_leader or not self._membership.other_voters or self.active:
            return
        self.active = True
        self._asked = False
        self._target = target
        self._until = self._monotonic() + self._settings.election_timeout_min
        self._proposals.paused = True

    def stop(self) -> None:
        self.active = False
        self._proposals.paused = False

    def tick(self) -> None:
        if not self.active:
            return
        if not self.core.is_leader or self._monotonic() >= self._until:
            self.stop()
            return
        if self._asked or self._journal.synced_index < self._journal.last_index:
            return
        target = self._choose()
        if target is not None:
            self._asked = True
            self.core.request_transfer(target)

    def _choose(self) -> str | None:
        """The wished-for member, else any, once its log equals ours."""
        for peer in self._membership.other_voters:
            if self._target not in (None, peer):
                continue
            if self._replication.progress[peer].match == self._journal.last_index and self._replication.reaches(peer):
                return peer
        return None
