"""Who is a member: a function of the log (paper, section 6; dissertation, section 4.1).

A configuration takes effect when its entry is in a node's log, committed or not, and goes out of effect when that
entry is truncated.  Changes go one voter at a time, so that any two majorities, of the old and of the new, share a
member; joint consensus is not needed and not possible with the engine's hard-coded majorities.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cluster.raft.votes import majority


@dataclass(frozen=True, slots=True)
class Configuration:
    """Member ids, sorted; `learners` receive the log and do not vote."""

    voters: tuple[str, ...]
    learners: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        assert self.voters == tuple(sorted(set(self.voters))), "voters are sorted, each once"
        assert self.learners == tuple(sorted(set(self.learners))), "learners are sorted, each once"
        assert not set(self.voters) & set(self.learners), "a member is a voter or a learner"

    @property
    def members(self) -> tuple[str, ...]:
        return tuple(sorted((*self.voters, *self.learners)))

    def with_learner(self, member_id: str) -> Configuration:
        return Configuration(self.voters, tuple(sorted({*self.learners, member_id})))

    def with_voter(self, member_id: str) -> Configuration:
        learners = tuple(learner for learner in self.learners if learner != member_id)
        return Configuration(tuple(sorted({*self.voters, member_id})), learners)

    def without(self, member_id: str) -> Configuration:
        return Configuration(
            tuple(voter for voter in self.voters if voter != member_id),
            tuple(learner for learner in self.learners if learner != member_id),
        )


def objection(current: Configuration, new: Configuration) -> str | None:
    """Why `new` may not follow `current` in one step, or None where it may."""
    if new == current:
        return "nothing changes"
    if not new.voters:
        return "no voter would be left"
    changed = set(current.voters) ^ set(new.voters)
    if len(changed) > 1:
        return "more than one voter at a time"
    if len(set(current.members) ^ set(new.members)) > 1:
        return "more than one member at a time"
    if any(member in new.voters and member not in current.learners for member in changed):
        return "a member votes only after it was filled as a learner"
    return None


class Membership:
    """The newest configuration in this member's log, and those that a truncation would bring back.

    `changed(configuration)` is called whenever another one comes into effect.
    """

    def __init__(self, member_id: str, base_index: int, base: Configuration) -> None:
        self.member_id = member_id
        self.changed: Callable[[], None] = lambda: None
        self._history: list[tuple[int, Configuration]] = [(base_index, base)]

    @property
    def configuration(self) -> Configuration:
        return self._history[-1][1]

    @property
    def index(self) -> int:
        """Where the configuration in effect stands in the log."""
        return self._history[-1][0]

    @property
    def is_listed_at_base(self) -> bool:
        """Whether this member was one already at the oldest configuration that is kept: the one that is applied."""
        return self.member_id in self._history[0][1].members

    @property
    def is_voter(self) -> bool:
        return self.member_id in self.configuration.voters

    @property
    def others(self) -> tuple[str, ...]:
        return tuple(member for member in self.configuration.members if member != self.member_id)

    @property
    def other_voters(self) -> tuple[str, ...]:
        return tuple(member for member in self.configuration.voters if member != self.member_id)

    @property
    def majority(self) -> int:
        return majority(len(self.configuration.voters))

    def appended(self, index: int, configuration: Configuration) -> None:
        assert index > self.index, "configurations come in the order of the log"
        self._history.append((index, configuration))
        self.changed()

    def truncated(self, from_index: int) -> None:
        """Entries from `from_index` on are gone; they were not committed."""
        before = len(self._history)
        while len(self._history) > 1 and self._history[-1][0] >= from_index:
            self._history.pop()
        if len(self._history) != before:
            self.changed()

    def applied(self, index: int) -> None:
        """What is applied is never truncated, so what came before it is not needed again."""
        while len(self._history) > 1 and self._history[1][0] <= index:
            del self._history[0]

    def installed(self, index: int, configuration: Configuration) -> None:
        """The log was replaced by a snapshot."""
        self._history = [(index, configuration)]
        self.changed()
