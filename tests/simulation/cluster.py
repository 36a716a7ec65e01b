"""The machines, the network between them, and what is checked of them together."""

from cluster.raft.errors import FrameRefused
from cluster.raft.messages import decode
from cluster.state.records import Settings
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
        self._world = world
        self.network = Network(world, odds, describe)
        founding = Founding(world.random("founding"), odds, settings)
        self.machines: list[Machine] = []
        at = founding.state.position
        self.checks = Checks(world, self.machines)
        self.checks.log[at.index] = Applied(at.term, at.stamp_ms, (), at.running_digest)
        for name in founding.member_ids:
            machine = Machine(name, world, odds, self.network, self.checks, founding)
            self.machines.append(machine)
            self.network.add(machine)

    def start(self) -> None:
        for machine in self.machines:
            machine.start()
        self._world.after(MATCH_S, self._match)

    def _match(self) -> None:
        self.checks.logs_match()
        self._world.after(MATCH_S, self._match)
