"""The part of the Administration service that is about clients and their certificates."""

from hashlib import sha256
from typing import Any, Final, TypeAlias

from grpc import aio

from cluster.services import fields, limits
from cluster.services.authority import Authority, Terms, UnusableRequest
from cluster.services.gate import current_caller
from cluster.services.paging import decode_page_token, encode_page_token
from cluster.services.proposals import Proposals
from cluster.services.status import Reason, invalid, no_such_client, precondition
from cluster.services.views import client_message
from cluster.state import client_reads, reads
from cluster.state.clients import serial_of
from cluster.state.commands import AddClient, RenewClient, RevokeClient
from cluster.state.records import IssuedCertificate, Role
from watchword.v1 import administration_pb2 as messages
from watchword.v1 import administration_pb2_grpc

# ruff: noqa: N802 - methods are named as in the contract

Context: TypeAlias = aio.ServicerContext[Any, Any]

ROLES: Final = {
    messages.ROLE_OPERATOR: Role.OPERATOR,
    messages.ROLE_FRONTEND: Role.FRONTEND,
    messages.ROLE_HELPDESK: Role.HELPDESK,
    messages.ROLE_AUDITOR: Role.AUDITOR,
    messages.ROLE_CONNECTOR: Role.CONNECTOR,
}


class ClientAdministration(administration_pb2_grpc.AdministrationServicer):
    """What changes goes through the log; the signature is made here, outside it, and any node can make it."""

    def __init__(self, proposals: Proposals, authority: Authority) -> None:
        self._proposals = proposals
        self._authority = authority

    async def AddClient(self, request: messages.AddClientRequest, context: Context) -> messages.AddClientResponse:
        name = fields.client_name(request.name)
        roles = client_roles(request)
        key = self._requested_key(request.csr)
        command = AddClient(name, roles, sha256(key).digest(), limits.CLIENT_LIFETIME_MS, self._issuer_until_ms())
        await self._proposals.change(command, request.request_id, context)
        found = client_reads.client_with(self._proposals.state, name, self._serial(request.request_id, key))
        if found is None:
            raise no_such_client()  # so many renewals later that its certificate is not known any more
        client, certificate = found
        return messages.AddClientResponse(
            client=client_message(client),
            certificate_chain=self._sign(client, certificate, key),
            root_certificate=reads.issuing_key(self._proposals.state).root_certificate,
        )

    async def ListClients(self, request: messages.ListClientsRequest, context: Context) -> messages.ListClientsResponse:
        limit = fields.within("page_size", request.page_size or limits.PAGE_SIZE_DEFAULT, 1, limits.PAGE_SIZE_MAX)
        after = decode_page_token(request.page_token)
        page = client_reads.list_clients(await self._proposals.fresh(context), after, limit)
        return messages.ListClientsResponse(
            clients=[client_message(client) for client in page.clients],
            next_page_token="" if page.next_after is None else encode_page_token(page.next_after),
        )

    async def RevokeClient(
        self, request: messages.RevokeClientRequest, context: Context
    ) -> messages.RevokeClientResponse:
        await self._proposals.change(RevokeClient(fields.client_name(request.name)), request.request_id, context)
        return messages.RevokeClientResponse()

    async def RenewClient(self, request: messages.RenewClientRequest, context: Context) -> messages.RenewClientResponse:
        key = self._requested_key(request.csr)
        command = RenewClient(sha256(key).digest(), limits.CLIENT_LIFETIME_MS, self._issuer_until_ms())
        await self._proposals.change(command, request.request_id, context)
        client = client_reads.get_client(self._proposals.state, current_caller().identity)
        serial = self._serial(request.request_id, key)
        for certificate in client.certificates if client else ():
            if client is not None and certificate.serial == serial:
                return messages.RenewClientResponse(
                    client=client_message(client),
                    certificate_chain=self._sign(client, certificate, key),
                    root_certificate=reads.issuing_key(self._proposals.state).root_certificate,
                )
        raise no_such_client()

    def _requested_key(self, csr: bytes) -> bytes:
        if not 0 < len(csr) <= limits.CSR_BYTES_MAX:
            raise invalid("csr", f"must be 1 to {limits.CSR_BYTES_MAX:,} bytes")
        try:
            return self._authority.requested_key(csr)
        except UnusableRequest as unusable:
            raise invalid("csr", str(unusable)) from None

    def _issuer_until_ms(self) -> int:
        return self._authority.valid_until_ms(reads.issuing_key(self._proposals.state))

    def _serial(self, request_id: str, key: bytes) -> bytes:
        return serial_of(current_caller().identity, request_id, sha256(key).digest())

    def _sign(self, client: client_reads.ClientView, certificate: IssuedCertificate, key: bytes) -> bytes:
        if client.revoked_ms:
            raise precondition(
                Reason.CLIENT_REVOKED, "name", "the client was revoked since", "add it again, with a new request_id"
            )
        terms = Terms(client.identity, certificate.serial, certificate.issued_ms, certificate.valid_until_ms)
        return self._authority.sign_client(reads.issuing_key(self._proposals.state), key, terms)


def client_roles(request: messages.AddClientRequest) -> tuple[Role, ...]:
    """Sorted, each once: a retry that names them in another order asks the same. Raises CallError."""
    if not 0 < len(request.roles) <= limits.ROLES_MAX or any(role not in ROLES for role in request.roles):
        raise invalid("roles", "must be one or more of the roles of the contract")
    return tuple(sorted({ROLES[role] for role in request.roles}))
