"""A real server of a node on loopback, behind mutual TLS, for the tests of the services."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import structlog
from google.rpc import status_pb2
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, PreconditionFailure, ResourceInfo, RetryInfo
from grpc import aio
from structlog.typing import FilteringBoundLogger

from cluster.services.event_source import EventBatch, Wanted
from cluster.services.events import EventsService
from cluster.services.gate import Gate
from cluster.services.server import build_server, new_health_servicer, server_credentials
from cluster.services.status import DETAILS_KEY
from cluster.state.records import Role
from tests.services.certificates import CLUSTER_ID, Authority, Leaf, client_uri
from watchword.v1 import administration_pb2_grpc, authentication_pb2_grpc, cluster_pb2_grpc, events_pb2_grpc

DETAILS = (BadRequest, ErrorInfo, PreconditionFailure, ResourceInfo, RetryInfo)


class NoEvents:
    """An empty trail."""

    async def read(self, _wanted: Wanted, *, limit: int, follow: bool) -> AsyncGenerator[EventBatch, None]:
        yield EventBatch()

    async def names(self, _pseudonyms: frozenset[str]) -> dict[str, str]:
        return {}


@dataclass(frozen=True, slots=True)
class Services:
    """The servicers of a test; those of the generated code answer UNIMPLEMENTED."""

    authentication: authentication_pb2_grpc.AuthenticationServicer
    administration: administration_pb2_grpc.AdministrationServicer
    cluster: cluster_pb2_grpc.ClusterServicer
    events: events_pb2_grpc.EventsServicer = field(default_factory=lambda: EventsService(NoEvents(), str))


class Door:
    """The server's address, and channels to it by the name of a client."""

    def __init__(self, authority: Authority, address: str, log: list[MutableMapping[str, Any]]) -> None:
        self.authority = authority
        self.address = address
        self.log = log
        self._leaves: dict[str, Leaf] = {}
        self._channels: list[aio.Channel] = []

    def channel(self, name: str, *more_options: tuple[str, int]) -> aio.Channel:
        """As the client of this name, whose certificate is made at the first use."""
        if name not in self._leaves:
            self._leaves[name] = self.authority.leaf(client_uri(name))
        return self.channel_of(self._leaves[name], *more_options)

    def channel_of(self, leaf: Leaf | None, *more_options: tuple[str, int]) -> aio.Channel:
        # Channels with equal credentials share connections, and a test's calls must be its own.
        options = [("grpc.use_local_subchannel_pool", 1), *more_options]
        channel = aio.secure_channel(self.address, self.authority.channel_credentials(leaf), options=options)
        self._channels.append(channel)
        return channel

    async def close(self) -> None:
        for channel in self._channels:
            await channel.close()


@asynccontextmanager
async def open_door(
    authority: Authority,
    roles_of: Callable[[str], frozenset[Role]],
    services: Callable[[Gate, FilteringBoundLogger], Services],
    is_revoked: Callable[[str], bool] = lambda _identity: False,
    is_filled: Callable[[], bool] = lambda: True,
) -> AsyncIterator[Door]:
    log: list[MutableMapping[str, Any]] = []
    logger: FilteringBoundLogger = structlog.wrap_logger(None, processors=[_collect(log)])
    gate = Gate(cluster_id=CLUSTER_ID, roles_of=roles_of, is_revoked=is_revoked, is_filled=is_filled, log=logger)
    made = services(gate, logger)
    server = build_server(
        gate=gate,
        authentication=made.authentication,
        administration=made.administration,
        cluster=made.cluster,
        events=made.events,
        health_servicer=await new_health_servicer(),
    )
    port = server.add_secure_port("127.0.0.1:0", server_credentials(authority.server_identity()))
    await server.start()
    door = Door(authority, f"127.0.0.1:{port}", log)
    try:
        yield door
    finally:
        await door.close()
        await server.stop(0)


def _collect(log: list[MutableMapping[str, Any]]) -> Callable[..., Any]:
    def keep(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        log.append(dict(event))
        raise structlog.DropEvent

    return keep


def details_of(error: aio.AioRpcError) -> dict[str, Any]:
    """The google.rpc details of an error, by the name of their type."""
    metadata: Iterable[tuple[str, str | bytes]] = error.trailing_metadata() or ()
    packed = [value for key, value in metadata if key == DETAILS_KEY]
    assert len(packed) == 1, f"no details with {error.code()}: {error.details()}"
    status = status_pb2.Status.FromString(packed[0])
    assert status.code == error.code().value[0]
    assert status.message == error.details()
    found = {}
    for detail in status.details:
        for kind in DETAILS:
            if detail.Is(kind.DESCRIPTOR):
                message = kind()
                detail.Unpack(message)
                found[kind.__name__] = message
    assert len(found) == len(status.details)
    assert found["ErrorInfo"].domain == "watchword"
    assert found["ErrorInfo"].metadata["next"]
    return found


def reason_of(error: aio.AioRpcError) -> str:
    reason: str = details_of(error)["ErrorInfo"].reason
    return reason


def field_of(error: aio.AioRpcError) -> str:
    violations = details_of(error)["BadRequest"].field_violations
    assert len(violations) == 1
    field: str = violations[0].field
    return field
