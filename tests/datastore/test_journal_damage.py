"""Hazard 5: what is read back is what was written, or a named error that leaves every file as it was."""

import random
import struct
from dataclasses import replace
from itertools import pairwise

import pytest

from datastore.errors import (
    Damaged,
    DatastoreError,
    ForeignFile,
    NewerFormat,
    StorageFailed,
    WrongKey,
)
from datastore.header import Identity, encode_header, read_header
from datastore.journal import JournalEntry
from datastore.keys import KeyRing, new_kek
from datastore.segment import (
    HardState,
    Place,
    SegmentSealer,
    pack_entry,
    pack_hard_state,
    segment_header,
    zeroed,
)
from tests.datastore.sample import (
    IDENTITY,
    JOURNAL,
    MEMBER,
    OTHER_CLUSTER,
    OTHER_INCARNATION,
    OTHER_MEMBER,
    Random,
    add,
    flips,
    header_length,
    new_journal,
    open_journal,
    with_version,
)
from tests.simulation.memory_files import MemoryFiles

FIRST, LAST = f"{JOURNAL}/00000001.journal", f"{JOURNAL}/00000002.journal"


@pytest.fixture
def two_segments(files: MemoryFiles, keys: KeyRing, randbytes: Random) -> MemoryFiles:
    """Entries 11 to 13 in the first segment, 14 to 16 in the last."""
    add(journal := new_journal(files, keys, randbytes), 3)
    journal.set_term(3, MEMBER)
    journal.sync()
    files.kill()
    add(journal := open_journal(files, keys, randbytes), 3)
    journal.sync()
    files.crash()
    return files


def refused(files: MemoryFiles, keys: KeyRing, randbytes: Random) -> DatastoreError:
    """The error that opening meets; everything stays as it is."""
    before = files.snapshot()
    with pytest.raises(DatastoreError) as caught:
        open_journal(files, keys, randbytes)
    assert files.snapshot() == before
    assert "\n" not in str(caught.value)
    return caught.value


def record_offsets(data: bytes) -> list[int]:
    """Where the records begin, and the end of the file."""
    offsets = [header_length(data)]
    while offsets[-1] < len(data):
        offsets.append(offsets[-1] + 8 + struct.unpack_from(">I", data, offsets[-1])[0])
    return offsets


@pytest.mark.parametrize("path", [FIRST, LAST])
async def test_every_flipped_byte_is_damage(
    path: str, two_segments: MemoryFiles, keys: KeyRing, randbytes: Random
) -> None:
    for offset, flipped in flips(two_segments.contents(path)):
        two_segments.overwrite(path, flipped)
        error = refused(two_segments, keys, randbytes)
        assert isinstance(error, Damaged), f"byte {offset}"
        assert error.path == path


async def test_a_last_segment_cut_anywhere_is_torn(two_segments: MemoryFiles, keys: KeyRing, randbytes: Random) -> None:
    whole = two_segments.contents(LAST)
    offsets = record_offsets(whole)
    for size in range(len(whole)):
        two_segments.overwrite(LAST, whole[:size])
        if size < offsets[1]:
            # Header and first record were synced before the segment had its name: no crash cuts there.
            assert isinstance(refused(two_segments, keys, randbytes), Damaged)
            continue
        journal = open_journal(two_segments, keys, randbytes)
        complete = sum(offset <= size for offset in offsets) - 2
        assert journal.last_index == 13 + complete
        two_segments.crash()
        assert two_segments.contents(LAST) == whole[: offsets[complete + 1]], "the torn tail is cut, and that synced"


async def test_an_earlier_segment_cut_anywhere_is_damage(
    two_segments: MemoryFiles, keys: KeyRing, randbytes: Random
) -> None:
    whole = two_segments.contents(FIRST)
    for size in range(len(whole)):
        two_segments.overwrite(FIRST, whole[:size])
        assert isinstance(refused(two_segments, keys, randbytes), Damaged)


