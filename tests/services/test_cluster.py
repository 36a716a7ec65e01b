"""Cluster.GetStatus: what the node sees, and nothing made up where it does not know."""

from cluster.services.cluster import ROLES, status_response
from cluster.services.ports import Cause as NoAnswer
from cluster.services.ports import NodeRole, Unavailable
from tests.services.direct_node import MEMBER_ID, START_MS, DirectNode
from tests.services.door import Door
from watchword.v1 import cluster_pb2, cluster_pb2_grpc


async def test_the_nodes_own_view_and_its_peers(door: Door) -> None:
    stub = cluster_pb2_grpc.ClusterStub(door.channel("auditor"))
    status = await stub.GetStatus(cluster_pb2.GetStatusRequest())
    assert (status.quorum, status.failure_tolerance, status.leader) == (True, 1, "node-1")
    assert (status.cluster_id, status.incarnation.counter) == ("c0" * 16, 1)
    assert status.node.member_id == status.leader_member_id == MEMBER_ID
    assert status.node.role == cluster_pb2.NODE_ROLE_LEADER
    assert [peer.id for peer in status.peers] == ["node-2", "node-3"]
    assert status.wall_ms == START_MS


async def test_it_needs_no_quorum(door: Door, node: DirectNode) -> None:
    def refuse() -> None:
        raise Unavailable(NoAnswer.NO_QUORUM)

    node.before = refuse
    stub = cluster_pb2_grpc.ClusterStub(door.channel("operator"))
    await stub.GetStatus(cluster_pb2.GetStatusRequest())
    assert node.timeouts == []


def test_zero_is_told_and_unknown_is_absent() -> None:
    status = status_response(DirectNode().cluster_view())
    assert status.node.HasField("commit_index")
    assert status.node.HasField("clock_offset_ms")
    assert not status.node.HasField("lag")
    assert not status.peers[0].HasField("term")


def test_every_role_of_a_node_has_a_name_in_the_contract() -> None:
    assert set(ROLES) == set(NodeRole)
    assert set(ROLES.values()) == set(cluster_pb2.NodeRole.values()) - {cluster_pb2.NODE_ROLE_UNSPECIFIED}
