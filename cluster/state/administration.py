"""What operators, helpdesk and connectors change: users and their tokens.

A change that repeats what is already so succeeds. Each handler raises Refused where it says no, and changes nothing.
"""

from base64 import b32encode
from hmac import compare_digest

from msgspec.structs import replace

from cluster.state import tokens
from cluster.state.commands import (
    TOKEN_ID_RANDOM_BYTES,
    AddToken,
    AddUser,
    ConfirmToken,
    DeleteToken,
    DeleteUser,
    DisableToken,
    DisableUser,
    EnableToken,
    EnableUser,
    ResyncToken,
    UnlockUser,
)
from cluster.state.context import Context
from cluster.state.records import (
    COUNTER_MAX,
    PERIOD_S_MAX,
    PERIOD_S_MIN,
    USER_ID_BYTES_MAX,
    Token,
    TokenStatus,
    TokenType,
    User,
)
from cluster.state.results import Code, Event, Refused, Result
from cluster.state.store import ATTEMPTS, BYPASSES, FAILURES, PINS, RECOVERY_CODES, TOKENS, USERS, Transaction
from factors.otp import DIGITS, Verdict
from factors.passcode import PasscodeTooLong, normalise
from factors.secret import SECRET_BYTES_MAX, SECRET_BYTES_MIN


def add_user(transaction: Transaction, command: AddUser, context: Context) -> Result:
    key = command.user_id.encode()
    if not 0 < len(key) <= USER_ID_BYTES_MAX:
        raise Refused(Code.INVALID_ARGUMENT, "user_id")
    if transaction.packed(USERS, key) is not None:
        raise Refused(Code.ALREADY_EXISTS, "user_id")
    transaction.write(USERS, key, User(enabled=True, created_ms=context.now_ms))
    return _done("user_added", command.user_id, context)


def enable_user(transaction: Transaction, command: EnableUser, context: Context) -> Result:
    user = _user(transaction, command.user_id)
    transaction.write(USERS, command.user_id.encode(), replace(user, enabled=True))
    return _done("user_enabled", command.user_id, context)


def disable_user(transaction: Transaction, command: DisableUser, context: Context) -> Result:
    user = _user(transaction, command.user_id)
    transaction.write(USERS, command.user_id.encode(), replace(user, enabled=False))
    return _done("user_disabled", command.user_id, context)


def delete_user(transaction: Transaction, command: DeleteUser, context: Context) -> Result:
    user = _user(transaction, command.user_id)
    key = command.user_id.encode()
    for token_id in user.token_ids:
        transaction.delete(TOKENS, token_id.encode())
    for table in (FAILURES, ATTEMPTS, PINS, RECOVERY_CODES, BYPASSES, USERS):
        transaction.delete(table, key)
    return _done("user_deleted", command.user_id, context)


def unlock_user(transaction: Transaction, command: UnlockUser, context: Context) -> Result:
    """Clears a lockout and the failures that count; fine also where there are none."""
    _user(transaction, command.user_id)
    transaction.delete(FAILURES, command.user_id.encode())
    return _done("user_unlocked", command.user_id, context)


def add_token(transaction: Transaction, command: AddToken, context: Context) -> Result:
    """Enrols a token under the generated id; the secret is the command's, or the generated one."""
    user = _user(transaction, command.user_id)
    secret = command.secret or context.generated[TOKEN_ID_RANDOM_BYTES:]
    _check_parameters(command, secret)
    if len(context.generated) < TOKEN_ID_RANDOM_BYTES:
        raise Refused(Code.INVALID_ARGUMENT, "generated")
    if len(user.token_ids) >= context.rules.tokens_per_user_max:
        raise Refused(Code.FAILED_PRECONDITION, "tokens_per_user")
    for other_id in user.token_ids:
        # Two tokens with one secret would accept one code twice.
        if compare_digest(_token(transaction, other_id).secret, secret):
            raise Refused(Code.ALREADY_EXISTS, "secret")
    token_id = b32encode(context.generated[:TOKEN_ID_RANDOM_BYTES]).decode("ascii").lower()
    if transaction.packed(TOKENS, token_id.encode()) is not None:
        raise Refused(Code.ALREADY_EXISTS, "token_id")
    token = Token(
        user_id=command.user_id,
        type=command.type,
        status=TokenStatus.PENDING if command.pending else TokenStatus.ACTIVE,
        algorithm=command.algorithm,
        digits=command.digits,
        period_s=command.period_s,
        secret=secret,
        created_ms=context.now_ms,
        counter=command.counter,
    )
    transaction.write(TOKENS, token_id.encode(), token)
    transaction.write(USERS, command.user_id.encode(), replace(user, token_ids=(*user.token_ids, token_id)))
    return _done("token_added", command.user_id, context, token_id)


