"""A stream whose node fails: what has no answer goes to the next node, with the same request ids."""

import asyncio
import threading
from collections.abc import Iterator

import grpc
import pytest
from google.protobuf.message import Message

from cluster.services import status as answers
from cluster.services.status import CallError, Reason
from tests.client.fake_cluster import FakeCluster
from tests.client.streaming import Batches, client_of, decided, each, end, failing, ids, some
from watchword.failover import FailoverPolicy
from watchword.v1.authentication_pb2 import VerifyRequest, VerifyResult, VerifyResults

QUICK = FailoverPolicy(attempt_s_max=0.3)
NO_QUORUM = answers.unavailable(Reason.NO_QUORUM, "no majority of the nodes answers")
STOPPING = answers.unavailable(Reason.STOPPING, "this node is stopping")


@pytest.mark.parametrize("error", [NO_QUORUM, STOPPING, answers.exhausted(Reason.QUEUE_FULL, "full")])
async def test_a_request_without_an_answer_goes_to_the_next_node_with_the_same_id(
    fake_cluster: FakeCluster, error: CallError
) -> None:
    first, second = fake_cluster.start(2)
    if error.code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        asked: list[str] = []
        refused = failing(error)

        def at_the_second_time(request: VerifyRequest) -> VerifyResult:
            asked.append(request.request_id)
            return refused(request) if len(asked) <= 10 else decided(request)

        each(at_the_second_time, first)
    else:
        each(failing(error), first)
    each(decided, second)
    async with client_of(fake_cluster) as client, client.stream() as verifier:
        assert all(each.accepted for each in await asyncio.gather(*some(verifier, 10)))  # type: ignore[attr-defined]
        again = ids(first.batches)[10:] + ids(second.batches)
    assert sorted(again) == sorted(ids(first.batches)[:10]), "each once more, under its own id"


async def test_a_stream_that_breaks_loses_no_call(fake_cluster: FakeCluster) -> None:
    """The first node takes half of what it is asked, answers a part of it, and is gone."""
    first, second, third = fake_cluster.start(3)

    def stream(batches: Batches, context: grpc.ServicerContext) -> Iterator[Message]:
        batch = next(batches)
        yield VerifyResults(results=[decided(request) for request in batch.requests[:7]])
        context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")

    first.streaming = stream
    each(decided, second)
    each(decided, third)
    async with client_of(fake_cluster) as client, client.stream() as verifier:
        found = await asyncio.gather(*some(verifier, 20))
        assert all(each.accepted for each in found)  # type: ignore[attr-defined]
        assert sorted(ids(second.batches)) == sorted(f"r-{n}" for n in range(7, 20))
        await verifier.verify("a", "a", request_id="later")
    assert "later" in ids(second.batches), "it keeps to a node that answers"
    assert third.streams == 0


async def test_a_node_that_stops_sends_its_clients_elsewhere(fake_cluster: FakeCluster) -> None:
    first, second = fake_cluster.start(2)
    stopping = threading.Event()

    def stream(batches: Batches, context: grpc.ServicerContext) -> Iterator[Message]:
        yield VerifyResults(results=[decided(request) for request in next(batches).requests])
        stopping.wait(20)
        end(context, STOPPING)

    first.streaming = stream
    each(decided, second)
    async with client_of(fake_cluster) as client, client.stream() as verifier:
        assert (await verifier.verify("a", "a")).accepted
        late = some(verifier, 5)
        stopping.set()
        assert all(each.accepted for each in await asyncio.gather(*late))  # type: ignore[attr-defined]
    assert sorted(ids(second.batches)) == [f"r-{n}" for n in range(5)]


async def test_a_node_that_hangs_is_given_up(fake_cluster: FakeCluster) -> None:
    first, second = fake_cluster.start(2)

    def hang(batches: Batches, context: grpc.ServicerContext) -> Iterator[Message]:
        first.wait_until_released()
        yield VerifyResults()

    first.streaming = hang
    each(decided, second)
    async with client_of(fake_cluster, policy=QUICK) as client, client.stream() as verifier:
        assert all(each.accepted for each in await asyncio.gather(*some(verifier, 5)))  # type: ignore[attr-defined]


async def test_a_stream_that_ends_without_answers_is_no_answer(fake_cluster: FakeCluster) -> None:
    first, second = fake_cluster.start(2)

    def nothing(batches: Batches, context: grpc.ServicerContext) -> Iterator[Message]:
        next(batches)
        yield from ()

    first.streaming = nothing
    each(decided, second)
    async with client_of(fake_cluster) as client, client.stream() as verifier:
        assert (await verifier.verify("a", "a")).accepted


async def test_a_node_of_an_earlier_version_is_passed_over(fake_cluster: FakeCluster) -> None:
    _earlier, second = fake_cluster.start(2)
    each(decided, second)
    async with client_of(fake_cluster) as client, client.stream() as verifier:
        assert (await verifier.verify("a", "a")).accepted


async def test_a_node_that_comes_back_is_asked_again(fake_cluster: FakeCluster) -> None:
    """One endpoint, as behind a load balancer: its stream breaks three times."""
    [node] = fake_cluster.start(1)

    def stream(batches: Batches, context: grpc.ServicerContext) -> Iterator[Message]:
        for batch in batches:
            if node.streams <= 3:
                context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")
            yield VerifyResults(results=[decided(request) for request in batch.requests])

    node.streaming = stream
    async with client_of(fake_cluster) as client, client.stream() as verifier:
        assert all(each.accepted for each in await asyncio.gather(*some(verifier, 20)))  # type: ignore[attr-defined]
    assert node.streams == 4
