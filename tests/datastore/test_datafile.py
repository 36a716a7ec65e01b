"""The data file: the whole state at one log index."""

import hashlib
import os
import random
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import msgpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datastore.datafile import (
    DataFileSummary,
    Position,
    Record,
    read_data_file,
    verify_data_file,
    write_data_file,
)
from datastore.errors import Damaged, DatastoreError, ForeignFile, NewerFormat, StorageFailed, WrongKey
from datastore.files import RealFiles
from datastore.keys import KeyRing, new_kek
from datastore.sealed import SealedWriter
from tests.datastore.sample import IDENTITY, OTHER_CLUSTER, Random, flips
from tests.simulation.memory_files import MemoryFiles

PATH = "/node/mfa.data"
POSITION = Position(index=1234, term=7, stamp_ms=1_790_000_000_000, running_digest=b"d" * 32)
RECORDS: list[Record] = [("tokens", b"\x01", b"\x93abc"), ("tokens", b"\x02", b""), ("users", b"\xff" * 8, b"v" * 300)]


def write(files: MemoryFiles, keys: KeyRing, randbytes: Random, records: list[Record] = RECORDS) -> DataFileSummary:
    return write_data_file(files, PATH, IDENTITY, keys, randbytes, 1, POSITION, 99, iter(records))


def handmade(files: MemoryFiles, keys: KeyRing, randbytes: Random, objects: list[object], place: object = None) -> None:
    """A well-sealed file with contents of the test's choice."""
    attributes = msgpack.packb(place or (POSITION.index, POSITION.term))
    writer = SealedWriter(files, PATH, IDENTITY, "data", 1, keys, randbytes, attributes)
    writer.write(b"".join(item if isinstance(item, bytes) else msgpack.packb(item) for item in objects))
    writer.finish()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    records=st.lists(
        st.tuples(st.sampled_from(["a", "b", "ключ"]), st.binary(max_size=40), st.binary(max_size=90_000))
    ),
    seed=st.integers(0, 1000),
)
async def test_what_was_written_is_read(records: list[Record], seed: int, keys: KeyRing) -> None:
    chance = random.Random(seed)
    files = MemoryFiles(chance)
    files.make_directory("/node")
    written = write(files, keys, chance.randbytes, records)
    files.sync_directory("/node")
    files.crash()
    with read_data_file(files, PATH, keys, IDENTITY) as reader:
        assert (reader.position, reader.created_ms, reader.identity, reader.schema) == (POSITION, 99, IDENTITY, 1)
        assert reader.data_key == keys.active
        assert list(reader.records()) == records
        assert reader.summary == written
    assert sum(written.counts.values()) == len(records)


async def test_the_digest_is_of_the_records_alone(files: MemoryFiles, keys: KeyRing, randbytes: Random) -> None:
    one = write(files, keys, randbytes)
    files.remove(PATH)
    other = KeyRing.generate(new_kek(randbytes), randbytes)
    two = write_data_file(files, PATH, OTHER_CLUSTER, other, randbytes, 1, Position(1, 1, 0, bytes(32)), 5, RECORDS)
    assert one.digest == two.digest
    files.remove(PATH)
    assert write(files, keys, randbytes, RECORDS[::-1]).digest != one.digest


async def test_verification_reads_all_of_it(files: MemoryFiles, keys: KeyRing, randbytes: Random) -> None:
    summary = write(files, keys, randbytes)
    assert verify_data_file(files, PATH, keys, IDENTITY) == summary
    assert summary.counts == {"tokens": 2, "users": 1}
    data = files.contents(PATH)
    for offset, flipped in flips(data):
        files.overwrite(PATH, flipped)
        with pytest.raises(Damaged):
            verify_data_file(files, PATH, keys, IDENTITY)
        assert files.contents(PATH) == flipped, f"byte {offset}"
    for size in range(len(data)):
        files.overwrite(PATH, data[:size])
        with pytest.raises(Damaged):
            verify_data_file(files, PATH, keys, IDENTITY)


async def test_the_summary_is_known_at_the_end_only(files: MemoryFiles, keys: KeyRing, randbytes: Random) -> None:
    write(files, keys, randbytes)
    reader = read_data_file(files, PATH, keys, IDENTITY)
    records = reader.records()
    next(records)
    with pytest.raises(AssertionError):
        _ = reader.summary
    reader.close()


HEAD = (POSITION.index, POSITION.term, POSITION.stamp_ms, POSITION.running_digest, 99)
NO_COUNTS: dict[str, int] = {}
EMPTY: dict[str, object] = {"digest": hashlib.sha256().digest(), "counts": NO_COUNTS}


