"""The simulated disk loses what a disk may lose, and nothing else."""

import random

import pytest

from datastore.errors import StorageFailed
from datastore.files import Files
from tests.simulation.memory_files import MemoryFiles

SEEDS = range(300)


def disk(seed: int) -> MemoryFiles:
    files: Files = MemoryFiles(random.Random(seed))
    files.make_directory("/d")
    assert isinstance(files, MemoryFiles)
    return files


async def test_what_was_synced_stays() -> None:
    for seed in SEEDS:
        files = disk(seed)
        file = files.create("/d/f")
        file.append(b"a" * 700)
        file.sync()
        files.sync_directory("/d")
        file.append(b"b" * 900)
        files.crash()
        assert files.contents("/d/f").startswith(b"a" * 700)


async def test_appended_bytes_are_kept_lost_cut_or_zero_from_a_sector_on() -> None:
    outcomes = set()
    for seed in SEEDS:
        files = disk(seed)
        file = files.create("/d/f")
        files.sync_directory("/d")
        file.append(b"b" * 2000)
        files.crash()
        found = files.contents("/d/f")
        kept = len(found.rstrip(b"\0"))
        assert found[:kept] == b"b" * kept
        assert len(found) == kept or (len(found) == 2000 and kept % 512 == 0)
        outcomes.add("zeros" if len(found) > kept else {0: "lost", 2000: "kept"}.get(kept, "cut"))
    assert outcomes == {"kept", "lost", "cut", "zeros"}


async def test_a_truncation_may_be_undone() -> None:
    outcomes = set()
    for seed in SEEDS:
        files = disk(seed)
        file = files.create("/d/f")
        file.append(b"0123456789")
        file.sync()
        files.sync_directory("/d")
        file.truncate(6)
        file.truncate(4)
        file.append(b"x")
        files.crash()
        outcomes.add(files.contents("/d/f"))
    assert {b"0123456789", b"0123", b"0123x"} <= outcomes <= {b"0123456789", b"0123", b"0123x", b"0123\0"}


async def test_names_are_durable_after_a_sync_of_their_directory_only() -> None:
    outcomes = set()
    for seed in SEEDS:
        files = disk(seed)
        for name in ("old", "gone"):
            files.create(f"/d/{name}").close()
        files.sync_directory("/d")
        files.create("/d/new").close()
        files.replace("/d/old", "/d/renamed")
        files.remove("/d/gone")
        files.crash()
        outcomes.add(tuple(files.list("/d")))
        files.sync_directory("/d")
        before = files.list("/d")
        files.crash()
        assert files.list("/d") == before
    assert len(outcomes) == 8, "each change is kept or undone on its own"


async def test_a_failed_sync_loses_at_once() -> None:
    outcomes = set()
    for seed in SEEDS:
        files = disk(seed)
        file = files.create("/d/f")
        file.append(b"b" * 100)
        files.failing_syncs = 1
        with pytest.raises(StorageFailed):
            file.sync()
        outcomes.add(files.contents("/d/f") == b"b" * 100)
    assert outcomes == {True, False}


async def test_the_end_of_a_process_loses_nothing_but_open_files() -> None:
    files = disk(1)
    file = files.create("/d/f")
    file.append(b"abc")
    lock = files.lock("/d")
    files.kill()
    with pytest.raises(AssertionError, match="of an earlier life"):
        file.append(b"d")
    assert files.contents("/d/f") == b"abc"
    files.lock("/d")
    lock.release()
    with pytest.raises(StorageFailed, match="No space left"):
        fill(files)


def fill(files: MemoryFiles) -> None:
    files.space_bytes = 5
    files.create("/d/g").append(b"123456")


async def test_one_seed_is_one_disk() -> None:
    def history(seed: int) -> dict[str, bytes]:
        files = disk(seed)
        for name in "abcdef":
            files.create(f"/d/{name}").append(name.encode() * 900)
        files.crash()
        return files.snapshot()

    assert history(5) == history(5)
    assert len({str(history(seed)) for seed in range(20)}) > 10
