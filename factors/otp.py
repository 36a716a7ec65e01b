"""HOTP (RFC 4226) and TOTP (RFC 6238): codes, the search of a window, and resynchronisation.

Pure arithmetic: time is integer milliseconds UTC, a position is a HOTP counter or a TOTP time step. Nothing is
remembered here; the caller keeps the position that a search returns.

A search compares every candidate of a window before it looks at the outcome, and compares in constant time, so that
neither the place of a match nor the digits that agree can be measured.
"""

import hashlib
from collections.abc import Callable
from enum import IntEnum
from hmac import compare_digest
from typing import Any, Final, NamedTuple

DIGITS: Final = (6, 8)
POSITION_MAX: Final = 2**64 - 1  # the moving factor is eight bytes: RFC 4226, section 5.1
STEP_NONE: Final = -1  # the last used step of a token that was never used


class Algorithm(IntEnum):
    """The hash under the HMAC. The numbers are those of the contract and of the stored records."""

    SHA1 = 1
    SHA256 = 2
    SHA512 = 3


# The hash, and the block length that RFC 2104 pads a key to.
_HASHES: Final[dict[Algorithm, tuple[Callable[[bytes], Any], int]]] = {
    Algorithm.SHA1: (hashlib.sha1, 64),
    Algorithm.SHA256: (hashlib.sha256, 64),
    Algorithm.SHA512: (hashlib.sha512, 128),
}
_INNER_PAD: Final = bytes(byte ^ 0x36 for byte in range(256))
_OUTER_PAD: Final = bytes(byte ^ 0x5C for byte in range(256))
_FORMATS: Final = {6: (b"%06d", 10**6), 8: (b"%08d", 10**8)}

# RFC 6238 recommends a key of the hash's output length.
SECRET_BYTES: Final = {Algorithm.SHA1: 20, Algorithm.SHA256: 32, Algorithm.SHA512: 64}


class Verdict(IntEnum):
    """What a search found."""

    ACCEPTED = 1
    WRONG = 2
    REPLAYED = 3  # the code of a position that is already used or passed
    TOO_OLD = 4  # the code of an unused time step shortly before the window


class Outcome(NamedTuple):
    """A verdict, and with ACCEPTED the position whose code it was (otherwise -1)."""

    verdict: Verdict
    position: int


class Otp(NamedTuple):
    """What makes the codes of one token: `secret` is raw bytes, `digits` 6 or 8."""

    secret: bytes
    algorithm: Algorithm
    digits: int

    def __repr__(self) -> str:
        return f"Otp({self.algorithm.name}, digits={self.digits})"


class HotpWindow(NamedTuple):
    """How far to search: `ahead` counters after the expected one, `behind` before it (these are told as replayed)."""

    ahead: int
    behind: int


class TotpWindow(NamedTuple):
    """How far to search: `around` steps on both sides of the expected one, `behind` steps before those (too old)."""

    around: int
    behind: int


def codes(otp: Otp, first: int, count: int) -> list[bytes]:
    """The codes of `count` positions from `first` on, as ASCII digits (RFC 4226, section 5.3).

    HMAC as RFC 2104 spells it: both padded keys are hashed once for the whole window, which halves its cost.
    """
    new_hash, block_bytes = _HASHES[otp.algorithm]
    key = otp.secret if len(otp.secret) <= block_bytes else new_hash(otp.secret).digest()
    key = key.ljust(block_bytes, b"\0")
    inner_key = new_hash(key.translate(_INNER_PAD))
    outer_key = new_hash(key.translate(_OUTER_PAD))
    template, modulus = _FORMATS[otp.digits]
    found = []
    for position in range(first, first + count):
        inner = inner_key.copy()
        inner.update(position.to_bytes(8, "big"))
        outer = outer_key.copy()
        outer.update(inner.digest())
        mac = outer.digest()
        offset = mac[-1] & 0x0F
        found.append(template % ((int.from_bytes(mac[offset : offset + 4], "big") & 0x7FFFFFFF) % modulus))
    return found


def code_at(otp: Otp, position: int) -> str:
    """The code of one counter or step."""
    return codes(otp, position, 1)[0].decode("ascii")


def step_at(now_ms: int, period_s: int) -> int:
    """The time step at that time, with T0 = 0 (RFC 6238, section 4.2)."""
    return now_ms // (1000 * period_s)


def search_hotp(otp: Otp, code: str, counter: int, window: HotpWindow) -> Outcome:
    """Look for `code` among the counters `counter` to `counter + ahead` (RFC 4226, sections 7.2 and 7.4).

    `counter` is the next one that is expected. The one before it is always compared too: where its code happens to
    come again in the window, a replay is not taken for a new code.
    """
    first = max(0, counter - 1)
    matches = _matches(otp, code, first, min(counter + window.ahead, POSITION_MAX))
    if not matches:
        earliest = max(0, counter - window.behind)
        behind = _matches(otp, code, earliest, counter - 2)
        return Outcome(Verdict.REPLAYED, -1) if behind else Outcome(Verdict.WRONG, -1)
    if matches[0] < counter:
        return Outcome(Verdict.REPLAYED, -1)
    return Outcome(Verdict.ACCEPTED, matches[0])


def search_totp(otp: Otp, code: str, expected: int, last_used: int, window: TotpWindow) -> Outcome:
    """Look for `code` among the steps around `expected`, of which only those after `last_used` can be accepted.

    `expected` is the step at the present time plus the token's remembered drift (RFC 6238, sections 5.2 and 6);
    `last_used` is STEP_NONE for a token that was never used; its code is told as replayed however old it is.
    """
    first = expected - window.around
    matches = _matches(otp, code, first, expected + window.around)
    if matches:
        return Outcome(Verdict.REPLAYED, -1) if matches[0] <= last_used else Outcome(Verdict.ACCEPTED, matches[0])
    behind = _matches(otp, code, first - window.behind, first - 1)
    last = _matches(otp, code, last_used, last_used)
    if last or (behind and behind[0] <= last_used):
        return Outcome(Verdict.REPLAYED, -1)
    return Outcome(Verdict.TOO_OLD if behind else Verdict.WRONG, -1)


def resynchronise(otp: Otp, pair: tuple[str, str], first: int, count: int) -> int | None:
    """The lowest position of `count` from `first` on whose code is pair[0], the next one's being pair[1].

    RFC 4226, section 7.4, and RFC 6238, section 6: two consecutive codes. Costs `count + 1` computations always.
    """
    start = max(0, first)
    number = min(first + count, POSITION_MAX - 1) - start
    if number <= 0:
        return None
    candidates = codes(otp, start, number + 1)
    wanted = _comparable(pair[0]), _comparable(pair[1])
    hits = [
        index
        for index in range(number)
        if compare_digest(candidates[index], wanted[0]) & compare_digest(candidates[index + 1], wanted[1])
    ]
    return start + hits[0] if hits else None


def _matches(otp: Otp, code: str, first: int, last: int) -> list[int]:
    """Positions from `first` to `last` (both included) whose code it is; every one is computed and compared."""
    first = max(0, first)
    wanted = _comparable(code)
    candidates = codes(otp, first, last - first + 1)
    return [first + index for index, candidate in enumerate(candidates) if compare_digest(candidate, wanted)]


def _comparable(code: str) -> bytes:
    """The code as bytes; what is not ASCII can't be a code, and is compared all the same, for equal work."""
    return code.encode("utf-8", "replace")
