"""Verify: one attempt to sign in, decided, counted and remembered."""

from typing import Final, NamedTuple

import msgspec

from cluster.state import tokens
from cluster.state.commands import Verify
from cluster.state.records import (
    ADDRESS_BYTES_MAX,
    APPLICATION_BYTES_MAX,
    ATTEMPTS_KEPT,
    USER_ID_BYTES_MAX,
    Attempt,
    Failures,
    Rules,
    Token,
    TokenStatus,
    TokenType,
    User,
)
from cluster.state.results import Code, Event, Reason, Refused, Result
from cluster.state.store import ATTEMPTS, FAILURES, TOKENS, USERS, Transaction
from factors.lockout import CLEAR, Lockout, is_locked, record_failure
from factors.otp import Algorithm, Verdict
from factors.passcode import PasscodeTooLong, normalise

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


class Context(NamedTuple):
    """What a handler knows beside its command."""

    now_ms: int  # the log's time
    rules: Rules
    client: str  # the identity that asks
    client_short: str  # as attempts keep it
    request_id: str
    generated: bytes


class _Found(NamedTuple):
    """What the tokens say to a passcode: `accepted` are (token id, token, position), of all whose code it is."""

    reason: Reason
    token_id: str = ""
    accepted: tuple[tuple[str, Token, int], ...] = ()


def verify(transaction: Transaction, command: Verify, context: Context) -> Result:
    """Decide one attempt.

    Only WRONG, REPLAYED and TOO_OLD count as failures: where no passcode could have been right (locked, disabled,
    without a token, unknown), nothing can be guessed. Raises Refused(INVALID_ARGUMENT) for a command out of limits.
    """
    passcode = _checked(command)
    key = command.user_id.encode()
    user = transaction.read(USERS, key)
    if user is None:
        tokens.search(_NO_TOKEN, passcode, context.now_ms, context.rules)
        return _result(command, context, Reason.UNKNOWN_USER, "")
    lockout = _lockout_of(transaction, key)
    found = _decide(transaction, user, lockout, command, passcode, context)
    locked_now = False
    if found.accepted:
        for token_id, token, position in found.accepted:
            transaction.write(TOKENS, token_id.encode(), tokens.used(token, position, context.now_ms))
        if lockout is not CLEAR:
            transaction.delete(FAILURES, key)
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


def _checked(command: Verify) -> str:
    """The passcode in its one form; raises Refused where a field is beyond its limit."""
    if not 0 < len(command.user_id.encode()) <= USER_ID_BYTES_MAX:
        raise Refused(Code.INVALID_ARGUMENT, "user_id")
    if len(command.application.encode()) > APPLICATION_BYTES_MAX:
        raise Refused(Code.INVALID_ARGUMENT, "client.application")
    if len(command.address.encode()) > ADDRESS_BYTES_MAX:
        raise Refused(Code.INVALID_ARGUMENT, "client.address")
    try:
        return normalise(command.passcode)
    except PasscodeTooLong:
        raise Refused(Code.INVALID_ARGUMENT, "passcode") from None


def _lockout_of(transaction: Transaction, key: bytes) -> Lockout:
    failures = transaction.read(FAILURES, key)
    return CLEAR if failures is None else Lockout(failures.failures_ms, failures.locked_until_ms)


def _decide(
    transaction: Transaction, user: User, lockout: Lockout, command: Verify, passcode: str, context: Context
) -> _Found:
    reason, candidates = _candidates(transaction, user, lockout, command.token_id, context.now_ms)
    if reason is not Reason.NONE:
        tokens.search(_NO_TOKEN, passcode, context.now_ms, context.rules)
        return _Found(reason)
    return _search(candidates, passcode, context)


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


def _search(candidates: list[tuple[str, Token]], passcode: str, context: Context) -> _Found:
    """Ask every candidate, whatever the others say.

    A passcode that any of them knows as used is refused: it may not be accepted a second time because another
    token happens to show the same digits. One that several accept is spent on all of them.
    """
    accepted = []
    replayed = too_old = ""
    for token_id, token in candidates:
        outcome = tokens.search(token, passcode, context.now_ms, context.rules)
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


def _note(transaction: Transaction, key: bytes, command: Verify, context: Context, found: _Found) -> None:
    """Add the attempt to the user's last ones; the others stay packed."""
    packed = transaction.packed(ATTEMPTS, key)
    earlier = [] if packed is None else _raw_attempts.decode(packed)[-(ATTEMPTS_KEPT - 1) :]
    attempt = Attempt(
        context.now_ms, found.reason, found.token_id, context.client_short, command.application, command.address
    )
    transaction.write_packed(ATTEMPTS, key, _encode([*earlier, attempt]))


def _result(command: Verify, context: Context, reason: Reason, token_id: str) -> Result:
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
