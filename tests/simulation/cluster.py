"""The machines, the network between them, and what is checked of them together."""

from cluster.raft.errors import FrameRefused
from cluster.raft.messages import decode
from cluster.state.apply import State
from cluster.state.records import Member, Settings
from tests.simulation.checks import Applied, Checks
from tests.simulation.faults import Odds
from tests.simulation.machine import Machine
from tests.simulation.network import Network
from tests.simulation.storage import Founding
from tests.simulation.world import World

MATCH_S = 0.5  # between two comparisons of all logs


def describe(frame: bytes) -> str:
    try:
        return type(decode(frame).body).__name__
    except FrameRefused:
        return "refused"


class Cluster:
    """Founded; `start` lets it run."""

    def __init__(self, world: World, odds: Odds, settings: Settings) -> None:
        self._world, self._odds = world, odds
        self.network = Network(world, odds, describe)
        self.founding = founding = Founding(world.random("founding"), odds, settings)
        self.machines: list[Machine] = []
        at = founding.state.position
        self.checks = Checks(world, self.machines, list(founding.names))
        self.checks.log[0] = Applied(0, 0, (), bytes(32))  # where machines stand that join
        self.checks.log[at.index] = Applied(at.term, at.stamp_ms, (), at.running_digest)
        for name in founding.member_ids:
            self._add(name, None)

    def _add(self, name: str, state: State | None) -> Machine:
        machine = Machine(name, self._world, self._odds, self.network, self.checks, self.founding, state)
        self.machines.append(machine)
        self.network.add(machine)
        return machine

    def join(self, name: str, members: dict[str, Member]) -> None:
        """A machine with nothing starts, which the cluster takes for a member."""
        machine = self._add(name, self.founding.unfilled(members))
        machine.calm = self.network.calm
        machine.start()

    @property
    def active(self) -> list[Machine]:
        return [machine for machine in self.machines if not machine.retired]

    def start(self) -> None:
        for machine in self.machines:
            machine.start()
        self._world.after(MATCH_S, self._match)

    def _match(self) -> None:
        self.checks.logs_match()
        self._world.after(MATCH_S, self._match)