async def test_zeros_from_a_sector_on_are_torn(files: MemoryFiles, keys: KeyRing, randbytes: Random) -> None:
    add(journal := new_journal(files, keys, randbytes), 8, size=400)
    journal.sync()
    files.crash()
    whole = files.contents(FIRST)
    offsets = record_offsets(whole)
    for boundary in range(-(-offsets[1] // 512) * 512, len(whole), 512):
        files.overwrite(FIRST, whole[:boundary] + bytes(len(whole) - boundary))
        journal = open_journal(files, keys, randbytes)
        assert journal.last_index == 10 + sum(offset <= boundary for offset in offsets) - 2
        files.crash()
    for start in offsets[1:-1]:  # a record that is zero as a whole, in a sector that was written before
        files.overwrite(FIRST, whole[:start] + bytes(len(whole) - start))
        assert open_journal(files, keys, randbytes).last_index == 10 + offsets.index(start) - 1
        files.crash()


async def test_zeros_within_a_sector_or_before_data_are_damage(
    files: MemoryFiles, keys: KeyRing, randbytes: Random
) -> None:
    add(journal := new_journal(files, keys, randbytes), 8, size=400)
    journal.sync()
    files.crash()
    whole = files.contents(FIRST)
    start = record_offsets(whole)[3]
    for begin, end in ((start + 20, start + 60), (start, start + 512), (len(whole) - 20, len(whole))):
        files.overwrite(FIRST, whole[:begin] + bytes(end - begin) + whole[end:])
        assert isinstance(refused(files, keys, randbytes), Damaged)


@pytest.mark.parametrize(
    ("offset", "end", "zeros_from", "torn"),
    [
        (100, 900, 100, True),
        (100, 900, 50, True),
        (100, 900, 512, True),
        (100, 900, 400, True),
        (100, 900, 513, False),
        (100, 512, 500, False),
        (100, 400, 300, False),
    ],
)
async def test_the_rule_of_zeros(offset: int, end: int, zeros_from: int, torn: bool) -> None:
    assert zeroed(offset, end, zeros_from) is torn


async def test_records_belong_to_their_place(two_segments: MemoryFiles, keys: KeyRing, randbytes: Random) -> None:
    whole, other = two_segments.contents(FIRST), two_segments.contents(LAST)
    offsets, there = record_offsets(whole), record_offsets(other)
    records = [whole[start:end] for start, end in pairwise(offsets)]
    foreign = other[there[1] : there[2]]
    for changed in (
        [records[0], records[2], records[1], *records[3:]],  # swapped
        [records[0], records[1], records[1], *records[2:]],  # repeated
        [records[0], *records[2:]],  # left out
        [records[0], foreign, *records[2:]],  # of another segment
    ):
        two_segments.overwrite(FIRST, whole[: offsets[0]] + b"".join(changed))
        assert isinstance(refused(two_segments, keys, randbytes), Damaged)


async def test_a_missing_segment_is_damage(files: MemoryFiles, keys: KeyRing, randbytes: Random) -> None:
    for _ in range(3):
        journal = open_journal(files, keys, randbytes) if files.exists(FIRST) else new_journal(files, keys, randbytes)
        add(journal, 3)
        journal.sync()
        files.kill()
    files.remove(LAST)
    error = refused(files, keys, randbytes)
    assert isinstance(error, Damaged)
    assert "00000002.journal" in str(error)


async def test_a_renamed_segment_is_damage(two_segments: MemoryFiles, keys: KeyRing, randbytes: Random) -> None:
    two_segments.overwrite(f"{JOURNAL}/00000003.journal", two_segments.contents(LAST))
    assert isinstance(refused(two_segments, keys, randbytes), Damaged)
    for path in (FIRST, LAST):
        two_segments.remove(path)
    assert isinstance(refused(two_segments, keys, randbytes), Damaged)


@pytest.mark.parametrize(("index", "term"), [(14, 3), (13, 2), (15, 3)])
async def test_a_segment_that_follows_another_log_is_damage(
    index: int, term: int, two_segments: MemoryFiles, keys: KeyRing, randbytes: Random
) -> None:
    two_segments.overwrite(LAST, segment_of(Place(MEMBER, 2, False, index, term), keys, randbytes, [STATE]))
    assert isinstance(refused(two_segments, keys, randbytes), Damaged)


def segment_of(place: Place, keys: KeyRing, randbytes: Random, plains: list[bytes]) -> bytes:
    """A well-sealed segment with contents of the test's choice."""
    stored = segment_header(IDENTITY, place, keys, randbytes)
    sealer = SegmentSealer(stored, keys.active)
    return stored.raw + b"".join(sealer.seal(plain) for plain in plains)


STATE = pack_hard_state(HardState(3, MEMBER))


@pytest.mark.parametrize(
    "plains",
    [
        [],
        [pack_entry(JournalEntry(b"", 14, 3))],
        [pack_hard_state(HardState(2, MEMBER))],
        [pack_hard_state(HardState(3, OTHER_MEMBER))],
        [STATE, pack_entry(JournalEntry(b"", 15, 3))],
        [STATE, pack_entry(JournalEntry(b"", 14, 2))],
        [STATE, pack_entry(JournalEntry(b"", 14, 3)), pack_entry(JournalEntry(b"", 14, 3))],
        [STATE, pack_hard_state(HardState(2, None))],
        [STATE, b"\x09what is this"],
        [STATE, b"\x01short"],
        [STATE, b"\x02" + bytes(8) + b"\xff\xfe"],
        [STATE, b""],
    ],
)
async def test_what_we_never_write_is_damage(
    plains: list[bytes], two_segments: MemoryFiles, keys: KeyRing, randbytes: Random
) -> None:
    two_segments.overwrite(LAST, segment_of(Place(MEMBER, 2, False, 13, 3), keys, randbytes, plains))
    assert isinstance(refused(two_segments, keys, randbytes), Damaged)


async def test_a_well_made_segment_of_the_test_is_read(
    two_segments: MemoryFiles, keys: KeyRing, randbytes: Random
) -> None:
    """The cases above fail for what they change, not for how they are made."""
    plains = [STATE, pack_entry(JournalEntry(b"new", 14, 3))]
    two_segments.overwrite(LAST, segment_of(Place(MEMBER, 2, False, 13, 3), keys, randbytes, plains))
    assert open_journal(two_segments, keys, randbytes).entries(14, 100) == [JournalEntry(b"new", 14, 3)]


@pytest.mark.parametrize(("identity", "what"), [(OTHER_CLUSTER, "cluster"), (OTHER_INCARNATION, "incarnation")])
async def test_another_clusters_journal(
    identity: Identity, what: str, two_segments: MemoryFiles, keys: KeyRing, randbytes: Random
) -> None:
    before = two_segments.snapshot()
    with pytest.raises(ForeignFile, match=what):
        open_journal(two_segments, keys, randbytes, identity)
    assert two_segments.snapshot() == before


async def test_a_segment_of_another_member(two_segments: MemoryFiles, keys: KeyRing, randbytes: Random) -> None:
    two_segments.overwrite(LAST, segment_of(Place(OTHER_MEMBER, 2, False, 13, 3), keys, randbytes, [STATE]))
    assert isinstance(refused(two_segments, keys, randbytes), ForeignFile)


async def test_the_wrong_key_is_named_with_the_right_one(two_segments: MemoryFiles, keys: KeyRing) -> None:
    chance = random.Random(9)
    other = KeyRing.generate(new_kek(chance.randbytes), chance.randbytes)
    error = refused(two_segments, other, chance.randbytes)
    assert isinstance(error, WrongKey)
    assert keys.kek.id in str(error)
    assert other.kek.id in str(error)


async def test_another_data_key_under_the_same_kek_reads_on(
    two_segments: MemoryFiles, keys: KeyRing, randbytes: Random
) -> None:
    ring = KeyRing.generate(keys.kek, randbytes)
    add(journal := open_journal(two_segments, ring, randbytes), 1)
    journal.sync()
    two_segments.crash()
    assert open_journal(two_segments, keys, randbytes).last_index == 17


async def test_a_newer_format_is_told_from_damage(two_segments: MemoryFiles, keys: KeyRing, randbytes: Random) -> None:
    two_segments.overwrite(LAST, with_version(two_segments.contents(LAST), 2))
    error = refused(two_segments, keys, randbytes)
    assert isinstance(error, NewerFormat)
    assert "install a newer release" in str(error)


async def test_a_wrapped_key_that_was_changed_under_a_right_checksum(
    two_segments: MemoryFiles, keys: KeyRing, randbytes: Random
) -> None:
    stored = read_header(LAST, two_segments.open(LAST))
    header = stored.header
    wrapped = header.wrapped[0]
    forged = replace(wrapped, sealed=wrapped.sealed[:-1] + b"?")
    changed = encode_header(replace(header, wrapped=(forged,)))
    two_segments.overwrite(LAST, changed + two_segments.contents(LAST)[len(stored.raw) :])
    assert isinstance(refused(two_segments, keys, randbytes), Damaged)


async def test_a_disk_that_cannot_be_written_stops_at_the_first_change(
    two_segments: MemoryFiles, keys: KeyRing, randbytes: Random
) -> None:
    add(journal := open_journal(two_segments, keys, randbytes), 1)
    before = two_segments.snapshot()
    two_segments.space_bytes = 0
    with pytest.raises(StorageFailed, match="No space left on device; free space on that disk"):
        journal.sync()
    assert two_segments.snapshot() == before
