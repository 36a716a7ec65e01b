"""Our journal in the shape that the engine expects of its own.

The engine's list starts with the entry before the first one that it may still need; ours starts with the journal's
base, whose contents nobody reads.  Everything that would shorten the log from below is refused here: compaction and
snapshots are ours (the engine clears the whole log where it finds a mismatch).
"""

from __future__ import annotations

from typing import overload

from cluster.raft.entries import NO_OP, configuration_in
from cluster.raft.errors import SafetyViolation
from cluster.raft.membership import Configuration, Membership
from datastore.journal import Journal, JournalEntry


class EngineLog:
    """`hard_state_written`: the journal's `written` when term and vote last changed."""

    def __init__(self, journal: Journal, committed_index: int, membership: Membership) -> None:
        self._journal = journal
        self._membership = membership
        self._committed_at_start = committed_index
        self.hard_state_written = journal.written
        self.commit_index = committed_index

    # -- the log -----------------------------------------------------------------------------------------------------
    def __len__(self) -> int:
        return self._journal.last_index - self._journal.base_index + 1

    @overload
    def __getitem__(self, position: int) -> JournalEntry: ...
    @overload
    def __getitem__(self, position: slice) -> list[JournalEntry]: ...
    def __getitem__(self, position: int | slice) -> JournalEntry | list[JournalEntry]:
        if isinstance(position, slice):
            return [self._at(number) for number in range(*position.indices(len(self)))]
        length = len(self)
        if position < 0:
            position += length
        if not 0 <= position < length:
            raise IndexError(position)
        return self._at(position)

    def _at(self, position: int) -> JournalEntry:
        journal = self._journal
        if position == 0:
            return JournalEntry(NO_OP, journal.base_index, journal.base_term)
        entry = journal.entry(journal.base_index + position)
        assert entry is not None, "the journal has a hole in memory"
        return entry

    def add(self, command: bytes, index: int, term: int) -> None:
        self._journal.append(JournalEntry(command, index, term))
        configuration = configuration_in(command)
        if configuration is not None:
            self._membership.appended(index, configuration)

    def deleteEntriesFrom(self, position: int) -> None:  # noqa: N802  (the engine's name)
        index = self._journal.base_index + position
        if index <= self.commit_index:
            raise SafetyViolation(f"the engine would remove committed index {index}")
        if index <= self._journal.last_index:
            self._journal.truncate(index)
            self._membership.truncated(index)

    def deleteEntriesTo(self, _: int) -> None:  # noqa: N802
        raise SafetyViolation("the engine would compact the log by itself")

    def clear(self) -> None:
        raise SafetyViolation("the engine would clear the log")

    # -- term, vote, commit ------------------------------------------------------------------------------------------
    def setCurrentTerm(self, term: int, voted_for: str | None) -> None:  # noqa: N802
        if (term, voted_for) != (self._journal.current_term, self._journal.voted_for):
            self._journal.set_term(term, voted_for)
            self.hard_state_written = self._journal.written

    def getCurrentTerm(self) -> int:  # noqa: N802
        return self._journal.current_term

    def getVotedForNodeId(self) -> str | None:  # noqa: N802
        return self._journal.voted_for

    def setRaftCommitIndex(self, index: int) -> None:  # noqa: N802
        self.commit_index = max(self.commit_index, index)

    def getRaftCommitIndex(self) -> int:  # noqa: N802
        """What is certain to be committed at a start: what the data file holds, and nothing beyond it."""
        return self._committed_at_start

    def onOneSecondTimer(self) -> None:  # noqa: N802
        pass

    def _destroy(self) -> None:
        pass


def membership_in(journal: Journal, member_id: str, applied_index: int, base: Configuration) -> Membership:
    """The state's configuration at `applied_index`, and those that the journal holds after it."""
    membership = Membership(member_id, applied_index, base)
    for index in range(applied_index + 1, journal.last_index + 1):
        entry = journal.entry(index)
        assert entry is not None, "the journal has a hole in memory"
        configuration = configuration_in(entry.data)
        if configuration is not None:
            membership.appended(index, configuration)
    return membership
