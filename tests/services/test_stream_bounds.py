"""Authentication.VerifyStream through the door: how much may be under way, and how a stream ends."""

import asyncio
from collections.abc import AsyncIterator, Awaitable

import grpc
import pytest

from cluster.services import limits
from cluster.services.streams import StreamLimits
from tests.services.certificates import Authority
from tests.services.direct_node import first_state
from tests.services.door import Door, details_of, open_door, reason_of
from tests.services.stream_client import Stream, requests
from tests.services.stream_node import IN_FLIGHT, STREAM_LIMITS, NodeWithStreams, settled, until
from watchword.v1.authentication_pb2 import VerifyBatch


@pytest.fixture
async def node() -> NodeWithStreams:
    return NodeWithStreams()


@pytest.fixture
async def door(authority: Authority, node: NodeWithStreams) -> AsyncIterator[Door]:
    async with open_door(authority, node.roles_of, node.services) as opened:
        yield opened


# Bounds


async def send_without_end(stream: Stream) -> None:
    number = 0
    while True:
        await stream.call.write(VerifyBatch(requests=requests(*(f"{number}-{each}" for each in range(100)))))
        number += 1


async def test_a_million_requests_are_read_as_they_are_answered(door: Door, node: NodeWithStreams) -> None:
    """A sender that never pauses: the node holds its bound, and HTTP/2 stops the sender."""
    node.hold = True
    stream = Stream(door)
    sending = asyncio.create_task(send_without_end(stream))
    assert await settled(node) == IN_FLIGHT
    assert len(node.held) == IN_FLIGHT
    assert not sending.done()
    node.let_go()
    answered = 0
    while answered < 20_000:
        answered += len(await stream.message())
        assert node.streams.in_flight <= IN_FLIGHT
    sending.cancel()
    stream.cancel()
    await until(lambda: node.streams.open == 0)


async def test_streams_share_the_bound_of_the_node(door: Door, node: NodeWithStreams) -> None:
    node.hold = True
    first, second = Stream(door), Stream(door)
    for stream in (first, second):
        await stream.send(requests(*(f"{number}" for number in range(IN_FLIGHT))))
    assert await settled(node) == STREAM_LIMITS.in_flight_node
    assert len(node.held) == STREAM_LIMITS.in_flight_node
    node.let_go()
    assert len(await first.results(IN_FLIGHT)) == len(await second.results(IN_FLIGHT)) == IN_FLIGHT
    first.cancel()
    second.cancel()


async def test_a_client_that_never_reads_is_held_back_and_cut_off(door: Door, node: NodeWithStreams) -> None:
    # It takes 64 KiB ahead of its reads, and no more the faster they come.
    stream = Stream(door, "frontend", ("grpc.http2.lookahead_bytes", 65_535), ("grpc.http2.bdp_probe", 0))
    sent = 0

    def taken_or_given_up() -> bool:
        return len(node.timeouts) == sent or (sent > IN_FLIGHT and not node.streams._streams)

    while len(node.timeouts) == sent:
        await stream.send(requests(*(f"{sent + number:064}" for number in range(IN_FLIGHT))))
        sent += IN_FLIGHT
        await until(taken_or_given_up)
        assert node.streams.in_flight <= IN_FLIGHT
    assert 500 < sent < 16_000, "and then the node read no more"
    assert node.streams.open == 1, "its place is its own until it takes the status"
    assert node.streams._room._value == STREAM_LIMITS.in_flight_node, "and no other's"
    error = await stream.error()
    assert (error.code(), reason_of(error)) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "ANSWERS_NOT_READ")
    await until(lambda: node.streams.open == 0)


async def test_more_streams_than_may_be_are_refused(door: Door, node: NodeWithStreams) -> None:
    streams = [Stream(door) for _ in range(4)]
    for stream in streams:
        await stream.send(requests("1"))
        await stream.results(1)
    error = await Stream(door).error()
    assert (error.code(), reason_of(error)) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_CALLS")
    other = Stream(door, "everything")
    await other.send(requests("1"))
    await other.results(1)
    streams[0].cancel()
    await until(lambda: node.streams.open == 4)
    again = Stream(door)
    await again.send(requests("2"))
    await again.results(1)
    for stream in (*streams, again, other):
        stream.cancel()


