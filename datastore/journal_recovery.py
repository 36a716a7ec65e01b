"""Reads the segments back: the log as it stands on disk, or a named error. A torn tail is cut, nothing else changed."""

import os
import re
from dataclasses import dataclass, field
from itertools import pairwise

from datastore.errors import Damaged, DatastoreError, ForeignFile, JournalLost
from datastore.files import File, Files
from datastore.header import KIND_JOURNAL, Identity, StoredHeader, check_header, open_data_key, read_header
from datastore.journal_output import TEMPORARY_SUFFIX, Segment
from datastore.segment import (
    SCHEMA,
    HardState,
    JournalEntry,
    Place,
    place_of,
    read_records,
    segment_name,
)
from datastore.wrapping import KeyRing

_SEGMENT_NAME = re.compile(r"(\d{8,})\.journal")


@dataclass(slots=True)
class RecoveredLog:
    """What the segments add up to; entries follow (base_index, base_term) without a hole."""

    member_id: str = ""
    base_index: int = 0
    base_term: int = 0
    entries: list[JournalEntry] = field(default_factory=list)
    hard_state: HardState | None = None
    segments: list[Segment] = field(default_factory=list)

    @property
    def last(self) -> tuple[int, int]:
        if self.entries:
            return self.entries[-1].index, self.entries[-1].term
        return self.base_index, self.base_term


@dataclass(slots=True)
class _Opened:
    path: str
    file: File
    stored: StoredHeader
    place: Place


def segment_sequences(files: Files, directory: str) -> list[int]:
    """The numbers of the segments present, ascending."""
    matches = (_SEGMENT_NAME.fullmatch(name) for name in files.list(directory))
    return sorted(int(match[1]) for match in matches if match)


def recover(files: Files, directory: str, identity: Identity, keys: KeyRing) -> RecoveredLog:
    """Reads and verifies every segment that counts, then cuts a torn tail and clears what is left over."""
    sequences = segment_sequences(files, directory)
    if not sequences:
        raise JournalLost(directory)
    kept: list[_Opened] = []
    try:
        for sequence in reversed(sequences):
            kept.append(_open_segment(files, directory, sequence, identity))
            if kept[-1].place.reset:
                break
        kept.reverse()
        _check_sequence(directory, kept)
        log = RecoveredLog(member_id=kept[0].place.member_id)
        torn_at = None
        for opened in kept:
            torn_at = _replay(log, opened, keys, last=opened is kept[-1])
        _settle(files, directory, kept[-1].file, torn_at)
    finally:
        for opened in kept:
            opened.file.close()
    _clear(files, directory, kept[0].place.sequence)
    return log


def _open_segment(files: Files, directory: str, sequence: int, identity: Identity) -> _Opened:
    path = os.path.join(directory, segment_name(sequence))
    file = files.open(path)
    try:
        stored = read_header(path, file)
        check_header(path, stored.header, KIND_JOURNAL, SCHEMA, identity)
        place = place_of(path, stored.header)
    except DatastoreError:
        file.close()
        raise
    if place.sequence != sequence:
        file.close()
        raise Damaged(path, 0, f"its header says segment {place.sequence}")
    return _Opened(path, file, stored, place)


def _check_sequence(directory: str, kept: list[_Opened]) -> None:
    for before, after in pairwise(kept):
        missing = before.place.sequence + 1
        if after.place.sequence != missing:
            raise Damaged(os.path.join(directory, segment_name(missing)), 0, "the segment is missing from the journal")
        if after.place.member_id != before.place.member_id:
            raise ForeignFile(after.path, "member", after.place.member_id, before.place.member_id)


def _replay(log: RecoveredLog, opened: _Opened, keys: KeyRing, last: bool) -> int | None:
    """Adds a segment to the log; the offset of a torn tail, if there is one."""
    _rebase(log, opened.path, opened.place)
    key = open_data_key(opened.path, opened.stored.header, keys)
    data = opened.file.read_at(0, opened.file.size())
    first, torn_at = True, None
    index, term = log.last
    append = log.entries.append
    for offset, record in read_records(opened.path, opened.stored, key, data, last):
        if isinstance(record, JournalEntry):
            if first or record.index != index + 1 or record.term < term:
                raise Damaged(opened.path, offset, f"entry {record.index} does not follow entry {index}")
            index, term = record.index, record.term
            append(record)
        elif record is None and not first:
            torn_at = offset
        else:
            _take_hard_state(log, opened.path, offset, record, first)
        first = False
    if first:
        raise Damaged(opened.path, len(opened.stored.raw), "the segment does not begin with term and vote")
    log.segments.append(Segment(opened.place.sequence, opened.place.index))
    return torn_at


def _take_hard_state(log: RecoveredLog, path: str, offset: int, record: HardState | None, first: bool) -> None:
    if record is None:
        raise Damaged(path, offset, "the segment does not begin with term and vote")
    held = log.hard_state
    if held is not None and (record.term < held.term or (first and record != held)):
        raise Damaged(path, offset, f"term {record.term} does not follow term {held.term} and its vote")
    log.hard_state = record


def _rebase(log: RecoveredLog, path: str, place: Place) -> None:
    """Moves the log to where a segment begins, dropping what it supersedes."""
    if not log.segments or place.reset or place.index < log.base_index:
        log.base_index, log.base_term, log.entries = place.index, place.term, []
        return
    if place.index > log.last[0]:
        raise Damaged(path, 0, f"entries {log.last[0] + 1} to {place.index} are missing before this segment")
    held = place.index - log.base_index
    if place.term != (log.entries[held - 1].term if held else log.base_term):
        raise Damaged(path, 0, f"it follows another entry {place.index} than the journal holds")
    del log.entries[held:]


def _settle(files: Files, directory: str, file: File, torn_at: int | None) -> None:
    """Cuts the torn tail. The rest may have been read from a cache: it counts as held only once it is synced."""
    if torn_at is not None:
        file.truncate(torn_at)
    file.sync()
    files.sync_directory(directory)


def _clear(files: Files, directory: str, first_sequence: int) -> None:
    """Removes unfinished segments, and those that a later one reset."""
    remove_unfinished(files, directory)
    for sequence in segment_sequences(files, directory):
        if sequence < first_sequence:
            files.remove(os.path.join(directory, segment_name(sequence)))


def remove_unfinished(files: Files, directory: str) -> None:
    """Removes segments that never got their name."""
    for name in files.list(directory):
        if name.endswith(TEMPORARY_SUFFIX):
            files.remove(os.path.join(directory, name))
