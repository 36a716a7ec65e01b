"""The server as a whole: its port is its own, its certificates renew in place, health says what it is told."""

import asyncio
import socket

import pytest
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from cluster.services import limits
from cluster.services import server as server_module
from cluster.services.gate import Gate
from cluster.services.server import HEALTH_NAMES, build_server, new_health_servicer, server_credentials
from tests.services.certificates import CLUSTER_ID, Authority, client_uri
from tests.services.direct_node import DirectNode
from tests.services.door import Door


async def node_server(node: DirectNode, connections_max: int = limits.CONNECTIONS_MAX) -> tuple[aio.Server, object]:
    gate = Gate(
        cluster_id=CLUSTER_ID,
        roles_of=node.roles_of,
        is_revoked=node.is_revoked,
        log=None,  # type: ignore[arg-type] # nothing is logged
    )
    health_servicer = await new_health_servicer()
    services = node.services(gate, None)  # type: ignore[arg-type] # nothing is logged
    server = build_server(
        gate=gate,
        authentication=services.authentication,
        administration=services.administration,
        cluster=services.cluster,
        events=services.events,
        health_servicer=health_servicer,
        connections_max=connections_max,
    )
    return server, health_servicer


async def test_a_port_in_use_is_an_error(authority: Authority, node: DirectNode) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        server, _ = await node_server(node)
        with pytest.raises(RuntimeError, match="bind"):
            server.add_secure_port(
                f"127.0.0.1:{taken.getsockname()[1]}", server_credentials(authority.server_identity())
            )
        await server.stop(None)


async def test_two_servers_do_not_share_a_port(door: Door, authority: Authority, node: DirectNode) -> None:
    server, _ = await node_server(node)
    with pytest.raises(RuntimeError, match="bind"):
        server.add_secure_port(door.address, server_credentials(authority.server_identity()))
    await server.stop(None)


async def test_strangers_hold_no_more_connections_than_they_may(
    authority: Authority, node: DirectNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is an open file, and whoever says nothing in TLS is not waited for."""
    monkeypatch.setattr(
        server_module,
        "OPTIONS",
        tuple((name, 1_000 if "handshake" in name else value) for name, value in server_module.OPTIONS),
    )
    server, _ = await node_server(node, connections_max=8)
    port = server.add_secure_port("127.0.0.1:0", server_credentials(authority.server_identity()))
    await server.start()
    loop = asyncio.get_running_loop()

    async def stays() -> bool:
        """Whether the server keeps a silent connection for half a second."""
        with socket.socket() as stranger:
            stranger.setblocking(False)
            await loop.sock_connect(stranger, ("127.0.0.1", port))
            try:
                async with asyncio.timeout(0.5):
                    return bool(await loop.sock_recv(stranger, 1))
            except TimeoutError:
                return True
            except ConnectionResetError:
                return False

    assert sum(await asyncio.gather(*(stays() for _ in range(40)))) <= 8
    await asyncio.sleep(1.5)
    assert await stays(), "there is room again"
    await server.stop(None)


async def test_many_handshakes_at_once(authority: Authority, node: DirectNode) -> None:
    """A crowd of new clients, again and again; credentials that are fetched at each handshake did not survive it."""
    credentials = authority.channel_credentials(authority.leaf(client_uri("x")))
    options = [("grpc.use_local_subchannel_pool", 1)]

    async def greet(port: int) -> None:
        async with aio.secure_channel(f"127.0.0.1:{port}", credentials, options=options) as channel:
            await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=20)

    for _ in range(5):
        server, _ = await node_server(node)
        port = server.add_secure_port("127.0.0.1:0", server_credentials(authority.server_identity()))
        await server.start()
        await asyncio.gather(*(greet(port) for _ in range(60)))
        await server.stop(None)


async def test_a_connection_is_ended_when_it_is_old(
    authority: Authority, node: DirectNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that who is connected shows a certificate again, now and then."""
    ages = {"grpc.max_connection_age_ms": 100, "grpc.max_connection_age_grace_ms": 100}
    assert ages.keys() <= dict(server_module.OPTIONS).keys()
    monkeypatch.setattr(server_module, "OPTIONS", tuple({**dict(server_module.OPTIONS), **ages}.items()))
    server, _ = await node_server(node)
    port = server.add_secure_port("127.0.0.1:0", server_credentials(authority.server_identity()))
    await server.start()
    credentials = authority.channel_credentials(authority.leaf(client_uri("x")))
    async with aio.secure_channel(f"127.0.0.1:{port}", credentials) as channel:
        watched = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        await watched.read()
        with pytest.raises(aio.AioRpcError):
            async with asyncio.timeout(30):
                await watched.read()
        await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), wait_for_ready=True)
    await server.stop(None)


async def test_health_is_what_the_node_says(authority: Authority, node: DirectNode) -> None:
    server, health_servicer = await node_server(node)
    port = server.add_secure_port("127.0.0.1:0", server_credentials(authority.server_identity()))
    await server.start()
    credentials = authority.channel_credentials(authority.leaf(client_uri("x")))
    async with aio.secure_channel(f"127.0.0.1:{port}", credentials) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for serving in (False, True, False):
            await server_module.set_serving(health_servicer, serving=serving)  # type: ignore[arg-type]
            for name in HEALTH_NAMES:
                answer = await stub.Check(health_pb2.HealthCheckRequest(service=name))
                assert (answer.status == health_pb2.HealthCheckResponse.SERVING) == serving
    await server.stop(None)


def test_an_identity_shows_no_key(authority: Authority) -> None:
    assert "PRIVATE KEY" not in repr(authority.server_identity())