def confirm_token(transaction: Transaction, command: ConfirmToken, context: Context) -> Result:
    """Makes a pending token active by a code of its window; the code is spent."""
    token = _token(transaction, command.token_id)
    if token.status is not TokenStatus.PENDING:
        raise Refused(Code.FAILED_PRECONDITION, "token_status")
    code = _normalised(command.code, "code")
    outcome = tokens.search(token, code, context.now_ms, context.rules)
    if outcome.verdict is not Verdict.ACCEPTED:
        raise Refused(Code.FAILED_PRECONDITION, "code")
    confirmed = replace(tokens.used(token, outcome.position, context.now_ms), status=TokenStatus.ACTIVE)
    transaction.write(TOKENS, command.token_id.encode(), confirmed)
    return _done("token_confirmed", token.user_id, context, command.token_id)


def resync_token(transaction: Transaction, command: ResyncToken, context: Context) -> Result:
    """Finds counter or drift by two consecutive codes; both are spent."""
    token = _token(transaction, command.token_id)
    if token.status is TokenStatus.PENDING:
        raise Refused(Code.FAILED_PRECONDITION, "token_status")
    pair = _normalised(command.first_code, "first_code"), _normalised(command.second_code, "second_code")
    found = tokens.resynchronised(token, pair, context.now_ms, context.rules)
    if found is None:
        raise Refused(Code.FAILED_PRECONDITION, "first_code")
    transaction.write(TOKENS, command.token_id.encode(), found)
    return _done("token_resynchronised", token.user_id, context, command.token_id)


def enable_token(transaction: Transaction, command: EnableToken, context: Context) -> Result:
    token = _set_status(transaction, command.token_id, TokenStatus.ACTIVE)
    return _done("token_enabled", token.user_id, context, command.token_id)


def disable_token(transaction: Transaction, command: DisableToken, context: Context) -> Result:
    token = _set_status(transaction, command.token_id, TokenStatus.DISABLED)
    return _done("token_disabled", token.user_id, context, command.token_id)


def delete_token(transaction: Transaction, command: DeleteToken, context: Context) -> Result:
    token = _token(transaction, command.token_id)
    user = _user(transaction, token.user_id)
    left = tuple(token_id for token_id in user.token_ids if token_id != command.token_id)
    transaction.delete(TOKENS, command.token_id.encode())
    transaction.write(USERS, token.user_id.encode(), replace(user, token_ids=left))
    return _done("token_deleted", token.user_id, context, command.token_id)


def _set_status(transaction: Transaction, token_id: str, status: TokenStatus) -> Token:
    """A pending token becomes active by its code only, so it can be neither enabled nor disabled."""
    token = _token(transaction, token_id)
    if token.status is TokenStatus.PENDING:
        raise Refused(Code.FAILED_PRECONDITION, "token_status")
    transaction.write(TOKENS, token_id.encode(), replace(token, status=status))
    return token


def _check_parameters(command: AddToken, secret: bytes) -> None:
    timed = command.type is TokenType.TOTP
    limits = {
        "digits": command.digits in DIGITS,
        "period": PERIOD_S_MIN <= command.period_s <= PERIOD_S_MAX if timed else command.period_s == 0,
        "counter": command.counter == 0 if timed else 0 <= command.counter <= COUNTER_MAX,
        "secret": SECRET_BYTES_MIN <= len(secret) <= SECRET_BYTES_MAX,
    }
    for field, holds in limits.items():
        if not holds:
            raise Refused(Code.INVALID_ARGUMENT, field)


def _user(transaction: Transaction, user_id: str) -> User:
    user = transaction.read(USERS, user_id.encode())
    if user is None:
        raise Refused(Code.NOT_FOUND, "user_id")
    return user


def _token(transaction: Transaction, token_id: str) -> Token:
    token = transaction.read(TOKENS, token_id.encode())
    if token is None:
        raise Refused(Code.NOT_FOUND, "token_id")
    return token


def _normalised(code: str, field: str) -> str:
    try:
        return normalise(code)
    except PasscodeTooLong:
        raise Refused(Code.INVALID_ARGUMENT, field) from None


def _done(event: str, user_id: str, context: Context, token_id: str = "") -> Result:
    audit = Event(event, context.client, context.request_id, user_id, token_id)
    return Result(Code.OK, token_id=token_id, events=(audit,))
