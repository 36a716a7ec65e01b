"""The time without answers when the leader is killed, as callers of the surviving nodes see it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from itertools import pairwise

from grpc import aio

from bench.cluster_under_test import ClusterUnderTest
from bench.population import Crowd
from bench.sign_ins import request_of
from watchword.v1 import authentication_pb2 as authentication
from watchword.v1.authentication_pb2_grpc import AuthenticationStub

CALLERS_A_NODE = 4
PEOPLE = 500
WARM_UP_S = 1.0
WATCHED_S = 4.0  # after the kill
TIMEOUT_S = 20.0


async def measure_once(cluster: ClusterUnderTest, crowd: Crowd) -> float:
    """Seconds: the longest time between two accepted answers, from the kill on, whoever of the callers got them."""
    leader = await cluster.leader()
    survivors = [name for name in cluster.endpoints if name != leader]
    channels = [cluster.channel(name) for name in survivors]
    answers: list[float] = []
    over = asyncio.Event()
    callers = [
        asyncio.create_task(_keep_signing_in(channel, crowd, answers, over))
        for channel in channels
        for _ in range(CALLERS_A_NODE)
    ]
    try:
        await asyncio.sleep(WARM_UP_S)
        killed = time.monotonic()
        cluster.kill(leader)
        await asyncio.sleep(WATCHED_S)
        while not answers or answers[-1] < killed + WATCHED_S / 2:
            assert not any(caller.done() for caller in callers), "a caller failed"
            await asyncio.sleep(0.05)
        over.set()
        await asyncio.gather(*callers)
    finally:
        for caller in callers:
            caller.cancel()
        for channel in channels:
            await channel.close()
    cluster.start(leader)
    await cluster.ready(leader)
    return longest_silence(killed, answers)


def longest_silence(killed: float, answers: Sequence[float]) -> float:
    """What was answered just after the kill had been decided before it, so the first answer doesn't end the silence."""
    times = [killed, *(answer for answer in answers if answer > killed)]
    return max(after - before for before, after in pairwise(times))


async def _keep_signing_in(channel: aio.Channel, crowd: Crowd, answers: list[float], over: asyncio.Event) -> None:
    """Until `over`. A call that a node gives up is made again, with the same request id."""
    stub = AuthenticationStub(channel)
    while not over.is_set():
        person = crowd.take()
        request = request_of(person)
        while True:
            try:
                answer = await stub.Verify(request, timeout=TIMEOUT_S, wait_for_ready=True)
            except aio.AioRpcError:
                await asyncio.sleep(0.02)
                continue
            break
        assert answer.decision == authentication.DECISION_ACCEPT, f"a right code was rejected: {answer.reason}"
        answers.append(time.monotonic())
        crowd.put_back(person)


async def measure(cluster: ClusterUnderTest, times: int) -> list[float]:
    """`cluster` runs; the killed node is started again each time."""
    crowd = Crowd(PEOPLE)
    return [await measure_once(cluster, crowd) for _ in range(times)]
