"""Sign-ins, with and without a PIN: what is looked at before the log, and again where it changed meanwhile.

Without PINs the passcode goes into the log and is decided there. With them, the passcode is read in each way that the
user's tokens allow, the PINs are hashed against the record as this node has it, and the results go into the log with
the record's version. Where that was not the record's when it came to be applied, the answer is STALE: nothing was
counted, and it is done again.

A retry is known by the digest of its contents, in which the PIN's result is. After the PIN was changed, by ChangePin
itself for one, the results of a retry are others, and the state says REQUEST_ID_REUSED: then the PIN before is asked.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias, TypeVar

import msgspec

from cluster.services import hashing
from cluster.services.hashing import HashPool
from cluster.services.proposals import Proposals
from cluster.services.refusals import refusal
from cluster.services.status import invalid
from cluster.state import pins as pin_state
from cluster.state import reads
from cluster.state.commands import ChangePin, Command, PinGenerated, PinSplit, SetPin, Verify, VerifyPin
from cluster.state.records import OathPin, Pin, PinHash
from cluster.state.results import Code, Result
from factors import pin as pins
from factors import recovery
from factors.passcode import LETTERED, Split, normalise, splits

T = TypeVar("T")
# Looks once at a PIN, of the user whose record it is, and asks the log.
Look: TypeAlias = Callable[[Pin | None, PinHash | None], Awaitable[Result]]

LOOKS_MAX: Final = 3
# A retry comes within 30 s of the first try; log time and the loop's may differ by a little.
RETRY_MS_MAX: Final = 60_000
CODE_CHARACTERS_MAX: Final = 8
_encode: Final = msgspec.msgpack.Encoder().encode


@dataclass(frozen=True, slots=True)
class Asked:
    """Whose request it is, and how long it may take: `until` is of the loop's clock."""

    request_id: str
    client: str
    until: float


@dataclass(frozen=True, slots=True, repr=False)
class PinChange:
    """What a person typed, each in its one form, to change a PIN."""

    user_id: str
    old_pin: str
    code: str
    new_pin: str
    application: str = ""
    address: str = ""


