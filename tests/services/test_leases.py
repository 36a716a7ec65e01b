"""Leases over real TLS: acquired, renewed, lost, and shown."""

import grpc
import pytest
from google.protobuf.message import Message

from cluster.services import limits
from tests.services.certificates import client_uri
from tests.services.direct_node import DirectNode
from tests.services.door import Door, field_of, reason_of
from watchword.v1 import cluster_pb2
from watchword.v1 import leases_pb2 as messages
from watchword.v1.cluster_pb2_grpc import ClusterStub

TTL_MS = 30_000


def acquire(request_id: str, name: str = "directory", ttl_ms: int = TTL_MS) -> messages.AcquireLeaseRequest:
    return messages.AcquireLeaseRequest(request_id=request_id, name=name, ttl_ms=ttl_ms)


def renew(request_id: str, epoch: int, name: str = "directory", ttl_ms: int = TTL_MS) -> messages.RenewLeaseRequest:
    return messages.RenewLeaseRequest(request_id=request_id, name=name, epoch=epoch, ttl_ms=ttl_ms)


async def test_a_lease_from_its_beginning_to_its_end(door: Door, node: DirectNode) -> None:
    connector, operator = ClusterStub(door.channel("connector")), ClusterStub(door.channel("operator"))
    lease = (await connector.AcquireLease(acquire("one"))).lease
    assert (lease.name, lease.holder, lease.epoch, lease.held) == ("directory", client_uri("connector"), 1, True)
    assert lease.until_ms - lease.acquired_ms == TTL_MS
    assert (await connector.AcquireLease(acquire("one"))).lease == lease, "a retry"
    with pytest.raises(grpc.aio.AioRpcError) as held:
        await operator.AcquireLease(acquire("two"))
    assert (held.value.code(), reason_of(held.value)) == (grpc.StatusCode.FAILED_PRECONDITION, "LEASE_HELD")
    node.now_ms += 10_000
    assert (await connector.RenewLease(renew("three", 1))).lease.until_ms == node.now_ms + TTL_MS
    status = await operator.GetStatus(cluster_pb2.GetStatusRequest())
    listed = await operator.ListLeases(messages.ListLeasesRequest())
    assert list(status.leases) == list(listed.leases)
    assert [(each.name, each.held) for each in listed.leases] == [("directory", True)]
    node.now_ms += TTL_MS
    assert not (await operator.GetStatus(cluster_pb2.GetStatusRequest())).leases[0].held
    with pytest.raises(grpc.aio.AioRpcError) as lost:
        await connector.RenewLease(renew("four", 1))
    assert (lost.value.code(), reason_of(lost.value)) == (grpc.StatusCode.FAILED_PRECONDITION, "LEASE_LOST")
    assert (await operator.AcquireLease(acquire("five"))).lease.epoch == 2
    with pytest.raises(grpc.aio.AioRpcError) as late:
        await connector.AcquireLease(acquire("one"))
    assert reason_of(late.value) == "LEASE_LOST", "a retry so late that another has it by now"
    await operator.ReleaseLease(messages.ReleaseLeaseRequest(request_id="six", name="directory", epoch=2))
    assert not (await operator.ListLeases(messages.ListLeasesRequest())).leases[0].held
    with pytest.raises(grpc.aio.AioRpcError) as missing:
        await operator.ReleaseLease(messages.ReleaseLeaseRequest(request_id="seven", name="mail", epoch=2))
    assert (missing.value.code(), reason_of(missing.value)) == (grpc.StatusCode.NOT_FOUND, "NO_SUCH_LEASE")


@pytest.mark.parametrize(
    ("method", "request_", "field"),
    [
        ("AcquireLease", acquire("x", name=""), "name"),
        ("AcquireLease", acquire("x", name="a" * 65), "name"),
        ("AcquireLease", acquire("x", name="a b"), "name"),
        ("AcquireLease", acquire("x", name="ä"), "name"),
        ("AcquireLease", acquire("x", ttl_ms=limits.LEASE_TTL_MS_MIN - 1), "ttl_ms"),
        ("AcquireLease", acquire("x", ttl_ms=limits.LEASE_TTL_MS_MAX + 1), "ttl_ms"),
        ("AcquireLease", acquire("x", ttl_ms=-(2**63)), "ttl_ms"),
        ("AcquireLease", acquire(""), "request_id"),
        ("RenewLease", renew("x", 0), "epoch"),
        ("RenewLease", renew("x", 2**64 - 1), "epoch"),
        ("RenewLease", renew("x", 1, ttl_ms=0), "ttl_ms"),
        ("ReleaseLease", messages.ReleaseLeaseRequest(request_id="x", name="a", epoch=2**63), "epoch"),
    ],
)
async def test_what_is_refused(door: Door, node: DirectNode, method: str, request_: Message, field: str) -> None:
    before = node.state.position
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await getattr(ClusterStub(door.channel("connector")), method)(request_)
    assert (error.value.code(), field_of(error.value)) == (grpc.StatusCode.INVALID_ARGUMENT, field)
    assert node.state.position == before
