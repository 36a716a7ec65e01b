"""`match` against the paper's own words: rules 2 to 5 of AppendEntries, carried out one entry at a time."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from cluster.raft.errors import SafetyViolation
from cluster.raft.matching import Matched, Rejected, match
from datastore.journal import JournalEntry

TERM_MAX = 4


@dataclass
class PlainLog:
    """Terms of the entries behind a base."""

    base_index: int
    base_term: int
    terms: list[int]

    @property
    def last_index(self) -> int:
        return self.base_index + len(self.terms)

    def term_at(self, index: int) -> int | None:
        if index == self.base_index:
            return self.base_term
        if self.base_index < index <= self.last_index:
            return self.terms[index - self.base_index - 1]
        return None


def naive(log: PlainLog, prev_index: int, prev_term: int, entries: list[JournalEntry]) -> tuple[PlainLog, int] | None:
    """The log afterwards and the index up to which it matches; None: rejected (rule 2)."""
    if log.term_at(prev_index) != prev_term:
        return None
    terms = list(log.terms)
    for entry in entries:
        position = entry.index - log.base_index - 1
        if position < len(terms) and terms[position] != entry.term:
            del terms[position:]  # rule 3
        if position == len(terms):
            terms.append(entry.term)  # rule 4
    return PlainLog(log.base_index, log.base_term, terms), prev_index + len(entries)


def carried_out(log: PlainLog, outcome: Matched) -> PlainLog:
    """What the engine's handler makes of it: all behind `prev` goes, where something is new."""
    if not outcome.entries:
        return log
    kept = log.terms[: outcome.prev_index - log.base_index]
    assert log.term_at(outcome.prev_index) == outcome.prev_term
    assert outcome.entries[0].index == outcome.prev_index + 1
    return PlainLog(log.base_index, log.base_term, [*kept, *(entry.term for entry in outcome.entries)])


terms = st.lists(st.integers(1, TERM_MAX), max_size=12).map(sorted)


@st.composite
def logs(draw: st.DrawFn) -> PlainLog:
    found = draw(terms)
    return PlainLog(draw(st.integers(1, 4)), found[0] if found else draw(st.integers(0, TERM_MAX)), found)


@st.composite
def appends(draw: st.DrawFn) -> tuple[int, int, list[JournalEntry]]:
    prev_index, found = draw(st.integers(0, 18)), draw(terms)
    prev_term = draw(st.integers(0, found[0] if found else TERM_MAX))
    return prev_index, prev_term, [JournalEntry(b"", prev_index + 1 + n, term) for n, term in enumerate(found)]


@given(logs(), appends())
def test_a_match_does_what_the_paper_does(log: PlainLog, append: tuple[int, int, list[JournalEntry]]) -> None:
    prev_index, prev_term, entries = append
    assume(prev_index > log.base_index or (prev_index, prev_term) == (log.base_index, log.base_term))
    expected = naive(log, prev_index, prev_term, entries)
    outcome = match(prev_index, prev_term, entries, log, log.base_index)
    if expected is None:
        assert isinstance(outcome, Rejected)
        assert log.base_index < outcome.hint <= min(prev_index, log.last_index + 1)
        return
    assert isinstance(outcome, Matched)
    assert outcome.index == expected[1]
    assert carried_out(log, outcome) == expected[0]


@given(logs(), appends(), st.data())
def test_nothing_committed_is_ever_removed(
    log: PlainLog, append: tuple[int, int, list[JournalEntry]], data: st.DataObject
) -> None:
    commit_index = data.draw(st.integers(log.base_index, log.last_index))
    try:
        outcome = match(*append, log, commit_index)
    except SafetyViolation:
        return
    if isinstance(outcome, Rejected):
        assert outcome.hint > commit_index or outcome.hint == log.last_index + 1
    elif outcome.entries:
        assert outcome.prev_index >= commit_index


@given(st.lists(st.integers(1, TERM_MAX), max_size=30).map(sorted), terms)
def test_a_leader_that_follows_the_hints_comes_to_an_end(leader: list[int], follower: list[int]) -> None:
    """Section 5.3: in at most a round trip a term, and one for the length."""
    log = PlainLog(1, 0, follower)
    own = PlainLog(1, 0, leader)
    following, rounds = own.last_index + 1, 0
    while True:
        prev_term = own.term_at(following - 1)
        assert prev_term is not None
        outcome = match(following - 1, prev_term, [], log, 1)
        if isinstance(outcome, Matched):
            break
        assert outcome.hint < following
        following, rounds = outcome.hint, rounds + 1
    assert rounds <= TERM_MAX + 1


def test_what_was_compacted_is_looked_for_behind_the_commit_index() -> None:
    assert match(3, 1, [], PlainLog(10, 2, [2, 2]), 11) == Rejected(12)


def test_a_leader_that_contradicts_a_committed_entry_is_unsound() -> None:
    log = PlainLog(1, 0, [1, 1, 1])
    with pytest.raises(SafetyViolation):
        match(3, 2, [], log, 3)
    with pytest.raises(SafetyViolation):
        match(2, 1, [JournalEntry(b"", 3, 2)], log, 3)