class SignIns:
    """All errors are CallErrors."""

    def __init__(self, proposals: Proposals, hashes: HashPool, random_bytes: Callable[[int], bytes]) -> None:
        self._proposals = proposals
        self._hashes = hashes
        self._random_bytes = random_bytes

    @property
    def pin_required(self) -> bool:
        """As this node knows it."""
        return self._proposals.state.settings.oath_pin == OathPin.REQUIRED

    async def verify(self, command: Verify, asked: Asked) -> Result:
        async def look(_: Pin | None, kept: PinHash | None) -> Result:
            if not self.pin_required:
                return await self._answer(without_pin(command), asked)
            state = self._proposals.state
            lengths = pin_state.code_lengths(state, command.user_id, command.token_id)
            ways = splits(normalise(command.passcode), lengths)
            right = await self._hash(lambda: hashing.check_splits(ways, kept), hashing.hashes_of(ways), asked)
            looked_at = VerifyPin(
                command.user_id, told(ways, right), command.token_id, command.application, command.address
            )
            return await self._answer(looked_at, asked, PinGenerated(version(kept)))

        return await self._until_settled(command.user_id, look)

    async def change_pin(self, change: PinChange, asked: Asked) -> Result:
        """Raises CallError too where the new PIN breaks a rule."""
        self._hold_to_rules("new_pin", change.new_pin)
        salt = self._random_bytes(pins.SALT_BYTES)

        async def look(pin: Pin | None, kept: PinHash | None) -> Result:
            state = self._proposals.state
            history = state.settings.pin_history
            before = used_before(pin)

            def work() -> tuple[bool, bool, PinHash]:
                # All of it always: the time must not say whether the old PIN was right.
                way = Split(change.old_pin, change.code, LETTERED)
                (right,) = hashing.check_splits([way], kept)
                recent = hashing.is_among(change.new_pin, before, history)
                return right, recent, hashing.new_hash(change.new_pin, salt)

            right, recent, made = await self._hash(work, history + 2, asked)
            lengths = pin_state.code_lengths(state, change.user_id, "")
            command = ChangePin(
                change.user_id, told_code(change.code, lengths, right), "", change.application, change.address
            )
            return await self._answer(command, asked, PinGenerated(version(kept), made, recent))

        return await self._until_settled(change.user_id, look)

    async def set_pin(self, user_id: str, typed: str, must_change: bool, asked: Asked) -> Result:
        """Raises CallError too where the PIN breaks a rule."""
        self._hold_to_rules("pin", typed)
        salt = self._random_bytes(pins.SALT_BYTES)

        async def look(pin: Pin | None, kept: PinHash | None) -> Result:
            before = used_before(pin)
            number = min(len(before), self._proposals.state.settings.pin_history)

            def work() -> tuple[bool, PinHash]:
                return hashing.is_among(typed, before, number), hashing.new_hash(typed, salt)

            recent, made = await self._hash(work, number + 1, asked)
            return await self._answer(SetPin(user_id, must_change), asked, PinGenerated(version(kept), made, recent))

        return await self._until_settled(user_id, look, by_pin=False)

    # Parts

    async def _until_settled(self, user_id: str, look: Look, *, by_pin: bool = True) -> Result:
        """The answer; refusals are raised. `by_pin`: the request's contents depend on the PIN that there is."""
        tried: set[bytes] = set()
        result = Result(Code.STALE)
        for _ in range(LOOKS_MAX):
            pin = reads.pin(self._proposals.state, user_id)
            kept = pin.current if pin else None
            tried.add(version(kept))
            result = await look(pin, kept)
            if by_pin and self.pin_required and result.code is Code.REQUEST_ID_REUSED:
                result = await self._as_it_was(user_id, look, tried, result)
            if result.code is not Code.STALE:
                break
        refused = refusal(result)
        if refused is not None:
            raise refused
        return result

    async def _as_it_was(self, user_id: str, look: Look, tried: set[bytes], result: Result) -> Result:
        """Whether it is the retry of what was decided with another PIN, which has been changed since."""
        state = self._proposals.state
        pin = reads.pin(state, user_id)
        for kept in candidates(pin, state.position.stamp_ms):
            if version(kept) not in tried:
                tried.add(version(kept))
                again = await look(pin, kept)
                if again.code is not Code.REQUEST_ID_REUSED:
                    return again
        return result

    def _hold_to_rules(self, field: str, typed: str) -> None:
        broken = pins.fault(typed, self._proposals.state.settings.pin_rules)
        if broken is not None:
            raise invalid(field, broken.value)

    async def _hash(self, work: Callable[[], T], hashes: int, asked: Asked) -> T:
        try:
            async with asyncio.timeout_at(asked.until):
                return await self._hashes.run(work, hashes)
        except TimeoutError:
            raise hashing.too_many() from None

    async def _answer(self, command: Command, asked: Asked, generated: PinGenerated | None = None) -> Result:
        left_s = asked.until - asyncio.get_running_loop().time()
        packed = b"" if generated is None else _encode(generated)
        return await self._proposals.answer(command, asked.request_id, asked.client, left_s, packed)


def version(kept: PinHash | None) -> bytes:
    return b"" if kept is None else kept.salt


def used_before(pin: Pin | None) -> tuple[PinHash, ...]:
    """Newest first."""
    return () if pin is None else (pin.current, *pin.earlier)


def candidates(pin: Pin | None, now_ms: int) -> Iterator[PinHash]:
    """What a retry may have been decided with at first: the PIN that there is, and, for a while, the one before."""
    if pin is None:
        return
    yield pin.current
    if now_ms - pin.changed_ms <= RETRY_MS_MAX:
        yield from pin.earlier[:1]


def told(ways: Sequence[Split], right: Sequence[bool]) -> tuple[PinSplit, ...]:
    """The ways to read a passcode as the log may know them: no code that may hold a part of a PIN."""
    return tuple(
        PinSplit(way.length, is_right, way.code if is_right else "") for way, is_right in zip(ways, right, strict=True)
    )


def told_code(code: str, lengths: frozenset[int], right: bool) -> tuple[PinSplit, ...]:
    """The same for a code that came by itself."""
    if recovery.has_letter(code):
        return (told_one(LETTERED, code, right and len(code) == recovery.CHARACTERS),)
    return tuple(told_one(length, code, right and len(code) == length) for length in sorted(lengths))


def told_one(length: int, code: str, right: bool) -> PinSplit:
    return PinSplit(length, right, code if right else "")


def without_pin(command: Verify) -> Verify:
    """As the log may know it: what is longer than a code, and so is none, may hold a PIN that somebody typed too."""
    if len(normalise(command.passcode)) <= CODE_CHARACTERS_MAX:
        return command
    return msgspec.structs.replace(command, passcode="")
