"""Reads this node's trail for others: the last events that fit a filter, and those to come.

Files are read in threads, in small pieces, so that the loop goes on; whoever follows reads them at its own pace, and
nothing is kept for those who read slowly. Names are found by the pseudonyms of all users that there are.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cluster.node.events.lines import Line, Note, milliseconds_of, peek
from cluster.node.events.scan import raw_lines
from cluster.node.events.trail import file_name, number_of
from cluster.services.event_source import EventBatch, EventRecord, GapRecord, SourceClosed, Wanted
from cluster.state.apply import State
from cluster.state.store import USERS

POLL_S: Final = 0.25
PAUSE_S: Final = 0.001
PIECE_BYTES: Final = 128 * 1024  # a few milliseconds
NAMES_A_SLICE: Final = 2_000
NAMES_AGAIN_S: Final = 10.0
BATCH_MAX: Final = 1_000


@dataclass(slots=True)
class _Cursor:
    """Up to where the trail was read: lines before `offset` of file `number`."""

    number: int
    offset: int


class TrailReader:
    """Implements `cluster.services.event_source.EventSource`. `state` gives the state as it is now."""

    def __init__(
        self, directory: Path, state: Callable[[], State], monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._directory = directory
        self._state = state
        self._monotonic = monotonic
        self._closed = False
        self._readers = 0
        self._names: dict[bytes, bytes] = {}  # users by their pseudonyms, while anybody reads
        self._named_at = float("-inf")

    def close(self) -> None:
        """The node stops: whoever follows is told."""
        self._closed = True

    async def read(self, wanted: Wanted, *, limit: int, follow: bool) -> AsyncGenerator[EventBatch, None]:
        self._readers += 1
        try:
            cursor = await asyncio.to_thread(self._end)
            if limit:
                for batch in _parts(await asyncio.to_thread(self._past, wanted, limit, cursor)):
                    yield batch
            while follow:
                if self._closed:
                    raise SourceClosed
                batches = await asyncio.to_thread(self._next, wanted, cursor)
                for batch in batches:
                    yield batch
                if not batches:
                    yield EventBatch()
                    await asyncio.sleep(POLL_S)
        finally:
            self._readers -= 1
            if not self._readers:
                self._names, self._named_at = {}, float("-inf")

    # Names

    async def names(self, pseudonyms: frozenset[str]) -> dict[str, str]:
        wanted = {bytes.fromhex(pseudonym): pseudonym for pseudonym in pseudonyms if _is_hex(pseudonym)}
        if not wanted.keys() <= self._names.keys() and self._monotonic() - self._named_at >= NAMES_AGAIN_S:
            state = self._state()
            keys = list(state.keys(USERS))
            self._names = await asyncio.to_thread(_named, keys, state.pseudonyms.digest)
            self._named_at = self._monotonic()
        found = ((text, self._names.get(digest)) for digest, text in wanted.items())
        # Only who is a user now: a name that was typed and is nobody's may be anything, also a password.
        return {
            text: key.decode() for text, key in found if key is not None and self._state().read(USERS, key) is not None
        }

    # In threads

    def _numbers(self) -> list[int]:
        found = (number_of(name) for name in os.listdir(self._directory))
        return sorted(number for number in found if number is not None)

    def _end(self) -> _Cursor:
        """Where the trail ends now."""
        numbers = self._numbers()
        if not numbers:
            return _Cursor(1, 0)
        return _Cursor(numbers[-1], os.stat(self._directory / file_name(numbers[-1])).st_size)

    def _past(self, wanted: Wanted, limit: int, end: _Cursor) -> list[EventRecord | GapRecord]:
        """The last `limit` events before `end`, oldest first: from the newest file backwards, as far as is needed.

        `end` is moved back to the end of the last whole line.
        """
        parts: list[list[EventRecord | GapRecord]] = []
        missing = limit
        for number in reversed([number for number in self._numbers() if number <= end.number]):
            found: deque[EventRecord | GapRecord] = deque(maxlen=missing)
            until = end.offset if number == end.number else None
            begin, last_end = self._scan(number, 0, until, wanted, found.append)
            if number == end.number:
                end.offset = last_end
            parts.append(list(found))
            missing -= len(found)
            if missing <= 0 or begin is None or begin.index < wanted.after_index or _is_before(begin, wanted.since_ms):
                break
        return [record for part in reversed(parts) for record in part]

    def _next(self, wanted: Wanted, cursor: _Cursor) -> list[EventBatch]:
        """What was written after `cursor`, which is moved on."""
        numbers = self._numbers()
        records: list[EventRecord | GapRecord] = []
        later = [number for number in numbers if number > cursor.number]
        if cursor.number in numbers:
            _, cursor.offset = self._scan(cursor.number, cursor.offset, None, wanted, records.append, BATCH_MAX)
        # A file is followed by another only when it is whole; it may have been finished since it was read.
        if later and not records and self._is_read(cursor):
            cursor.number, cursor.offset = later[0], 0
            _, cursor.offset = self._scan(cursor.number, 0, None, wanted, records.append, BATCH_MAX)
        return _parts(records)

    def _is_read(self, cursor: _Cursor) -> bool:
        try:
            return os.stat(self._directory / file_name(cursor.number)).st_size <= cursor.offset
        except FileNotFoundError:
            return True

    def _scan(
        self,
        number: int,
        offset: int,
        until: int | None,
        wanted: Wanted,
        take: Callable[[EventRecord | GapRecord], None],
        most: int = 1 << 62,
    ) -> tuple[Line | None, int]:
        """Give what fits to `take`, at most so many; returns the first line, and where the last line read ends."""
        try:
            descriptor = os.open(self._directory / file_name(number), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None, offset  # it was the oldest, and is gone
        begin: Line | None = None
        needle = wanted.pseudonym.encode()
        try:
            for raw in raw_lines(_paced(descriptor), offset):
                if not raw.complete or (until is not None and raw.end > until):
                    break
                offset = raw.end
                if begin is None:
                    begin = peek(raw.data)
                if needle not in raw.data:
                    continue
                record = _record(peek(raw.data), wanted)
                if record is not None:
                    take(record)
                    most -= 1
                    if not most:
                        break
        finally:
            os.close(descriptor)
        return begin, offset


def _paced(descriptor: int) -> Callable[[int, int], bytes]:
    """Reads in pieces after each of which the loop has the interpreter."""

    def read_at(offset: int, length: int) -> bytes:
        time.sleep(PAUSE_S)
        return os.pread(descriptor, min(length, PIECE_BYTES), offset)

    return read_at


def _record(line: Line | None, wanted: Wanted) -> EventRecord | GapRecord | None:
    """A line as it is told, or None for one that does not fit, or is damaged: `events verify` says which."""
    if line is None:
        return None
    if line.kind == Note.GAP and not wanted.pseudonym and not wanted.kinds and line.index > wanted.after_index:
        return GapRecord(line.from_index, line.index)
    if not line.of:
        return None
    record = EventRecord(
        line.index,
        milliseconds_of(line.time),
        line.kind,
        line.decision,
        line.reason,
        line.pseudonym,
        line.subject,
        line.token_id,
        line.client,
        line.application,
        line.request_id,
        line.number,
        line.of,
    )
    return record if wanted.fits(record) else None


def _is_before(begin: Line, since_ms: int) -> bool:
    """Whether nothing before a file can be as late as that: a file's first line has the node's clock, so with room."""
    return 0 < milliseconds_of(begin.time) < since_ms - 60_000


def _parts(records: Sequence[EventRecord | GapRecord]) -> list[EventBatch]:
    """Events in their order, each gap before what comes after it."""
    batches: list[EventBatch] = []
    events: list[EventRecord] = []
    for record in records:
        if isinstance(record, EventRecord):
            events.append(record)
            continue
        if events:
            batches.append(EventBatch(events))
            events = []
        batches.append(EventBatch(gaps=[record]))
    if events:
        batches.append(EventBatch(events))
    return batches


def _named(keys: Sequence[bytes], digest: Callable[[bytes], bytes]) -> dict[bytes, bytes]:
    named: dict[bytes, bytes] = {}
    for start in range(0, len(keys), NAMES_A_SLICE):
        named.update((digest(key), key) for key in keys[start : start + NAMES_A_SLICE])
        time.sleep(PAUSE_S)
    return named


def _is_hex(text: str) -> bool:
    try:
        bytes.fromhex(text)
    except ValueError:
        return False
    return True
