"""PINs: attempts that are made with one, and what sets and changes it.

Whether a PIN was right is decided by the servicer, whose hash takes tens of milliseconds, against a version of the
record; here it is looked at that the record, the settings and the tokens are still those that it looked at.
"""

from typing import Final

import msgspec

from cluster.state import authentication
from cluster.state.authentication import Typed
from cluster.state.commands import ChangePin, PinGenerated, SetPin, VerifyPin, WithPin
from cluster.state.context import Context, Reads
from cluster.state.records import Pin, TokenStatus
from cluster.state.results import Code, Decision, Event, Reason, Refused, Result
from cluster.state.store import PINS, TOKENS, USERS, Transaction
from factors.passcode import LETTERED
from factors.recovery import CHARACTERS, canonical

SPLITS_MAX: Final = 2
LENGTHS_UNKNOWN: Final = frozenset({6})  # of codes, where there is no token to ask
_generated: Final = msgspec.msgpack.Decoder(PinGenerated)
_LENGTHS: Final = (LETTERED, 6, 8)


def verify_pin(transaction: Transaction, command: VerifyPin, context: Context) -> Result:
    if not context.rules.pin_required:
        raise Refused(Code.STALE, "oath_pin")
    typed = _looked_at(transaction, command, _generated_of(context))
    return authentication.attempt(transaction, command, context, typed)


def change_pin(transaction: Transaction, command: ChangePin, context: Context) -> Result:
    """An attempt as any other, after which the PIN is the new one. One that was used before spends no code."""
    if not context.rules.pin_required:
        raise Refused(Code.FAILED_PRECONDITION, "oath_pin")
    generated = _generated_of(context)
    if generated.hash is None:
        raise Refused(Code.INVALID_ARGUMENT, "generated")
    typed = _looked_at(transaction, command, generated)
    result = authentication.attempt(transaction, command, context, typed)
    if result.decision is not Decision.ACCEPT:
        return result
    if generated.recent:
        raise Refused(Code.FAILED_PRECONDITION, "new_pin")
    _write(transaction, command.user_id, generated, context, must_change=False)
    changed = Event("pin_changed", context.client, context.request_id, command.user_id)
    return Result(result.code, Reason.ACCEPTED, result.token_id, events=(*result.events, changed))


def set_pin(transaction: Transaction, command: SetPin, context: Context) -> Result:
    generated = _generated_of(context)
    if generated.hash is None:
        raise Refused(Code.INVALID_ARGUMENT, "generated")
    if transaction.packed(USERS, command.user_id.encode()) is None:
        raise Refused(Code.NOT_FOUND, "user_id")
    if generated.version != version_of(transaction.read(PINS, command.user_id.encode())):
        raise Refused(Code.STALE, "pin")
    if generated.recent:
        raise Refused(Code.FAILED_PRECONDITION, "new_pin")
    _write(transaction, command.user_id, generated, context, must_change=command.must_change)
    event = Event("pin_set", context.client, context.request_id, command.user_id)
    return Result(Code.OK, events=(event,))


def code_lengths(source: Reads, user_id: str, token_id: str) -> frozenset[int]:
    """How long the codes are of the tokens that may accept: each length is one way to read a passcode."""
    user = source.read(USERS, user_id.encode())
    if user is None:
        return LENGTHS_UNKNOWN
    tokens = [source.read(TOKENS, each.encode()) for each in user.token_ids if token_id in ("", each)]
    lengths = frozenset(token.digits for token in tokens if token is not None and token.status is TokenStatus.ACTIVE)
    return lengths or LENGTHS_UNKNOWN


def version_of(pin: Pin | None) -> bytes:
    return b"" if pin is None else pin.version


def _generated_of(context: Context) -> PinGenerated:
    try:
        return _generated.decode(context.generated)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise Refused(Code.INVALID_ARGUMENT, "generated") from None


def _looked_at(transaction: Transaction, command: WithPin, generated: PinGenerated) -> Typed:
    """The passcode, as far as its PIN was right. Raises Refused (STALE) where the servicer must look again."""
    pin = transaction.read(PINS, command.user_id.encode())
    if generated.version != version_of(pin):
        raise Refused(Code.STALE, "pin")
    lengths = [split.length for split in command.splits]
    if not 0 < len(lengths) <= SPLITS_MAX or len(set(lengths)) < len(lengths) or not set(lengths) <= set(_LENGTHS):
        raise Refused(Code.INVALID_ARGUMENT, "splits")
    if any(len(split.code) > CHARACTERS for split in command.splits):
        raise Refused(Code.INVALID_ARGUMENT, "splits")
    codes = {split.length: split.code if split.right and pin is not None else "" for split in command.splits}
    if LETTERED in codes:
        return Typed({}, canonical(codes[LETTERED]), pin, pin_missing=pin is None)
    if not code_lengths(transaction, command.user_id, command.token_id) <= codes.keys():
        raise Refused(Code.STALE, "token_id")
    return Typed(codes, None, pin, pin_missing=pin is None)


def _write(
    transaction: Transaction, user_id: str, generated: PinGenerated, context: Context, *, must_change: bool
) -> None:
    key = user_id.encode()
    before = transaction.read(PINS, key)
    assert generated.hash is not None, "it was looked at"
    # The last one of all stays, whatever the settings say: by it a retry of what was decided with it is known again.
    kept = max(1, context.rules.pin_history - 1)
    earlier = () if before is None else (before.current, *before.earlier)[:kept]
    transaction.write(PINS, key, Pin(generated.hash, context.now_ms, must_change, earlier))
