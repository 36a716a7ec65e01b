"""One attempt to sign in, decided, counted and remembered; and Verify, which is one without a PIN."""

from collections.abc import Mapping
from typing import Final, NamedTuple

import msgspec
from msgspec.structs import astuple

from cluster.state import one_time, tokens
from cluster.state.commands import Verify, WithPin
from cluster.state.context import Context
from cluster.state.records import (
    ADDRESS_BYTES_MAX,
    APPLICATION_BYTES_MAX,
    ATTEMPTS_KEPT,
    USER_ID_BYTES_MAX,
    Attempt,
    Failures,
    Pin,
    Token,
    TokenStatus,
    TokenType,
    User,
)
from cluster.state.results import Code, Event, Reason, Refused, Result
from cluster.state.store import ATTEMPTS, FAILURES, TOKENS, USERS, Transaction
from factors.lockout import CLEAR, Lockout, is_locked, record_failure
from factors.otp import DIGITS, Algorithm, Verdict
from factors.passcode import PasscodeTooLong, normalise
from factors.recovery import CHARACTERS, canonical, has_letter

__all__ = ["Context", "Typed", "attempt", "verify"]

# Checked where there is no token to check, so that such an answer costs what a wrong code costs.
_NO_TOKEN: Final = Token(
    user_id="",
    type=TokenType.TOTP,
    status=TokenStatus.ACTIVE,
    algorithm=Algorithm.SHA1,
    digits=6,
    period_s=30,
    secret=bytes(20),
    created_ms=0,
)
_encode: Final = msgspec.msgpack.Encoder().encode
_raw_attempts: Final = msgspec.msgpack.Decoder(list[msgspec.Raw])


class Typed(NamedTuple):
    """What was typed, without a PIN: empty where the PIN was wrong."""

    codes: Mapping[int, str]  # what a token is asked, by the length of its codes
    lettered: str | None = None  # in canonical form, where it is a recovery code or a bypass
    pin: Pin | None = None  # what stood before it, where PINs are required
    pin_missing: bool = False  # they are, and the user has none


class _Found(NamedTuple):
    """What is said to a passcode: `accepted` are (token id, token, position), of all tokens whose code it is."""

    reason: Reason
    token_id: str = ""
    accepted: tuple[tuple[str, Token, int], ...] = ()
    note: str = ""


def verify(transaction: Transaction, command: Verify, context: Context) -> Result:
    """An attempt without a PIN. Raises Refused: INVALID_ARGUMENT out of limits, STALE where PINs are required."""
    if context.rules.pin_required:
        raise Refused(Code.STALE, "oath_pin")
    _check_fields(command)
    try:
        passcode = normalise(command.passcode)
    except PasscodeTooLong:
        raise Refused(Code.INVALID_ARGUMENT, "passcode") from None
    lettered = len(passcode) == CHARACTERS and has_letter(passcode)
    typed = Typed(dict.fromkeys(DIGITS, passcode), canonical(passcode) if lettered else None)
    return attempt(transaction, command, context, typed)


def attempt(transaction: Transaction, command: Verify | WithPin, context: Context, typed: Typed) -> Result:
    """Decide one attempt.

    Only WRONG, REPLAYED and TOO_OLD count as failures: where no passcode could have been right (locked, disabled,
    without a token or a PIN, unknown), nothing can be guessed. Raises Refused(INVALID_ARGUMENT) out of limits.
    """
    _check_fields(command)
    key = command.user_id.encode()
    user = transaction.read(USERS, key)
    if user is None:
        _work_in_vain(context)
        return _result(command, context, Reason.UNKNOWN_USER, "")
    lockout = _lockout_of(transaction, key)
    found = _decide(transaction, user, lockout, command, typed, context)
    locked_now = False
    if found.reason is Reason.ACCEPTED:
        _spend(transaction, key, found, typed, context)
        if lockout is not CLEAR:
            transaction.delete(FAILURES, key)
        if typed.pin is not None and is_due(typed.pin, context.now_ms, context.rules.pin_max_age_ms):
            found = found._replace(reason=Reason.PIN_DUE)
    elif found.reason in (Reason.WRONG, Reason.REPLAYED, Reason.TOO_OLD):
        after = record_failure(lockout, context.now_ms, context.rules.lockout)
        transaction.write(FAILURES, key, Failures(after.failures_ms, after.locked_until_ms))
        locked_now = is_locked(after, context.now_ms)
    _note(transaction, key, command, context, found)
    result = _result(command, context, found.reason, found.token_id)
    if locked_now:
        locked = Event("user_locked", context.client, context.request_id, command.user_id)
        result = Result(result.code, result.reason, result.token_id, events=(*result.events, locked))
    return result


def is_due(pin: Pin, now_ms: int, max_age_ms: int) -> bool:
    """Whether the PIN must be changed at the next sign-in. `max_age_ms` 0: only where somebody said so."""
    return pin.must_change or 0 < max_age_ms <= now_ms - pin.changed_ms


