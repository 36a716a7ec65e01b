"""Brings events from apply to the trail, in a thread, so that the loop never waits for this file.

What is not durable yet stays in memory, and the journal has it as well: a data file is published only when the events
up to its index are durable (`wait_durable`), so whatever a crash takes comes again from the journal. Where the trail
can't be written, the node says so and tries again; when WAITING_MAX events wait, it stops (docs/decisions/0005).
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final, Protocol

from structlog.typing import FilteringBoundLogger

from cluster.node.events.lines import WHOLE, Line, Place, lines_of
from cluster.node.events.trail import Trail
from cluster.state.results import Event
from datastore.errors import DatastoreError, StorageFailed

WAITING_MAX: Final = 100_000
ENTRIES_A_BATCH: Final = 2_000
GATHER_S: Final = 0.05
SYNC_S: Final = 1.0
RETRY_S: Final = 0.5
RETRY_S_MAX: Final = 16.0
LOGGED_AGAIN_S: Final = 60.0


class _Item(Protocol):
    """What waits: `index` in the log, `count` of events, and how it is written."""

    @property
    def index(self) -> int: ...
    @property
    def count(self) -> int: ...


@dataclass(frozen=True, slots=True)
class _Entry:
    index: int
    stamp_ms: int
    events: Sequence[Event]

    @property
    def count(self) -> int:
        return len(self.events)


@dataclass(frozen=True, slots=True)
class _Position:
    index: int
    count: int = 0


@dataclass(frozen=True, slots=True)
class _Gap:
    from_index: int
    index: int
    count: int = 0


class EventWriter:
    """`applied`, `position` and `installed` belong to the loop; `wait_durable` to any thread.

    `open_trail` is given the index up to which the trail must go, and is called again after a failure. `on_written`
    is called after each batch, and `on_defect` with what should never be raised, both in the thread that writes.
    """

    def __init__(
        self,
        open_trail: Callable[[int], Trail],
        data_file_index: int,
        *,
        pseudonym: Callable[[str], str],
        prefix: str,
        log: FilteringBoundLogger,
        on_defect: Callable[[Exception], None],
        on_written: Callable[[], None] = lambda: None,
        waiting_max: int = WAITING_MAX,
        gather_s: float = GATHER_S,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._open_trail = open_trail
        self.pseudonym = pseudonym
        self._prefix = prefix
        self._log = log
        self._on_defect = on_defect
        self._on_written = on_written
        self._waiting_max = waiting_max
        self._gather_s = gather_s
        self._monotonic = monotonic
        self._trail: Trail | None = open_trail(data_file_index)
        self.trouble_at_start = self._trail.trouble
        self._from = self._trail.place.entry  # earlier entries are in the trail already
        self._incoming: deque[_Item] = deque()
        self._disk = threading.Lock()  # for the four that follow, and for taking from what comes in
        self._held: deque[_Item] = deque()  # what is not durable
        self._cursor = 0  # how much of it is written
        self._retry_s = RETRY_S
        self._synced_at = monotonic()
        self._sync_wanted = False
        self._logged_at = float("-inf")
        self._durable = self._trail.place
        self._durable_changed = threading.Condition()
        self._wake, self._closing = threading.Event(), threading.Event()
        self._taken = 0
        self._settled = 0
        self.lines_written = 0
        self.trouble = ""  # why nothing can be written just now
        self._thread = threading.Thread(target=self._run, name="events", daemon=True)

    def start(self) -> None:
        """Write from now on, in a thread; what is taken before waits."""
        self._thread.start()

    # In the loop

    @property
    def waiting(self) -> int:
        """Events that are not durable in the trail yet."""
        return self._taken - self._settled

    @property
    def durable_index(self) -> int:
        return self._durable.entry

    def applied(self, index: int, stamp_ms: int, events: Sequence[Event]) -> None:
        """Take one entry's events, in the order of the log; entries that are in the trail already are let go.

        Raises:
            StorageFailed: as many wait as may, and none can be written. The node must not go on.
        """
        if events and index >= self._from:
            self._take(_Entry(index, stamp_ms, tuple(events)))
            if self.waiting > self._waiting_max:
                self._make_room()

    def position(self, index: int) -> None:
        """Everything up to `index` was given: say so in the trail, durably, as soon as possible."""
        self._sync_wanted = True
        self._take(_Position(index))

    def installed(self, from_index: int, index: int) -> None:
        """The entries `from_index` to `index` were never applied here: a snapshot brought what they made."""
        self._sync_wanted = True
        self._take(_Gap(from_index, index))

    def _take(self, item: _Item) -> None:
        self._taken += item.count
        self._incoming.append(item)
        if not self._wake.is_set():
            self._wake.set()

    def _make_room(self) -> None:
        """The disk is slower than apply: the loop writes, and waits for it, rather than hold more and more."""
        while self.waiting > self._waiting_max // 2:
            if not self.write_out(sync=True):
                raise StorageFailed("the audit trail", "write", OSError(0, self.trouble))

    # In other threads

    def wait_durable(self, index: int, within_s: float) -> bool:
        """Whether everything up to `index`, for which `position` or `installed` was called, is durable in time."""
        with self._durable_changed:
            return self._durable_changed.wait_for(lambda: self._durable >= (index, WHOLE), within_s)

    def close(self, within_s: float = 10.0) -> bool:
        """Write what waits, and end. False: not all of it could be written; the journal has it."""
        self._closing.set()
        self._wake.set()
        self._thread.join(within_s)
        return not self._incoming and not self._held

    # The thread

    def _run(self) -> None:
        try:
            while not self._closing.is_set():
                self._wake.wait(SYNC_S)
                self._wake.clear()
                self._closing.wait(self._gather_s)
                if not self.write_out(sync=self._is_sync_due()):
                    self._closing.wait(self._retry_s)
            self.write_out(sync=True)
        except Exception as error:  # noqa: BLE001 - a thread that ends in silence would take the trail with it
            self._on_defect(error)
        with self._disk:
            if self._trail is not None:
                self._trail.close()

    def _is_sync_due(self) -> bool:
        wanted, self._sync_wanted = self._sync_wanted, False
        return wanted or self._monotonic() - self._synced_at >= SYNC_S

    def write_out(self, *, sync: bool) -> bool:
        """Write what waits; False where the disk said no, and everything that is not durable waits again.

        The thread calls it, and whoever can't wait for the thread.
        """
        with self._disk:
            try:
                self._write_held()
                if sync and self._cursor:
                    self._sync()
                self._rotate()
            except DatastoreError as error:
                self._failed(error)
                return False
            if self.trouble:
                self._log.warning("events_written_again", waiting=self.waiting)
                self.trouble = ""
                self._retry_s = RETRY_S
        return True

    def _write_held(self) -> None:
        trail = self._trail
        if trail is None:
            trail = self._trail = self._open_trail(self._durable.entry)
            if trail.trouble:
                self._log.error("events_damaged", reason=trail.trouble)
        while self._incoming:
            self._held.append(self._incoming.popleft())
        while self._cursor < len(self._held):
            batch = list(islice(self._held, self._cursor, self._cursor + ENTRIES_A_BATCH))
            self._write(trail, batch)
            self._cursor += len(batch)
            if trail.is_full():
                self._sync()
                trail.rotate()
            self._on_written()

    def _write(self, trail: Trail, batch: Sequence[_Item]) -> None:
        """Append what the trail doesn't have: after a restart or a failure some of it is there."""
        lines: list[Line] = []

        def flush() -> None:
            trail.append(lines)
            self.lines_written += len(lines)
            lines.clear()

        for item in batch:
            match item:
                case _Entry(index, stamp_ms, events):
                    made = lines_of(index, stamp_ms, events, self.pseudonym, self._prefix)
                    lines += [line for line in made if Place(line.index, line.number) > trail.place]
                case _Position(index):
                    flush()
                    trail.note_position(index)
                case _Gap(from_index, index):
                    flush()
                    trail.note_gap(from_index, index, "a peer's snapshot took their place")
        flush()

    def _sync(self) -> None:
        assert self._trail is not None, "only what was written is synced"
        self._trail.sync()
        for _ in range(self._cursor):
            self._settled += self._held.popleft().count
        self._cursor = 0
        self._synced_at = self._monotonic()
        with self._durable_changed:
            self._durable = self._trail.place
            self._durable_changed.notify_all()

    def _rotate(self) -> None:
        """By age, also where nothing comes."""
        if self._trail is not None and self._cursor == 0 and self._trail.is_full():
            self._trail.rotate()

    def _failed(self, error: DatastoreError) -> None:
        if self._trail is not None:
            self._trail.close()
        self._trail, self._cursor = None, 0
        self._retry_s = min(2 * self._retry_s, RETRY_S_MAX)
        self.trouble = str(error)
        if self._monotonic() - self._logged_at >= LOGGED_AGAIN_S:
            self._logged_at = self._monotonic()
            self._log.error("events_not_written", reason=self.trouble, waiting=self.waiting)
