"""How much of the log a node forgets from memory once a data file holds it. Pure."""

from __future__ import annotations

from typing import Final

from datastore.journal import Journal

FILLING_BYTES: Final = 64 * 1024 * 1024
"""How much more than the tail is kept for a follower that is being filled."""


def compaction_index(
    journal: Journal, written_index: int, tail_bytes: int, needed_index: int | None, filling_bytes: int
) -> int:
    """Up to which index the log may be forgotten; the journal's base where nothing may.

    `written_index`: what the data file holds. A tail of `tail_bytes` stays for those who lag. `needed_index`: what
    comes after it is needed by a follower that answers. It stays, too, up to `filling_bytes` more: otherwise one that
    takes a snapshot in would find the entries after it gone, need another snapshot, and so on for as long as there is
    work to do.
    """
    excess = journal.tail_bytes - tail_bytes
    index = journal.base_index
    while excess > 0 and index < written_index:
        if needed_index is not None and index >= needed_index and excess <= filling_bytes:
            break
        index += 1
        entry = journal.entry(index)
        assert entry is not None, "entries above the base are held"
        excess -= len(entry.data)
    return index
