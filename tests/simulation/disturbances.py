"""Makes the faults of the table happen that come by the second: outages, crashes, pauses, clocks."""

from collections.abc import Callable

from tests.simulation.cluster import Cluster
from tests.simulation.faults import DOWN_S, JUMP_MS, OUTAGE_S, PAUSE_S, STEP_MS_MAX, Odds
from tests.simulation.machine import Machine
from tests.simulation.network import Link
from tests.simulation.operators import Operator
from tests.simulation.world import World

WRITES_MAX = 12  # a crash in the middle of a write comes at one of the next so many disk operations


class Disturbances:
    """Each fault that is on is a random process of its own; `stop` ends them all and mends what they did."""

    def __init__(self, world: World, odds: Odds, cluster: Cluster, operator: Operator) -> None:
        self._world = world
        self._odds = odds
        self._cluster = cluster
        self._random = world.random("disturbances")
        self._stopped = False
        self._actions: dict[str, Callable[[], None]] = {
            "cut": self._cut,
            "partition": self._partition,
            "one_way": self._one_way,
            "isolate_leader": self._isolate_leader,
            "crash": lambda: self._crash([self._any()]),
            "crash_leader": lambda: self._crash(self._leaders()),
            "crash_all": lambda: self._crash(list(cluster.machines)),
            "crash_in_write": self._crash_in_write,
            "pause": lambda: self._pause([self._any()]),
            "pause_leader": lambda: self._pause(self._leaders()),
            "transfer": self._transfer,
            "members": operator.change,
            "sync_fails": lambda: self._any().fail_next_sync(),
            "clock_step": lambda: self._any().clock.set_off(self._random.randint(-STEP_MS_MAX, STEP_MS_MAX)),
            "clock_jump": self._clock_jump,
        }
        for name in self._actions:
            if name in odds.of:
                self._schedule(name)

    def stop(self) -> None:
        self._stopped = True
        self._cluster.network.calm = True
        self._cluster.network.blocked.clear()
        for machine in self._cluster.machines:
            machine.mend()

    def _schedule(self, name: str) -> None:
        self._world.after(self._random.expovariate(self._odds.of[name]), self._strike, name)

    def _strike(self, name: str) -> None:
        if self._stopped:
            return
        self._world.note("fault", name)
        self._world.counts[name] += 1
        self._actions[name]()
        self._schedule(name)

    def _any(self) -> Machine:
        return self._random.choice(self._cluster.machines)

    def _leaders(self) -> list[Machine]:
        return [machine for machine in self._cluster.machines if machine.is_leader()]

    def _cut(self) -> None:
        if self._odds.nodes > 1:
            a, b = self._random.sample(self._cluster.machines, 2)
            self._cluster.network.cut(a.name, b.name)

    def _partition(self) -> None:
        names = [machine.name for machine in self._cluster.machines]
        side = {name for name in names if self._random.random() < 0.5}
        self._outage([(a, b) for a in names for b in names if (a in side) != (b in side)])

    def _one_way(self) -> None:
        here = self._any().name
        others = list(self._cluster.network.peers_of(here))
        if others and self._random.random() < 0.5:
            others = [self._random.choice(others)]
        outward = self._random.random() < 0.5
        self._outage([(here, other) if outward else (other, here) for other in others])

    def _isolate_leader(self) -> None:
        for leader in self._leaders():
            others = list(self._cluster.network.peers_of(leader.name))
            self._outage([link for other in others for link in ((leader.name, other), (other, leader.name))])

    def _outage(self, directions: list[Link]) -> None:
        self._cluster.network.block(directions)
        self._world.after(self._random.uniform(*OUTAGE_S), self._end_outage, directions)

    def _end_outage(self, directions: list[Link]) -> None:
        if not self._stopped:
            self._cluster.network.unblock(directions)

    def _crash(self, machines: list[Machine]) -> None:
        for machine in machines:
            machine.crash()
            self._world.after(self._random.uniform(*DOWN_S), machine.start)

    def _crash_in_write(self) -> None:
        self._any().crash_in_write(self._random.randint(1, WRITES_MAX))

    def _pause(self, machines: list[Machine]) -> None:
        for machine in machines:
            machine.pause()
            self._world.after(self._random.uniform(*PAUSE_S), machine.resume)

    def _transfer(self) -> None:
        for leader in self._leaders():
            leader.transfer_leadership()

    def _clock_jump(self) -> None:
        """Always the same machine's, and never a lone one's: no rule holds where a majority's clocks are wrong."""
        if self._odds.nodes == 1:
            return
        sign = self._random.choice((-1, 1))
        self._cluster.machines[0].clock.set_off(sign * self._random.randint(*JUMP_MS))
