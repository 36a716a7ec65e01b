"""A machine's clocks: monotonic with its own start and rate, wall with an offset that the faults move."""

from random import Random

from tests.simulation.faults import DRIFT_MAX
from tests.simulation.world import World

EPOCH_MS = 1_700_000_000_000  # true time at the start of a history


class SimulatedClock:
    """Drifts at a constant rate; a step or jump moves the wall clock only."""

    def __init__(self, world: World, random: Random) -> None:
        self._world = world
        self._start_s = random.uniform(0, 100_000)
        self._rate = 1 + random.uniform(-DRIFT_MAX, DRIFT_MAX)
        self._offset_ms = random.randint(-100, 100)

    def monotonic(self) -> float:
        return self._start_s + self._world.now * self._rate

    def wall_ms(self) -> int:
        return EPOCH_MS + self._offset_ms + int(self._world.now * self._rate * 1000)

    def set_off(self, offset_ms: int) -> None:
        """From now on, this many milliseconds from true time (and what the drift adds)."""
        self._offset_ms = offset_ms


def true_ms(world: World) -> int:
    return EPOCH_MS + int(world.now * 1000)
