"""The fault table: what goes wrong in a history, and how often. Drawn anew for each seed, from calm to hell.

Each fault is on in `chance` of the histories; its odds are then drawn between `low` and `high`, evenly in the
logarithm, and multiplied by the history's severity (0 to 1, where one history in ten has 0 and one in four has 1).
"""

import math
from dataclasses import dataclass
from random import Random
from typing import NamedTuple


class Fault(NamedTuple):
    """One row of the table."""

    unit: str
    chance: float
    low: float
    high: float


FAULTS = {
    # of each message, where connections are not in order
    "loss": Fault("a message", 0.6, 0.002, 0.25),
    "duplication": Fault("a message", 0.6, 0.002, 0.15),
    "late": Fault("a message", 0.6, 0.002, 0.10),  # reordered far: delayed by up to LATE_S_MAX
    # of the network
    "cut": Fault("a second", 0.6, 0.2, 6.0),  # one connection breaks; what was on its way is lost
    "partition": Fault("a second", 0.6, 0.1, 1.5),  # a random side against the other, both ways
    "one_way": Fault("a second", 0.4, 0.1, 1.5),  # one direction between two nodes, or out of one node
    "isolate_leader": Fault("a second", 0.4, 0.1, 1.0),
    # of processes
    "crash": Fault("a second", 0.7, 0.1, 2.0),
    "crash_leader": Fault("a second", 0.5, 0.1, 1.0),
    "crash_all": Fault("a second", 0.4, 0.03, 0.3),
    "crash_in_write": Fault("a second", 0.6, 0.1, 2.0),  # in the middle of one of the next disk operations
    "pause": Fault("a second", 0.4, 0.1, 1.0),
    "pause_leader": Fault("a second", 0.4, 0.05, 0.6),
    "transfer": Fault("a second", 0.4, 0.1, 1.0),  # the leader hands its office over
    "members": Fault("a second", 0.6, 0.2, 2.0),  # an operator lets a machine join, or removes one
    # of disks
    "slow_sync": Fault("a sync", 0.5, 0.01, 0.3),  # takes up to SLOW_SYNC_S_MAX
    "sync_fails": Fault("a second", 0.3, 0.05, 0.4),  # the disk says no: the node stops, and comes back later
    # of clocks; steps are within what nodes tolerate, or beyond
    "clock_step": Fault("a second", 0.4, 0.1, 1.0),
    "clock_jump": Fault("a second", 0.3, 0.05, 0.3),
    # of clients
    "answer_lost": Fault("an answer", 0.6, 0.01, 0.3),
    "connection_refused": Fault("a request", 0.4, 0.01, 0.2),
}

LATE_S_MAX = 3.0
SLOW_SYNC_S_MAX = 1.5
OUTAGE_S = (0.05, 3.0)  # how long a partition lasts
DOWN_S = (0.05, 3.0)  # how long a crashed node stays away
PAUSE_S = (0.05, 4.0)
STEP_MS_MAX = 1_500  # a clock within the bounds
JUMP_MS = (6_000, 40 * 86_400_000)  # a clock beyond them
DRIFT_MAX = 2e-4
QUANTITIES = {"transfer", "members"}  # no harm in itself: not counted as a fault


@dataclass(frozen=True, slots=True)
class Odds:
    """One history's conditions."""

    severity: float
    of: dict[str, float]  # by the fault's name, for faults that are on
    in_order: bool  # connections keep the order and lose only what a cut takes
    nodes: int
    delay_s: tuple[float, float]
    sync_s: tuple[float, float]
    snapshot_entries: int  # a data file after so many entries
    tail_bytes: int  # how much journal is kept behind it for those who lag
    segment_bytes: int
    chunk_bytes: int  # of a snapshot on the wire
    clients: int
    users: int
    think_s: float

    def hits(self, name: str, random: Random) -> bool:
        odds = self.of.get(name)
        return odds is not None and random.random() < odds


def _between(random: Random, low: float, high: float) -> float:
    return math.exp(random.uniform(math.log(low), math.log(high)))


def draw(random: Random, nodes: int | None = None, severity: float | None = None) -> Odds:
    """The conditions of one history; what is given is not drawn."""
    mood, between = random.random(), random.random()
    if severity is None:
        severity = 0.0 if mood < 0.1 else 1.0 if mood > 0.75 else between
    of = {}
    for name, fault in FAULTS.items():
        on, odds = random.random() < fault.chance, _between(random, fault.low, fault.high)
        if on and severity > 0:
            of[name] = odds * severity
    fastest, syncing = _between(random, 0.0001, 0.005), _between(random, 0.0001, 0.01)
    return Odds(
        severity=severity,
        of=of,
        in_order=random.random() < 0.5,
        nodes=nodes or random.choices((1, 3, 5), (1, 6, 3))[0],
        delay_s=(fastest, fastest * random.uniform(1.5, 10)),
        sync_s=(syncing, syncing * random.uniform(1.5, 10)),
        snapshot_entries=round(_between(random, 4, 200)),
        tail_bytes=random.choice((0, 0, 1_000, 10_000, 100_000)),
        segment_bytes=round(_between(random, 1_000, 200_000)),
        chunk_bytes=random.choice((1_000, 5_000, 100_000)),
        clients=random.randint(2, 8),
        users=random.randint(1, 6),
        think_s=_between(random, 0.06, 0.5),
    )
