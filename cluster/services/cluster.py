"""The Cluster service: how this node sees itself and its peers."""

from collections.abc import Callable
from typing import Any, Final

from grpc import aio

from cluster.services.leases import LeaseAdministration, lease_message
from cluster.services.membership import Hosting, MemberAdministration
from cluster.services.ports import ClusterView, NodeRole, NodeView, StatusSource
from cluster.services.proposals import Proposals
from watchword.v1 import cluster_pb2

ROLES: Final = {
    NodeRole.LEADER: cluster_pb2.NODE_ROLE_LEADER,
    NodeRole.FOLLOWER: cluster_pb2.NODE_ROLE_FOLLOWER,
    NodeRole.CANDIDATE: cluster_pb2.NODE_ROLE_CANDIDATE,
    NodeRole.NON_VOTER: cluster_pb2.NODE_ROLE_NON_VOTER,
    NodeRole.UNREACHABLE: cluster_pb2.NODE_ROLE_UNREACHABLE,
}


class ClusterService(MemberAdministration, LeaseAdministration):
    """The status is what the node knows at this moment, and proposes nothing; leases and members go through the log."""

    def __init__(
        self, source: StatusSource, proposals: Proposals, hosting: Hosting, wall_ms: Callable[[], int]
    ) -> None:
        super().__init__(proposals, wall_ms)
        self._source = source
        self._hosting = hosting

    async def GetStatus(  # noqa: N802 - named as in the contract
        self, _request: cluster_pb2.GetStatusRequest, _context: aio.ServicerContext[Any, Any]
    ) -> cluster_pb2.GetStatusResponse:
        return status_response(self._source.cluster_view())


def status_response(view: ClusterView) -> cluster_pb2.GetStatusResponse:
    return cluster_pb2.GetStatusResponse(
        cluster_id=view.cluster_id,
        incarnation=cluster_pb2.Incarnation(counter=view.incarnation_counter, id=view.incarnation_id),
        quorum=view.quorum,
        failure_tolerance=view.failure_tolerance,
        leader=view.leader_name or "",
        leader_member_id=view.leader_member_id or "",
        node=node_status(view.node),
        peers=[node_status(peer) for peer in sorted(view.peers, key=lambda peer: peer.name)],
        leases=[lease_message(lease) for lease in view.leases],
        wall_ms=view.wall_ms,
    )


def node_status(node: NodeView) -> cluster_pb2.NodeStatus:
    """What is None stays absent in the message."""
    return cluster_pb2.NodeStatus(
        id=node.name,
        member_id=node.member_id,
        address=node.address,
        peer_address=node.peer_address,
        role=ROLES[node.role],
        voter=node.voter,
        term=node.term,
        commit_index=node.commit_index,
        applied_index=node.applied_index,
        last_index=node.last_index,
        synced_index=node.synced_index,
        lag=node.lag,
        digest=node.digest,
        digest_index=node.digest_index,
        data_file_age_ms=node.data_file_age_ms,
        data_file_index=node.data_file_index,
        version=node.version,
        clock_offset_ms=node.clock_offset_ms,
        serving=node.serving,
        events_failing=node.events_failing,
        heard_ms_ago=node.heard_ms_ago,
    )
