"""The journal as its owner sees it: memory at once, disk at the next sync."""

import os
import random
import threading
from pathlib import Path

import pytest

from datastore.errors import AlreadyExists, InUse, JournalLost, StorageFailed
from datastore.files import RealFiles
from datastore.journal import Journal, JournalEntry, JournalLimits
from datastore.keys import KeyRing
from tests.datastore.sample import IDENTITY, JOURNAL, MEMBER, Random, add, new_journal, open_journal
from tests.simulation.memory_files import MemoryFiles

SMALL = JournalLimits(segment_bytes_max=2_000)


async def test_a_new_journal_is_on_disk_when_created(files: MemoryFiles, keys: KeyRing, randbytes: Random) -> None:
    new_journal(files, keys, randbytes)
    files.crash()
    journal = open_journal(files, keys, randbytes)
    assert (journal.base_index, journal.base_term, journal.last_index, journal.last_term) == (10, 3, 10, 3)
    assert (journal.current_term, journal.voted_for) == (0, None)


async def test_hazard_28_the_member_id_lives_with_the_journal(
    files: MemoryFiles, keys: KeyRing, randbytes: Random
) -> None:
    new_journal(files, keys, randbytes)
    files.crash()
    assert open_journal(files, keys, randbytes).member_id == MEMBER
    for name in files.list(JOURNAL):
        files.remove(f"{JOURNAL}/{name}")
    files.kill()
    with pytest.raises(JournalLost, match=r"lost its journal and with it its vote.*join as a new one"):
        open_journal(files, keys, randbytes)


async def test_no_directory_is_a_lost_journal(files: MemoryFiles, keys: KeyRing, randbytes: Random) -> None:
    with pytest.raises(JournalLost):
        open_journal(files, keys, randbytes)
    assert not files.exists(JOURNAL)


async def test_a_journal_is_never_created_over_another(files: MemoryFiles, keys: KeyRing, randbytes: Random) -> None:
    new_journal(files, keys, randbytes).close()
    before = files.snapshot()
    with pytest.raises(AlreadyExists):
        new_journal(files, keys, randbytes)
    assert files.snapshot() == before


async def test_one_process_at_a_time(tmp_path: Path, keys: KeyRing) -> None:
    directory = str(tmp_path / "journal")
    first = Journal.create(RealFiles(), directory, IDENTITY, MEMBER, keys, os.urandom, 0, 0)
    with pytest.raises(InUse, match="stop that node first"):
        Journal.open(RealFiles(), directory, IDENTITY, keys, os.urandom)
    first.close()
    Journal.open(RealFiles(), directory, IDENTITY, keys, os.urandom).close()


async def test_reading(files: MemoryFiles, keys: KeyRing, randbytes: Random) -> None:
    journal = new_journal(files, keys, randbytes)
    add(journal, 3)
    add(journal, 2, term=5)
    assert (journal.first_index, journal.last_index, journal.last_term, journal.tail_bytes) == (11, 15, 5, 100)
    assert [journal.term_at(index) for index in (9, 10, 13, 14, 16)] == [None, 3, 3, 5, None]
    assert journal.entry(10) is None
    assert journal.entry(16) is None
    entry = journal.entry(14)
    assert entry is not None
    assert entry[1:] == (14, 5)
    assert [entry.index for entry in journal.entries(12, 59)] == [12, 13]
    assert [entry.index for entry in journal.entries(12, 60)] == [12, 13, 14]
    assert [entry.index for entry in journal.entries(15, 0)] == [15]
    assert journal.entries(16, 100) == []


async def test_hazard_04_an_entry_follows_the_last_one(files: MemoryFiles, keys: KeyRing, randbytes: Random) -> None:
    journal = new_journal(files, keys, randbytes, JournalLimits(record_bytes_max=100))
    for entry in (
        JournalEntry(b"", 12, 3),
        JournalEntry(b"", 10, 3),
        JournalEntry(b"", 11, 2),
        JournalEntry(b"x" * 101, 11, 3),
    ):
        with pytest.raises(AssertionError):
            journal.append(entry)
    journal.set_term(4, None)
    with pytest.raises(AssertionError):
        journal.set_term(3, None)
    for index in (10, 11):
        with pytest.raises(AssertionError):
            journal.truncate(index)


async def test_hazard_03_nothing_counts_before_its_sync(files: MemoryFiles, keys: KeyRing, randbytes: Random) -> None:
    journal = new_journal(files, keys, randbytes)
    created = journal.synced
    add(journal, 2)
    journal.set_term(3, MEMBER)
    assert (journal.written, journal.synced, journal.synced_index) == (created + 3, created, 10)
    pending = journal.begin_sync()
    assert pending is not None
    pending.run()
    assert (journal.synced, journal.synced_index) == (created, 10)
    journal.end_sync(pending)
    assert (journal.synced, journal.synced_index) == (created + 3, 12)
    assert journal.begin_sync() is None