async def test_a_client_that_goes_away_leaves_nothing_behind(door: Door, node: NodeWithStreams) -> None:
    node.hold = True
    stream = Stream(door)
    await stream.send(requests(*(f"{number}" for number in range(IN_FLIGHT))))
    await until(lambda: len(node.held) == IN_FLIGHT)
    stream.cancel()
    await until(lambda: node.streams.open == 0)
    node.let_go()
    assert node.streams.in_flight == 0
    assert node.streams._room._value == STREAM_LIMITS.in_flight_node
    assert door.log == []


# Its end


def revoke(node: NodeWithStreams) -> None:
    node.state = first_state(roles={})


async def test_a_stream_that_idles_ends_when_its_role_goes(door: Door, node: NodeWithStreams) -> None:
    stream = Stream(door)
    await stream.send(requests("1"))
    await stream.results(1)
    revoke(node)
    error = await stream.error()
    assert (error.code(), reason_of(error)) == (grpc.StatusCode.PERMISSION_DENIED, "NOT_ALLOWED")
    assert [event["event"] for event in door.log] == ["call_refused"]


async def test_the_interval_at_which_roles_are_looked_at_keeps_the_promise_of_a_second() -> None:
    assert limits.STREAM_ROLES_INTERVAL_S <= 0.5


async def test_a_stream_that_waits_for_answers_or_for_its_client_ends_when_its_role_goes(
    door: Door, node: NodeWithStreams
) -> None:
    node.hold = True
    waiting = Stream(door)
    await waiting.send(requests("1"))
    await until(lambda: len(node.held) == 1)
    revoke(node)
    error = await waiting.error()
    assert error.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_a_batch_after_the_role_is_gone_is_not_begun(authority: Authority) -> None:
    """Each message is looked at by itself, whatever the interval is."""
    node = NodeWithStreams(StreamLimits(roles_interval_s=3_600))
    async with open_door(authority, node.roles_of, node.services) as door:
        stream = Stream(door)
        await stream.send(requests("1"))
        await stream.results(1)
        revoke(node)
        await stream.send(requests("2"))
        assert (await stream.error()).code() is grpc.StatusCode.PERMISSION_DENIED
        assert len(node.timeouts) == 1


@pytest.mark.parametrize("name", ["operator", "helpdesk", "auditor", "connector", "nobody"])
async def test_streams_are_for_front_ends(door: Door, name: str) -> None:
    assert (await Stream(door, name).error()).code() is grpc.StatusCode.PERMISSION_DENIED


async def test_a_node_that_stops_answers_what_it_has_and_sends_its_clients_elsewhere(
    door: Door, node: NodeWithStreams
) -> None:
    idle, busy = Stream(door), Stream(door)
    await idle.send(requests("0"))
    await idle.results(1)
    node.hold = True
    await busy.send(requests("1", "2"))
    await until(lambda: len(node.held) == 2)
    node.streams.drain()
    await busy.send(requests("3"))
    told: list[Awaitable[grpc.aio.AioRpcError]] = [idle.error()]
    node.let_go()
    assert set(await busy.results(2)) == {"1", "2"}
    told.append(busy.error())
    told.append(Stream(door).error())
    for each in told:
        error = await each
        assert (error.code(), reason_of(error)) == (grpc.StatusCode.UNAVAILABLE, "STOPPING")
        assert details_of(error)["RetryInfo"].retry_delay.ToMilliseconds() > 0
    assert len(node.timeouts) == 3


async def test_an_error_inside_leaks_nothing(door: Door, node: NodeWithStreams) -> None:
    def break_() -> None:
        raise RuntimeError("the passcode was hunter2")

    node.before = break_
    stream = Stream(door)
    await stream.send(requests("1", passcode="hunter2"))
    error = await stream.error()
    assert error.code() is grpc.StatusCode.INTERNAL
    assert "hunter2" not in f"{error} {door.log}"
