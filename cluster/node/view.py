"""How this node sees the cluster, for `watchword status` and for health checks."""

from __future__ import annotations

from collections.abc import Sequence

from cluster.node.consensus import Consensus
from cluster.raft.status import EngineStatus, PeerStatus
from cluster.services.ports import ClusterView, NodeRole, NodeView
from cluster.state import reads
from cluster.state.lease_reads import list_leases
from cluster.state.records import Member
from datastore.keys import key_text
from watchword.version import __version__


class ClusterViews:
    """Implements `cluster.services.ports.StatusSource`."""

    def __init__(self, consensus: Consensus) -> None:
        self._consensus = consensus
        self.serving = False  # what the health service says

    def is_ready(self) -> bool:
        """Whether this node may serve: a quorum, a state that has caught up, nothing that forbids it."""
        consensus = self._consensus
        if consensus.failed or consensus.replica.out_of_service:
            return False
        status = consensus.engine.status()
        return status.quorum and status.caught_up

    def cluster_view(self) -> ClusterView:
        consensus = self._consensus
        status, members = consensus.engine.status(), reads.members(consensus.state)
        voters = consensus.engine.configuration.voters
        identity = consensus.opened.identity
        leader = members.get(status.leader) if status.leader else None
        return ClusterView(
            cluster_id=identity.cluster_id,
            incarnation_counter=identity.incarnation_counter,
            incarnation_id=identity.incarnation_id,
            quorum=status.quorum,
            failure_tolerance=failure_tolerance(status, voters),
            leader_name=leader.name if leader else None,
            leader_member_id=status.leader if leader else None,
            node=self._own(status, members.get(status.member_id, self._unlisted), status.member_id in voters),
            peers=tuple(
                _peer(status, peer, member, peer.member_id in voters)
                for peer in status.peers
                if (member := members.get(peer.member_id)) is not None
            ),
            leases=list_leases(consensus.state, consensus.clock.wall_ms()),
            wall_ms=consensus.clock.wall_ms(),
        )

    @property
    def _unlisted(self) -> Member:
        """What this node is called as long as its state does not list it."""
        options = self._consensus.options
        return Member(options.name, options.peer_address, options.client_address, voter=False)

    def _own(self, status: EngineStatus, member: Member, votes: bool) -> NodeView:
        data_file = self._consensus.data_files.current
        return NodeView(
            name=member.name,
            member_id=status.member_id,
            address=member.client_address,
            peer_address=member.peer_address,
            role=NodeRole(status.role),
            voter=votes,
            version=__version__,
            term=status.term,
            commit_index=status.commit_index,
            applied_index=status.applied_index,
            last_index=status.last_index,
            synced_index=status.synced_index,
            lag=max(0, status.commit_index - status.applied_index),
            digest=status.digest,
            digest_index=status.digest_index,
            data_file_age_ms=max(0, self._consensus.clock.wall_ms() - data_file.created_ms),
            data_file_index=data_file.position.index,
            clock_offset_ms=status.clock_offset_ms,
            serving=self.serving,
            events_failing=bool(self._consensus.observation.events.trouble),
            heard_ms_ago=0,
        )


class Leadership:
    """Implements `cluster.services.ports.Membership`."""

    def __init__(self, consensus: Consensus) -> None:
        self._consensus = consensus

    def leader(self) -> str | None:
        status = self._consensus.engine.status()
        return status.leader if status.quorum else None

    def kek_id(self) -> str:
        return self._consensus.opened.keys.kek.id

    def kek_text(self) -> str:
        return key_text(self._consensus.opened.keys.kek)


def failure_tolerance(status: EngineStatus, voters: Sequence[str]) -> int:
    """How many more voters may fail: those that are up, less a majority of all; 0 without a quorum."""
    if not status.quorum:
        return 0
    up = {status.member_id} | {peer.member_id for peer in status.peers if peer.connected}
    return max(0, len(up.intersection(voters)) - (len(voters) // 2 + 1))


def _peer(status: EngineStatus, peer: PeerStatus, member: Member, votes: bool) -> NodeView:
    if not peer.connected:
        role = NodeRole.UNREACHABLE
    elif not votes:
        role = NodeRole.NON_VOTER
    else:
        role = NodeRole.LEADER if peer.member_id == status.leader else NodeRole.FOLLOWER
    lag = max(0, status.commit_index - peer.match_index) if peer.match_index is not None else None
    return NodeView(
        name=member.name,
        member_id=peer.member_id,
        address=member.client_address,
        peer_address=member.peer_address,
        role=role,
        voter=votes,
        lag=lag,
        clock_offset_ms=peer.clock_offset_ms,
    )
