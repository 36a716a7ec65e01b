"""The node's clocks, and whether its wall clock may be believed (the design's section "Time").

A wall clock that jumps would put a stamp from the future into the log, or reopen the window of a code that was used.
So a jump is noticed against the monotonic clock, and a node that jumped proposes nothing until a majority agrees with
it again, or an operator has said that the clock is right.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from cluster.node.errors import ClockError

DEPARTURE_MAX_MS = 5_000
# Agreement is the distance at which a leader may still stamp entries.
AGREEMENT_MAX_MS = 2_000
AHEAD_MAX_MS = 30 * 24 * 3_600_000
# A last stamp a little ahead of a restarted machine's clock is ordinary: entries are stamped by other nodes too.
BEHIND_MAX_MS = 2_000


def system_wall_ms() -> int:
    return time.time_ns() // 1_000_000


class NodeClock:
    """Monotonic seconds and wall milliseconds (UTC), with a memory of whether the two went together since the start."""

    __slots__ = ("_baseline_ms", "_monotonic", "_trusted", "_wall_ms")

    def __init__(
        self, monotonic: Callable[[], float] = time.monotonic, wall_ms: Callable[[], int] = system_wall_ms
    ) -> None:
        self._monotonic = monotonic
        self._wall_ms = wall_ms
        self._baseline_ms = self._difference_ms()
        self._trusted = True

    def monotonic(self) -> float:
        return self._monotonic()

    def wall_ms(self) -> int:
        return self._wall_ms()

    def trusted(self) -> bool:
        """False once the wall clock departed by more than 5 s, even if it comes back, until `agree` or `accept`."""
        if abs(self._difference_ms() - self._baseline_ms) > DEPARTURE_MAX_MS:
            self._trusted = False
        return self._trusted

    def agree(self, offsets_ms: Sequence[int | None], voters: int) -> bool:
        """Take in the other voters' wall clocks less ours (None: not known now). True if that restored the trust.

        A lone node has no majority to agree with: only `accept` helps it.
        """
        if self.trusted() or voters < 2:
            return False
        agreeing = 1 + sum(1 for offset in offsets_ms if offset is not None and abs(offset) <= AGREEMENT_MAX_MS)
        if agreeing * 2 <= voters:
            return False
        self.accept()
        return True

    def accept(self) -> None:
        """The wall clock is right as it stands now."""
        self._baseline_ms = self._difference_ms()
        self._trusted = True

    def _difference_ms(self) -> int:
        return self._wall_ms() - int(self._monotonic() * 1000)


def check_lone_start(last_stamp_ms: int, wall_ms: int, *, accepted: bool) -> None:
    """A node with no peers to ask starts only with a clock that fits its data.

    Raises:
        ClockError: it is behind the last stamp, or more than 30 days ahead of it, and nobody said that this is right.
    """
    ahead_ms = wall_ms - last_stamp_ms
    if accepted or -BEHIND_MAX_MS <= ahead_ms <= AHEAD_MAX_MS:
        return
    seconds = abs(ahead_ms) // 1000
    where = "behind" if ahead_ms < 0 else "ahead of"
    raise ClockError(
        f"this machine's clock is {seconds} s {where} the last entry in the data; set the clock right,"
        " or say that it is right with `watchword serve --config FILE --accept-clock`"
    )
