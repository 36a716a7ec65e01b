"""Counts that cost next to nothing where they are made, and are put into words only when somebody asks."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from typing import Final

# Seconds: from a sync of a fast disk to the longest deadline.
SECONDS: Final = (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.125, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
SIZES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


class Histogram:
    """How often values fell into each bucket; `bounds` are the buckets' upper ends, included, rising."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        assert list(bounds) == sorted(set(bounds)), "the bounds of buckets rise"
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def buckets(self) -> list[tuple[str, float]]:
        """As Prometheus wants them: (upper bound, how many were at most that), up to +Inf."""
        found, below = [], 0
        for bound, count in zip((*map(str, self.bounds), "+Inf"), self.counts, strict=True):
            below += count
            found.append((bound, float(below)))
        return found


class Measures:
    """All that a node counts from its start on. One thread, the loop's, changes it."""

    def __init__(self) -> None:
        self.decisions = Counter[str]()  # by reason
        self.unanswered = Counter[str]()  # by cause
        self.commit_seconds = Histogram(SECONDS)
        self.call_seconds: dict[str, Histogram] = {}  # by method
        self.calls = Counter[tuple[str, str]]()  # by method and status
        self.groups_per_entry = Histogram(SIZES)
        self.commands_per_group = Histogram(SIZES)
        self.sync_seconds = Histogram(SECONDS)
        self.leader_changes = 0
        self.elections = 0
        self.digest_mismatches = 0
        self.snapshots_installed = 0
        self.scrapes_refused = 0

    def called(self, method: str, status: str, seconds: float | None) -> None:
        """A call of "/package.Service/Method" was answered: a method that exists, so that these are few."""
        self.calls[method, status] += 1
        if seconds is None:
            return
        histogram = self.call_seconds.get(method)
        if histogram is None:
            histogram = self.call_seconds[method] = Histogram(SECONDS)
        histogram.observe(seconds)
