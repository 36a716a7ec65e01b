"""The door: who gets in, how many, and what is said when something goes wrong behind it."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from cluster.services import limits, roles
from cluster.services.gate import current_caller
from cluster.state.records import Role
from tests.services.certificates import Authority, client_uri
from tests.services.door import Door, Services, details_of, open_door, reason_of
from watchword.v1 import (
    administration_pb2,
    administration_pb2_grpc,
    authentication_pb2,
    authentication_pb2_grpc,
    cluster_pb2,
    cluster_pb2_grpc,
    events_pb2,
)

SECRET_TEXT = "hunter2"


class Authentication(authentication_pb2_grpc.AuthenticationServicer):
    """Answers with the caller's name, waits to be let go, or breaks."""

    def __init__(self) -> None:
        self.entered = asyncio.Semaphore(0)
        self.let_go = asyncio.Event()

    async def Verify(  # noqa: N802 - named as in the contract
        self, request: authentication_pb2.VerifyRequest, context: Any
    ) -> authentication_pb2.VerifyResponse:
        if request.user_id == "break":
            raise RuntimeError(f"the passcode was {request.passcode}")
        if request.user_id == "wait":
            self.entered.release()
            await self.let_go.wait()
        return authentication_pb2.VerifyResponse(token_id=current_caller().identity)


@pytest.fixture
def authentication() -> Authentication:
    return Authentication()


@pytest.fixture
async def door(authority: Authority, authentication: Authentication) -> AsyncIterator[Door]:
    """Each client has the role that it is named after."""
    identities = {client_uri(role.value): frozenset({role}) for role in Role}
    services = Services(
        authentication, administration_pb2_grpc.AdministrationServicer(), cluster_pb2_grpc.ClusterServicer()
    )
    async with open_door(
        authority, lambda uri: identities.get(uri, frozenset()), lambda _gate, _log: services
    ) as opened:
        yield opened


def every_rpc() -> list[tuple[str, type[Message]]]:
    """Every RPC of the contract, out of its descriptors, with the class of its request."""
    return [
        (f"/{service.full_name}/{method.name}", GetMessageClass(method.input_type))
        for module in (authentication_pb2, administration_pb2, cluster_pb2, events_pb2)
        for service in module.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    ]


async def code_of(call: Any) -> grpc.StatusCode:
    try:
        await call
    except aio.AioRpcError as error:
        code: grpc.StatusCode = error.code()
        return code
    return grpc.StatusCode.OK


def test_the_table_holds_every_rpc_of_the_contract_and_no_other() -> None:
    assert set(roles.ALLOWED) == {method for method, _ in every_rpc()}


def test_every_service_has_a_bound_in_flight() -> None:
    methods = {*roles.ALLOWED, *roles.FOR_ANY_CERTIFICATE}
    assert set(limits.CALLS_IN_FLIGHT_MAX) == {method[1:].partition("/")[0] for method in methods}


def test_a_helpdesk_sees_no_secrets_and_an_auditor_changes_nothing() -> None:
    changing = {method for method, request in every_rpc() if "request_id" in request.DESCRIPTOR.fields_by_name}
    own = "/watchword.v1.Administration/RenewClient"  # its own certificate
    assert {method for method in changing if Role.AUDITOR in roles.ALLOWED[method]} == {own}
    assert Role.HELPDESK not in roles.ALLOWED["/watchword.v1.Administration/AddToken"]
    assert {method for method, allowed in roles.ALLOWED.items() if not allowed} == roles.FOR_INVITED
    assert {method for method, allowed in roles.ALLOWED.items() if Role.FRONTEND in allowed} == {
        "/watchword.v1.Authentication/Verify",
        "/watchword.v1.Authentication/VerifyStream",
        "/watchword.v1.Authentication/ChangePin",
        "/watchword.v1.Cluster/GetStatus",
        own,
    }


def test_every_rpc_that_changes_something_has_a_request_id() -> None:
    reads = {"GetUser", "ListUsers", "ListTokens", "GetSettings", "ListClients", "ListLeases", "GetStatus", "Read"}
    without = {method for method, request in every_rpc() if "request_id" not in request.DESCRIPTOR.fields_by_name}
    assert {method.rpartition("/")[2] for method in without} == {*reads, "VerifyStream"}, "which has one a request"


@pytest.mark.parametrize("name", [*Role, "nobody"])
async def test_every_rpc_for_every_role(door: Door, name: str) -> None:
    """The whole table, through TLS: what is allowed gets past the door, and the rest does not."""
    channel = door.channel(name)
    for method, request in every_rpc():
        call = channel.unary_unary(method, request_serializer=request.SerializeToString)
        code = await code_of(call(request(), timeout=10))
        allowed = name in set(Role) and Role(name) in roles.ALLOWED[method]
        assert (code is not grpc.StatusCode.PERMISSION_DENIED) == allowed, (name, method, code)


