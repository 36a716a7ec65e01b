"""Where a member stands: its own view of itself, of its peers and of the quorum, for `Engine.status`."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final, Literal

from cluster.raft.applying import Applier
from cluster.raft.digests import Digests
from cluster.raft.elections import Elections
from cluster.raft.follower import Follower
from cluster.raft.membership import Membership
from cluster.raft.pysyncobj_patches import Core
from cluster.raft.replication import Replication
from cluster.raft.settings import RaftSettings
from cluster.raft.status import EngineStatus, PeerStatus
from cluster.raft.timestamps import Reading, majority_offset_ms
from cluster.raft.wire import Clock
from datastore.journal import Journal

LAG_ENTRIES_MAX: Final = 64
"""How far behind its leader's commit index a follower may be and still count as caught up."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Reads what the other parts know, and changes nothing."""

    member_id: str
    membership: Membership
    connected: AbstractSet[str]
    readings: dict[str, Reading]
    core: Core
    journal: Journal
    clock: Clock
    elections: Elections
    follower: Follower
    replication: Replication
    applier: Applier
    digests: Digests
    settings: RaftSettings

    def status(self) -> EngineStatus:
        core, now = self.core, self.clock.monotonic()
        committed = min(core.commit_index, self.journal.synced_index)
        return EngineStatus(
            member_id=self.member_id,
            role=self._role(),
            term=core.term,
            leader=core.leader,
            commit_index=max(committed, core.applied_index),
            applied_index=core.applied_index,
            last_index=self.journal.last_index,
            synced_index=self.journal.synced_index,
            quorum=self._has_quorum(now),
            caught_up=self._is_caught_up(),
            digest=self.applier.running_digest,
            digest_index=core.applied_index,
            disputed_index=self.digests.disputed_index,
            clock_offset_ms=self.clock_offset_ms(),
            peers=tuple(self._peer_status(peer, now) for peer in self.membership.others),
        )

    def clock_offset_ms(self) -> int | None:
        """How far the wall clock is ahead of the median of a majority's; None while too few peers are heard."""
        voters = self.membership.configuration.voters
        readings = {peer: reading for peer, reading in self.readings.items() if peer in voters}
        return majority_offset_ms(self.clock.wall_ms(), readings, len(voters), self.clock.monotonic())

    def _role(self) -> Literal["leader", "follower", "candidate", "non-voter"]:
        if self.core.is_leader:
            return "leader"
        if not self.membership.is_voter:
            return "non-voter"
        return "candidate" if self.core.is_candidate else "follower"

    def _has_quorum(self, now: float) -> bool:
        if not self.core.is_leader:
            return self.core.leader is not None and self.elections.leader_is_live()
        progress = self.replication.progress
        heard = sum(
            1
            for peer in self.membership.other_voters
            if 0 <= now - progress[peer].heard < self.settings.election_timeout_max
        )
        return heard + 1 >= self.membership.majority

    def _is_caught_up(self) -> bool:
        if self.core.is_leader:
            opening = self.core.opening_index
            return opening is not None and self.core.applied_index >= opening
        committed = self.follower.leader_commit_index
        if self.core.leader is None or committed is None:
            return False
        return self.core.applied_index + LAG_ENTRIES_MAX >= committed

    def _peer_status(self, peer: str, now: float) -> PeerStatus:
        progress = self.replication.progress.get(peer) if self.core.is_leader else None
        reading = self.readings.get(peer)
        fresh = reading is not None and now - reading.at <= self.settings.election_timeout_max
        offset = reading.estimate_ms(now) - self.clock.wall_ms() if reading is not None and fresh else None
        return PeerStatus(
            member_id=peer,
            connected=peer in self.connected,
            match_index=progress.match if progress is not None else None,
            clock_offset_ms=offset,
        )
