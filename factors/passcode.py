"""A passcode as the user types it, brought to the one form that is compared and counted, and taken apart."""

from collections.abc import Iterable
from typing import Final, NamedTuple

from factors.recovery import CHARACTERS, has_letter

PASSCODE_CHARACTERS_MAX: Final = 128

# ASCII blanks, and the spaces and hyphens that phones and mail programs put in their place. Fixed here, and not asked
# of the Unicode tables, which differ between Python versions.
_IGNORED: Final = dict.fromkeys(map(ord, " \t\r\n-\u00a0\u2002\u2003\u2009\u202f\u2010\u2011\u2012\u2013"))


LETTERED: Final = 0  # in the place of a code's length: a recovery code or a bypass, which has eight characters


class Split(NamedTuple):
    """One way to read a passcode: PIN, then code. `length` is the code's: 6, 8, or LETTERED."""

    pin: str
    code: str
    length: int

    def __repr__(self) -> str:
        return f"Split(length={self.length})"


class PasscodeTooLong(ValueError):
    """More characters than any passcode has; the caller refuses it and counts nothing."""


def normalise(typed: str) -> str:
    """The passcode without spaces and hyphens; raises PasscodeTooLong beyond PASSCODE_CHARACTERS_MAX as typed.

    Whatever else it holds stays, so that it can be counted as a wrong passcode.
    """
    if len(typed) > PASSCODE_CHARACTERS_MAX:
        raise PasscodeTooLong(f"a passcode has at most {PASSCODE_CHARACTERS_MAX} characters")
    return typed.translate(_IGNORED)


def is_code(passcode: str, digits: int) -> bool:
    """Whether it has the shape of a code: exactly that many ASCII digits."""
    return len(passcode) == digits and passcode.isascii() and passcode.isdigit()


def splits(passcode: str, lengths: Iterable[int]) -> tuple[Split, ...]:
    """The ways to read a normalised passcode, where codes of these lengths are possible; at most one for each.

    Where a letter is among the last eight characters there is one way only. Whether the PIN's part is a PIN is for the
    caller to see: a part may be empty.
    """
    tail = passcode[-CHARACTERS:]
    if has_letter(tail):
        return (Split(passcode[:-CHARACTERS], tail, LETTERED),)
    return tuple(Split(passcode[:-length], passcode[-length:], length) for length in sorted(set(lengths)))
