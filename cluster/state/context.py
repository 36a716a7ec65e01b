"""What a handler knows beside its command."""

from typing import NamedTuple, Protocol, TypeVar

from cluster.state.records import Role, Rules
from cluster.state.store import Table

R = TypeVar("R")


class Context(NamedTuple):
    """See the module."""

    now_ms: int  # the log's time
    rules: Rules
    client: str  # the identity that asks
    client_short: str  # as attempts keep it
    request_id: str
    generated: bytes
    roles: frozenset[Role]  # of that identity


class Reads(Protocol):
    """What records can be read of: the state, or a transaction."""

    def read(self, table: Table[R], key: bytes) -> R | None: ...
