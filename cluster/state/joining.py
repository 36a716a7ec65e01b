"""Invitations: a new node joins by one, once and until its end, both by the log's time."""

import hmac
from hashlib import blake2b
from typing import Final

from msgspec.structs import replace

from cluster.state import membership
from cluster.state.commands import Invite, Join
from cluster.state.context import Context, Reads
from cluster.state.records import (
    INVITATION_ID_BYTES,
    INVITATION_KEPT_MS,
    INVITATION_MS_MAX,
    INVITATION_MS_MIN,
    INVITATION_SECRET_BYTES,
    INVITATIONS_MAX,
    KEY_DIGEST_BYTES,
    MEMBER_ID_BYTES,
    Invitation,
    Member,
)
from cluster.state.results import Code, Refused, Result
from cluster.state.store import INVITATIONS, MEMBERS, REQUEST_KEY, SINGLE, Transaction

SECRET_DIGEST_BYTES: Final = 32
_PURPOSE: Final = b"watchword invitation"  # sets this key apart from other uses of the same secret
INVITE_GENERATED_BYTES: Final = INVITATION_ID_BYTES + SECRET_DIGEST_BYTES


def invite(transaction: Transaction, command: Invite, context: Context) -> Result:
    """A new invitation, by its id in the result. FAILED_PRECONDITION: `invitations_max`."""
    if not INVITATION_MS_MIN <= command.lifetime_ms <= INVITATION_MS_MAX:
        raise Refused(Code.INVALID_ARGUMENT, "lifetime")
    if len(context.generated) != INVITE_GENERATED_BYTES:
        raise Refused(Code.INVALID_ARGUMENT, "generated")
    for key in transaction.keys(INVITATIONS):
        known = transaction.read(INVITATIONS, key)
        if known is not None and known.expires_ms + INVITATION_KEPT_MS <= context.now_ms:
            transaction.delete(INVITATIONS, key)
    if len(transaction.keys(INVITATIONS)) >= INVITATIONS_MAX:
        raise Refused(Code.FAILED_PRECONDITION, "invitations_max")
    invitation_id = context.generated[:INVITATION_ID_BYTES].hex()
    invitation = Invitation(
        context.generated[INVITATION_ID_BYTES:], context.now_ms + command.lifetime_ms, context.client_short
    )
    transaction.write(INVITATIONS, invitation_id.encode(), invitation)
    return membership.done("node_invited", invitation_id, context, invitation_id)


def join(transaction: Transaction, command: Join, context: Context) -> Result:
    """Spends the invitation and adds a member, or neither; the member's id is in the result.

    NOT_FOUND: `invitation`. FAILED_PRECONDITION: `invitation_expired`, `invitation_spent`; and as `add_member`.
    """
    if len(command.key_digest) != KEY_DIGEST_BYTES:
        raise Refused(Code.INVALID_ARGUMENT, "csr")
    key = context.client.rpartition("/")[2].encode()
    invitation = transaction.read(INVITATIONS, key)
    if invitation is None or not hmac.compare_digest(invitation.secret_digest, command.secret_digest):
        raise Refused(Code.NOT_FOUND, "invitation")
    new = Member(command.name, command.peer_address, command.client_address, voter=False)
    if invitation.member_id:
        return _again(transaction, command, invitation, new)
    if invitation.expires_ms <= context.now_ms:
        raise Refused(Code.FAILED_PRECONDITION, "invitation_expired")
    if len(context.generated) != MEMBER_ID_BYTES:
        raise Refused(Code.INVALID_ARGUMENT, "generated")
    member_id = context.generated.hex()
    membership.add(transaction, member_id, new)
    transaction.write(INVITATIONS, key, replace(invitation, member_id=member_id, key_digest=command.key_digest))
    return membership.done("member_added", member_id, context, member_id)


def _again(transaction: Transaction, command: Join, invitation: Invitation, new: Member) -> Result:
    """Whoever spent it may ask again, should the answer have got lost, as long as it is the same node."""
    member = transaction.read(MEMBERS, invitation.member_id.encode())
    same = hmac.compare_digest(invitation.key_digest, command.key_digest)
    if not same or member is None or member.leaving or replace(member, voter=False) != new:
        raise Refused(Code.FAILED_PRECONDITION, "invitation_spent")
    return Result(Code.OK, token_id=invitation.member_id)


def secret_of(state: Reads, client: str, request_id: str, invitation_id: bytes) -> bytes:
    """The secret of the invitation with that id that is made for this request.

    Derived and not drawn, so that a retry, through any node, can show it. Without the request's id, which is not kept,
    the state does not give it away.
    """
    key = state.read(REQUEST_KEY, SINGLE)
    assert key is not None, "every state has one"
    derived = blake2b(_PURPOSE, key=key.key, digest_size=32).digest()
    parts = (invitation_id, client.encode(), request_id.encode())
    asked = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    return blake2b(asked, key=derived, digest_size=INVITATION_SECRET_BYTES).digest()