async def test_a_cut_while_a_sync_is_under_way_takes_back_what_it_claims(
    files: MemoryFiles, keys: KeyRing, randbytes: Random
) -> None:
    journal = new_journal(files, keys, randbytes)
    add(journal, 5)
    pending = journal.begin_sync()
    assert pending is not None
    journal.truncate(13)
    add(journal, 9, term=4)
    pending.run()
    journal.end_sync(pending)
    assert journal.synced_index == 12
    files.crash()
    assert open_journal(files, keys, randbytes).entries(11, 1 << 20)[:2] == journal.entries(11, 1 << 20)[:2]


async def test_a_cut_of_synced_entries_counts_at_once(files: MemoryFiles, keys: KeyRing, randbytes: Random) -> None:
    journal = new_journal(files, keys, randbytes)
    add(journal, 5)
    journal.sync()
    journal.truncate(12)
    add(journal, 4, term=4)
    assert journal.synced_index == 11
    journal.sync()
    files.crash()
    journal = open_journal(files, keys, randbytes)
    assert [entry.term for entry in journal.entries(11, 1 << 20)] == [3, 4, 4, 4, 4]


async def test_a_sync_ends_only_after_it_has_run(files: MemoryFiles, keys: KeyRing, randbytes: Random) -> None:
    journal = new_journal(files, keys, randbytes)
    add(journal, 1)
    pending = journal.begin_sync()
    assert pending is not None
    with pytest.raises(AssertionError):
        journal.begin_sync()
    with pytest.raises(AssertionError):
        journal.end_sync(pending)


async def test_a_batch_is_one_write_and_one_sync(files: MemoryFiles, keys: KeyRing, randbytes: Random) -> None:
    journal = new_journal(files, keys, randbytes)
    add(journal, 1)
    journal.sync()
    before, syncs = files.operations, files.syncs
    add(journal, 500)
    journal.sync()
    assert (files.operations - before, files.syncs - syncs) == (2, 1)


@pytest.mark.parametrize("fault", ["failing_syncs", "space_bytes"])
async def test_hazard_17_a_storage_error_is_final(
    fault: str, files: MemoryFiles, keys: KeyRing, randbytes: Random
) -> None:
    journal = new_journal(files, keys, randbytes)
    add(journal, 3)
    journal.sync()
    add(journal, 3)
    pending = journal.begin_sync()
    assert pending is not None
    setattr(files, fault, 1)
    with pytest.raises(StorageFailed, match=r"cannot .* /node/journal/00000001\.journal\S*: (No space left|Input)"):
        pending.run()
    files.failing_syncs, files.space_bytes = 0, None
    operations = files.operations
    with pytest.raises(StorageFailed):
        pending.run()
    assert files.operations == operations, "a failed sync was tried again"
    with pytest.raises(AssertionError):
        journal.end_sync(pending)
    files.crash()
    assert open_journal(files, keys, randbytes).last_index >= 13


async def test_hazard_07_segments_are_bounded(files: MemoryFiles, keys: KeyRing, randbytes: Random) -> None:
    journal = new_journal(files, keys, randbytes, SMALL)
    journal.set_term(4, MEMBER)
    for _ in range(20):
        add(journal, 4, size=200, term=4)
        journal.sync()
    sizes = {name: len(files.contents(f"{JOURNAL}/{name}")) for name in files.list(JOURNAL)}
    assert len(sizes) > 5
    assert max(sizes.values()) <= SMALL.segment_bytes_max
    files.crash()
    again = open_journal(files, keys, randbytes, limits=SMALL)
    assert again.entries(11, 1 << 20) == journal.entries(11, 1 << 20)
    assert (again.current_term, again.voted_for) == (4, MEMBER)


async def test_an_entry_larger_than_a_segment(files: MemoryFiles, keys: KeyRing, randbytes: Random) -> None:
    limits = JournalLimits(segment_bytes_max=2_000, record_bytes_max=5_000)
    journal = new_journal(files, keys, randbytes, limits)
    for size in (5_000, 1, 5_000, 5_000):
        add(journal, 1, size=size)
    journal.sync()
    files.crash()
    again = open_journal(files, keys, randbytes, limits=limits)
    assert again.entries(11, 1 << 20) == journal.entries(11, 1 << 20)


async def test_after_a_start_it_goes_on_in_a_new_segment(files: MemoryFiles, keys: KeyRing, randbytes: Random) -> None:
    add(journal := new_journal(files, keys, randbytes), 2)
    journal.sync()
    files.kill()
    before = files.snapshot()
    journal = open_journal(files, keys, randbytes)
    assert files.snapshot() == before
    add(journal, 2)
    journal.sync()
    after = files.snapshot()
    assert {path: after[path] for path in before} == before
    assert files.list(JOURNAL) == ["00000001.journal", "00000002.journal"]


