"""Many sign-ins over one stream, against real servers: what shares a message, errors, bounds, the end."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from google.protobuf.message import Message

from cluster.services import status as answers
from cluster.services.status import CallError, Reason
from tests.client.fake_cluster import FakeCluster
from tests.client.streaming import Batches, client_of, decided, each, end, failing, ids, raised_by, some, until
from watchword import errors
from watchword.blocking import BlockingClient
from watchword.lane import BATCH_BYTES_MAX, BATCH_REQUESTS_MAX
from watchword.v1.authentication_pb2 import DECISION_ACCEPT, VerifyResponse, VerifyResult, VerifyResults

NO_QUORUM = answers.unavailable(Reason.NO_QUORUM, "no majority of the nodes answers")


async def test_each_caller_gets_its_own_answer(fake_cluster: FakeCluster) -> None:
    [node] = fake_cluster.start(1)
    each(decided, node)
    async with client_of(fake_cluster) as client, client.stream() as verifier:
        found = await asyncio.gather(
            *(verifier.verify(f"user-{n}", f"user-{n - n % 2}", application="vpn") for n in range(300))
        )
    assert [each.accepted for each in found] == [not n % 2 for n in range(300)]
    assert [each.token_id for each in found] == [f"user-{n}" for n in range(300)]
    assert node.streams == 1
    assert len(set(ids(node.batches))) == 300


async def test_what_is_asked_at_once_goes_in_one_message_and_a_lone_request_does_not_wait(
    fake_cluster: FakeCluster,
) -> None:
    [node] = fake_cluster.start(1)
    each(decided, node)
    async with client_of(fake_cluster) as client, client.stream() as verifier:
        await verifier.verify("a", "a")
        assert [len(batch.requests) for batch in node.batches] == [1], "nobody else came, and nobody was waited for"
        await asyncio.gather(*some(verifier, 50))
        assert [len(batch.requests) for batch in node.batches] == [1, 50]


async def test_messages_keep_to_their_bounds(fake_cluster: FakeCluster) -> None:
    [node] = fake_cluster.start(1)
    each(decided, node)
    async with client_of(fake_cluster) as client, client.stream() as verifier:
        await asyncio.gather(*some(verifier, 2 * BATCH_REQUESTS_MAX))
        await asyncio.gather(*(verifier.verify(f"{n}" + "x" * 20_000, "1") for n in range(9)))
        assert max(len(batch.requests) for batch in node.batches) <= BATCH_REQUESTS_MAX
        assert max(batch.ByteSize() for batch in node.batches) <= BATCH_BYTES_MAX + 1024
        error = await raised_by(verifier.verify("x" * BATCH_BYTES_MAX, "1"))
    assert isinstance(error, errors.InvalidArgument)


async def test_the_node_is_told_how_long_it_has(fake_cluster: FakeCluster) -> None:
    [node] = fake_cluster.start(1)
    each(decided, node)
    async with client_of(fake_cluster) as client, client.stream() as verifier:
        await verifier.verify("a", "a")
    assert node.batches[0].timeout_ms == 2_500
    async with client_of(fake_cluster, timeout_s=1.0) as client, client.stream() as verifier:
        await verifier.verify("a", "a")
    assert 0 < node.batches[1].timeout_ms <= 1_000


@pytest.mark.parametrize("decision", [0, 3, 77])
async def test_a_decision_that_is_not_known_is_a_rejection(fake_cluster: FakeCluster, decision: int) -> None:
    [node] = fake_cluster.start(1)
    unknown = VerifyResponse()
    unknown.decision = decision  # type: ignore[assignment]
    each(lambda request: VerifyResult(request_id=request.request_id, response=unknown), node)
    async with client_of(fake_cluster) as client, client.stream() as verifier:
        assert not (await verifier.verify("a", "a")).accepted


async def test_no_outcome_is_a_rejection_and_a_strangers_answer_is_nothing(fake_cluster: FakeCluster) -> None:
    [node] = fake_cluster.start(1)

    def stream(batches: Batches, context: grpc.ServicerContext) -> Iterator[Message]:
        for batch in batches:
            accepted = VerifyResponse(decision=DECISION_ACCEPT)
            yield VerifyResults(results=[VerifyResult(request_id="a stranger", response=accepted)])
            yield VerifyResults(results=[VerifyResult(request_id=each.request_id) for each in batch.requests])

    node.streaming = stream
    async with client_of(fake_cluster) as client, client.stream() as verifier:
        assert not (await verifier.verify("a", "a")).accepted


async def test_an_error_of_one_request_is_its_callers(fake_cluster: FakeCluster) -> None:
    [node] = fake_cluster.start(1)
    refused = failing(answers.invalid("user_id", "must not be empty"))
    each(lambda request: decided(request) if request.user_id else refused(request), node)
    async with client_of(fake_cluster) as client, client.stream() as verifier:
        bad = asyncio.ensure_future(raised_by(verifier.verify("", "1")))
        assert (await verifier.verify("a", "a")).accepted
        error = await bad
    assert isinstance(error, errors.InvalidArgument)
    assert error.field == "user_id"
    assert node.streams == 1


# Errors


async def test_when_the_time_is_over_the_error_says_most(fake_cluster: FakeCluster) -> None:
    [node] = fake_cluster.start(1)
    each(failing(NO_QUORUM), node)
    async with client_of(fake_cluster, timeout_s=0.4) as client, client.stream() as verifier:
        found = await asyncio.gather(*(raised_by(verifier.verify("a", "a")) for _ in range(3)))
    assert {type(each) for each in found} == {errors.NoQuorum}
    assert len(ids(node.batches)) < 60, "between attempts it waits"


async def test_no_node_at_all(fake_cluster: FakeCluster) -> None:
    [node] = fake_cluster.start(1)
    node.stop()
    async with client_of(fake_cluster, timeout_s=0.5) as client, client.stream() as verifier:
        error = await raised_by(verifier.verify("a", "a"))
    assert isinstance(error, errors.NoConnection)


@pytest.mark.parametrize(
    ("ending", "kind"),
    [
        (answers.not_allowed(), errors.NotAllowed),
        (answers.unauthenticated("the certificate is revoked"), errors.NotAllowed),
        (answers.invalid("timeout_ms", "must be less"), errors.InvalidArgument),
        (answers.internal(), errors.Unexpected),
    ],
)
async def test_what_ends_the_stream_for_good_is_told_to_all(
    fake_cluster: FakeCluster, ending: CallError, kind: type[errors.WatchwordError]
) -> None:
    first, second = fake_cluster.start(2)

    def stream(batches: Batches, context: grpc.ServicerContext) -> Iterator[Message]:
        next(batches)
        end(context, ending)
        yield from ()

    first.streaming = stream
    each(decided, second)
    async with client_of(fake_cluster) as client, client.stream() as verifier:
        found = await asyncio.gather(*(raised_by(verifier.verify("a", "a")) for _ in range(3)))
    assert {type(each) for each in found} == {kind}
    assert second.streams == 0


async def test_an_id_under_way_is_not_used_again(fake_cluster: FakeCluster) -> None:
    """Answers are known by the id alone: the wrong one of two could be let in."""
    [node] = fake_cluster.start(1)
    let_go = threading.Event()

    def stream(batches: Batches, context: grpc.ServicerContext) -> Iterator[Message]:
        for batch in batches:
            let_go.wait(20)
            yield VerifyResults(results=[decided(request) for request in batch.requests])

    node.streaming = stream
    async with client_of(fake_cluster) as client, client.stream() as verifier:
        alice = asyncio.ensure_future(verifier.verify("alice", "alice", request_id="same"))
        await until(lambda: len(node.batches) == 1)
        assert isinstance(await raised_by(verifier.verify("bob", "1", request_id="same")), errors.InvalidArgument)
        alice.cancel()
        await asyncio.wait({alice})
        assert isinstance(await raised_by(verifier.verify("bob", "1", request_id="same")), errors.InvalidArgument)
        again = asyncio.ensure_future(verifier.verify("alice", "alice", request_id="same"))
        let_go.set()
        assert (await again).accepted


# Bounds and the end


async def test_no_more_are_under_way_than_may_be(fake_cluster: FakeCluster) -> None:
    [node] = fake_cluster.start(1)
    let_go = threading.Event()

    def stream(batches: Batches, context: grpc.ServicerContext) -> Iterator[Message]:
        for batch in batches:
            let_go.wait(20)
            yield VerifyResults(results=[decided(request) for request in batch.requests])

    node.streaming = stream
    async with client_of(fake_cluster) as client, client.stream(in_flight_max=8) as verifier:
        calls = some(verifier, 30)
        await until(lambda: len(node.batches) == 1)
        assert verifier.in_flight == len(ids(node.batches)) == 8
        let_go.set()
        assert all(each.accepted for each in await asyncio.gather(*calls))  # type: ignore[attr-defined]


async def test_who_waits_for_room_waits_within_the_time_of_the_call(fake_cluster: FakeCluster) -> None:
    [node] = fake_cluster.start(1)

    def hang(batches: Batches, context: grpc.ServicerContext) -> Iterator[Message]:
        node.wait_until_released()
        yield VerifyResults()

    node.streaming = hang
    async with client_of(fake_cluster, timeout_s=0.3) as client, client.stream(in_flight_max=1) as verifier:
        found = await asyncio.gather(*(raised_by(verifier.verify("a", "a")) for _ in range(3)))
    assert errors.Overloaded in {type(each) for each in found}
    assert all(isinstance(each, errors.Unavailable) for each in found)


async def test_a_caller_that_is_cancelled_makes_room_and_is_not_sent(fake_cluster: FakeCluster) -> None:
    [node] = fake_cluster.start(1)
    each(decided, node)
    async with client_of(fake_cluster) as client, client.stream(in_flight_max=2) as verifier:
        gone = some(verifier, 2, "gone")
        await asyncio.sleep(0)
        for call in gone:
            call.cancel()  # type: ignore[attr-defined]
        await asyncio.wait(gone)  # type: ignore[type-var]
        assert verifier.in_flight == 0
        assert all(each.accepted for each in await asyncio.gather(*some(verifier, 4)))  # type: ignore[attr-defined]
    assert sorted(ids(node.batches)) == [f"r-{n}" for n in range(4)]


async def test_closing_waits_for_what_is_under_way_and_takes_nothing_more(fake_cluster: FakeCluster) -> None:
    [node] = fake_cluster.start(1)
    let_go = threading.Event()

    def stream(batches: Batches, context: grpc.ServicerContext) -> Iterator[Message]:
        for batch in batches:
            let_go.wait(20)
            yield VerifyResults(results=[decided(request) for request in batch.requests])

    node.streaming = stream
    async with client_of(fake_cluster) as client:
        verifier = client.stream()
        calls = some(verifier, 3)
        await until(lambda: len(node.batches) == 1)
        closing = asyncio.ensure_future(verifier.close())
        await asyncio.sleep(0)
        assert isinstance(await raised_by(verifier.verify("a", "a")), errors.Unavailable)
        let_go.set()
        await closing
        assert all(each.done() for each in calls)  # type: ignore[attr-defined]
        assert all(each.accepted for each in await asyncio.gather(*calls))  # type: ignore[attr-defined]


async def test_closing_the_client_tells_those_who_wait(fake_cluster: FakeCluster) -> None:
    [node] = fake_cluster.start(1)

    def hang(batches: Batches, context: grpc.ServicerContext) -> Iterator[Message]:
        node.wait_until_released()
        yield VerifyResults()

    node.streaming = hang
    client = client_of(fake_cluster)
    waiting = asyncio.ensure_future(raised_by(client.stream().verify("a", "a")))
    await until(lambda: node.streams == 1)
    await client.close()
    error = await waiting
    assert (type(error), error.reason) == (errors.Unavailable, "CLOSED")


def test_threads_share_one_stream(fake_cluster: FakeCluster) -> None:
    [node] = fake_cluster.start(1)
    each(decided, node)
    with (
        BlockingClient(fake_cluster.profile()) as client,
        client.stream() as verifier,
        ThreadPoolExecutor(8) as pool,
    ):
        found = list(pool.map(lambda n: verifier.verify("a", "ab"[n % 2]).accepted, range(40)))
    assert found == [not n % 2 for n in range(40)]
    assert node.streams == 1
