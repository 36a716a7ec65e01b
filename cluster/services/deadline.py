"""How long a call may take: the caller's deadline, less what the answer needs to get back in time."""

from collections.abc import Callable

from cluster.services import limits
from cluster.services.status import deadline_passed


def budget_s(time_remaining: Callable[[], float | None]) -> float:
    """Seconds for the work, more than 0 and at most DEADLINE_S_MAX; DEADLINE_S_DEFAULT where the caller set none.

    Raises:
        CallError: DEADLINE_EXCEEDED where the time has run out already.
    """
    remaining = time_remaining()
    if remaining is None:
        return limits.DEADLINE_S_DEFAULT
    if remaining <= 0:
        raise deadline_passed()
    return less_margin_s(min(remaining, limits.DEADLINE_S_MAX))


def less_margin_s(usable: float) -> float:
    """Seconds, without those that the answer needs to get back."""
    return usable - min(limits.MARGIN_S_MAX, usable * limits.MARGIN_FRACTION)
