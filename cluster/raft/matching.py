"""Pure: what an AppendEntries means for a follower's log (paper, section 5.3, "AppendEntries RPC", rules 2 to 5).

The engine deletes everything behind `prev` whether or not it conflicts; the paper deletes only from the first entry
that conflicts (rule 3) and acknowledges only what was compared (rule 5).  `match` restores both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from cluster.raft.errors import SafetyViolation
from datastore.journal import JournalEntry


class LogView(Protocol):
    """What has to be known of the follower's log.  `base_index` is the last index that compaction took away."""

    @property
    def base_index(self) -> int: ...
    @property
    def last_index(self) -> int: ...
    def term_at(self, index: int) -> int | None: ...


@dataclass(frozen=True, slots=True)
class Rejected:
    """The log does not hold `prev`.  `hint`: the index at which the leader should go on looking."""

    hint: int


@dataclass(frozen=True, slots=True)
class Matched:
    """Everything up to `index` equals the leader's log once `entries` are written behind `prev_index`.

    Where nothing is new, `entries` is empty and nothing may be deleted.
    """

    index: int
    prev_index: int
    prev_term: int
    entries: tuple[JournalEntry, ...]


def match(
    prev_index: int, prev_term: int, entries: list[JournalEntry], log: LogView, commit_index: int
) -> Rejected | Matched:
    """Raises SafetyViolation where an entry at or below `commit_index` conflicts: that can't be with a sound leader."""
    if prev_index > log.last_index:
        return Rejected(log.last_index + 1)
    if prev_index < log.base_index:
        # Compacted, so committed, so equal to what any leader holds; but it can't be compared here.
        return Rejected(commit_index + 1)
    if log.term_at(prev_index) != prev_term:
        if prev_index <= commit_index:
            raise SafetyViolation(f"the leader's log differs at committed index {prev_index}")
        return Rejected(_first_of_term(log, prev_index, commit_index))
    known = 0
    for entry in entries:
        if log.term_at(entry.index) != entry.term:
            break
        known += 1
    new = tuple(entries[known:])
    if new and new[0].index <= min(commit_index, log.last_index):
        raise SafetyViolation(f"the leader's log differs at committed index {new[0].index}")
    before = entries[known - 1] if known else None
    index = entries[-1].index if entries else prev_index
    if before is None:
        return Matched(index, prev_index, prev_term, new)
    return Matched(index, before.index, before.term, new)


def _first_of_term(log: LogView, index: int, commit_index: int) -> int:
    """The first index of the term that stands at `index` (section 5.3, end: one round trip a term, not an entry)."""
    term = log.term_at(index)
    while index - 1 > max(log.base_index, commit_index) and log.term_at(index - 1) == term:
        index -= 1
    return max(index, commit_index + 1)
