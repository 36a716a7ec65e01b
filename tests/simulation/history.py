"""One history: a seed draws its conditions, faults rage for a while, then all is mended and must come to rest.

What is checked while it runs stands in `checks` and `ledger`; what must hold at the end stands here.
"""

import traceback
from dataclasses import dataclass, field

from cluster.state.records import Settings
from tests.simulation.clients import Call, Client
from tests.simulation.cluster import Cluster
from tests.simulation.disturbances import Disturbances
from tests.simulation.faults import FAULTS, QUANTITIES, Odds, draw
from tests.simulation.ledger import Ledger
from tests.simulation.operators import Operator
from tests.simulation.workload import Workload
from tests.simulation.world import Violation, World

FAULTY_S = (3.0, 20.0)
SETTLE_S = 7.0  # after the faults: elections, reconnections, back-offs, snapshots
CALM_S = 2.0  # of work that must be answered
ANSWER_S = 3.0  # how long an answer may take in a calm cluster
REST_S = 4.0  # until all that was asked is answered and applied everywhere

SETTINGS = Settings(lockout_window_ms=8_000, lockout_duration_ms=4_000, resync_positions=60)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a seed."""

    seed: int
    steps: int
    counts: dict[str, int]
    trace_hash: str
    odds: Odds
    failure: str | None = None
    trace: str = field(default="", repr=False)

    @property
    def faults(self) -> int:
        return sum(count for name, count in self.counts.items() if name in FAULTS and name not in QUANTITIES)

    @property
    def replay_command(self) -> str:
        return f"python -m tests.simulation.run --seed {self.seed}"


class History:
    """Everything that one seed brings into being."""

    def __init__(self, seed: int, *, nodes: int | None = None, severity: float | None = None) -> None:
        self.world = World(seed)
        random = self.world.random("odds")
        self.odds = draw(random, nodes, severity)
        self._faulty_s = random.uniform(*FAULTY_S)
        self.ledger = Ledger(SETTINGS)
        self.cluster = Cluster(self.world, self.odds, SETTINGS)
        self.cluster.checks.on_first = self.ledger.on_first
        self.clients = [
            Client(number, self.world, self.odds, self.cluster.machines) for number in range(self.odds.clients)
        ]

    def run(self) -> None:
        """Raises Violation."""
        world = self.world
        self.cluster.start()
        workload = Workload(world, self.odds, self.clients, self.cluster.machines, self.ledger.index_of)
        operator = Operator(world, self.odds, self.cluster)
        disturbances = Disturbances(world, self.odds, self.cluster, operator)
        world.run_until(self._faulty_s)
        world.note("calm")
        disturbances.stop()
        operator.client.calm = True
        for client in self.clients:
            client.calm = True
        world.run_until(world.now + SETTLE_S)
        settled_s = world.now
        world.run_until(world.now + CALM_S)
        workload.stop()
        world.run_until(world.now + REST_S)
        self._check_answers(settled_s)
        self._check_rest()

    def _check_answers(self, settled_s: float) -> None:
        """Everything that a client was told is in the log; and in the calm, everybody was told something soon."""
        asked = 0
        for call in self._calls():
            if call.answer is not None:
                self.ledger.answered(call)
            if call.started_s >= settled_s:
                asked += 1
                if call.answer is None or call.answered_s - call.started_s > ANSWER_S:
                    raise Violation(f"{call.request_id} got no answer within {ANSWER_S} s of a calm cluster")
        if not asked:
            raise Violation("nobody asked anything in the calm: the workload stands still")

    def _check_rest(self) -> None:
        machines = self.cluster.active
        leaders = [machine.name for machine in machines if machine.is_leader()]
        if len(leaders) != 1:
            raise Violation(f"a calm cluster has the leaders {leaders}")
        states = [machine.process.state.now for machine in machines if machine.process]
        if len(states) != len(machines):
            raise Violation("a machine is down in the calm")
        if len({state.position for state in states}) != 1:
            raise Violation(f"the machines rest at {[state.position.index for state in states]}")
        records = [list(state.records()) for state in states]
        if any(other != records[0] for other in records):
            raise Violation("equal digests over different states")

    def _calls(self) -> list[Call]:
        return [call for client in self.clients for call in client.calls]


def run_seed(seed: int, *, nodes: int | None = None, severity: float | None = None) -> Outcome:
    """One history from its seed; a violation is in the outcome."""
    history = History(seed, nodes=nodes, severity=severity)
    world, failure, trace = history.world, None, ""
    try:
        history.run()
    except Violation as violation:
        failure, trace = str(violation), world.trimmed_trace()
        if violation.__cause__ is not None:
            trace += "\n\n" + "".join(traceback.format_exception(violation.__cause__))
    except Exception as error:  # noqa: BLE001 (a defect of the simulator must name its seed, too)
        failure = f"the simulator raised {type(error).__name__}: {error}"
        trace = world.trimmed_trace() + "\n\n" + traceback.format_exc()
    counts = {**world.counts, "accepted": history.ledger.accepted, "remembered": history.ledger.remembered}
    return Outcome(seed, world.steps, dict(sorted(counts.items())), world.trace_hash, history.odds, failure, trace)
