"""The Raft log, term and vote of one member, on disk and in memory.

Memory changes at once, the disk at the next sync. Whoever counts, acknowledges, votes or applies goes by `synced` and
`synced_index`, never by what is in memory. See DESIGN.md for what a crash leaves at each step.
"""

import os

from datastore.errors import AlreadyExists, DatastoreError, JournalLost, NotFound
from datastore.files import Files, Lock
from datastore.header import Identity
from datastore.journal_output import Base, Change, ChangeSealer, PendingSync, SegmentOutput
from datastore.journal_recovery import RecoveredLog, recover, remove_unfinished, segment_sequences
from datastore.segment import DEFAULT_LIMITS, HardState, JournalEntry, JournalLimits, segment_name
from datastore.wrapping import KeyRing, Random

__all__ = ["Journal", "JournalEntry", "JournalLimits", "PendingSync"]


class Journal:
    """Entries after (base_index, base_term), the current term and the vote in it. One owner, one thread."""

    def __init__(
        self,
        files: Files,
        directory: str,
        identity: Identity,
        keys: KeyRing,
        random: Random,
        limits: JournalLimits,
        lock: Lock,
        log: RecoveredLog,
    ) -> None:
        """Use `create` or `open`."""
        self._lock = lock
        self._files, self._directory, self._limits = files, directory, limits
        self.member_id = log.member_id
        self.base_index, self.base_term = log.base_index, log.base_term
        self._entries = log.entries
        self.tail_bytes = sum(len(entry.data) for entry in log.entries)
        hard_state = log.hard_state or HardState(0, None)
        self.current_term, self.voted_for = hard_state
        self._segments = log.segments
        last_sequence = log.segments[-1].sequence if log.segments else 0
        self._output = SegmentOutput(files, directory)
        self._sealer = ChangeSealer(identity, log.member_id, keys, random, limits, last_sequence, log.last, hard_state)
        self._waiting: list[Change] = []
        self._pending: PendingSync | None = None
        self._cut_index: int | None = None  # the lowest index after which the log was cut while a sync was under way
        self.written = self.synced = 0
        self.synced_index = self.last_index

    @classmethod
    def create(
        cls,
        files: Files,
        directory: str,
        identity: Identity,
        member_id: str,
        keys: KeyRing,
        random: Random,
        base_index: int,
        base_term: int,
        limits: JournalLimits = DEFAULT_LIMITS,
    ) -> "Journal":
        """The journal of a new member whose log begins after the entry (base_index, base_term); durable on return."""
        files.make_directory(directory)
        lock = files.lock(directory)
        try:
            if segment_sequences(files, directory):
                raise AlreadyExists(directory)
            remove_unfinished(files, directory)
            log = RecoveredLog(member_id=member_id, base_index=base_index, base_term=base_term)
            journal = cls(files, directory, identity, keys, random, limits, lock, log)
            journal._change(Base(base_index, base_term, reset=True))
            journal.sync()
        except DatastoreError:
            lock.release()
            raise
        return journal

    @classmethod
    def open(
        cls,
        files: Files,
        directory: str,
        identity: Identity,
        keys: KeyRing,
        random: Random,
        limits: JournalLimits = DEFAULT_LIMITS,
    ) -> "Journal":
        """Reads and verifies all that is there; what follows goes into a new segment.

        Raises JournalLost, Damaged, WrongKey, NewerFormat, ForeignFile, InsecurePermissions, InUse or StorageFailed,
        and has then changed nothing.
        """
        try:
            files.check_directory(directory)
        except NotFound as error:
            raise JournalLost(directory) from error
        lock = files.lock(directory)
        try:
            log = recover(files, directory, identity, keys)
        except DatastoreError:
            lock.release()
            raise
        return cls(files, directory, identity, keys, random, limits, lock, log)

    # reading

    @property
    def first_index(self) -> int:
        return self.base_index + 1

    @property
    def last_index(self) -> int:
        return self.base_index + len(self._entries)

    @property
    def last_term(self) -> int:
        return self._entries[-1].term if self._entries else self.base_term

    def entry(self, index: int) -> JournalEntry | None:
        """The entry at `index`, if it is held."""
        if self.base_index < index <= self.last_index:
            return self._entries[index - self.base_index - 1]
        return None

    def term_at(self, index: int) -> int | None:
        """The term of the entry at `index`, the base included."""
        if index == self.base_index:
            return self.base_term
        entry = self.entry(index)
        return None if entry is None else entry.term

    def entries(self, first: int, bytes_max: int) -> list[JournalEntry]:
        """The entries from `first` on whose data fits in `bytes_max`; at least one if there is any."""
        assert first > self.base_index, f"entry {first} is compacted, the log begins after {self.base_index}"
        found: list[JournalEntry] = []
        size = 0
        for position in range(first - self.base_index - 1, len(self._entries)):
            entry = self._entries[position]
            size += len(entry.data)
            if found and size > bytes_max:
                break
            found.append(entry)
        return found

    # changes: memory at once, disk at the next sync

    def append(self, entry: JournalEntry) -> None:
        """Adds the entry after the last one."""
        assert entry.index == self.last_index + 1, f"entry {entry.index} appended after {self.last_index}"
        assert entry.term >= self.last_term, f"term {entry.term} appended after term {self.last_term}"
        assert len(entry.data) <= self._limits.record_bytes_max, f"an entry of {len(entry.data)} bytes"
        self._entries.append(entry)
        self.tail_bytes += len(entry.data)
        self._change(entry)

    def truncate(self, from_index: int) -> None:
        """Takes back the entries from `from_index` on."""
        assert self.base_index < from_index <= self.last_index, (
            f"cut at {from_index} of a log from {self.first_index} to {self.last_index}"
        )
        position = from_index - self.base_index - 1
        self.tail_bytes -= sum(len(entry.data) for entry in self._entries[position:])
        del self._entries[position:]
        self._cut(from_index - 1)
        self._change(Base(self.last_index, self.last_term, reset=False))

    def set_term(self, term: int, voted_for: str | None) -> None:
        """Moves to `term`, or records the vote in it."""
        assert term >= self.current_term, f"term {term} after term {self.current_term}"
        self.current_term, self.voted_for = term, voted_for
        self._change(HardState(term, voted_for))

    def install(self, index: int, term: int) -> None:
        """Replaces the whole log by the snapshot that ends with the entry (index, term); term and vote stay."""
        self.base_index, self.base_term = index, term
        self._entries = []
        self.tail_bytes = 0
        self._cut(index)
        self._change(Base(index, term, reset=True))

    def compact(self, to_index: int) -> None:
        """Forgets the entries up to `to_index` in memory; the disk keeps them until `remove_segments`."""
        assert self.base_index <= to_index <= self.last_index, (
            f"compaction to {to_index} of a log from {self.first_index} to {self.last_index}"
        )
        count = to_index - self.base_index
        if count:
            self.base_term = self._entries[count - 1].term
            self.base_index = to_index
            self.tail_bytes -= sum(len(entry.data) for entry in self._entries[:count])
            del self._entries[:count]

    def remove_segments(self, below_index: int) -> None:
        """Removes from disk the segments whose entries are all at or below `below_index`, oldest first.

        Each removal is synced before the next, so that a crash leaves no hole.
        """
        if self._pending is not None and self._pending.reset:
            return  # that sync removes them all
        while len(self._segments) > 1 and self._segments[1].index <= below_index:
            self._files.remove(os.path.join(self._directory, segment_name(self._segments[0].sequence)))
            self._files.sync_directory(self._directory)
            del self._segments[0]

    # durability

    def begin_sync(self) -> PendingSync | None:
        """Seals what waits; None if nothing does. `run` it anywhere, then hand it to `end_sync`."""
        assert self._pending is None, "one sync at a time"
        if not self._waiting:
            return None
        changes, self._waiting = self._waiting, []
        reset = any(isinstance(change, Base) and change.reset for change in changes)
        steps, begun = self._sealer.seal(changes)
        superseded = [segment_name(segment.sequence) for segment in self._segments] if reset else []
        self._cut_index = None
        self._pending = PendingSync(self._output, steps, superseded, begun, reset, self.written, self.last_index)
        return self._pending

    def end_sync(self, pending: PendingSync) -> None:
        """Takes note that `pending` has run."""
        assert pending is self._pending, "the sync that was begun"
        assert pending.done, "a sync ends after it has run; one that failed ends the node"
        self._pending = None
        self.synced = pending.upto
        last_index = pending.last_index
        self.synced_index = last_index if self._cut_index is None else min(last_index, self._cut_index)
        self._segments = [*([] if pending.reset else self._segments), *pending.begun]

    def sync(self) -> None:
        """Begins, runs and ends a sync, here and now."""
        pending = self.begin_sync()
        if pending is not None:
            pending.run()
            self.end_sync(pending)

    def close(self) -> None:
        """Releases the open segment and the directory; what was not synced is lost."""
        self._output.close()
        self._lock.release()

    def _change(self, change: Change) -> None:
        self._waiting.append(change)
        self.written += 1

    def _cut(self, index: int) -> None:
        """Entries after `index` that are on disk, or on their way, no longer belong to the log."""
        self.synced_index = min(self.synced_index, index)
        self._cut_index = index if self._cut_index is None else min(self._cut_index, index)
