"""The main job, on three real processes: enrol, sign in, lose a node, go on."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.end_to_end.running import SECRET, SECRET_BYTES, Cluster, code, enrol
from watchword.client import Client
from watchword.errors import Unavailable

Start = Callable[..., Cluster]
pytestmark = pytest.mark.timeout(240)


async def test_a_code_is_accepted_once_through_any_node_and_after_a_second_start(start: Start) -> None:
    cluster = start()
    async with cluster.client() as client:
        token_id = await enrol(client, "alice")
    for number in (1, 2, 3):
        async with cluster.client(endpoint=number) as client:
            accepted = await client.verify("alice", code(number))
            assert (accepted.accepted, accepted.token_id) == (True, token_id)
            assert not (await client.verify("alice", code(number))).accepted
    assert cluster.stop() == 0
    assert [(cluster.node(n) / "pid").read_text() for n in (1, 2, 3)] == ["", "", ""]
    cluster = start()
    async with cluster.client() as client:
        for number in (1, 2, 3):
            assert not (await client.verify("alice", code(number))).accepted
        assert (await client.verify("alice", code(4))).accepted
    assert cluster.stop() == 0
    nothing_readable(cluster.directory)


def nothing_readable(directory: Path) -> None:
    """Promise 7: no user's name and no secret in a node's directory, in any of its spellings."""
    spellings = [b"alice", SECRET.encode(), SECRET.lower().encode(), SECRET_BYTES, SECRET_BYTES.hex().encode()]
    spellings.append(base64.b64encode(SECRET_BYTES).rstrip(b"="))
    files = [path for node in directory.glob("node-*") for path in node.rglob("*") if path.is_file()]
    assert len(files) > 15
    for path in files:
        data = path.read_bytes()
        assert not [spelling for spelling in spellings if spelling in data], path


async def test_sixty_callers_with_one_code_get_one_acceptance(start: Start) -> None:
    cluster = start()
    async with cluster.client() as client:
        await enrol(client, "alice")
    clients = [cluster.client(endpoint=1 + n % 3) for n in range(6)]
    try:
        answers = await asyncio.gather(*(clients[n % 6].verify("alice", code(0)) for n in range(60)))
        assert sum(answer.accepted for answer in answers) == 1
        again = await asyncio.gather(
            *(clients[n % 6].verify("bob", code(1), request_id="the-same-for-all") for n in range(60))
        )
        assert len({(answer.accepted, answer.reason, answer.token_id) for answer in again}) == 1
    finally:
        for each in clients:
            await each.close()


async def test_killing_the_leader_in_the_middle_of_sign_ins_loses_and_doubles_nothing(start: Start) -> None:
    cluster = start()
    users = [f"user-{n}" for n in range(50)]
    sign_ins = 20
    accepted: list[tuple[str, int]] = []
    async with cluster.client(timeout_s=20.0) as client:
        await asyncio.gather(*(enrol(client, user) for user in users))

        async def sign_in(user: str) -> None:
            for counter in range(sign_ins):
                if (await client.verify(user, code(counter))).accepted:
                    accepted.append((user, counter))

        async def kill_the_leader() -> int:
            leader = await cluster.leader()
            while len(accepted) < len(users) * sign_ins // 3:  # noqa: ASYNC110 - somewhere in the middle
                await asyncio.sleep(0.001)
            await asyncio.to_thread(cluster.kill, leader)
            return leader

        results = await asyncio.gather(kill_the_leader(), *(sign_in(user) for user in users))
        killed = results[0]
        assert isinstance(killed, int)
        assert len(accepted) == len(users) * sign_ins, "each was retried with its request id until it was answered"
        await replayed_in_vain(client, users, sign_ins)
        cluster.restart(killed)
        await cluster.until_serving(1, 2, 3)
        async with cluster.client(endpoint=killed) as itself:
            await replayed_in_vain(itself, users[:5], sign_ins)
    await same_digest(cluster)
    assert cluster.stop() == 0


async def replayed_in_vain(client: Client, users: list[str], sign_ins: int) -> None:
    """The last code that was accepted is refused, and the next one is not."""
    for user in users:
        assert not (await client.verify(user, code(sign_ins - 1))).accepted
        await client.unlock_user(user)


async def same_digest(cluster: Cluster) -> None:
    """Promise 8."""

    async def agree() -> bool:
        nodes = [status.node for status in (await cluster.statuses()).values()]
        at = {node.digest_index for node in nodes}
        return len(nodes) == 3 and len(at) == 1 and len({node.digest for node in nodes}) == 1

    async with asyncio.timeout(30):
        while not await agree():  # noqa: ASYNC110 - of several processes
            await asyncio.sleep(0.05)


async def test_without_a_quorum_there_is_no_answer_and_with_it_again_there_is(start: Start) -> None:
    cluster = start()
    async with cluster.client() as client:
        await enrol(client, "alice")
    cluster.kill(1)
    cluster.kill(2)
    async with cluster.client(timeout_s=3.0) as client:
        with pytest.raises(Unavailable):
            await client.verify("alice", code(0))
    await cluster.until(lambda statuses: 3 in statuses and not statuses[3].node.serving, "node-3 to stop serving")
    cluster.restart(2)
    await cluster.until_serving(2, 3)
    async with cluster.client() as client:
        assert (await client.verify("alice", code(1))).accepted


async def test_a_node_that_is_stopped_under_load_fails_no_request(start: Start) -> None:
    cluster = start()
    users = [f"user-{n}" for n in range(10)]
    async with cluster.client() as client:
        await asyncio.gather(*(enrol(client, user) for user in users))
        stopping = asyncio.Event()
        leader = await cluster.leader()
        pid = int((cluster.node(leader) / "pid").read_text())

        async def sign_in(user: str) -> None:
            for counter in range(60):
                assert (await client.verify(user, code(counter))).accepted
                if counter == 20:
                    stopping.set()

        async def stop() -> None:
            await stopping.wait()
            import os
            import signal

            os.kill(pid, signal.SIGTERM)

        await asyncio.gather(stop(), *(sign_in(user) for user in users))
    cluster.up.says(f"node-{leader} ended with exit code 0")
    assert '"event": "stopped"' in cluster.log(leader)
