"""The port changes its certificate under load, and nobody's call fails."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable

import pytest
from cryptography import x509
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from cluster.node import front_door
from cluster.node.certificates import Credential, client_identity, issue_client
from cluster.node.clock import system_wall_ms
from cluster.node.configuration import Address
from cluster.node.errors import AddressError
from cluster.node.front_door import FrontDoor
from cluster.node.identity import TlsFiles
from cluster.node.listening import Listeners, listen
from cluster.services.gate import Gate
from cluster.services.server import build_server, new_health_servicer
from tests.node.credentials import TestCluster
from tests.services.certificates import CLUSTER_ID
from tests.services.direct_node import DirectNode
from watchword.v1 import authentication_pb2, authentication_pb2_grpc, events_pb2_grpc

MEMBER_ID = "d0" * 16
CLUSTER = TestCluster.make(CLUSTER_ID)
FRONTEND = issue_client(CLUSTER.issuing, client_identity(CLUSTER_ID, "frontend"), system_wall_ms())


def tls_files(credential: Credential) -> TlsFiles:
    return TlsFiles(CLUSTER.root.chain_pem, credential.chain_pem, credential.key_pem)


def free_address() -> Address:
    with listen(Address("127.0.0.1", 0), "any") as listening:
        return Address("127.0.0.1", listening.getsockname()[1])


@pytest.fixture
async def make_server() -> Callable[[bool], aio.Server]:
    node, health_servicer = DirectNode(), await new_health_servicer()
    gate = Gate(
        cluster_id=CLUSTER_ID,
        roles_of=node.roles_of,
        is_revoked=node.is_revoked,
        log=None,  # type: ignore[arg-type] # nothing is logged
    )
    services = node.services(gate, None)  # type: ignore[arg-type] # nothing is logged

    def make(shares_port: bool) -> aio.Server:
        return build_server(
            gate=gate,
            authentication=services.authentication,
            administration=services.administration,
            cluster=services.cluster,
            events=events_pb2_grpc.EventsServicer(),
            health_servicer=health_servicer,
            shares_port=shares_port,
        )

    return make


@pytest.fixture
async def door(make_server: Callable[[bool], aio.Server]) -> AsyncIterator[FrontDoor]:
    door = FrontDoor(free_address(), make_server, drain_s=5.0)
    await door.open(tls_files(CLUSTER.node(MEMBER_ID)))
    yield door
    await door.close(0.0)


def channel(door: FrontDoor) -> aio.Channel:
    from grpc import ssl_channel_credentials

    credentials = ssl_channel_credentials(CLUSTER.root.chain_pem, FRONTEND.key_pem, FRONTEND.chain_pem)
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
    return aio.secure_channel(str(door._address), credentials, options=options)


async def verify(channel: aio.Channel, request_id: str) -> None:
    request = authentication_pb2.VerifyRequest(request_id=request_id, user_id="nobody", passcode="1")
    await authentication_pb2_grpc.AuthenticationStub(channel).Verify(request, timeout=60)


async def shown(door: FrontDoor) -> int:
    """The serial number of the certificate that a new connection sees."""
    context = ssl.create_default_context(cadata=CLUSTER.root.chain_pem.decode())
    context.set_alpn_protocols(["h2"])
    _, writer = await asyncio.open_connection(*door._address, ssl=context)
    certificate = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return x509.load_der_x509_certificate(certificate).serial_number


def serial(credential: Credential) -> int:
    return x509.load_pem_x509_certificate(credential.chain_pem).serial_number


async def test_no_call_fails_while_the_certificate_changes_again_and_again(door: FrontDoor) -> None:
    """Callers that keep a connection, and callers that make one for each call; without any retry of gRPC's."""
    over = asyncio.Event()
    answered = [0] * 8

    async def stay(number: int) -> None:
        async with channel(door) as own:
            while not over.is_set():
                await verify(own, f"{number}-{answered[number]}")
                answered[number] += 1

    async def come_and_go(number: int) -> None:
        while not over.is_set():
            async with channel(door) as own:
                await verify(own, f"{number}-{answered[number]}")
                answered[number] += 1

    callers = [asyncio.ensure_future((stay if number < 4 else come_and_go)(number)) for number in range(8)]
    for _ in range(6):
        before = list(answered)
        credential = CLUSTER.node(MEMBER_ID)
        await door.change(tls_files(credential), distrusted=False)
        assert await shown(door) == serial(credential)
        async with asyncio.timeout(60):
            while not all(now > then for now, then in zip(answered, before, strict=True)):
                await asyncio.sleep(0.01)
                for caller in callers:
                    assert not caller.done(), caller.exception()
    over.set()
    await asyncio.gather(*callers)


async def test_connections_of_before_end_where_the_roots_changed(
    door: FrontDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with channel(door) as own:
        await verify(own, "1")
        watched = health_pb2_grpc.HealthStub(own).Watch(health_pb2.HealthCheckRequest())
        await watched.read()
        door._drain_s = 0.0
        await door.change(tls_files(CLUSTER.node(MEMBER_ID)), distrusted=True)
        with pytest.raises(aio.AioRpcError):
            async with asyncio.timeout(60):
                await watched.read()


async def test_a_port_in_use_is_refused_before_during_and_after_a_change(
    door: FrontDoor, make_server: Callable[[bool], aio.Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    tls = tls_files(CLUSTER.node(MEMBER_ID))

    async def refused() -> None:
        with pytest.raises(AddressError, match="client_address"):
            await FrontDoor(door._address, make_server, drain_s=0.0).open(tls)

    await refused()
    monkeypatch.setattr(front_door, "ACCEPTED_S", 0.5)
    change = asyncio.ensure_future(door.change(tls, distrusted=False))
    await asyncio.sleep(0.1)
    await refused()
    await change
    await refused()


async def test_a_port_that_is_closed_is_free_again(make_server: Callable[[bool], aio.Server]) -> None:
    address = free_address()
    for _ in range(2):
        door = FrontDoor(address, make_server, drain_s=0.0)
        await door.open(tls_files(CLUSTER.node(MEMBER_ID)))
        await door.change(tls_files(CLUSTER.node(MEMBER_ID)), distrusted=False)
        await door.close(0.0)
        listen(address, "client_address").close()


async def test_a_door_that_is_closed_in_the_midst_of_a_change(make_server: Callable[[bool], aio.Server]) -> None:
    door = FrontDoor(free_address(), make_server, drain_s=0.0)
    await door.open(tls_files(CLUSTER.node(MEMBER_ID)))
    change = asyncio.ensure_future(door.change(tls_files(CLUSTER.node(MEMBER_ID)), distrusted=False))
    await asyncio.sleep(0.05)
    change.cancel()
    with pytest.raises(asyncio.CancelledError):
        await change
    await door.close(0.0)
    listen(door._address, "client_address").close()


def test_only_what_was_opened_meanwhile_is_found() -> None:
    with listen(Address("127.0.0.1", 0), "other"):
        own, found = Listeners.opened_by(lambda: listen(Address("127.0.0.1", 0), "own"))
        assert len(found) == 1
        found.forget()
        assert len(found) == 0
        own.close()
