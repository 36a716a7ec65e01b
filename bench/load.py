"""A closed loop of callers: each calls again as soon as it is answered. One process, one event loop."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from bench.figures import CpuMeter, Spread

WARM_UP_S = 1.0
# Level by level: in flight, and for how long calls are counted.
LEVELS: tuple[tuple[int, float], ...] = ((1, 4.0), (64, 5.0), (192, 6.0))


@dataclass(frozen=True, slots=True)
class Load:
    """What one closed loop saw. Processor time is in cores: 1.0 is one core all the time."""

    calls: int
    seconds: float
    latency: Spread
    generator_cores: float
    server_cores: float

    @property
    def a_second(self) -> float:
        return self.calls / self.seconds

    def as_figures(self) -> dict[str, float]:
        return {
            "calls_per_second": self.a_second,
            "p50_ms": self.latency.p50_ms,
            "p99_ms": self.latency.p99_ms,
            "max_ms": self.latency.max_ms,
            "load_generator_cores": self.generator_cores,
            "server_cores": self.server_cores,
        }


async def closed_loop(
    in_flight: int, seconds: float, call: Callable[[int], Awaitable[None]], server_pids: Sequence[int]
) -> Load:
    """`call(caller)` makes one call and raises where it fails; callers are numbered from 0."""
    durations: list[float] = []
    counting = over = False

    async def caller(number: int) -> None:
        clock = time.perf_counter
        while not over:
            before = clock()
            await call(number)
            if counting:
                durations.append(clock() - before)

    callers = [asyncio.create_task(caller(number)) for number in range(in_flight)]
    await asyncio.sleep(WARM_UP_S)
    generator, servers = CpuMeter([os.getpid()]), CpuMeter(server_pids)
    started, counting = time.perf_counter(), True
    await asyncio.wait(callers, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
    counting = False
    elapsed = time.perf_counter() - started
    generator_s, servers_s = generator.used_s(), servers.used_s()
    over = True
    await asyncio.gather(*callers)
    return Load(len(durations), elapsed, Spread.of(durations), generator_s / elapsed, servers_s / elapsed)
