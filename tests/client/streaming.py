"""What a fake node does with a stream, and what a test asks through one."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from cluster.services.status import CallError
from tests.client.fake_cluster import FakeCluster, FakeNode
from watchword import errors
from watchword.client import Client
from watchword.coalesce import CoalescingVerifier
from watchword.failover import FailoverPolicy
from watchword.v1.authentication_pb2 import (
    DECISION_ACCEPT,
    DECISION_REJECT,
    VerifyBatch,
    VerifyRequest,
    VerifyResponse,
    VerifyResult,
    VerifyResults,
)

Batches = Iterator[VerifyBatch]


def client_of(cluster: FakeCluster, *, timeout_s: float = 10.0, policy: FailoverPolicy | None = None) -> Client:
    """One that begins with the first endpoint and draws half of each backoff."""
    return Client(cluster.profile(), timeout_s=timeout_s, policy=policy, random=lambda: 0.0)


def decided(request: VerifyRequest) -> VerifyResult:
    """Accepted where the passcode is the user's name."""
    decision = DECISION_ACCEPT if request.passcode == request.user_id else DECISION_REJECT
    return VerifyResult(
        request_id=request.request_id, response=VerifyResponse(decision=decision, token_id=request.user_id)
    )


def failing(error: CallError) -> Callable[[VerifyRequest], VerifyResult]:
    status = Status.FromString(error.status_bytes())
    return lambda request: VerifyResult(request_id=request.request_id, error=status)


def end(context: grpc.ServicerContext, error: CallError) -> None:
    context.abort_with_status(rpc_status.to_status(Status.FromString(error.status_bytes())))


def each(answer: Callable[[VerifyRequest], VerifyResult], node: FakeNode) -> None:
    """Have the node answer every request, the last of a message first."""

    def stream(batches: Batches, context: grpc.ServicerContext) -> Iterator[Message]:
        for batch in batches:
            yield VerifyResults(results=[answer(request) for request in reversed(batch.requests)])

    node.streaming = stream


def ids(batches: list[VerifyBatch]) -> list[str]:
    return [request.request_id for batch in batches for request in batch.requests]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - of what happens in another thread
            await asyncio.sleep(0.002)


async def raised_by(call: Awaitable[object]) -> errors.WatchwordError:
    with pytest.raises(errors.WatchwordError) as raised:
        await call
    return raised.value


def some(verifier: CoalescingVerifier, count: int, begin: str = "r") -> list[Awaitable[object]]:
    return [
        asyncio.ensure_future(verifier.verify(f"user-{n}", f"user-{n}", request_id=f"{begin}-{n}"))
        for n in range(count)
    ]
