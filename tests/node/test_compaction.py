"""What is forgotten of the log, and for whom it stays."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.node.compaction import compaction_index
from datastore.files import RealFiles
from datastore.header import Identity
from datastore.journal import Journal, JournalEntry
from datastore.keys import KeyRing, new_kek


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    """Ten entries of 100 bytes, 2 to 11."""
    identity = Identity("1" * 32, 1, "2" * 32)
    keys = KeyRing.generate(new_kek(bytes), bytes)
    made = Journal.create(RealFiles(), str(tmp_path / "journal"), identity, "3" * 32, keys, bytes, 1, 0)
    for index in range(2, 12):
        made.append(JournalEntry(bytes(100), index, 1))
    return made


def test_a_tail_stays_for_those_who_lag(journal: Journal) -> None:
    assert compaction_index(journal, 11, 300, None, 0) == 8
    assert compaction_index(journal, 11, 0, None, 0) == 11
    assert compaction_index(journal, 11, 1_000, None, 0) == 1


def test_nothing_that_no_data_file_holds_is_forgotten(journal: Journal) -> None:
    assert compaction_index(journal, 5, 0, None, 0) == 5


def test_what_a_follower_that_is_filled_needs_next_stays(journal: Journal) -> None:
    assert compaction_index(journal, 11, 0, 6, 10_000) == 6
    assert compaction_index(journal, 11, 0, 20, 10_000) == 11


def test_but_not_without_bound(journal: Journal) -> None:
    assert compaction_index(journal, 11, 0, 2, 400) == 7
