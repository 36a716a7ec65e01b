"""The part of the Cluster service that is about leases."""

from collections.abc import Callable
from typing import Any, TypeAlias

from grpc import aio

from cluster.services import fields, limits
from cluster.services.proposals import Proposals
from cluster.services.status import lease_lost
from cluster.state.commands import AcquireLease, ReleaseLease, RenewLease
from cluster.state.lease_reads import LeaseView, get_lease, list_leases
from watchword.v1 import cluster_pb2_grpc
from watchword.v1 import leases_pb2 as messages

# ruff: noqa: ARG002, N802 - methods have names and arguments as in the contract

Context: TypeAlias = aio.ServicerContext[Any, Any]


class LeaseAdministration(cluster_pb2_grpc.ClusterServicer):
    """Who holds what is decided by the log; the clock is for what is shown only."""

    def __init__(self, proposals: Proposals, wall_ms: Callable[[], int]) -> None:
        self._proposals = proposals
        self._wall_ms = wall_ms

    async def AcquireLease(
        self, request: messages.AcquireLeaseRequest, context: Context
    ) -> messages.AcquireLeaseResponse:
        command = AcquireLease(fields.lease_name(request.name), _ttl_ms(request.ttl_ms))
        result = await self._proposals.change(command, request.request_id, context)
        return messages.AcquireLeaseResponse(lease=self._held(command.name, int(result.token_id)))

    async def RenewLease(self, request: messages.RenewLeaseRequest, context: Context) -> messages.RenewLeaseResponse:
        command = RenewLease(fields.lease_name(request.name), _epoch(request.epoch), _ttl_ms(request.ttl_ms))
        await self._proposals.change(command, request.request_id, context)
        return messages.RenewLeaseResponse(lease=self._held(command.name, command.epoch))

    async def ReleaseLease(
        self, request: messages.ReleaseLeaseRequest, context: Context
    ) -> messages.ReleaseLeaseResponse:
        command = ReleaseLease(fields.lease_name(request.name), _epoch(request.epoch))
        await self._proposals.change(command, request.request_id, context)
        return messages.ReleaseLeaseResponse()

    async def ListLeases(self, request: messages.ListLeasesRequest, context: Context) -> messages.ListLeasesResponse:
        state = await self._proposals.fresh(context)
        return messages.ListLeasesResponse(
            leases=[lease_message(lease) for lease in list_leases(state, self._wall_ms())]
        )

    def _held(self, name: str, epoch: int) -> messages.Lease:
        """As it is by now: what a late retry is told must still be so."""
        lease = get_lease(self._proposals.state, name, 0)
        if lease is None or lease.epoch != epoch or not lease.held:
            raise lease_lost()
        return lease_message(lease)


def lease_message(lease: LeaseView) -> messages.Lease:
    return messages.Lease(
        name=lease.name,
        holder=lease.holder,
        epoch=lease.epoch,
        acquired_ms=lease.acquired_ms,
        until_ms=lease.until_ms,
        held=lease.held,
    )


def _ttl_ms(value: int) -> int:
    return fields.within("ttl_ms", value, limits.LEASE_TTL_MS_MIN, limits.LEASE_TTL_MS_MAX)


def _epoch(value: int) -> int:
    return fields.within("epoch", value, 1, limits.LEASE_EPOCH_MAX)
