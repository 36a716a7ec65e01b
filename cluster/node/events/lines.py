"""One event as one line: a JSON object whose last member chains it to the line before.

The chain's value is SHA-256 over the previous value (32 bytes; zeros before the first) and the line's bytes up to, and
without, `,"chain":`. docs/events.md describes the format for whoever reads the files without us.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from hashlib import sha256
from typing import Final, NamedTuple

import msgspec

from cluster.state.results import Decision, Event, Reason, decision_of

FORMAT: Final = 1
CHAIN_BYTES: Final = 32
CHAIN_START: Final = bytes(CHAIN_BYTES)
LINE_BYTES_MAX: Final = 64 * 1024
WITHHELD: Final = "[withheld]"
NAME_CHARACTERS_MIN: Final = 3  # shorter ones are in many words

_OPENING: Final = b',"chain":"'
_CLOSING: Final = b'"}'
_TAIL_BYTES: Final = len(_OPENING) + 2 * CHAIN_BYTES + len(_CLOSING)
_LAST_MS: Final = 253_402_300_799_999
_encode: Final = msgspec.json.Encoder().encode


class Note(StrEnum):
    """Lines that are a node's own, beside the cluster's events."""

    BEGIN = "begin"  # the first line of a file
    POSITION = "position"  # everything up to `index` is above
    GAP = "gap"  # the entries `from_index` to `index` are not here, and why


class Line(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A line without its chain; members that do not apply are left out. `time` is UTC: the log's, a note's the node's.

    `number` of `of`: one entry of the log may bring several events.
    """

    index: int
    time: str
    kind: str
    decision: str = ""
    reason: str = ""
    pseudonym: str = ""
    subject: str = ""
    token_id: str = ""
    client: str = ""
    application: str = ""
    request_id: str = ""
    number: int = 0
    of: int = 0
    # Notes only.
    from_index: int = 0
    file: int = 0
    oldest: int = 0
    node: str = ""
    cluster: str = ""
    incarnation: str = ""
    previous: str = ""
    format: int = 0
    why: str = ""

    def __repr__(self) -> str:
        return f"<Line {self.index} {self.kind}>"


_decode: Final = msgspec.json.Decoder(Line).decode


class Place(NamedTuple):
    """Up to where a trail goes: event `number` of `entry`; WHOLE where all of the entry is there."""

    entry: int
    number: int


WHOLE: Final = 1 << 62


class DamagedLine(Exception):
    """`what` is wrong with it; nothing of its contents is said."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what


class Chained(NamedTuple):
    """A line as it was read, and the chain's value after it."""

    line: Line
    chain: bytes


def place_of(line: Line) -> Place:
    if line.kind in set(Note) or line.number >= line.of:
        return Place(line.index, WHOLE)
    return Place(line.index, line.number)


def chained(line: Line, previous: bytes) -> tuple[bytes, bytes]:
    """The line's bytes with its end, and the chain's value after it."""
    body = _encode(line)[:-1]
    chain = sha256(previous + body).digest()
    return b"".join((body, _OPENING, chain.hex().encode(), _CLOSING, b"\n")), chain


def unchained(data: bytes, previous: bytes | None) -> Chained:
    """Read one line (without its end); `previous` None: the line's own word is taken for what came before.

    Raises:
        DamagedLine: it is no line, or does not follow the one before it.
    """
    if len(data) > LINE_BYTES_MAX:
        raise DamagedLine("is longer than a line may be")
    body, tail = data[:-_TAIL_BYTES], data[-_TAIL_BYTES:]
    if len(tail) < _TAIL_BYTES or not tail.startswith(_OPENING) or not tail.endswith(_CLOSING):
        raise DamagedLine("does not end with its chain")
    try:
        line = _decode(body + b"}")
    except (ValueError, msgspec.DecodeError):
        raise DamagedLine("is not a line of this format") from None
    if previous is None:
        previous = previous_of(line)
    chain = sha256(previous + body).digest()
    if chain.hex().encode() != tail[len(_OPENING) : -len(_CLOSING)]:
        raise DamagedLine("was changed, or does not follow the line before it")
    return Chained(line, chain)


def peek(data: bytes) -> Line | None:
    """A line's members, its chain not looked at: for searches in files that were verified, or are being written."""
    try:
        return _decode(data[:-_TAIL_BYTES] + b"}")
    except (ValueError, msgspec.DecodeError):
        return None


def previous_of(begin: Line) -> bytes:
    """The chain's value before a file's first line, as that line names it.

    Raises:
        DamagedLine: it is no first line.
    """
    if begin.kind != Note.BEGIN:
        raise DamagedLine("is not the first line of a file")
    if begin.format != FORMAT:
        raise DamagedLine(f"begins a file of format {begin.format}, and this program reads format {FORMAT}")
    try:
        previous = bytes.fromhex(begin.previous)
    except ValueError:
        raise DamagedLine("names no line before it") from None
    if len(previous) != CHAIN_BYTES:
        raise DamagedLine("names no line before it")
    return previous


def timestamp(at_ms: int) -> str:
    """ISO 8601, UTC, with milliseconds; the last moment of the year 9999 for what is later."""
    seconds, milliseconds = divmod(min(at_ms, _LAST_MS), 1000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{milliseconds:03d}Z"


def milliseconds_of(time: str) -> int:
    """What `timestamp` was given; 0 for what is none."""
    try:
        return round(datetime.fromisoformat(time).timestamp() * 1000)
    except ValueError:
        return 0


def lines_of(
    index: int, stamp_ms: int, events: Sequence[Event], pseudonym: Callable[[str], str], prefix: str
) -> list[Line]:
    """One entry's events as lines: the same on every node. `prefix` is what this cluster's identities begin with."""
    time, of = timestamp(stamp_ms), len(events)
    return [_line(index, time, number, of, event, pseudonym, prefix) for number, event in enumerate(events, 1)]


def _line(
    index: int, time: str, number: int, of: int, event: Event, pseudonym: Callable[[str], str], prefix: str
) -> Line:
    decision = decision_of(event.reason)
    return Line(
        index=index,
        time=time,
        kind=event.kind,
        decision="" if decision is Decision.NONE else decision.name,
        reason="" if event.reason is Reason.NONE else event.reason.name,
        pseudonym=pseudonym(event.user_id) if event.user_id else "",
        subject=_without_name(getattr(event, "subject", ""), event.user_id),
        token_id=event.token_id,
        client=event.client.removeprefix(prefix),
        application=_without_name(event.application, event.user_id),
        request_id=event.request_id,
        number=number,
        of=of,
    )


def _without_name(text: str, user_id: str) -> str:
    """What somebody wrote freely, or WITHHELD where the user's name is in it: this file is readable on disk."""
    named = len(user_id) >= NAME_CHARACTERS_MIN and user_id in text.casefold()
    return WITHHELD if named else text
