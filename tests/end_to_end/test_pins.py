"""PIN and code, recovery codes and bypasses on three real processes, with the real hash."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable

import pytest

from tests.end_to_end.running import COMMAND, Cluster, code, enrol
from watchword.client import Client
from watchword.v1.settings_pb2 import OATH_PIN_REQUIRED, Settings

Start = Callable[..., Cluster]
pytestmark = pytest.mark.timeout(240)
PIN = "97539753"


def watchword(cluster: Cluster, *arguments: str, stdin: str = "") -> str:
    done = subprocess.run(
        [*COMMAND, *arguments, "--profile", str(cluster.directory / "client.toml")],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout


async def test_pins_from_the_command_line_through_a_change_and_the_leaders_end(start: Start) -> None:
    cluster = start()
    async with cluster.client(timeout_s=20.0) as client:
        await enrol(client, "alice")
    await asyncio.to_thread(watchword, cluster, "pin", "set", "alice", "--must-change", stdin=f"{PIN}\n")
    await asyncio.to_thread(watchword, cluster, "settings", "set", "oath_pin", "required")
    codes = (await asyncio.to_thread(watchword, cluster, "token", "recovery", "alice")).split()
    bypass = (await asyncio.to_thread(watchword, cluster, "bypass", "alice", "--reason", "ticket 17")).strip()
    async with cluster.client(timeout_s=20.0) as client:
        assert not (await client.verify("alice", code(0))).accepted
        due = await client.verify("alice", PIN + code(0), request_id="retried")
        assert (due.accepted, due.advice) == (True, "CHANGE_PIN")
        assert (await client.change_pin("alice", PIN, code(1), "86428642", request_id="changed")).accepted
        # Their retries, after the PIN became another.
        assert await client.verify("alice", PIN + code(0), request_id="retried") == due
        assert (await client.change_pin("alice", PIN, code(1), "86428642", request_id="changed")).accepted
        assert not (await client.verify("alice", PIN + code(2))).accepted
        await asyncio.to_thread(cluster.kill, await cluster.leader())
        assert (await client.verify("alice", "86428642" + code(2))).advice == ""
        await once_of_many(client, "86428642" + codes[0])
        await once_of_many(client, "86428642" + bypass)
    assert cluster.stop() == 0
    nothing_readable(cluster, PIN, "86428642", codes[1], bypass)


async def once_of_many(client: Client, passcode: str) -> None:
    """Of two that come at the same time; more would lock the user."""
    answers = await asyncio.gather(*(client.verify("alice", passcode) for _ in range(2)))
    assert sum(answer.accepted for answer in answers) == 1
    assert not (await client.verify("alice", passcode)).accepted
    await client.unlock_user("alice")


def nothing_readable(cluster: Cluster, *secrets: str) -> None:
    for node in cluster.directory.glob("node-*"):
        for path in node.rglob("*"):
            if path.is_file():
                data = path.read_bytes()
                assert not [secret for secret in secrets if secret.encode() in data], path


async def test_many_pins_at_a_time_are_answered_or_refused_in_time(start: Start) -> None:
    """More at once than a node has cores: each caller is answered in the end."""
    cluster = start()
    users = [f"user-{number}" for number in range(40)]
    async with cluster.client(timeout_s=30.0) as client:
        await asyncio.gather(*(enrol(client, user) for user in users))
        await asyncio.gather(*(client.set_pin(user, PIN) for user in users))
        await client.set_settings(Settings(oath_pin=OATH_PIN_REQUIRED))
        answers = await asyncio.gather(*(client.verify(user, PIN + code(0)) for user in users))
        assert all(answer.accepted for answer in answers)
    assert cluster.stop() == 0
