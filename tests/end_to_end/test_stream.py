"""Sign-ins over a stream to real processes, of which one is killed and one is stopped, without a failed call."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable

import pytest

from tests.end_to_end.running import Cluster, code, enrol
from watchword.coalesce import CoalescingVerifier

Start = Callable[..., Cluster]
pytestmark = pytest.mark.timeout(240)

USERS = [f"user-{number}" for number in range(24)]
SIGN_INS = 15


class Load:
    """Every user signs in again and again, with the next code each time, which must be accepted."""

    def __init__(self, verifier: CoalescingVerifier) -> None:
        self._verifier = verifier
        self.accepted = 0

    async def run(self, first: int) -> None:
        await asyncio.gather(*(self._sign_in(user, first) for user in USERS))

    async def _sign_in(self, user: str, first: int) -> None:
        for counter in range(first, first + SIGN_INS):
            verification = await self._verifier.verify(user, code(counter))
            assert verification.accepted, f"{user} with code {counter}"
            self.accepted += 1

    async def half_done(self) -> None:
        while self.accepted < len(USERS) * SIGN_INS // 2:  # noqa: ASYNC110 - somewhere in the middle
            await asyncio.sleep(0.001)


async def test_a_node_killed_and_one_stopped_under_a_stream_fail_no_call(start: Start) -> None:
    """First the node that the stream is at is killed; when it is back, another is stopped in good order."""
    cluster = start()
    async with cluster.client(timeout_s=20.0) as client:
        await asyncio.gather(*(enrol(client, user) for user in USERS))
    leader = await cluster.leader()
    profile_first = cluster.client(timeout_s=20.0)
    profile_first._first = leader - 1  # at the leader: its death is the worst
    async with profile_first as client, client.stream() as verifier:
        load = Load(verifier)

        async def kill() -> None:
            await load.half_done()
            await asyncio.to_thread(cluster.kill, leader)

        await asyncio.gather(load.run(0), kill())
        assert load.accepted == len(USERS) * SIGN_INS
        cluster.restart(leader)
        await cluster.until_serving(1, 2, 3)
        load = Load(verifier)
        at = verifier._first + 1

        async def stop() -> None:
            await load.half_done()
            os.kill(int((cluster.node(at) / "pid").read_text()), signal.SIGTERM)

        await asyncio.gather(load.run(SIGN_INS), stop())
        assert load.accepted == len(USERS) * SIGN_INS
        for user in USERS:
            assert not (await verifier.verify(user, code(2 * SIGN_INS - 1))).accepted, "a code is used once"
    cluster.up.says(f"node-{at} ended with exit code 0")
