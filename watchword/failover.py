"""Which endpoint is tried when, and for how long.  Pure: time and randomness come in, attempts come out.

All attempts of a call carry one request id, so trying again is safe: a node that has answered answers the same.
"""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FailoverPolicy:
    """Seconds throughout.  `attempt_s_max` is short beside a call's whole time, so that a hung node costs a part of it
    and not all; `backoff_first_s` doubles with every further round up to `backoff_s_max`, and half of it is drawn."""

    attempt_s_max: float = 2.5
    attempt_s_min: float = 0.05
    backoff_first_s: float = 0.05
    backoff_s_max: float = 1.0

    def __post_init__(self) -> None:
        assert 0 < self.attempt_s_min <= self.attempt_s_max
        assert 0 < self.backoff_first_s <= self.backoff_s_max


@dataclass(frozen=True, slots=True)
class Attempt:
    """Wait `delay_s`, then ask the endpoint of index `endpoint` for at most `timeout_s`."""

    endpoint: int
    delay_s: float
    timeout_s: float


class Failover:
    """The attempts of one call.

    Each endpoint is tried once without waiting, beginning with `first`; after that, and wherever a node says that it
    has too much to do, with a jittered wait.  `deadline` and every `now` are readings of one monotonic
    clock; `random` draws from [0, 1).
    """

    def __init__(
        self, policy: FailoverPolicy, endpoints: int, first: int, deadline: float, random: Callable[[], float]
    ) -> None:
        assert 0 <= first < endpoints
        self._policy = policy
        self._endpoints = endpoints
        self._first = first
        self._deadline = deadline
        self._random = random
        self._attempts = 0
        self._overloads = 0
        self._retry_after_s = 0.0

    def next(self, now: float) -> Attempt | None:
        """The next attempt; None where the time that is left is too short for one."""
        delay_s = self._delay_s()
        left_s = self._deadline - now - delay_s
        if left_s < self._policy.attempt_s_min:
            return None
        endpoint = (self._first + self._attempts) % self._endpoints
        self._attempts += 1
        return Attempt(endpoint, delay_s, min(left_s, self._policy.attempt_s_max))

    def failed(self, *, overloaded: bool = False, retry_after_s: float = 0.0) -> None:
        """The last attempt got no answer; `overloaded` where the node had too much to do."""
        assert self._attempts, "what fails has been tried"
        self._overloads += overloaded
        self._retry_after_s = max(retry_after_s, 0.0)
        if not overloaded and self._attempts < self._endpoints:
            self._retry_after_s = 0.0  # one node's view of when it will be back says nothing about the next

    def _delay_s(self) -> float:
        repeats = max(self._attempts - self._endpoints + 1, self._overloads, 0)
        if repeats == 0:
            return 0.0
        policy = self._policy
        backoff_s = min(policy.backoff_first_s * 2.0 ** min(repeats - 1, 32), policy.backoff_s_max)
        jittered_s = backoff_s * (0.5 + self._random() / 2)
        return max(jittered_s, min(self._retry_after_s, policy.backoff_s_max) * (1.0 + self._random() / 4))
