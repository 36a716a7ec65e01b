"""The replicated state with the checks beside it: every application is compared with what others made of that index."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cluster.state.apply import State
from cluster.state.results import Result
from tests.simulation.checks import Applied

if TYPE_CHECKING:
    from tests.simulation.machine import Machine


class ObservedState:
    """What the replica applies to. `now` is the state itself."""

    def __init__(self, state: State, machine: "Machine") -> None:
        self.now = state
        self._machine = machine

    @property
    def running_digest(self) -> bytes:
        return self.now.running_digest

    def apply(self, index: int, term: int, stamp_ms: int, group_payloads: Sequence[bytes]) -> list[list[Result]]:
        results = self.now.apply(index, term, stamp_ms, group_payloads)
        applied = Applied(term, stamp_ms, tuple(group_payloads), self.now.running_digest)
        self._machine.checks.applied(self._machine, index, applied, results)
        self._machine.world.counts["applied"] += 1
        return results

    def configure(self, index: int, term: int, stamp_ms: int, voters: Sequence[str], learners: Sequence[str]) -> None:
        self.now.configure(index, term, stamp_ms, voters, learners)
        applied = Applied(term, stamp_ms, (), self.now.running_digest, (tuple(voters), tuple(learners)))
        self._machine.checks.applied(self._machine, index, applied, [])
        self._machine.world.counts["configured"] += 1
