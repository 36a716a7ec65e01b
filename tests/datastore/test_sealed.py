"""Sealed files: what is read is what was written, or a named error."""

import os
import random
import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datastore.errors import (
    AlreadyExists,
    Damaged,
    DatastoreError,
    ForeignFile,
    NewerFormat,
    NotFound,
    StorageFailed,
    WrongKey,
)
from datastore.files import RealFiles
from datastore.header import SALT_BYTES, encode_header, read_header
from datastore.keys import KeyRing, new_data_key, new_kek
from datastore.sealed import CHUNK_BYTES, Identity, SealedReader, SealedWriter
from tests.datastore.sample import (
    IDENTITY,
    OTHER_CLUSTER,
    OTHER_INCARNATION,
    Random,
    flips,
    header_length,
    with_version,
)
from tests.simulation.memory_files import MemoryFiles

PATH = "/node/file"
SEALED = CHUNK_BYTES + 16


def seal(files: MemoryFiles, keys: KeyRing, randbytes: Random, contents: bytes, path: str = PATH) -> bytes:
    writer = SealedWriter(files, path, IDENTITY, "test", 1, keys, randbytes)
    writer.write(contents)
    writer.finish()
    return files.contents(path)


def unseal(
    files: MemoryFiles, keys: KeyRing, identity: Identity | None = IDENTITY, kind: str = "test", schema_max: int = 1
) -> bytes:
    with SealedReader(files, PATH, keys, identity, kind, schema_max) as reader:
        return b"".join(reader.chunks())


