"""Authentications of a real three-node cluster: unary Verify, right codes, spread over the nodes."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Sequence
from itertools import cycle

from grpc import aio

from bench.cluster_under_test import ClusterUnderTest
from bench.load import LEVELS, closed_loop
from bench.population import Crowd, Person
from watchword.v1 import authentication_pb2 as authentication
from watchword.v1.authentication_pb2_grpc import AuthenticationStub

PEOPLE = 2_000
TIMEOUT_S = 10.0


def request_of(person: Person) -> authentication.VerifyRequest:
    """The next sign-in of that person."""
    return authentication.VerifyRequest(
        request_id=secrets.token_hex(16),
        user_id=person.user_id,
        passcode=person.next_code(),
        client=authentication.ClientInfo(application="bench", address="192.0.2.1"),
    )


def signing_in(
    crowd: Crowd, channels: Sequence[aio.Channel], *, in_turn: bool = False
) -> Callable[[int], Awaitable[None]]:
    """One sign-in, which must be accepted.

    Caller n keeps to node n modulo their number, as clients do; or asks the nodes `in_turn`, where there are fewer
    callers than nodes: leader and followers differ.
    """
    stubs = [AuthenticationStub(channel) for channel in channels]
    turns = cycle(range(len(stubs)))

    async def sign_in(caller: int) -> None:
        person = crowd.take()
        stub = stubs[next(turns) if in_turn else caller % len(stubs)]
        answer = await stub.Verify(request_of(person), timeout=TIMEOUT_S)
        assert answer.decision == authentication.DECISION_ACCEPT, f"a right code was rejected: {answer.reason}"
        crowd.put_back(person)

    return sign_in


async def measure(
    cluster: ClusterUnderTest, levels: Sequence[tuple[int, float]] = LEVELS
) -> dict[str, dict[str, float]]:
    """By level."""
    crowd = Crowd(PEOPLE)
    channels = [cluster.channel(name) for name in cluster.endpoints]
    figures = {}
    try:
        for in_flight, seconds in levels:
            sign_in = signing_in(crowd, channels, in_turn=in_flight < len(channels))
            load = await closed_loop(in_flight, seconds, sign_in, cluster.pids())
            figures[str(in_flight)] = load.as_figures()
    finally:
        for channel in channels:
            await channel.close()
    return figures
