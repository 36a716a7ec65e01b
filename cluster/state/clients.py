"""Clients: who has a certificate of the cluster, what it may do, and from when to when.

The key and the signature are made outside the log. What is in it decides everything that a certificate says, so that a
retry, through any node, gives one with the same name, serial number and end.
"""

import re
from hashlib import sha256
from typing import Final

from msgspec.structs import replace

from cluster.state.commands import AddClient, RenewClient, RevokeClient
from cluster.state.context import Context
from cluster.state.records import (
    CERTIFICATES_KEPT,
    CLIENT_GENERATIONS_MAX,
    CLIENT_LIFETIME_MS_MAX,
    CLIENT_LIFETIME_MS_MIN,
    CLIENTS_MAX,
    KEY_DIGEST_BYTES,
    SERIAL_BYTES,
    IssuedCertificate,
    Role,
    Roles,
)
from cluster.state.results import ChangeEvent, Code, Refused, Result
from cluster.state.store import IDENTITY, ROLES, SINGLE, Transaction

_NAME: Final = re.compile(r"[A-Za-z0-9._@-]{1,64}")


def client_identity(cluster_id: str, name: str, generation: int) -> str:
    """The URI in a client's certificates. A name that was revoked and is added again is another identity."""
    uri = f"watchword://{cluster_id}/client/{name}"
    return uri if generation == 1 else f"{uri}/{generation}"


def serial_of(asked_by: str, request_id: str, key_digest: bytes) -> bytes:
    """The serial number of the certificate that a request gives: SERIAL_BYTES, as a big-endian number positive."""
    head = f"{len(request_id)} {request_id}{asked_by} ".encode()
    digest = sha256(b"watchword certificate " + head + key_digest).digest()[:SERIAL_BYTES]
    return bytes((digest[0] & 0x7F | 0x40,)) + digest[1:]


def add_client(transaction: Transaction, command: AddClient, context: Context) -> Result:
    """A new client, or a new generation of one that was revoked."""
    _check_name(command.name)
    if not command.roles:
        raise Refused(Code.INVALID_ARGUMENT, "roles")
    _check_certificate(command)
    if len(transaction.keys(ROLES)) >= CLIENTS_MAX:
        raise Refused(Code.FAILED_PRECONDITION, "clients_max")
    generation = _latest(transaction, command.name) + 1
    if generation > CLIENT_GENERATIONS_MAX:
        raise Refused(Code.FAILED_PRECONDITION, "clients_max")
    if generation > 1:
        latest = transaction.read(ROLES, _identity(transaction, command.name, generation - 1).encode())
        assert latest is not None, "it was found a moment ago"
        if not latest.revoked_ms:
            raise Refused(Code.ALREADY_EXISTS, "name")
    client = Roles(
        tuple(sorted(set(command.roles))),
        created_ms=context.now_ms,
        created_by=context.client_short,
        certificates=(_certificate(command, context),),
    )
    identity = _identity(transaction, command.name, generation)
    transaction.write(ROLES, identity.encode(), client)
    return _done("client_added", identity, context)


def revoke_client(transaction: Transaction, command: RevokeClient, context: Context) -> Result:
    """Ends every certificate of the name, at once and for good; fine also where that is so already."""
    _check_name(command.name)
    generation = _latest(transaction, command.name)
    if not generation:
        raise Refused(Code.NOT_FOUND, "name")
    identity = _identity(transaction, command.name, generation)
    client = transaction.read(ROLES, identity.encode())
    assert client is not None, "it was found a moment ago"
    if not client.revoked_ms:
        if Role.OPERATOR in client.roles and not _another_operator(transaction, identity, context.now_ms):
            raise Refused(Code.FAILED_PRECONDITION, "last_operator")
        revoked = replace(client, revoked_ms=context.now_ms, revoked_by=context.client_short)
        transaction.write(ROLES, identity.encode(), revoked)
    return _done("client_revoked", identity, context)


def renew_client(transaction: Transaction, command: RenewClient, context: Context) -> Result:
    """Another certificate for whoever asks; those before it go on to their own end."""
    _check_certificate(command)
    key = context.client.encode()
    client = transaction.read(ROLES, key)
    assert client is not None, "who has a role has a record"
    certificates = (*client.certificates, _certificate(command, context))[-CERTIFICATES_KEPT:]
    transaction.write(ROLES, key, replace(client, certificates=certificates))
    return _done("client_renewed", context.client, context)


def _check_name(name: str) -> None:
    """Without a stroke in it: no name reads as a generation of another."""
    if _NAME.fullmatch(name) is None:
        raise Refused(Code.INVALID_ARGUMENT, "name")


def _check_certificate(command: AddClient | RenewClient) -> None:
    if len(command.key_digest) != KEY_DIGEST_BYTES:
        raise Refused(Code.INVALID_ARGUMENT, "csr")
    if not CLIENT_LIFETIME_MS_MIN <= command.lifetime_ms <= CLIENT_LIFETIME_MS_MAX:
        raise Refused(Code.INVALID_ARGUMENT, "lifetime")


def _certificate(command: AddClient | RenewClient, context: Context) -> IssuedCertificate:
    """Never beyond the end of the authority that signs it."""
    until_ms = min(context.now_ms + command.lifetime_ms, command.issuer_until_ms)
    if until_ms <= context.now_ms:
        raise Refused(Code.FAILED_PRECONDITION, "issuer")
    serial = serial_of(context.client, context.request_id, command.key_digest)
    return IssuedCertificate(serial, context.now_ms, until_ms)


def _identity(transaction: Transaction, name: str, generation: int) -> str:
    identity = transaction.read(IDENTITY, SINGLE)
    assert identity is not None, "every state has an identity"
    return client_identity(identity.cluster_id, name, generation)


def _latest(transaction: Transaction, name: str) -> int:
    """The number of the name's latest generation; 0 where there is none."""
    generation = 0
    while transaction.packed(ROLES, _identity(transaction, name, generation + 1).encode()) is not None:
        generation += 1
    return generation


def _another_operator(transaction: Transaction, identity: str, now_ms: int) -> bool:
    """Whether somebody else can still act as an operator."""
    for key in transaction.keys(ROLES):
        client = transaction.read(ROLES, key)
        assert client is not None, "the keys are those of records"
        if key != identity.encode() and Role.OPERATOR in client.roles and client.is_current(now_ms):
            return True
    return False


def _done(event: str, identity: str, context: Context) -> Result:
    subject = identity.split("/", 3)[3]
    return Result(Code.OK, events=(ChangeEvent(event, context.client, context.request_id, subject=subject),))
