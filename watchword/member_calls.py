"""The client's calls about members: how nodes come and go, and who leads."""

from watchword.calls import Calls
from watchword.v1 import members_pb2 as members
from watchword.verification import text


class MemberCalls(Calls):
    """A part of `watchword.client.Client`."""

    async def invite(self, ttl_s: float = 0, *, request_id: str | None = None) -> members.InviteResponse:
        """A token that lets one node join, once, within `ttl_s` (0: an hour)."""
        request = members.InviteRequest(request_id=self._request_id(request_id), ttl_ms=round(ttl_s * 1000))
        return await self._call(lambda stubs: stubs.cluster.Invite, request)

    async def join(
        self,
        *,
        secret: bytes,
        name: str,
        client_address: str,
        peer_address: str,
        csr: bytes,
        wants_kek: bool,
        request_id: str | None = None,
    ) -> members.JoinResponse:
        """For a client with the credentials of a joining token: adds the node whose key has signed `csr`."""
        request = members.JoinRequest(
            request_id=self._request_id(request_id),
            secret=secret,
            name=text("name", name),
            client_address=text("client_address", client_address),
            peer_address=text("peer_address", peer_address),
            csr=csr,
            wants_kek=wants_kek,
        )
        return await self._call(lambda stubs: stubs.cluster.Join, request)

    async def remove_member(self, node: str, *, request_id: str | None = None) -> members.RemoveMemberResponse:
        """Returns when the node, by its name or member id, is no member any more."""
        request = members.RemoveMemberRequest(request_id=self._request_id(request_id), node=text("node", node))
        return await self._call(lambda stubs: stubs.cluster.RemoveMember, request)

    async def transfer_leadership(
        self, node: str = "", *, request_id: str | None = None
    ) -> members.TransferLeadershipResponse:
        """Returns when that node leads, or any other than now."""
        request = members.TransferLeadershipRequest(request_id=self._request_id(request_id), node=text("node", node))
        return await self._call(lambda stubs: stubs.cluster.TransferLeadership, request)