def _spend(transaction: Transaction, key: bytes, found: _Found, typed: Typed, context: Context) -> None:
    for token_id, token, position in found.accepted:
        transaction.write(TOKENS, token_id.encode(), tokens.used(token, position, context.now_ms))
    if not found.accepted:
        assert typed.lettered, "something accepted"
        one_time.spend(transaction, key, typed.lettered, found.token_id)


def _work_in_vain(context: Context) -> None:
    """So that an answer without a token to check costs what a wrong code costs."""
    tokens.search(_NO_TOKEN, "", context.now_ms, context.rules)


def _check_fields(command: Verify | WithPin) -> None:
    """Raises Refused where a field is beyond its limit."""
    if not 0 < len(command.user_id.encode()) <= USER_ID_BYTES_MAX:
        raise Refused(Code.INVALID_ARGUMENT, "user_id")
    if len(command.application.encode()) > APPLICATION_BYTES_MAX:
        raise Refused(Code.INVALID_ARGUMENT, "client.application")
    if len(command.address.encode()) > ADDRESS_BYTES_MAX:
        raise Refused(Code.INVALID_ARGUMENT, "client.address")


def _lockout_of(transaction: Transaction, key: bytes) -> Lockout:
    failures = transaction.read(FAILURES, key)
    return CLEAR if failures is None else Lockout(failures.failures_ms, failures.locked_until_ms)


def _decide(
    transaction: Transaction, user: User, lockout: Lockout, command: Verify | WithPin, typed: Typed, context: Context
) -> _Found:
    reason, candidates = _candidates(transaction, user, lockout, command.token_id, context.now_ms)
    if reason in (Reason.NONE, Reason.NO_TOKEN):
        if typed.pin_missing:
            reason = Reason.NO_PIN
        elif typed.lettered is not None and not command.token_id:
            match = one_time.find(transaction, command.user_id.encode(), typed.lettered, context.now_ms)
            if match.token_id:
                return _Found(Reason.ACCEPTED, match.token_id, note=match.note)
            if match.left:
                reason = Reason.NONE
    if reason is not Reason.NONE or not candidates:
        _work_in_vain(context)
    return _search(candidates, typed, context) if reason is Reason.NONE else _Found(reason)


def _candidates(
    transaction: Transaction, user: User, lockout: Lockout, token_id: str, now_ms: int
) -> tuple[Reason, list[tuple[str, Token]]]:
    """The tokens that may accept, at least one; or the reason why none may."""
    if not user.enabled:
        return Reason.DISABLED, []
    if is_locked(lockout, now_ms):
        return Reason.LOCKED, []
    wanted = user.token_ids if not token_id else (token_id,) if token_id in user.token_ids else ()
    candidates = []
    disabled = False
    for each in wanted:
        token = transaction.read(TOKENS, each.encode())
        assert token is not None, "a user's token is in the table of tokens"
        if token.status is TokenStatus.ACTIVE:
            candidates.append((each, token))
        disabled = disabled or token.status is TokenStatus.DISABLED
    if candidates:
        return Reason.NONE, candidates
    return (Reason.DISABLED if token_id and disabled else Reason.NO_TOKEN), []


def _search(candidates: list[tuple[str, Token]], typed: Typed, context: Context) -> _Found:
    """Ask every candidate, whatever the others say.

    A passcode that any of them knows as used is refused: it may not be accepted a second time because another
    token happens to show the same digits. One that several accept is spent on all of them.
    """
    accepted = []
    replayed = too_old = ""
    for token_id, token in candidates:
        code = typed.codes.get(token.digits, "")
        outcome = tokens.search(token, code, context.now_ms, context.rules)
        if outcome.verdict is Verdict.ACCEPTED:
            accepted.append((token_id, token, outcome.position))
        elif outcome.verdict is Verdict.REPLAYED:
            replayed = replayed or token_id
        elif outcome.verdict is Verdict.TOO_OLD:
            too_old = too_old or token_id
    if replayed:
        return _Found(Reason.REPLAYED, replayed)
    if accepted:
        return _Found(Reason.ACCEPTED, accepted[0][0], tuple(accepted))
    if too_old:
        return _Found(Reason.TOO_OLD, too_old)
    return _Found(Reason.WRONG)


def _note(transaction: Transaction, key: bytes, command: Verify | WithPin, context: Context, found: _Found) -> None:
    """Add the attempt to the user's last ones; the others stay packed."""
    packed = transaction.packed(ATTEMPTS, key)
    earlier = [] if packed is None else _raw_attempts.decode(packed)[-(ATTEMPTS_KEPT - 1) :]
    fields = astuple(
        Attempt(
            context.now_ms,
            found.reason,
            found.token_id,
            context.client_short,
            command.application,
            command.address,
            found.note,
        )
    )
    # Without a note it is stored as it was before there were any: programs of then can read it.
    transaction.write_packed(ATTEMPTS, key, _encode([*earlier, fields if found.note else fields[:-1]]))


def _result(command: Verify | WithPin, context: Context, reason: Reason, token_id: str) -> Result:
    event = Event(
        "verify",
        context.client,
        context.request_id,
        command.user_id,
        token_id,
        reason,
        command.application,
        command.address,
    )
    return Result(Code.OK, reason, token_id, events=(event,))
