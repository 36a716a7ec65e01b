"""The client's calls about leases: what only one program may do at a time."""

from collections.abc import Sequence

from watchword.calls import Calls
from watchword.v1 import leases_pb2 as leases
from watchword.verification import text


class LeaseCalls(Calls):
    """A part of `watchword.client.Client`.

    A lease lasts `ttl_s` (5 s to an hour) from the moment before the call was made: measure it there, on a monotonic
    clock, renew at a third of it, and stop what is done under it when it is over.
    """

    async def acquire_lease(self, name: str, ttl_s: float, *, request_id: str | None = None) -> leases.Lease:
        """`FailedPrecondition` with reason LEASE_HELD while somebody has it, also this client's own certificate."""
        request = leases.AcquireLeaseRequest(
            request_id=self._request_id(request_id), name=text("name", name), ttl_ms=round(ttl_s * 1000)
        )
        response = await self._call(lambda stubs: stubs.cluster.AcquireLease, request)
        return response.lease

    async def renew_lease(self, name: str, epoch: int, ttl_s: float, *, request_id: str | None = None) -> leases.Lease:
        """`FailedPrecondition` with reason LEASE_LOST where that epoch is over."""
        request = leases.RenewLeaseRequest(
            request_id=self._request_id(request_id), name=text("name", name), epoch=epoch, ttl_ms=round(ttl_s * 1000)
        )
        response = await self._call(lambda stubs: stubs.cluster.RenewLease, request)
        return response.lease

    async def release_lease(self, name: str, epoch: int, *, request_id: str | None = None) -> None:
        """Ends it at once, fine also where that epoch is over; an operator may end anybody's."""
        request = leases.ReleaseLeaseRequest(
            request_id=self._request_id(request_id), name=text("name", name), epoch=epoch
        )
        await self._call(lambda stubs: stubs.cluster.ReleaseLease, request)

    async def list_leases(self) -> Sequence[leases.Lease]:
        """All of them, those that nobody holds included."""
        response = await self._call(lambda stubs: stubs.cluster.ListLeases, leases.ListLeasesRequest())
        return response.leases
