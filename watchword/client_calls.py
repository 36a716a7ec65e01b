"""The client's calls about clients: who has a certificate, and what it may do."""

from collections.abc import Sequence

from watchword.calls import Calls
from watchword.v1 import administration_pb2 as administration
from watchword.verification import text


class ClientCalls(Calls):
    """A part of `watchword.client.Client`."""

    async def add_client(
        self,
        name: str,
        roles: Sequence[administration.Role.ValueType],
        csr: bytes,
        *,
        request_id: str | None = None,
    ) -> administration.AddClientResponse:
        """A certificate for the key that has signed `csr` (PKCS #10, PEM); a retry gets one of the same number."""
        request = administration.AddClientRequest(
            request_id=self._request_id(request_id), name=text("name", name), roles=roles, csr=csr
        )
        return await self._call(lambda stubs: stubs.administration.AddClient, request)

    async def list_clients(self, *, page_size: int = 0, page_token: str = "") -> administration.ListClientsResponse:
        """One page, those that were revoked included; `next_page_token` of the answer asks for the next."""
        request = administration.ListClientsRequest(page_size=page_size, page_token=text("page_token", page_token))
        return await self._call(lambda stubs: stubs.administration.ListClients, request)

    async def revoke_client(self, name: str, *, request_id: str | None = None) -> None:
        """Ends every certificate of the name, at once and for good."""
        request = administration.RevokeClientRequest(request_id=self._request_id(request_id), name=text("name", name))
        await self._call(lambda stubs: stubs.administration.RevokeClient, request)

    async def renew_client(self, csr: bytes, *, request_id: str | None = None) -> administration.RenewClientResponse:
        """Another certificate for whoever this client is."""
        request = administration.RenewClientRequest(request_id=self._request_id(request_id), csr=csr)
        return await self._call(lambda stubs: stubs.administration.RenewClient, request)