def refused(files: MemoryFiles, keys: KeyRing, data: bytes | None = None) -> DatastoreError:
    """The error that reading meets; the file stays as it is."""
    if data is not None:
        files.overwrite(PATH, data)
    before = files.snapshot()
    with pytest.raises(DatastoreError) as caught:
        unseal(files, keys)
    assert files.snapshot() == before
    assert PATH in str(caught.value)
    assert "\n" not in str(caught.value)
    return caught.value


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pieces=st.lists(st.integers(0, 3 * CHUNK_BYTES), max_size=5), seed=st.integers(0, 1000))
async def test_what_was_written_is_read_in_whatever_pieces(pieces: list[int], seed: int, keys: KeyRing) -> None:
    chance = random.Random(seed)
    files = MemoryFiles(chance)
    files.make_directory("/node")
    writer = SealedWriter(files, PATH, IDENTITY, "test", 1, keys, chance.randbytes)
    contents = [chance.randbytes(size) for size in pieces]
    for piece in contents:
        writer.write(piece)
    writer.finish()
    files.sync_directory("/node")
    files.crash()
    assert unseal(files, keys) == b"".join(contents)


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 2 * CHUNK_BYTES])
async def test_the_length_on_disk(size: int, files: MemoryFiles, keys: KeyRing, randbytes: Random) -> None:
    data = seal(files, keys, randbytes, bytes(size))
    chunks = max(1, -(-size // CHUNK_BYTES))
    assert len(data) == header_length(data) + size + 16 * chunks
    assert unseal(files, keys) == bytes(size)


async def test_every_flipped_byte_of_a_small_file_is_damage(
    files: MemoryFiles, keys: KeyRing, randbytes: Random
) -> None:
    data = seal(files, keys, randbytes, b"secret contents")
    for offset, flipped in flips(data):
        assert isinstance(refused(files, keys, flipped), Damaged), f"byte {offset}"


async def test_a_flip_in_each_chunk_is_damage_there(files: MemoryFiles, keys: KeyRing, randbytes: Random) -> None:
    data = seal(files, keys, randbytes, randbytes(2 * CHUNK_BYTES + 100))
    start = header_length(data)
    for chunk, size in enumerate((SEALED, SEALED, 116)):
        for within in (0, size // 2, size - 16, size - 1):
            offset = start + chunk * SEALED + within
            error = refused(files, keys, data[:offset] + bytes([data[offset] ^ 1]) + data[offset + 1 :])
            assert isinstance(error, Damaged)
            assert error.offset == start + chunk * SEALED
            assert f"chunk {chunk} does not verify" in str(error)


async def test_a_small_file_cut_at_every_length_is_damage(files: MemoryFiles, keys: KeyRing, randbytes: Random) -> None:
    data = seal(files, keys, randbytes, b"secret contents")
    for size in range(len(data)):
        assert isinstance(refused(files, keys, data[:size]), Damaged), f"cut to {size}"


async def test_a_file_cut_at_a_chunks_edge_says_so(files: MemoryFiles, keys: KeyRing, randbytes: Random) -> None:
    data = seal(files, keys, randbytes, bytes(3 * CHUNK_BYTES))
    start = header_length(data)
    for chunks in range(3):
        error = refused(files, keys, data[: start + chunks * SEALED])
        assert isinstance(error, Damaged)
        assert "cut" in str(error)
    assert "something follows" in str(refused(files, keys, data + data[-SEALED:]))
    assert isinstance(refused(files, keys, data + b"\0"), Damaged)


async def test_an_empty_last_chunk_after_full_ones_is_damage(
    files: MemoryFiles, keys: KeyRing, randbytes: Random
) -> None:
    writer = SealedWriter(files, PATH, IDENTITY, "test", 1, keys, randbytes)
    writer._file.append(writer._seal(bytearray(CHUNK_BYTES)))
    writer.finish()
    assert isinstance(refused(files, keys), Damaged)


async def test_chunks_swapped_repeated_or_of_another_file_are_damage(
    files: MemoryFiles, keys: KeyRing, randbytes: Random
) -> None:
    data = seal(files, keys, randbytes, randbytes(4 * CHUNK_BYTES))
    other = seal(files, keys, randbytes, randbytes(4 * CHUNK_BYTES), "/node/other")
    start = header_length(data)
    head, chunks = data[:start], [data[start + at * SEALED : start + (at + 1) * SEALED] for at in range(4)]
    for order in ((1, 0, 2, 3), (0, 0, 2, 3), (0, 2, 3), (0, 1, 3), (0, 1, 2, 2, 3), (3, 1, 2, 0)):
        assert isinstance(refused(files, keys, head + b"".join(chunks[at] for at in order)), Damaged)
    for at in range(4):
        there = start + at * SEALED
        spliced = data[:there] + other[there : there + SEALED] + data[there + SEALED :]
        assert isinstance(refused(files, keys, spliced), Damaged)
    assert isinstance(refused(files, keys, other[:start] + data[start:]), Damaged)


async def test_a_header_changed_under_a_right_checksum_is_damage(
    files: MemoryFiles, keys: KeyRing, randbytes: Random
) -> None:
    """The checksum is no protection against a forger; the chunks are, which have the header as associated data."""
    data = seal(files, keys, randbytes, b"secret contents")
    header = read_header(PATH, files.open(PATH)).header
    for forged in (
        replace(header, salt=randbytes(SALT_BYTES)),
        replace(header, schema=0),
        replace(header, attributes=b"?"),
        replace(header, key_id="00" * 8),
        replace(header, wrapped=()),
    ):
        assert isinstance(refused(files, keys, encode_header(forged) + data[header_length(data) :]), Damaged)


async def test_another_cluster_incarnation_or_kind(files: MemoryFiles, keys: KeyRing, randbytes: Random) -> None:
    seal(files, keys, randbytes, b"contents")
    for identity, what in ((OTHER_CLUSTER, "another cluster"), (OTHER_INCARNATION, "another incarnation")):
        with pytest.raises(ForeignFile, match=what):
            unseal(files, keys, identity)
    with pytest.raises(ForeignFile, match="another kind of file: 'test', expected 'data'"):
        unseal(files, keys, kind="data")
    assert unseal(files, keys, None) == b"contents"


async def test_a_newer_format_or_schema(files: MemoryFiles, keys: KeyRing, randbytes: Random) -> None:
    data = seal(files, keys, randbytes, b"contents")
    with pytest.raises(NewerFormat, match="schema version 1, this release reads up to 0"):
        unseal(files, keys, schema_max=0)
    newer = with_version(data, 7)
    assert isinstance(error := refused(files, keys, newer), NewerFormat)
    assert "format version 7, this release reads up to 1; install a newer release" in str(error)


async def test_a_newer_format_is_not_parsed(files: MemoryFiles, keys: KeyRing, randbytes: Random) -> None:
    """Its fields may be anything; only magic, version, length and checksum stay."""
    data = seal(files, keys, randbytes, b"contents")
    length = header_length(data)
    strange = with_version(data[:14] + b"\xc1" * (length - 46) + data[length - 32 :], 2)
    assert isinstance(refused(files, keys, strange), NewerFormat)
    same_version = with_version(data[:14] + b"\xc1" * (length - 46) + data[length - 32 :], 1)
    assert isinstance(refused(files, keys, same_version), Damaged)


async def test_the_wrong_key_names_both(files: MemoryFiles, keys: KeyRing, randbytes: Random) -> None:
    seal(files, keys, randbytes, b"contents")
    other = KeyRing(new_kek(randbytes), keys.active)
    error = refused(files, other)
    assert isinstance(error, WrongKey)
    assert (error.needed, error.held) == ((keys.kek.id,), (other.kek.id,))


async def test_a_file_wrapped_under_two_keys_opens_with_either(files: MemoryFiles, randbytes: Random) -> None:
    old, new = new_kek(randbytes), new_kek(randbytes)
    data_key = new_data_key(randbytes)
    seal(files, KeyRing(old, data_key, (new,)), randbytes, b"contents")
    for kek in (old, new):
        assert unseal(files, KeyRing.generate(kek, randbytes)) == b"contents"
    error = refused(files, KeyRing.generate(new_kek(randbytes), randbytes))
    assert isinstance(error, WrongKey)
    assert error.needed == (old.id, new.id)


async def test_a_new_data_key_leaves_old_files_readable(files: MemoryFiles, keys: KeyRing, randbytes: Random) -> None:
    seal(files, keys, randbytes, b"contents")
    assert unseal(files, KeyRing(keys.kek, new_data_key(randbytes))) == b"contents"


async def test_no_two_files_share_key_or_bytes(files: MemoryFiles, keys: KeyRing, randbytes: Random) -> None:
    one = seal(files, keys, randbytes, b"contents")
    two = seal(files, keys, randbytes, b"contents", "/node/other")
    assert one[header_length(one) :] != two[header_length(two) :]
    assert b"contents" not in one


async def test_missing_existing_and_full(files: MemoryFiles, keys: KeyRing, randbytes: Random) -> None:
    with pytest.raises(NotFound, match="/node/file does not exist"):
        unseal(files, keys)
    seal(files, keys, randbytes, b"contents")
    with pytest.raises(AlreadyExists):
        seal(files, keys, randbytes, b"other")
    assert unseal(files, keys) == b"contents"
    files.space_bytes = 10
    with pytest.raises(StorageFailed, match="No space left on device"):
        seal(files, keys, randbytes, b"contents", "/node/full")


async def test_a_failed_sync_is_not_a_finished_file(files: MemoryFiles, keys: KeyRing, randbytes: Random) -> None:
    files.failing_syncs = 1
    with pytest.raises(StorageFailed, match="cannot sync /node/file: Input/output error"):
        seal(files, keys, randbytes, b"contents")


async def test_memory_is_constant_both_ways(tmp_path: Path, keys: KeyRing) -> None:
    files, path = RealFiles(), str(tmp_path / "file")
    piece = os.urandom(200_000)
    tracemalloc.start()
    try:
        writer = SealedWriter(files, path, IDENTITY, "test", 1, keys, os.urandom)
        for _ in range(100):
            writer.write(piece)
        writer.finish()
        with SealedReader(files, path, keys, IDENTITY, "test") as reader:
            size = sum(len(chunk) for chunk in reader.chunks())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size == 100 * len(piece)
    assert peak < 2_000_000
