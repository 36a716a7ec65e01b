"""The files of one node's audit trail: the last one opened and verified, appended to, and rotated by size and age.

What a crash leaves is an unfinished last line, which is cut: it comes again from the journal. A file that was changed
is left as it is, and a new one goes on, which says so.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Self

from cluster.node.events.lines import (
    CHAIN_START,
    FORMAT,
    WHOLE,
    Line,
    Note,
    Place,
    chained,
    milliseconds_of,
    place_of,
    timestamp,
)
from cluster.node.events.scan import Scan, scan
from cluster.state.genesis import GENESIS_INDEX
from datastore.errors import NotFound
from datastore.files import File, Files

DIRECTORY: Final = "events"
_NAME: Final = re.compile(r"events-([0-9]{8})\.jsonl")


def file_name(number: int) -> str:
    return f"events-{number:08d}.jsonl"


def number_of(name: str) -> int | None:
    """The number of a file of a trail, by its name; None for another file."""
    match = _NAME.fullmatch(name)
    return int(match[1]) if match else None


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose trail it is."""

    member_id: str
    cluster_id: str
    incarnation_id: str


@dataclass(frozen=True, slots=True)
class TrailLimits:
    """When a file is finished, and how many are kept (0: all)."""

    file_bytes: int = 16 << 20
    file_age_ms: int = 24 * 3_600_000
    keep_files: int = 0


