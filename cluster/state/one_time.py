"""Recovery codes and bypasses: issued as fingerprints, used once."""

from hashlib import blake2b
from hmac import compare_digest
from typing import Final, NamedTuple

from msgspec.structs import replace

from cluster.state import results
from cluster.state.commands import IssueBypass, IssueRecoveryCodes
from cluster.state.context import Context, Reads
from cluster.state.records import (
    BYPASS_REASON_BYTES_MAX,
    BYPASS_SECONDS_MAX,
    BYPASS_SECONDS_MIN,
    Bypass,
    RecoveryCodes,
    Role,
)
from cluster.state.results import ChangeEvent, Code, Event, Refused, Result
from cluster.state.store import BYPASSES, RECOVERY_CODES, REQUEST_KEY, ROLES, SINGLE, USERS, Transaction
from factors import recovery

BYPASS_GENERATED_BYTES: Final = recovery.SALT_BYTES + recovery.FINGERPRINT_BYTES
RECOVERY_GENERATED_BYTES: Final = recovery.SALT_BYTES + recovery.RECOVERY_CODES * recovery.FINGERPRINT_BYTES
_PURPOSE: Final = b"watchword codes"  # sets this key apart from other uses of the same secret
_CLIENT: Final = "/client/"


class Match(NamedTuple):
    """What was found: `token_id` RECOVERY_CODE, BYPASS or empty; `left`: whether any code could have been right."""

    token_id: str
    left: bool
    note: str = ""


def find(transaction: Transaction, key: bytes, code: str, now_ms: int) -> Match:
    """Look for a code, in its canonical form, among what that user may use once. Changes nothing."""
    bypass = transaction.read(BYPASSES, key)
    if bypass is not None and now_ms >= bypass.expires_ms:
        bypass = None
    codes = transaction.read(RECOVERY_CODES, key)
    left = bypass is not None or codes is not None
    if bypass is not None and compare_digest(recovery.fingerprint(code, bypass.salt), bypass.fingerprint):
        return Match(results.BYPASS, left, bypass.reason)
    if codes is not None and _places(codes, code):
        return Match(results.RECOVERY_CODE, left)
    return Match("", left)


def spend(transaction: Transaction, key: bytes, code: str, token_id: str) -> None:
    """Take away what `find` found; of one code that is both, as by chance it can be, both."""
    bypass, codes = transaction.read(BYPASSES, key), transaction.read(RECOVERY_CODES, key)
    if token_id == results.BYPASS:
        assert bypass is not None, "it was found"
        transaction.delete(BYPASSES, key)
    if codes is not None and (places := _places(codes, code)):
        left = tuple(each for place, each in enumerate(codes.fingerprints) if place not in places)
        if left:
            transaction.write(RECOVERY_CODES, key, replace(codes, fingerprints=left))
        else:
            transaction.delete(RECOVERY_CODES, key)


def _places(codes: RecoveryCodes, code: str) -> list[int]:
    """Where the code stands; every place is compared."""
    wanted = recovery.fingerprint(code, codes.salt)
    return [place for place, each in enumerate(codes.fingerprints) if compare_digest(each, wanted)]


def issue_recovery_codes(transaction: Transaction, command: IssueRecoveryCodes, context: Context) -> Result:
    key = command.user_id.encode()
    if transaction.packed(USERS, key) is None:
        raise Refused(Code.NOT_FOUND, "user_id")
    if len(context.generated) != RECOVERY_GENERATED_BYTES:
        raise Refused(Code.INVALID_ARGUMENT, "generated")
    salt, fingerprints = issued(context.generated)
    transaction.write(RECOVERY_CODES, key, RecoveryCodes(salt, fingerprints, context.now_ms))
    event = Event("recovery_codes_issued", context.client, context.request_id, command.user_id)
    return Result(Code.OK, events=(event,))


def issue_bypass(transaction: Transaction, command: IssueBypass, context: Context) -> Result:
    """Never for a disabled user; by a helpdesk neither for itself nor for an operator."""
    if not BYPASS_SECONDS_MIN <= command.seconds <= BYPASS_SECONDS_MAX:
        raise Refused(Code.INVALID_ARGUMENT, "seconds")
    if not 0 < len(command.reason.encode()) <= BYPASS_REASON_BYTES_MAX:
        raise Refused(Code.INVALID_ARGUMENT, "reason")
    if len(context.generated) != BYPASS_GENERATED_BYTES:
        raise Refused(Code.INVALID_ARGUMENT, "generated")
    if Role.OPERATOR not in context.roles and _is_beyond_helpdesk(transaction, command.user_id, context.client):
        raise Refused(Code.PERMISSION_DENIED, "user_id")
    key = command.user_id.encode()
    user = transaction.read(USERS, key)
    if user is None:
        raise Refused(Code.NOT_FOUND, "user_id")
    if not user.enabled:
        raise Refused(Code.FAILED_PRECONDITION, "user_state")
    salt, (fingerprint,) = issued(context.generated)
    expires_ms = context.now_ms + 1000 * command.seconds
    transaction.write(BYPASSES, key, Bypass(salt, fingerprint, expires_ms, command.reason, context.client_short))
    event = ChangeEvent("bypass_issued", context.client, context.request_id, command.user_id, subject=command.reason)
    return Result(Code.OK, events=(event,))


def _is_beyond_helpdesk(transaction: Transaction, user_id: str, client: str) -> bool:
    """Whether the user is who asks, or an operator, as their certificates are named."""
    person = person_of(user_id)
    operators = (
        key.decode()
        for key in transaction.keys(ROLES)
        if (own := transaction.read(ROLES, key)) is not None and Role.OPERATOR in own.roles and not own.revoked_ms
    )
    # Behind the name of a client that was revoked and added again stands a stroke and a number.
    names = (identity.partition(_CLIENT)[2].partition("/")[0] for identity in (client, *operators))
    return any(person_of(name) == person for name in names)


def person_of(name: str) -> str:
    """Who is meant by a user's or a certificate's name: without a domain, before or behind, and in lower case.

    Two people whose names differ by their domain only are taken for one: an operator can do what is refused so.
    """
    own = name.rpartition("\\")[2].partition("@")[0]
    # Names of certificates are ASCII, and names of users are case-folded already.
    return "".join(chr(ord(letter) | 0x20) if "A" <= letter <= "Z" else letter for letter in own)


def issued(generated: bytes) -> tuple[bytes, tuple[bytes, ...]]:
    """Salt and fingerprints, as they travel with the command."""
    salt, rest = generated[: recovery.SALT_BYTES], generated[recovery.SALT_BYTES :]
    width = recovery.FINGERPRINT_BYTES
    return salt, tuple(rest[at : at + width] for at in range(0, len(rest), width))


def codes_of(state: Reads, client: str, request_id: str, user_id: str, salt: bytes, count: int) -> tuple[str, ...]:
    """The codes that are issued for this request with this salt, in plain text.

    They are derived and not drawn, so that a retry, through any node, can show them although they are kept nowhere: the
    salt is in the record. Without the request's id, which is not kept either, the state does not give them away.
    """
    key = state.read(REQUEST_KEY, SINGLE)
    assert key is not None, "every state has one"
    derived = blake2b(_PURPOSE, key=key.key, digest_size=32).digest()
    parts = (salt, *(text.encode() for text in (client, request_id, user_id)))
    asked = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    return recovery.draw(blake2b(asked, key=derived, digest_size=32).digest(), count)
