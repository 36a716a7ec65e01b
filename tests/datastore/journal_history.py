"""One history of a journal on a disk that crashes, beside a model that remembers every state the log has been in."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from datastore.errors import JournalLost, StorageFailed
from datastore.header import Identity
from datastore.journal import Journal, JournalEntry, JournalLimits, PendingSync
from datastore.keys import KeyRing, new_kek
from tests.simulation.memory_files import MemoryFiles

IDENTITY = Identity("1c" * 16, 1, "2d" * 16)
MEMBER = "3e" * 16
DIRECTORY = "/node/journal"
LIMITS = JournalLimits(segment_bytes_max=2_000, record_bytes_max=4_000)


class Death(Exception):
    """Raised within a disk operation."""


@dataclass(frozen=True)
class LogState:
    """The log without compaction: `entries` follow (base_index, base_term)."""

    base_index: int
    base_term: int
    entries: tuple[JournalEntry, ...] = ()
    term: int = 0
    voted_for: str | None = None

    @property
    def last_index(self) -> int:
        return self.base_index + len(self.entries)

    def term_at(self, index: int) -> int:
        return self.base_term if index == self.base_index else self.entries[index - self.base_index - 1].term

    def explains(self, journal: Journal) -> bool:
        """Whether a recovered journal is this log, compacted or not."""
        if not self.base_index <= journal.base_index <= self.last_index:
            return False
        held = tuple(journal.entries(journal.first_index, 1 << 40))
        return (
            held == self.entries[journal.base_index - self.base_index :]
            and journal.base_term == self.term_at(journal.base_index)
            and (journal.current_term, journal.voted_for) == (self.term, self.voted_for)
        )


@dataclass
class History:
    """`states[n]` is the log after n changes since the last start: the journal's `written` counts the same."""

    seed: int
    states: list[LogState] = field(default_factory=list)
    pending: PendingSync | None = None
    reached: int = 0  # states up to here may be on disk, later ones cannot
    removed_below: int = 0

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)
        self.files = MemoryFiles(random.Random(self.seed + 1))
        self.keys = KeyRing.generate(new_kek(self.chance.randbytes), self.chance.randbytes)
        self.files.make_directory("/node")
        self.journal = self._create()
        self.states = [LogState(10, 3)] * 2  # creation is the first change

    def _create(self) -> Journal:
        arguments = (self.files, DIRECTORY, IDENTITY, MEMBER, self.keys, self.chance.randbytes, 10, 3, LIMITS)
        return Journal.create(*arguments)

    def open(self) -> Journal:
        return Journal.open(self.files, DIRECTORY, IDENTITY, self.keys, self.chance.randbytes, LIMITS)

    @property
    def state(self) -> LogState:
        return self.states[-1]

    # changes

    def append(self, size: int) -> None:
        state = self.state
        entry = JournalEntry(self.chance.randbytes(size), state.last_index + 1, max(state.term, self.last_term()))
        self.journal.append(entry)
        self._enter(state.base_index, state.base_term, (*state.entries, entry))

    def last_term(self) -> int:
        return self.state.term_at(self.state.last_index)

    def truncate(self, share: float) -> None:
        first, last = self.journal.first_index, self.journal.last_index
        if first > last:
            return
        at = first + int(share * (last - first))
        self.journal.truncate(at)
        state = self.state
        self._enter(state.base_index, state.base_term, state.entries[: at - state.base_index - 1])

    def set_term(self, step: int, vote: bool) -> None:
        self.journal.set_term(self.state.term + step, MEMBER if vote else None)
        state = self.state
        self.states.append(
            LogState(state.base_index, state.base_term, state.entries, state.term + step, MEMBER if vote else None)
        )

    def install(self, distance: int) -> None:
        index, term = max(self.journal.base_index, self.state.last_index + distance), self.last_term()
        self.journal.install(index, term)
        self._enter(index, term, ())

    def _enter(self, base_index: int, base_term: int, entries: tuple[JournalEntry, ...]) -> None:
        self.states.append(LogState(base_index, base_term, entries, self.state.term, self.state.voted_for))

    def compact(self, share: float) -> None:
        first, synced = self.journal.base_index, min(self.journal.synced_index, self.journal.last_index)
        if synced > first:
            self.journal.compact(first + int(share * (synced - first)))

    def remove_segments(self) -> None:
        below = self.journal.base_index
        self.removed_below = max(self.removed_below, below)
        self.journal.remove_segments(below)

    # the disk

    def begin(self) -> None:
        if self.pending is None:
            self.pending = self.journal.begin_sync()

    def run_and_end(self) -> None:
        if self.pending is None:
            return
        self.reached = self.pending.upto
        self.pending.run()
        self.journal.end_sync(self.pending)
        self.pending = None

    def die_in(self, operations: int, action: Callable[[], None], end: Callable[[], None]) -> None:
        """The power or the process ends before the so-many-th disk operation of `action`, or after it."""
        left = operations

        def before(operation: str, path: str) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise Death

        self.files.before = before
        try:
            action()
        except Death:
            pass
        finally:
            self.files.before = None
        self.restart(end)

    def fail_sync(self) -> None:
        """A failed sync ends the process; nothing is retried."""
        self.begin()
        if self.pending is None:
            return
        self.files.failing_syncs = 1
        try:
            self.run_and_end()
        except StorageFailed:
            self.restart(self.files.kill)
        self.files.failing_syncs = 0

    def restart(self, end: Callable[[], None]) -> None:
        """The node comes back: the journal must be one of the states that may be on disk, and no earlier one."""
        before, synced, synced_index = self.journal, self.journal.synced, self.journal.synced_index
        end()
        self.pending = None
        try:
            journal = self.open()
        except JournalLost:
            raise AssertionError("a created journal is never lost") from None
        possible = self.states[synced : max(synced, self.reached) + 1]
        found = [state for state in possible if state.explains(journal)]
        assert found, f"after {synced} synced changes of {before.written}, {self.reached} begun: nothing explains it"
        assert journal.last_index >= synced_index, "what counted as synced is gone"
        for index in range(max(before.first_index, journal.first_index), synced_index + 1):
            assert journal.entry(index) == before.entry(index), f"entry {index} counted as synced and is another"
        assert journal.base_index <= max(self.removed_below, found[-1].base_index), "entries were forgotten"
        assert (journal.written, journal.synced, journal.synced_index) == (0, 0, journal.last_index)
        self.journal, self.states, self.reached = journal, [found[-1]], 0
        self.removed_below = max(self.removed_below, journal.base_index)

    def check_memory(self) -> None:
        """What the journal answers is the model's state."""
        journal, state = self.journal, self.state
        assert journal.written == len(self.states) - 1
        assert journal.last_index == state.last_index
        assert journal.last_term == self.last_term()
        assert (journal.current_term, journal.voted_for) == (state.term, state.voted_for)
        held = journal.entries(journal.first_index, 1 << 40)
        assert tuple(held) == state.entries[journal.base_index - state.base_index :]
        assert journal.tail_bytes == sum(len(entry.data) for entry in held)
        assert journal.synced_index <= journal.last_index
