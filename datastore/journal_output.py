"""The journal's way to the disk: changes become sealed bytes in the owner's thread, then pure I/O in any thread."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from datastore.errors import AlreadyExists, NotFound, StorageFailed
from datastore.files import File, Files
from datastore.header import Identity
from datastore.segment import (
    FRAME,
    HardState,
    JournalEntry,
    JournalLimits,
    Place,
    SegmentSealer,
    pack_entry,
    pack_hard_state,
    segment_header,
    segment_name,
)
from datastore.wrapping import KeyRing, Random

TEMPORARY_SUFFIX = ".tmp"
_OVERHEAD_BYTES = FRAME.size + 64  # of a sealed record beside its data


class Base(NamedTuple):
    """From here the log goes on after `index`: a truncation, or with `reset` a log replaced by a snapshot."""

    index: int  # type: ignore[assignment]
    term: int
    reset: bool


Change = JournalEntry | HardState | Base


class Segment(NamedTuple):
    """A segment of the log: what it holds follows the entry at `index`."""

    sequence: int
    index: int  # type: ignore[assignment]


@dataclass(slots=True)
class _Step:
    """Bytes for the open segment, or for a new one of this name."""

    new_segment: str | None
    parts: list[bytes] = field(default_factory=list)


class ChangeSealer:
    """Turns changes into steps, opening segments where one is full, a start has none, or the log was cut."""

    def __init__(
        self,
        identity: Identity,
        member_id: str,
        keys: KeyRing,
        random: Random,
        limits: JournalLimits,
        last_sequence: int,
        last: tuple[int, int],
        hard_state: HardState,
    ) -> None:
        self._identity, self._member_id, self._limits = identity, member_id, limits
        self._keys, self._random = keys, random
        self._sequence = last_sequence
        self._index, self._term = last
        self._hard_state = hard_state
        self._sealer: SegmentSealer | None = None

    def seal(self, changes: Sequence[Change]) -> tuple[list[_Step], list[Segment]]:
        """The steps that make `changes` durable, and the segments that they begin."""
        steps: list[_Step] = []
        begun: list[Segment] = []
        for change in self._after_last_reset(changes):
            if isinstance(change, Base):
                self._index, self._term = change.index, change.term
                begun.append(self._begin(steps, change.reset))
                continue
            plain = pack_entry(change) if isinstance(change, JournalEntry) else pack_hard_state(change)
            if self._sealer is None or self._full(len(plain)):
                begun.append(self._begin(steps, reset=False))
            assert self._sealer is not None, "a record is sealed in a segment"
            if not steps:
                steps.append(_Step(None))
            steps[-1].parts.append(self._sealer.seal(plain))
            if isinstance(change, JournalEntry):
                self._index, self._term = change.index, change.term
            else:
                self._hard_state = change
        return steps, begun

    def _after_last_reset(self, changes: Sequence[Change]) -> Sequence[Change]:
        """What a snapshot replaces need not be written; its segment begins with the term and vote held by then."""
        for position in range(len(changes) - 1, 0, -1):
            change = changes[position]
            if isinstance(change, Base) and change.reset:
                for earlier in changes[:position]:
                    if isinstance(earlier, HardState):
                        self._hard_state = earlier
                return changes[position:]
        return changes

    def _full(self, plain_bytes: int) -> bool:
        assert self._sealer is not None, "asked of an open segment"
        return self._sealer.size_bytes + plain_bytes + _OVERHEAD_BYTES > self._limits.segment_bytes_max

    def _begin(self, steps: list[_Step], reset: bool) -> Segment:
        self._sequence += 1
        place = Place(self._member_id, self._sequence, reset, self._index, self._term)
        header = segment_header(self._identity, place, self._keys, self._random)
        self._sealer = SegmentSealer(header, self._keys.active)
        state = self._sealer.seal(pack_hard_state(self._hard_state))
        steps.append(_Step(segment_name(self._sequence), [header.raw, state]))
        return Segment(self._sequence, self._index)


class SegmentOutput:
    """The open segment file. Only one `write` runs at a time; after a failed one there is no other."""

    def __init__(self, files: Files, directory: str) -> None:
        self._files, self._directory = files, directory
        self._file: File | None = None
        self._failed = False

    def write(self, steps: Sequence[_Step], superseded: Sequence[str]) -> None:
        """Writes and syncs; then removes the files that a reset made meaningless. StorageFailed is final."""
        if self._failed:
            raise StorageFailed(self._directory, "write")
        self._failed = True
        try:
            for step in steps:
                if step.new_segment is None:
                    assert self._file is not None, "records are added to an open segment"
                    self._file.append(b"".join(step.parts))
                    self._file.sync()
                else:
                    self._begin(step.new_segment, b"".join(step.parts))
            for name in superseded:
                self._files.remove(os.path.join(self._directory, name))
            if superseded:
                self._files.sync_directory(self._directory)
        except (OSError, NotFound, AlreadyExists) as error:
            raise StorageFailed(self._directory, "write", error) from error
        self._failed = False

    def _begin(self, name: str, data: bytes) -> None:
        """A new segment appears whole or not at all; the one before it is synced already."""
        self.close()
        path = os.path.join(self._directory, name)
        self._file = self._files.create(path + TEMPORARY_SUFFIX)
        self._file.append(data)
        self._file.sync()
        self._files.replace(path + TEMPORARY_SUFFIX, path)
        self._files.sync_directory(self._directory)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


class PendingSync:
    """Changes on their way to the disk: sealed bytes and nothing of the journal's memory, so any thread may run it."""

    __slots__ = ("_output", "_steps", "_superseded", "begun", "done", "last_index", "reset", "upto")

    def __init__(
        self,
        output: SegmentOutput,
        steps: Sequence[_Step],
        superseded: Sequence[str],
        begun: Sequence[Segment],
        reset: bool,
        upto: int,
        last_index: int,
    ) -> None:
        self._output, self._steps, self._superseded = output, steps, superseded
        self.begun, self.reset, self.upto, self.last_index = begun, reset, upto, last_index
        self.done = False

    def run(self) -> None:
        """Writes, syncs, renames. StorageFailed is final: the node stops, nothing is retried."""
        self._output.write(self._steps, self._superseded)
        self.done = True