@pytest.mark.parametrize(
    "objects",
    [
        [],
        [HEAD],
        [EMPTY],
        [HEAD, RECORDS[0]],
        [HEAD, RECORDS[0], EMPTY],
        [HEAD, EMPTY, RECORDS[0]],
        [HEAD, EMPTY, EMPTY],
        [HEAD, EMPTY | {"counts": {"tokens": 1}}],
        [HEAD, {"digest": EMPTY["digest"]}],
        [HEAD, EMPTY | {"digest": bytes(32)}],
        [HEAD, ("tokens", b"", "text"), EMPTY],
        [HEAD, ("tokens", b""), EMPTY],
        [HEAD, 5, EMPTY],
        [HEAD[:4], EMPTY],
        [(*HEAD[:3], b"short", 99), EMPTY],
        [HEAD, EMPTY, b"\xc1"],
        [HEAD, b"\xc1", EMPTY],
        [HEAD, EMPTY, b"\x92\x01"],
        [HEAD, b"\xc6\xff\xff\xff\xff", EMPTY],
        [("1", *HEAD[1:]), EMPTY],
    ],
)
async def test_what_we_never_write_is_damage(
    objects: list[object], files: MemoryFiles, keys: KeyRing, randbytes: Random
) -> None:
    handmade(files, keys, randbytes, objects)
    with pytest.raises(Damaged, match=r"/node/mfa\.data is damaged"):
        verify_data_file(files, PATH, keys, IDENTITY)


async def test_a_handmade_file_is_read(files: MemoryFiles, keys: KeyRing, randbytes: Random) -> None:
    """The cases above fail for what they hold, not for how they are made."""
    handmade(files, keys, randbytes, [HEAD, EMPTY])
    assert verify_data_file(files, PATH, keys, IDENTITY).counts == {}


async def test_header_and_contents_name_one_position(files: MemoryFiles, keys: KeyRing, randbytes: Random) -> None:
    handmade(files, keys, randbytes, [HEAD, EMPTY], place=(POSITION.index + 1, POSITION.term))
    with pytest.raises(Damaged, match="different positions"):
        read_data_file(files, PATH, keys, IDENTITY)


async def test_another_cluster_a_newer_schema_the_wrong_key(
    files: MemoryFiles, keys: KeyRing, randbytes: Random
) -> None:
    write(files, keys, randbytes)
    before = files.snapshot()
    with pytest.raises(ForeignFile):
        verify_data_file(files, PATH, keys, OTHER_CLUSTER)
    with pytest.raises(NewerFormat):
        verify_data_file(files, PATH, keys, IDENTITY, schema_max=0)
    with pytest.raises(WrongKey):
        verify_data_file(files, PATH, KeyRing.generate(new_kek(randbytes), randbytes), IDENTITY)
    assert files.snapshot() == before


@pytest.mark.parametrize("fault", ["space_bytes", "failing_syncs"])
async def test_an_unfinished_file_is_removed(fault: str, files: MemoryFiles, keys: KeyRing, randbytes: Random) -> None:
    setattr(files, fault, 1)
    with pytest.raises(StorageFailed):
        write(files, keys, randbytes)
    assert not files.exists(PATH)


async def test_records_that_fail_leave_no_file(files: MemoryFiles, keys: KeyRing, randbytes: Random) -> None:
    def failing() -> Iterator[Record]:
        yield RECORDS[0]
        raise KeyError("a bug in the caller")

    with pytest.raises(KeyError):
        write_data_file(files, PATH, IDENTITY, keys, randbytes, 1, POSITION, 99, failing())
    assert not files.exists(PATH)


async def test_an_existing_file_is_left_alone(files: MemoryFiles, keys: KeyRing, randbytes: Random) -> None:
    write(files, keys, randbytes)
    before = files.snapshot()
    with pytest.raises(DatastoreError):
        write(files, keys, randbytes, [])
    assert files.snapshot() == before


async def test_memory_is_constant_both_ways(tmp_path: Path, keys: KeyRing) -> None:
    files, path = RealFiles(), str(tmp_path / "mfa.data")
    records: Iterator[Record] = (("tokens", index.to_bytes(8, "big"), bytes(1000)) for index in range(20_000))
    tracemalloc.start()
    try:
        write_data_file(files, path, IDENTITY, keys, os.urandom, 1, POSITION, 99, records)
        summary = verify_data_file(files, path, keys, IDENTITY)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert summary.counts == {"tokens": 20_000}
    assert peak < 4_000_000