async def test_a_certificate_that_was_revoked_gets_nowhere(
    authority: Authority, authentication: Authentication
) -> None:
    """Also past what is for every certificate; and on a connection that was open before."""
    gone: set[str] = set()
    services = Services(
        authentication, administration_pb2_grpc.AdministrationServicer(), cluster_pb2_grpc.ClusterServicer()
    )

    def roles_of(uri: str) -> frozenset[Role]:
        return frozenset() if uri in gone else frozenset({Role.FRONTEND})

    async with open_door(authority, roles_of, lambda _gate, _log: services, gone.__contains__) as door:
        channel = door.channel("frontend")
        await authentication_pb2_grpc.AuthenticationStub(channel).Verify(authentication_pb2.VerifyRequest())
        gone.add(client_uri("frontend"))
        for call in (
            authentication_pb2_grpc.AuthenticationStub(channel).Verify(authentication_pb2.VerifyRequest()),
            health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest()),
            health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest()).read(),
            cluster_pb2_grpc.ClusterStub(channel).GetStatus(cluster_pb2.GetStatusRequest()),
        ):
            with pytest.raises(aio.AioRpcError) as raised:
                await call
            assert raised.value.code() is grpc.StatusCode.UNAUTHENTICATED
            assert reason_of(raised.value) == "CERTIFICATE_REVOKED"


async def test_a_refusal_says_why(door: Door) -> None:
    stub = cluster_pb2_grpc.ClusterStub(door.channel("nobody"))
    with pytest.raises(aio.AioRpcError) as raised:
        await stub.GetStatus(cluster_pb2.GetStatusRequest())
    assert raised.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert reason_of(raised.value) == "NOT_ALLOWED"
    assert [(event["event"], event["reason"]) for event in door.log] == [("call_refused", "NOT_ALLOWED")]


async def test_the_log_takes_no_request_id_that_could_forge_a_line(door: Door) -> None:
    stub = authentication_pb2_grpc.AuthenticationStub(door.channel("nobody"))
    with pytest.raises(aio.AioRpcError):
        await stub.Verify(authentication_pb2.VerifyRequest(request_id="r-1\nforged", user_id="alice"))
    assert [event["request_id"] for event in door.log] == [""]
    assert "alice" not in str(door.log)


async def test_the_caller_is_the_certificates_identity(door: Door) -> None:
    stub = authentication_pb2_grpc.AuthenticationStub(door.channel("frontend"))
    answers = await asyncio.gather(*(stub.Verify(authentication_pb2.VerifyRequest()) for _ in range(20)))
    assert {answer.token_id for answer in answers} == {client_uri("frontend")}


@pytest.mark.parametrize(
    "uris",
    [
        (),
        (client_uri("frontend", "ee" * 16),),
        ("watchword://short/client/frontend",),
        (client_uri("frontend") + "/more",),
        (client_uri("frontend"), client_uri("operator")),
        ("https://example.org/frontend",),
    ],
)
async def test_certificates_without_one_identity_of_this_cluster(door: Door, uris: tuple[str, ...]) -> None:
    channel = door.channel_of(door.authority.leaf(*uris))
    with pytest.raises(aio.AioRpcError) as raised:
        await authentication_pb2_grpc.AuthenticationStub(channel).Verify(authentication_pb2.VerifyRequest())
    assert raised.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert reason_of(raised.value) == "NO_IDENTITY"


