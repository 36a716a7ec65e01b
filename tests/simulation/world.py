"""The simulated world's time: a queue of events, one source of randomness for each concern, and the trace.

Nothing in a history may depend on anything else: no real clock, no real randomness, no order of a set.
"""

import hashlib
import heapq
from collections import Counter, deque
from collections.abc import Callable
from random import Random
from typing import Any

TRACE_LINES = 120


class Violation(AssertionError):
    """A promise was broken; the message says which, and how."""


class World:
    """Time in seconds since the start of the history; events run one at a time, in the order of their times."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.now = 0.0
        self.steps = 0
        self.counts: Counter[str] = Counter()
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._scheduled = 0
        self._hash = hashlib.blake2b(digest_size=16)
        self._trace: deque[tuple[int, float, tuple[Any, ...]]] = deque(maxlen=TRACE_LINES)

    def random(self, concern: str) -> Random:
        """An own stream for each concern, so that a change in one leaves the others as they were."""
        return Random(f"{self.seed}/{concern}")

    def after(self, delay_s: float, action: Callable[..., None], *arguments: Any) -> None:
        self._scheduled += 1
        heapq.heappush(self._events, (self.now + delay_s, self._scheduled, action, arguments))

    def run_until(self, end: float) -> None:
        """Run all events up to that time."""
        events = self._events
        while events and events[0][0] <= end:
            self.now, _, action, arguments = heapq.heappop(events)
            self.steps += 1
            action(*arguments)
        self.now = end

    def note(self, *parts: Any) -> None:
        """One line of the trace: counted, hashed, and kept for a while. Parts are plain values with a stable repr."""
        self._hash.update(repr((self.steps, self.now, parts)).encode())
        self._trace.append((self.steps, self.now, parts))

    @property
    def trace_hash(self) -> str:
        return self._hash.hexdigest()

    def trimmed_trace(self) -> str:
        return "\n".join(f"{step:>8} {now:>10.4f}s  {' '.join(map(_text, parts))}" for step, now, parts in self._trace)


def _text(part: object) -> str:
    if isinstance(part, bytes):
        return part[:8].hex()
    return part if isinstance(part, str) else repr(part)
