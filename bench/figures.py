"""What is counted over and over: percentiles, medians of rounds, and how busy processes were."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import psutil


def percentile(values: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile of at least one value."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def median(values: Iterable[float]) -> float:
    return statistics.median(values)


@dataclass(frozen=True, slots=True)
class Spread:
    """p50, p99 and the largest of many durations, milliseconds."""

    p50_ms: float
    p99_ms: float
    max_ms: float

    @classmethod
    def of(cls, durations_s: Sequence[float]) -> Spread:
        return cls(
            percentile(durations_s, 50) * 1e3, percentile(durations_s, 99) * 1e3, percentile(durations_s, 100) * 1e3
        )


class CpuMeter:
    """The processor time that some processes of this machine take, in seconds."""

    def __init__(self, pids: Iterable[int]) -> None:
        self._processes = [psutil.Process(pid) for pid in pids]
        self._before = self._used()

    def _used(self) -> float:
        times = [process.cpu_times() for process in self._processes]
        return sum(each.user + each.system for each in times)

    def used_s(self) -> float:
        """Since this was made."""
        return self._used() - self._before


def medians(
    rounds: Sequence[dict[str, float]], combine: Callable[[Iterable[float]], float] = median
) -> dict[str, float]:
    """The median of each figure over the rounds."""
    return {name: combine([each[name] for each in rounds]) for name in rounds[0]}