async def test_certificates_that_tls_refuses(door: Door) -> None:
    expired = door.authority.leaf(client_uri("frontend"), valid_for=timedelta(hours=-1))
    strange = Authority().leaf(client_uri("frontend"))
    for leaf in (None, expired, strange):
        stub = cluster_pb2_grpc.ClusterStub(door.channel_of(leaf))
        with pytest.raises(aio.AioRpcError) as raised:
            await stub.GetStatus(cluster_pb2.GetStatusRequest(), timeout=10)
        assert raised.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_health_and_reflection_are_for_every_certificate_of_the_cluster(door: Door) -> None:
    node = door.channel_of(door.authority.leaf(f"watchword://{'c0' * 16}/node/{'d1' * 16}"))
    for channel in (node, door.channel("nobody")):
        health = health_pb2_grpc.HealthStub(channel)
        answer = await health.Check(health_pb2.HealthCheckRequest())
        assert answer.status == health_pb2.HealthCheckResponse.NOT_SERVING
        watched = health.Watch(health_pb2.HealthCheckRequest(service="watchword.v1.Authentication"))
        assert (await watched.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        watched.cancel()
        reflection = reflection_pb2_grpc.ServerReflectionStub(channel)
        asked = reflection.ServerReflectionInfo(
            iter([reflection_pb2.ServerReflectionRequest(list_services="*")]), timeout=10
        )
        listed = await asked.read()
        assert {service.name for service in listed.list_services_response.service} == {
            "grpc.health.v1.Health",
            "grpc.reflection.v1alpha.ServerReflection",
            "watchword.v1.Administration",
            "watchword.v1.Authentication",
            "watchword.v1.Cluster",
            "watchword.v1.Events",
        }


async def test_health_is_for_nobody_else(door: Door) -> None:
    health = health_pb2_grpc.HealthStub(door.channel_of(door.authority.leaf(client_uri("x", "ee" * 16))))
    assert await code_of(health.Check(health_pb2.HealthCheckRequest())) is grpc.StatusCode.UNAUTHENTICATED
    watched = health.Watch(health_pb2.HealthCheckRequest())
    assert await code_of(watched.read()) is grpc.StatusCode.UNAUTHENTICATED


async def test_a_method_that_does_not_exist(door: Door) -> None:
    call = door.channel("operator").unary_unary("/watchword.v1.Cluster/Destroy")
    assert await code_of(call(b"")) is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("data", [b"\x0a\xff\xff", b"\xff" * 100, b"\x12\x02\xc3\x28"])
async def test_what_is_no_message_is_the_callers_mistake(door: Door, data: bytes) -> None:
    """The last one is a user_id that is not UTF-8."""
    call = door.channel("frontend").unary_unary("/watchword.v1.Authentication/Verify")
    with pytest.raises(aio.AioRpcError) as raised:
        await call(data)
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert reason_of(raised.value) == "MALFORMED_MESSAGE"


async def test_what_is_no_message_in_a_stream(door: Door) -> None:
    call = door.channel("frontend").stream_stream("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")
    with pytest.raises(aio.AioRpcError) as raised:
        await call(iter([b"\xff\xff"]), timeout=10).read()
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_message_that_is_too_large_is_not_read(door: Door) -> None:
    stub = authentication_pb2_grpc.AuthenticationStub(door.channel("frontend"))
    request = authentication_pb2.VerifyRequest(passcode="1" * limits.MESSAGE_RECEIVED_BYTES_MAX)
    assert await code_of(stub.Verify(request)) is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_metadata_that_is_too_large_is_refused(door: Door) -> None:
    stub = authentication_pb2_grpc.AuthenticationStub(door.channel("frontend"))
    metadata = (("x-filler", "x" * 2 * limits.METADATA_BYTES_MAX),)
    call = stub.Verify(authentication_pb2.VerifyRequest(), metadata=metadata)
    assert await code_of(call) is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_more_calls_than_may_be_in_flight_are_refused(
    door: Door, authentication: Authentication, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(limits.CALLS_IN_FLIGHT_MAX, "watchword.v1.Authentication", 3)
    channel = door.channel("frontend")
    stub = authentication_pb2_grpc.AuthenticationStub(channel)
    waiting = [asyncio.ensure_future(stub.Verify(authentication_pb2.VerifyRequest(user_id="wait"))) for _ in range(3)]
    for _ in waiting:
        await authentication.entered.acquire()
    with pytest.raises(aio.AioRpcError) as raised:
        await stub.Verify(authentication_pb2.VerifyRequest())
    assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert details_of(raised.value)["RetryInfo"].retry_delay.ToMilliseconds() > 0
    # A crowd at one door leaves the others open, and its own is open again when it has gone.
    assert (
        await code_of(health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())) is grpc.StatusCode.OK
    )
    authentication.let_go.set()
    await asyncio.gather(*waiting)
    await stub.Verify(authentication_pb2.VerifyRequest())


async def test_a_caller_that_goes_away_makes_room(
    door: Door, authentication: Authentication, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(limits.CALLS_IN_FLIGHT_MAX, "watchword.v1.Authentication", 1)
    stub = authentication_pb2_grpc.AuthenticationStub(door.channel("frontend"))
    gone = stub.Verify(authentication_pb2.VerifyRequest(user_id="wait"))
    waiting = asyncio.ensure_future(gone)
    await authentication.entered.acquire()
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    async with asyncio.timeout(10):
        # The server learns of it by a message that may come behind the next call.
        while await code_of(stub.Verify(authentication_pb2.VerifyRequest())) is not grpc.StatusCode.OK:
            pass


async def test_what_breaks_inside_leaks_nothing(door: Door) -> None:
    stub = authentication_pb2_grpc.AuthenticationStub(door.channel("frontend"))
    with pytest.raises(aio.AioRpcError) as raised:
        await stub.Verify(authentication_pb2.VerifyRequest(request_id="r-1", user_id="break", passcode=SECRET_TEXT))
    assert raised.value.code() is grpc.StatusCode.INTERNAL
    assert reason_of(raised.value) == "INTERNAL"
    assert SECRET_TEXT not in str(raised.value)
    (event,) = door.log
    assert event["event"] == "call_failed"
    assert (event["error"], event["request_id"]) == ("RuntimeError", "r-1")
    assert any("Verify" in frame for frame in event["where"])
    assert SECRET_TEXT not in str(event)
