"""Reads a file of the trail from its beginning and says how far it is whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from cluster.node.events.lines import (
    CHAIN_START,
    LINE_BYTES_MAX,
    Chained,
    DamagedLine,
    Line,
    Note,
    Place,
    place_of,
    unchained,
)

CHUNK_BYTES: Final = 1 << 20
CUT: Final = "is cut off before its end"

ReadAt = Callable[[int, int], bytes]


class RawLine(NamedTuple):
    """A line without its end. `end` is the offset after it; not `complete`: the file ends before the line does."""

    data: bytes
    end: int
    complete: bool


@dataclass(slots=True)
class Scan:
    """What stands in a file before its first damage. `problem`: what is wrong with line `lines + 1`; empty: nothing."""

    begin: Line | None = None
    last: Line | None = None
    chain: bytes = CHAIN_START
    lines: int = 0
    good_bytes: int = 0
    problem: str = ""

    @property
    def torn(self) -> bool:
        """The last line was being written when the process or the machine ended."""
        return self.problem == CUT

    @property
    def place(self) -> Place:
        assert self.last is not None, "asked of a file with at least its first line"
        return place_of(self.last)


def raw_lines(read_at: ReadAt, offset: int = 0) -> Iterator[RawLine]:
    """The lines from `offset` on; of one that is too long only the beginning is kept."""
    rest, at = b"", offset
    end = offset
    while chunk := read_at(at, CHUNK_BYTES):
        at += len(chunk)
        pieces = (rest + chunk).split(b"\n")
        rest = pieces.pop()
        # What was dropped of a line that is too long still counts for where the next one begins.
        dropped = at - len(rest) - end - sum(len(piece) + 1 for piece in pieces)
        for piece in pieces:
            end += len(piece) + 1 + dropped
            dropped = 0
            yield RawLine(piece, end, complete=True)
        if len(rest) > LINE_BYTES_MAX:
            rest = rest[: LINE_BYTES_MAX + 1]
    if at > end:
        yield RawLine(rest, at, complete=False)


def scan(read_at: ReadAt) -> Scan:
    """Verify a file line by line, up to the first that is not as it was written."""
    found = Scan()
    for raw in raw_lines(read_at):
        try:
            read = _read(raw, found)
        except DamagedLine as error:
            found.problem = error.what
            return found
        found.begin = found.begin or read.line
        found.last, found.chain = read.line, read.chain
        found.lines += 1
        found.good_bytes = raw.end
    return found


def _read(raw: RawLine, found: Scan) -> Chained:
    """The next line after what was found. Raises DamagedLine."""
    if not raw.complete:
        raise DamagedLine(CUT)
    read = unchained(raw.data, None if found.last is None else found.chain)
    if found.last is None:
        return read
    if read.line.kind == Note.BEGIN:
        raise DamagedLine("is a first line in the middle of a file")
    if read.line.index < place_of(found.last).entry:
        raise DamagedLine("goes back in the log")
    return read
