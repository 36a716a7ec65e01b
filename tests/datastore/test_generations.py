"""The current data file and the ones before it, through every crash."""

import random

import pytest

from datastore.datafile import Generations, Position, verify_data_file, write_data_file
from datastore.errors import Damaged, NotFound, OlderThanCurrent, StorageFailed
from datastore.keys import KeyRing, new_kek
from tests.datastore.sample import IDENTITY, Random
from tests.simulation.memory_files import MemoryFiles


def publish(files: MemoryFiles, keys: KeyRing, randbytes: Random, index: int, created_ms: int = 0) -> None:
    generations = Generations(files, "/node")
    path = generations.temporary_path("new")
    position = Position(index, 1, 0, bytes(32))
    write_data_file(files, path, IDENTITY, keys, randbytes, 1, position, created_ms, [("a", b"k", b"v")])
    generations.publish(path)


def kept(files: MemoryFiles) -> list[tuple[str, int]]:
    return [(generation.path, generation.index) for generation in Generations(files, "/node").kept()]


async def test_the_newest_is_current_and_three_are_kept(files: MemoryFiles, keys: KeyRing, randbytes: Random) -> None:
    assert kept(files) == []
    for index in (5, 90, 100, 1000):
        publish(files, keys, randbytes, index)
    assert kept(files) == [("/node/mfa.data", 1000), ("/node/mfa.data.100", 100), ("/node/mfa.data.90", 90)]
    assert Generations(files, "/node").oldest_index() == 90
    assert [verify_data_file(files, path, keys, IDENTITY).position.index for path, _ in kept(files)] == [1000, 100, 90]


async def test_the_same_index_again_takes_the_place(files: MemoryFiles, keys: KeyRing, randbytes: Random) -> None:
    publish(files, keys, randbytes, 5)
    publish(files, keys, randbytes, 5, created_ms=77)
    assert kept(files) == [("/node/mfa.data", 5)]
    assert verify_data_file(files, "/node/mfa.data", keys, IDENTITY).created_ms == 77


async def test_hazard_08_an_older_file_never_replaces_a_newer_one(
    files: MemoryFiles, keys: KeyRing, randbytes: Random
) -> None:
    publish(files, keys, randbytes, 9)
    current = files.contents("/node/mfa.data")
    with pytest.raises(OlderThanCurrent, match="stands at index 8, the current data file at 9"):
        publish(files, keys, randbytes, 8)
    assert files.contents("/node/mfa.data") == current
    assert kept(files) == [("/node/mfa.data", 9)]


async def test_hazard_05_a_missing_data_file_is_named(files: MemoryFiles) -> None:
    with pytest.raises(NotFound, match="no data file: restore it, or let the node join as a new member"):
        Generations(files, "/node").oldest_index()


async def test_hazard_18_wherever_the_power_is_cut_a_good_file_is_current(keys: KeyRing, randbytes: Random) -> None:
    """And every file that is kept is whole, and the journal may be cut at none but what `oldest_index` says."""
    outcomes = set()
    for cut in range(26):
        for seed in range(30):
            files = MemoryFiles(random.Random(seed))
            files.make_directory("/node")
            for index in (5, 6, 7):
                publish(files, keys, randbytes, index)
            stop_at(files, cut)
            try:
                publish(files, keys, randbytes, 8)
                published = True
            except InterruptedError:
                published = False
            files.crash()
            generations = Generations(files, "/node")
            generations.recover()
            files.crash()
            found = generations.kept()
            assert found[0].path == "/node/mfa.data"
            assert found[0].index == 8 or (found[0].index == 7 and not published)
            assert {6, 7} <= {generation.index for generation in found}
            if found[0].index == 7:
                assert len(found) == 3, "a generation went before its successor came"
            for path, index in found:
                assert verify_data_file(files, path, keys, IDENTITY).position.index == index
            assert not [name for name in files.list("/node") if name.endswith(".tmp")]
            outcomes.add((published, tuple(generation.index for generation in found)))
    assert len(outcomes) >= 3


def stop_at(files: MemoryFiles, operations: int) -> None:
    end = files.operations + operations

    def before(operation: str, path: str) -> None:
        if files.operations > end:
            raise InterruptedError

    files.before = before


async def test_a_full_disk_leaves_what_was_there(files: MemoryFiles, keys: KeyRing, randbytes: Random) -> None:
    publish(files, keys, randbytes, 5)
    before = files.snapshot()
    files.space_bytes = 100
    with pytest.raises(StorageFailed):
        publish(files, keys, randbytes, 6)
    assert files.snapshot() == before


async def test_no_data_file_is_published(files: MemoryFiles, keys: KeyRing, randbytes: Random) -> None:
    publish(files, keys, randbytes, 5)
    before = files.snapshot()
    files.overwrite("/node/mfa.data.new.tmp", before["/node/mfa.data"][:50])
    with pytest.raises(Damaged):
        Generations(files, "/node").publish("/node/mfa.data.new.tmp")
    assert files.contents("/node/mfa.data") == before["/node/mfa.data"]


async def test_an_index_is_known_without_a_key(files: MemoryFiles, randbytes: Random) -> None:
    publish(files, KeyRing.generate(new_kek(randbytes), randbytes), randbytes, 5)
    assert kept(files) == [("/node/mfa.data", 5)]