class Trail:
    """`place`: how far the trail goes. Any error of the disk makes it unusable: open it again."""

    def __init__(
        self, files: Files, directory: str, owner: Owner, wall_ms: Callable[[], int], limits: TrailLimits
    ) -> None:
        """Use open()."""
        self._files = files
        self._directory = directory
        self._owner = owner
        self._wall_ms = wall_ms
        self._limits = limits
        self._numbers: list[int] = []
        self._file: File | None = None
        self._size = 0
        self._begun_ms = 0
        self._oldest = 1
        self.number = 0
        self.chain = CHAIN_START
        self.place = Place(GENESIS_INDEX, WHOLE)
        self.trouble = ""  # what was found wrong with the files at the opening

    @classmethod
    def open(
        cls,
        files: Files,
        directory: str,
        owner: Owner,
        data_file_index: int,
        wall_ms: Callable[[], int],
        limits: TrailLimits,
    ) -> Self:
        """Go on after the last line. The node stands at `data_file_index`: what is missing before is said in a line.

        Raises:
            DatastoreError: the disk said no, or permissions are too wide.
        """
        trail = cls(files, directory, owner, wall_ms, limits)
        files.make_directory(directory)
        found = (number_of(name) for name in files.list(directory))
        trail._numbers = sorted(number for number in found if number is not None)
        try:
            trail._open_last(data_file_index)
            if trail.place.entry < data_file_index:
                trail._append_gap(data_file_index)
        except BaseException:
            trail.close()
            raise
        return trail

    def _open_last(self, data_file_index: int) -> None:
        if not self._numbers:
            self._begin("")
            return
        self.number = self._numbers[-1]
        self._file = file = self._files.open(self._path(self.number))
        found = scan(file.read_at)
        if found.begin is None and (found.torn or not found.problem):
            self._again_without_last(data_file_index)
            return
        if found.begin is not None:
            self._oldest = found.begin.oldest
            self._remove_below_oldest()
        if found.problem and not found.torn:
            self._after_damage(found, data_file_index)
            return
        assert found.begin is not None, "an intact file has its first line"
        self.chain, self.place = found.chain, found.place
        if not self._is_ours(found.begin):
            self.place = Place(data_file_index, WHOLE)
            self._begin("what is before is another member's, or of another incarnation")
            return
        if found.torn:
            file.truncate(found.good_bytes)
        file.sync()
        self._size = found.good_bytes
        self._begun_ms = milliseconds_of(found.begin.time)

    def _again_without_last(self, data_file_index: int) -> None:
        """A file whose first line was never finished: it holds nothing, and is made anew."""
        self.close()
        self._files.remove(self._path(self.number))
        self._files.sync_directory(self._directory)
        self._numbers.pop()
        self._open_last(data_file_index)

    def _after_damage(self, found: Scan, data_file_index: int) -> None:
        self.trouble = f"{file_name(self.number)}, line {found.lines + 1}, {found.problem}"
        self.chain = CHAIN_START
        # What the damaged file holds of later entries can't be believed: they are written again.
        self.place = Place(data_file_index, WHOLE)
        self._begin(f"{self.trouble}; entries after {data_file_index} are written again here")

    def _is_ours(self, begin: Line) -> bool:
        return Owner(begin.node, begin.cluster, begin.incarnation) == self._owner

    # Appending

    def append(self, lines: Sequence[Line]) -> None:
        """Write lines that come after `place`; not durable before `sync`."""
        if not lines:
            return
        chain, packed = self.chain, []
        for line in lines:
            data, chain = chained(line, chain)
            packed.append(data)
        data = b"".join(packed)
        assert self._file is not None, "an open trail has a file"
        self._file.append(data)
        self._size += len(data)
        self.chain, self.place = chain, place_of(lines[-1])

    def sync(self) -> None:
        """Make durable what was appended; an error too where the file was taken away meanwhile."""
        assert self._file is not None, "an open trail has a file"
        self._file.sync()
        path = self._path(self.number)
        if not self._files.exists(path):
            raise NotFound(path, "somebody removed it while the node wrote it; find out who, and put it back")

    def is_full(self) -> bool:
        """Whether the file should be finished; between two entries only."""
        if self.place.number != WHOLE:
            return False
        return self._size >= self._limits.file_bytes or self._wall_ms() - self._begun_ms >= self._limits.file_age_ms

    def rotate(self) -> None:
        """Finish this file, durably, and begin the next one."""
        self.sync()
        self._begin("")

    def note_position(self, index: int) -> None:
        """Say that everything up to `index` is above, though the last entries brought no event."""
        if self.place < (index, WHOLE):
            self.append([Line(index, timestamp(self._wall_ms()), Note.POSITION)])

    def note_gap(self, from_index: int, index: int, why: str) -> None:
        """Say that the entries from `from_index` to `index` are not here."""
        if self.place < (index, WHOLE):
            missing = max(from_index, self.place.entry + (self.place.number == WHOLE))
            self.append([Line(index, timestamp(self._wall_ms()), Note.GAP, from_index=missing, why=why)])

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _append_gap(self, data_file_index: int) -> None:
        self.note_gap(0, data_file_index, "a snapshot took their place, or files of this trail were removed")
        self.sync()

    def _begin(self, why: str) -> None:
        """The next file, with its first line, durable."""
        self.close()
        number = (self._numbers[-1] if self._numbers else 0) + 1
        self._file = self._files.create(self._path(number))
        self._numbers.append(number)
        self.number, self._size = number, 0
        if self._limits.keep_files:
            self._oldest = max(self._oldest, number - self._limits.keep_files + 1)
        self._begun_ms = self._wall_ms()
        place = self.place
        assert place.number == WHOLE, "a file begins between two entries"
        begin = Line(
            index=place.entry,
            time=timestamp(self._begun_ms),
            kind=Note.BEGIN,
            file=number,
            oldest=self._oldest,
            node=self._owner.member_id,
            cluster=self._owner.cluster_id,
            incarnation=self._owner.incarnation_id,
            previous=self.chain.hex(),
            format=FORMAT,
            why=why,
        )
        self.append([begin])
        self.sync()
        self._files.sync_directory(self._directory)
        self._remove_below_oldest()

    def _remove_below_oldest(self) -> None:
        removed = [number for number in self._numbers if number < self._oldest]
        for number in removed:
            self._files.remove(self._path(number))
        if removed:
            self._files.sync_directory(self._directory)
            self._numbers = [number for number in self._numbers if number >= self._oldest]

    def _path(self, number: int) -> str:
        return f"{self._directory}/{file_name(number)}"
