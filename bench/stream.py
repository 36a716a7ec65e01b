"""Sign-ins over VerifyStream beside unary ones: the client's verifier, one a node, against a real three-node cluster.

The same people, codes and closed loop as `sign_ins`, round by round next to each other, so that both meet the same
machine. `of_unary` is a rate as a part of the unary rate at 192 in flight.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack

from bench.cluster_under_test import CLIENT, ClusterUnderTest
from bench.load import closed_loop
from bench.population import Crowd
from bench.sign_ins import PEOPLE, signing_in
from cluster.node.bootstrap import CA_FILE
from watchword.client import Client
from watchword.coalesce import CoalescingVerifier
from watchword.profile import Profile

UNARY = (192, 6.0)
LEVELS: tuple[tuple[int, float], ...] = ((1, 3.0), (192, 6.0), (2_304, 6.0))


def profile_of(cluster: ClusterUnderTest, name: str) -> Profile:
    """Of that node alone."""
    return Profile(
        (cluster.endpoints[name],),
        cluster.directory / name / CA_FILE,
        cluster.directory / f"{CLIENT}.pem",
        cluster.directory / f"{CLIENT}.key",
    )


def streaming(crowd: Crowd, verifiers: Sequence[CoalescingVerifier]) -> Callable[[int], Awaitable[None]]:
    """One sign-in, which must be accepted; caller n asks through stream n modulo their number."""

    async def sign_in(caller: int) -> None:
        person = crowd.take()
        verifier = verifiers[caller % len(verifiers)]
        answer = await verifier.verify(person.user_id, person.next_code(), application="bench", address="192.0.2.1")
        assert answer.accepted, f"a right code was rejected: {answer.reason}"
        crowd.put_back(person)

    return sign_in


async def measure(
    cluster: ClusterUnderTest, levels: Sequence[tuple[int, float]] = LEVELS
) -> dict[str, dict[str, float]]:
    """By level, and `unary` for what they are compared with. The cluster holds `people(levels)`."""
    crowd = Crowd(people(levels))
    figures = {}
    async with AsyncExitStack() as stack:
        channels = [await stack.enter_async_context(cluster.channel(name)) for name in cluster.endpoints]
        clients = [
            await stack.enter_async_context(Client(profile_of(cluster, name), timeout_s=30.0))
            for name in cluster.endpoints
        ]
        verifiers = [await stack.enter_async_context(client.stream()) for client in clients]
        load = await closed_loop(*UNARY, signing_in(crowd, channels), cluster.pids())
        figures["unary"] = load.as_figures()
        for in_flight, seconds in levels:
            load = await closed_loop(in_flight, seconds, streaming(crowd, verifiers), cluster.pids())
            ratio = load.a_second / figures["unary"]["calls_per_second"]
            figures[str(in_flight)] = load.as_figures() | {"of_unary": ratio}
    return figures


def people(levels: Sequence[tuple[int, float]] = LEVELS) -> int:
    """How many the cluster must hold for `measure`."""
    return max(PEOPLE, *(2 * level for level, _ in levels))