async def test_hazard_18_a_snapshot_replaces_the_log_in_one_step(keys: KeyRing, randbytes: Random) -> None:
    """Wherever the power is cut, the whole old log is there or the new base, and term and vote always."""
    outcomes = set()
    for cut in range(12):
        for seed in range(6):
            files = MemoryFiles(random.Random(seed))
            files.make_directory("/node")
            add(journal := new_journal(files, keys, randbytes, SMALL), 20, size=300)
            journal.set_term(7, MEMBER)
            journal.sync()
            journal.install(500, 6)
            pending = journal.begin_sync()
            assert pending is not None
            stop_at(files, cut)
            if ran := completes(pending.run):
                journal.end_sync(pending)
                assert journal.synced_index == 500
            files.crash()
            again = open_journal(files, keys, randbytes, limits=SMALL)
            assert (again.current_term, again.voted_for) == (7, MEMBER)
            outcome = (again.base_index, again.base_term, again.last_index)
            assert outcome in {(10, 3, 30), (500, 6, 500)}
            assert not ran or outcome[0] == 500
            outcomes.add(outcome)
    assert len(outcomes) == 2


def stop_at(files: MemoryFiles, operations: int) -> None:
    end = files.operations + operations

    def before(operation: str, path: str) -> None:
        if files.operations > end:
            raise InterruptedError("the power is cut")

    files.before = before


def completes(run: object) -> bool:
    assert callable(run)
    try:
        run()
    except StorageFailed:
        return False
    return True


async def test_hazard_25_compaction_forgets_memory_and_removes_segments_apart(
    files: MemoryFiles, keys: KeyRing, randbytes: Random
) -> None:
    journal = new_journal(files, keys, randbytes, SMALL)
    for _ in range(10):
        add(journal, 4, size=200)
        journal.sync()
    names = files.list(JOURNAL)
    journal.compact(40)
    assert (journal.base_index, journal.base_term, journal.first_index, journal.tail_bytes) == (40, 3, 41, 2_000)
    assert files.list(JOURNAL) == names
    journal.remove_segments(25)
    assert 0 < len(files.list(JOURNAL)) < len(names)
    files.crash()
    again = open_journal(files, keys, randbytes, limits=SMALL)
    assert again.base_index <= 25, "what is kept back reaches down to the oldest data file"
    assert again.base_term == 3
    assert again.entries(41, 1 << 20) == journal.entries(41, 1 << 20)
    again.remove_segments(1 << 40)
    assert len(files.list(JOURNAL)) == 1


async def test_removal_waits_for_the_segment_that_supersedes(
    files: MemoryFiles, keys: KeyRing, randbytes: Random
) -> None:
    journal = new_journal(files, keys, randbytes)
    add(journal, 5)
    journal.sync()
    journal.install(400, 3)
    pending = journal.begin_sync()
    assert pending is not None
    journal.remove_segments(400)
    assert files.list(JOURNAL) == ["00000001.journal"]
    pending.run()
    journal.end_sync(pending)
    assert files.list(JOURNAL) == ["00000002.journal"]


async def test_unfinished_segments_are_cleared(files: MemoryFiles, keys: KeyRing, randbytes: Random) -> None:
    new_journal(files, keys, randbytes)
    files.kill()
    files.create(f"{JOURNAL}/00000002.journal.tmp").append(b"half")
    open_journal(files, keys, randbytes)
    assert files.list(JOURNAL) == ["00000001.journal"]


async def test_a_sync_runs_in_another_thread_while_the_owner_goes_on(tmp_path: Path, keys: KeyRing) -> None:
    directory = str(tmp_path / "journal")
    limits = JournalLimits(segment_bytes_max=20_000)
    journal = Journal.create(RealFiles(), directory, IDENTITY, MEMBER, keys, os.urandom, 0, 0, limits)
    for round_ in range(30):
        add(journal, 20, size=100, term=round_)
        pending = journal.begin_sync()
        assert pending is not None
        thread = threading.Thread(target=pending.run)
        thread.start()
        add(journal, 20, size=100, term=round_)
        if round_ % 5 == 4:
            journal.truncate(journal.last_index - 30)
        if round_ % 7 == 6:
            journal.compact(journal.synced_index)
        thread.join()
        journal.end_sync(pending)
        if round_ % 7 == 6:
            journal.remove_segments(journal.base_index)
    journal.sync()
    journal.close()
    again = Journal.open(RealFiles(), directory, IDENTITY, keys, os.urandom, limits)
    first = max(again.first_index, journal.first_index)
    assert again.entries(first, 1 << 30) == journal.entries(first, 1 << 30)
    assert again.last_index == journal.last_index
    again.close()


async def test_nothing_readable_on_disk(files: MemoryFiles, keys: KeyRing, randbytes: Random) -> None:
    journal = new_journal(files, keys, randbytes)
    journal.append(JournalEntry(b"alice@example.org JBSWY3DPEHPK3PXP", 11, 3))
    journal.sync()
    everything = b"".join(files.snapshot().values())
    assert b"alice" not in everything
    assert b"JBSWY3DP" not in everything
    assert keys.active.key not in everything
    assert keys.kek.key not in everything
