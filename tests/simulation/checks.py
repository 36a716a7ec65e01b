"""What must hold after every step: Raft's own guarantees, on what the machines hold and apply.

The first application of an index by any machine is the truth; every other one, before or after a restart, must be
the same. Each check is cheap: it looks only at the machine that moved.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from cluster.state.results import Result
from tests.simulation.clocks import true_ms
from tests.simulation.world import Violation, World

if TYPE_CHECKING:
    from tests.simulation.machine import Machine

STAMP_AHEAD_MS_MAX = 5_000  # of true time: what a majority's clocks may be ahead, and the tolerance beyond
MATCHED_ENTRIES_MAX = 2_000


Results = Sequence[Sequence[Result]]  # by group, in the order of its commands


class Applied(NamedTuple):
    """The truth at one index."""

    term: int
    stamp_ms: int
    groups: tuple[bytes, ...]
    digest: bytes
    configuration: tuple[tuple[str, ...], tuple[str, ...]] | None = None  # voters and learners, where it brings one


class Checks:
    """`on_first(index, applied, results)` is called once for each index, in order: the committed log as it grows."""

    def __init__(self, world: World, machines: Sequence["Machine"], voters: Sequence[str]) -> None:
        self._world = world
        self._machines = machines
        self._voters = frozenset(voters)  # of the newest configuration that was applied, and the place of it
        self._configured_at = 0
        self._leaders: dict[int, str] = {}
        self.log: dict[int, Applied] = {}
        self.on_first: Callable[[int, Applied, Results], None] = lambda index, applied, results: None

    def applied(self, machine: "Machine", index: int, applied: Applied, results: Results) -> None:
        """A machine applied an entry."""
        truth = self.log.get(index)
        if truth is not None:
            if truth != applied._replace(digest=truth.digest):
                raise Violation(f"{machine.name} applied another entry at index {index} than the first that did")
            if truth.digest != applied.digest:
                raise Violation(f"{machine.name} has another digest at index {index}")
            return
        if index - 1 not in self.log:
            raise Violation(f"{machine.name} applied index {index}, which nobody had reached")
        self.log[index] = applied
        if applied.configuration is not None:
            self._configured(index, *applied.configuration)
        self._is_durable(index, applied.term)
        before = self.log[index - 1]
        if applied.stamp_ms < before.stamp_ms or applied.term < before.term:
            raise Violation(f"time or term went back at index {index}")
        if applied.stamp_ms > true_ms(self._world) + STAMP_AHEAD_MS_MAX:
            raise Violation(f"a stamp from the future was committed at index {index}")
        self.on_first(index, applied, results)

    def installed(self, machine: "Machine", index: int, digest: bytes) -> None:
        """A machine stands on a snapshot, or on its own data file after a start."""
        truth = self.log.get(index)
        if truth is not None and truth.digest != digest:
            raise Violation(f"{machine.name} stands on another state at index {index}")
        if truth is None:
            raise Violation(f"{machine.name} stands on index {index}, which nobody applied")

    def moved(self, machine: "Machine") -> None:
        """After each step of a machine."""
        process = machine.process
        assert process is not None, "a machine that moved is up"
        indices = (process.engine._core.commit_index, process.engine._core.applied_index)
        if indices[0] < process.highest[0] or indices[1] < process.highest[1]:
            raise Violation(f"{machine.name} went back from commit and applied index {process.highest} to {indices}")
        process.highest = indices
        term = machine.leading_term()
        if term is not None and self._leaders.setdefault(term, machine.name) != machine.name:
            raise Violation(f"{machine.name} and {self._leaders[term]} both lead in term {term}")

    def logs_match(self) -> None:
        """Entries of the same index and term are the same, and so is all before them (paper, figure 3)."""
        journals = [(machine.name, machine.process.journal) for machine in self._machines if machine.process]
        for number, (name, journal) in enumerate(journals):
            for other_name, other in journals[number + 1 :]:
                lowest = max(journal.first_index, other.first_index)
                highest = min(journal.last_index, other.last_index)
                same = False
                for index in range(highest, max(lowest, highest - MATCHED_ENTRIES_MAX) - 1, -1):
                    mine, theirs = journal.entry(index), other.entry(index)
                    same = same or journal.term_at(index) == other.term_at(index)
                    if same and mine != theirs:
                        raise Violation(f"the logs of {name} and {other_name} differ at index {index}")

    def _configured(self, index: int, voters: Sequence[str], learners: Sequence[str]) -> None:
        """Members change one at a time, so that two majorities meet."""
        if len(self._voters ^ frozenset(voters)) > 1:
            raise Violation(f"more than one voter changed at index {index}")
        if not voters or set(voters) & set(learners):
            raise Violation(f"a configuration of {len(voters)} voters at index {index}")
        self._voters, self._configured_at = frozenset(voters), index

    def _is_durable(self, index: int, term: int) -> None:
        """What is applied is on the disks of a majority: a crash of all of them at this moment would keep it.

        Of the voters of the newest configuration that was applied, or of one that a log has after it: it is in effect
        from when it is written, and was agreed on by its own voters.
        """
        holders = {machine.member_id for machine in self._machines if machine.holds_on_disk(index, term)}
        newer = {
            frozenset(machine.process.engine.configuration.voters)
            for machine in self._machines
            if machine.process and machine.process.engine.configuration_index > self._configured_at
        }
        if not any(2 * len(holders & voters) > len(voters) for voters in (self._voters, *newer)):
            held = len(holders & self._voters)
            raise Violation(f"index {index} is applied while on {held} of {len(self._voters)} disks")
