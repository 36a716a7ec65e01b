"""Questions to the state about leases; as in `reads`, whether it is fresh enough is for the caller to see to."""

from dataclasses import dataclass

from cluster.state.apply import State
from cluster.state.reads import full_client
from cluster.state.store import LEASES


@dataclass(frozen=True, slots=True)
class LeaseView:
    """A lease. `holder` is an identity in full: the last one that had it, where `held` is not so any more."""

    name: str
    holder: str
    epoch: int
    acquired_ms: int
    until_ms: int
    held: bool


def get_lease(state: State, name: str, now_ms: int) -> LeaseView | None:
    """`now_ms` is the caller's clock; the log's time counts where it is later."""
    lease = state.read(LEASES, name.encode())
    if lease is None:
        return None
    held = lease.is_held(max(now_ms, state.position.stamp_ms))
    return LeaseView(name, full_client(state, lease.holder), lease.epoch, lease.acquired_ms, lease.until_ms, held)


def list_leases(state: State, now_ms: int) -> tuple[LeaseView, ...]:
    """All of them, in order of their names; there are at most LEASES_MAX."""
    views = (get_lease(state, key.decode(), now_ms) for key in state.keys(LEASES))
    return tuple(view for view in views if view is not None)
