"""The real HAProxy before three real nodes, as a front end's only address: nodes die and drain, and nobody notices."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.end_to_end.running import Cluster, code, enrol, free_ports, wait_for
from tests.machine import command_of_package
from watchword.client import Client

Start = Callable[..., Cluster]
pytestmark = pytest.mark.timeout(300)
EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "haproxy.cfg"
TIMEOUT_S = 10.0
USERS = 12
METRICS = 12  # of the first port: where a development cluster's metrics begin
BETWEEN_S = 0.05  # a person is slower


@dataclass
class Proxy:
    port: int
    admin: Path
    log: Path

    def states(self) -> dict[str, str]:
        """Each node's, as HAProxy has it: UP, DOWN, …"""
        with socket.socket(socket.AF_UNIX) as asked:
            asked.connect(str(self.admin))
            asked.sendall(b"show stat\n")
            text = b"".join(iter(lambda: asked.recv(65536), b"")).decode()
        rows = [line.split(",") for line in text.splitlines() if line.startswith("watchword_nodes,node-")]
        return {row[1]: row[17] for row in rows}

    def until(self, **states: str) -> None:
        wanted = {name.replace("_", "-"): state for name, state in states.items()}
        wait_for(lambda: wanted.items() <= self.states().items(), f"HAProxy to see {wanted}: {self.log.read_text()}")


def configuration(cluster: Cluster, port: int, admin: Path) -> str:
    """docs/haproxy.cfg with this machine's addresses in it, and nothing else changed."""
    text = EXAMPLE.read_text()
    text = text.replace("bind :7400", f"bind 127.0.0.1:{port}").replace("/run/haproxy/admin.sock", str(admin))
    text = text.replace("log /dev/log local0", "log stderr format raw local0")
    for number in (1, 2, 3):
        here = f"127.0.0.1:{cluster.port + number - 1} port {cluster.port + METRICS + number - 1}"
        text, changed = re.subn(rf"192\.0\.2\.1{number}:7400", here, text)
        assert changed == 1
    return text


@pytest.fixture
def proxy(start: Start, tmp_path: Path) -> Iterator[tuple[Cluster, Proxy]]:
    haproxy = command_of_package("haproxy", "haproxy")
    cluster = start()
    made = Proxy(free_ports(), tmp_path / "admin.sock", tmp_path / "haproxy.log")
    file = tmp_path / "haproxy.cfg"
    file.write_text(configuration(cluster, made.port, made.admin))
    checked = subprocess.run([haproxy, "-c", "-f", file], capture_output=True, text=True, timeout=30, check=False)
    assert (checked.returncode, "WARNING" in checked.stderr) == (0, False), checked.stderr
    with made.log.open("w") as log:
        process = subprocess.Popen([haproxy, "-db", "-f", file], stdout=log, stderr=log)
    try:
        wait_for(lambda: made.admin.exists() or process.poll() is not None, "HAProxy")
        assert process.poll() is None, made.log.read_text()
        made.until(node_1="UP", node_2="UP", node_3="UP")
        yield cluster, made
    finally:
        process.terminate()
        process.wait(30)


class Load:
    """Users who sign in one after the other's code, each waiting for the answer, until told to stop."""

    def __init__(self) -> None:
        self.accepted = 0
        self.slowest_s = 0.0
        self.over = False

    async def sign_in(self, client: Client, user: str) -> None:
        counter = 0
        while not self.over:
            before = time.monotonic()
            answer = await client.verify(user, code(counter))  # an error ends the test
            self.slowest_s = max(self.slowest_s, time.monotonic() - before)
            assert answer.accepted, f"{user}, {counter}: a retry is the same attempt, and no code comes twice"
            self.accepted += 1
            counter += 1
            await asyncio.sleep(BETWEEN_S)

    async def goes_on(self, sign_ins: int = 10 * USERS) -> None:
        aim = self.accepted + sign_ins
        async with asyncio.timeout(60):
            while self.accepted < aim:  # noqa: ASYNC110 - of several tasks
                await asyncio.sleep(0.01)


async def test_nodes_die_and_drain_behind_it_and_no_sign_in_fails(proxy: tuple[Cluster, Proxy]) -> None:
    cluster, haproxy = proxy
    profile = cluster.profile.at(f"127.0.0.1:{haproxy.port}")
    clients = [Client(profile, timeout_s=TIMEOUT_S) for _ in range(6)]
    load = Load()
    users = [f"user-{number}" for number in range(USERS)]
    try:
        await asyncio.gather(*(enrol(clients[0], user) for user in users))

        async def disturb() -> None:
            try:
                await load.goes_on()
                killed = await cluster.leader()
                await asyncio.to_thread(cluster.kill, killed)
                await asyncio.to_thread(haproxy.until, **{f"node_{killed}": "DOWN"})
                await load.goes_on()
                cluster.restart(killed)
                await cluster.until_serving(1, 2, 3)
                await asyncio.to_thread(haproxy.until, node_1="UP", node_2="UP", node_3="UP")
                await load.goes_on()
                drained = next(number for number in (1, 2, 3) if number != killed)
                os.kill(int((cluster.node(drained) / "pid").read_text()), signal.SIGTERM)
                await asyncio.to_thread(cluster.up.says, f"node-{drained} ended with exit code 0")
                await asyncio.to_thread(haproxy.until, **{f"node_{drained}": "DOWN"})
                await load.goes_on()
            finally:
                load.over = True

        # The first that fails ends them all: a sign-in that gets no answer, or what disturbs them.
        async with asyncio.TaskGroup() as group:
            group.create_task(disturb())
            for number, user in enumerate(users):
                group.create_task(load.sign_in(clients[number % len(clients)], user))
    finally:
        for client in clients:
            await client.close()
    assert load.slowest_s < TIMEOUT_S
    assert load.accepted > 4 * 10 * USERS
