"""Lockout: so many failures within so long lock the user for a while; failures fade, and the lock opens by itself.

Pure arithmetic on integer milliseconds of one clock that never goes back (the log's time). A failure counts for
`window_ms` from when it happened, each by itself, so that the count decays and has no edge to wait for.
"""

from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class LockoutPolicy:
    """`failures_max` failures within `window_ms` lock for `duration_ms`. All at least 1."""

    failures_max: int = 5
    window_ms: int = 5 * 60 * 1000
    duration_ms: int = 15 * 60 * 1000

    def __post_init__(self) -> None:
        if min(self.failures_max, self.window_ms, self.duration_ms) < 1:
            raise ValueError("a lockout policy's numbers are at least 1")


class Lockout(NamedTuple):
    """Times of the failures that may still count, oldest first, and until when the user is locked (0: not locked)."""

    failures_ms: tuple[int, ...] = ()
    locked_until_ms: int = 0


CLEAR = Lockout()


def is_locked(lockout: Lockout, now_ms: int) -> bool:
    """Whether attempts are refused at that time. The lock opens at `locked_until_ms` exactly."""
    return now_ms < lockout.locked_until_ms


def failures_at(lockout: Lockout, now_ms: int, policy: LockoutPolicy) -> int:
    """How many failures count at that time."""
    return len(decayed(lockout, now_ms, policy).failures_ms)


def decayed(lockout: Lockout, now_ms: int, policy: LockoutPolicy) -> Lockout:
    """What is left at that time: failures younger than the window, and a lock that is not over."""
    return Lockout(
        tuple(failure for failure in lockout.failures_ms if now_ms - failure < policy.window_ms),
        lockout.locked_until_ms if is_locked(lockout, now_ms) else 0,
    )


def record_failure(lockout: Lockout, now_ms: int, policy: LockoutPolicy) -> Lockout:
    """After one more failure. The one that fills the count locks, and the count starts anew behind the lock."""
    before = decayed(lockout, now_ms, policy)
    failures = (*before.failures_ms, now_ms)
    if len(failures) < policy.failures_max:
        return Lockout(failures, before.locked_until_ms)
    return Lockout((), now_ms + policy.duration_ms)
