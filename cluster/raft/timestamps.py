"""Pure: which stamp an entry may carry, and whether enough clocks agree with it (design: Time).

A stamp from the future would hold time for the whole cluster for ever, so it must never commit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

LEAD_MS_MAX: Final = 2_000
"""How far a stamp may be ahead of a majority's clocks when a leader appends it."""
FOLLOWER_LEAD_MS_MAX: Final = 5_000
"""How far an entry above the leader's commit may be ahead of a follower's own clock."""
READING_AGE_MAX: Final = 1.0
"""Seconds for which a peer's clock, once seen, counts as measured."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A peer's wall clock as its frame carried it, and when that was by our monotonic clock."""

    wall_ms: int
    at: float

    def estimate_ms(self, now: float) -> int:
        return self.wall_ms + round((now - self.at) * 1000)


@dataclass(frozen=True, slots=True)
class Judgement:
    """`slowest`: the member whose clock is furthest behind, where our own is too far ahead of a majority."""

    agreed: bool
    slowest: str | None = None


def next_stamp(own_wall_ms: int, last_stamp_ms: int) -> int:
    return max(own_wall_ms, last_stamp_ms)


def judge(stamp_ms: int, own_wall_ms: int, readings: dict[str, Reading], members: int, now: float) -> Judgement:
    """Whether a majority of `members`, ourselves included, has clocks no more than LEAD_MS_MAX behind `stamp_ms`."""
    fresh = {
        member: reading.estimate_ms(now) for member, reading in readings.items() if now - reading.at <= READING_AGE_MAX
    }
    floor = stamp_ms - LEAD_MS_MAX
    agreeing = sum(1 for clock in fresh.values() if clock >= floor) + (own_wall_ms >= floor)
    if agreeing > members // 2:
        return Judgement(True)
    behind = {member: clock for member, clock in fresh.items() if clock < floor}
    if own_wall_ms >= floor and behind:
        return Judgement(False, min(sorted(behind), key=lambda member: behind[member]))
    return Judgement(False)


def slowest(readings: dict[str, Reading], now: float) -> str | None:
    """The member whose clock, of those heard lately, is furthest behind: it lets time run ahead least."""
    fresh = {
        member: reading.estimate_ms(now) for member, reading in readings.items() if now - reading.at <= READING_AGE_MAX
    }
    return min(sorted(fresh), key=lambda member: fresh[member], default=None)


def majority_offset_ms(own_wall_ms: int, readings: dict[str, Reading], members: int, now: float) -> int | None:
    """How far our clock is ahead of the median of a majority's clocks; None while fewer are measured."""
    clocks = [reading.estimate_ms(now) for reading in readings.values() if now - reading.at <= READING_AGE_MAX]
    clocks.append(own_wall_ms)
    if len(clocks) <= members // 2:
        return None
    clocks.sort()
    return own_wall_ms - clocks[(len(clocks) - 1) // 2]
