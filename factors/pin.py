"""PINs: which are good enough, and the slow hash by which they are kept.

A PIN is 4 to 16 digits, typed before the code. There are so few of them that whoever holds a hash can try them all; a
slow hash makes that dear, and only the lockout makes it hopeless for whoever has to ask the cluster.
"""

from collections.abc import Iterable
from enum import StrEnum
from hmac import compare_digest
from itertools import pairwise
from typing import Final, NamedTuple

from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

DIGITS_MIN: Final = 4
DIGITS_MAX: Final = 16
IN_A_ROW: Final = 3  # so many equal, or rising, or falling digits are a pattern
SALT_BYTES: Final = 16
HASH_BYTES: Final = 32


class Fault(StrEnum):
    """What is wrong with a PIN; the text says what it must be, and never quotes it."""

    SHAPE = "must be 4 to 16 digits"
    TOO_SHORT = "is shorter than the cluster's settings allow"
    REPEATED = "must not have three equal digits in a row"
    SEQUENTIAL = "must not have three digits in a row that count up or down"
    PHONE = "must not be part of the person's phone number"
    RECENT = "was in use before: choose one that is new"


class Rules(NamedTuple):
    """What a new PIN is held to. `length_min` is DIGITS_MIN to DIGITS_MAX."""

    length_min: int = DIGITS_MIN
    no_repeated: bool = True
    no_sequential: bool = True
    no_phone: bool = True


class Cost(NamedTuple):
    """What one hash takes (RFC 9106). It is kept with each hash, so that it can be raised for new ones."""

    memory_kib: int
    passes: int
    lanes: int


COST: Final = Cost(memory_kib=19 * 1024, passes=2, lanes=1)


def has_shape(pin: str) -> bool:
    """Whether it is a PIN at all: only such are hashed."""
    return DIGITS_MIN <= len(pin) <= DIGITS_MAX and pin.isascii() and pin.isdigit()


def fault(pin: str, rules: Rules, phone_numbers: Iterable[str] = ()) -> Fault | None:
    """The first rule that a new PIN breaks; None where it breaks none. `phone_numbers` are strings of digits.

    Whether it was used before (Fault.RECENT) is for the caller to see: only hashes are kept.
    """
    if not has_shape(pin):
        return Fault.SHAPE
    if len(pin) < rules.length_min:
        return Fault.TOO_SHORT
    if rules.no_repeated and _has_run(pin, 0):
        return Fault.REPEATED
    if rules.no_sequential and (_has_run(pin, 1) or _has_run(pin, -1)):
        return Fault.SEQUENTIAL
    if rules.no_phone and any(pin in number for number in phone_numbers):
        return Fault.PHONE
    return None


def _has_run(pin: str, step: int) -> bool:
    """Whether IN_A_ROW digits follow each other by that step; 9 and 0 do not."""
    length = 1
    for before, digit in pairwise(pin):
        length = length + 1 if int(digit) - int(before) == step else 1
        if length == IN_A_ROW:
            return True
    return False


def hash_pin(pin: str, salt: bytes, cost: Cost = COST) -> bytes:
    """Argon2id, HASH_BYTES long: tens of milliseconds, and memory_kib of memory. Releases the interpreter meanwhile."""
    derived = Argon2id(
        salt=salt, length=HASH_BYTES, iterations=cost.passes, lanes=cost.lanes, memory_cost=cost.memory_kib
    )
    return derived.derive(pin.encode())


def is_pin(pin: str, salt: bytes, cost: Cost, expected: bytes) -> bool:
    """Whether the hash is that of this PIN; compares in constant time."""
    return compare_digest(hash_pin(pin, salt, cost), expected)
