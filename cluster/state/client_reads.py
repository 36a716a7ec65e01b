"""Questions to the state about clients; as in `reads`, whether it is fresh enough is for the caller to see to."""

from bisect import bisect_right
from dataclasses import dataclass

from cluster.state.apply import State
from cluster.state.clients import client_identity
from cluster.state.records import CLIENT_GENERATIONS_MAX, IssuedCertificate, Role
from cluster.state.store import ROLES


@dataclass(frozen=True, slots=True)
class ClientView:
    """A client. Times are 0 where there is none, or where it is as old as the cluster; `certificates`, oldest first."""

    identity: str
    name: str
    roles: tuple[Role, ...]
    created_ms: int
    created_by: str  # an identity
    revoked_ms: int
    revoked_by: str
    certificates: tuple[IssuedCertificate, ...]


@dataclass(frozen=True, slots=True)
class ClientPage:
    """Clients in order of their identity; `next_after` goes into the next call, and is None at the end."""

    clients: tuple[ClientView, ...]
    next_after: str | None


def get_client(state: State, identity: str) -> ClientView | None:
    record = state.read(ROLES, identity.encode())
    if record is None:
        return None
    prefix = f"watchword://{state.identity.cluster_id}/"
    return ClientView(
        identity,
        identity.removeprefix(f"{prefix}client/").partition("/")[0],
        record.roles,
        record.created_ms,
        record.created_by and prefix + record.created_by,
        record.revoked_ms,
        record.revoked_by and prefix + record.revoked_by,
        record.certificates,
    )


def list_clients(state: State, after: str, limit: int) -> ClientPage:
    """Up to `limit` clients, those that were revoked included, whose identity comes after `after`."""
    assert limit > 0, "a page holds at least one client"
    order = state.keys(ROLES)
    start = bisect_right(order, after.encode()) if after else 0
    views = [get_client(state, key.decode()) for key in order[start : start + limit]]
    clients = tuple(view for view in views if view is not None)
    return ClientPage(clients, clients[-1].identity if start + limit < len(order) else None)


def client_with(state: State, name: str, serial: bytes) -> tuple[ClientView, IssuedCertificate] | None:
    """The generation of that name to which a certificate with that serial number was issued, the latest first."""
    found = None
    for generation in range(1, CLIENT_GENERATIONS_MAX + 1):
        view = get_client(state, client_identity(state.identity.cluster_id, name, generation))
        if view is None:
            break
        for certificate in view.certificates:
            if certificate.serial == serial:
                found = view, certificate
    return found


def is_revoked(state: State, identity: str) -> bool:
    """Whether the identity was one of this cluster's clients and is none any more."""
    record = state.read(ROLES, identity.encode())
    return record is not None and record.revoked_ms > 0
