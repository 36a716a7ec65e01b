"""A development cluster of real processes, for as long as a test needs it; every wait has an end."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import SystemRandom

import pyotp

from watchword.client import Client
from watchword.errors import WatchwordError
from watchword.profile import Profile, load_profile
from watchword.v1 import administration_pb2
from watchword.v1.cluster_pb2 import GetStatusResponse

COMMAND = [sys.executable, "-P", "-m", "tools.main"]
WAIT_S = 60.0
SECRET = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
SECRET_BYTES = b"12345678901234567890"


def free_ports() -> int:
    """The first of 20 ports that were free a moment ago, below those that the kernel gives to clients."""
    random = SystemRandom()
    for _ in range(200):
        base = random.randrange(10_000, 32_000, 20)
        sockets = []
        try:
            for port in range(base, base + 20):
                sockets.append(socket.create_server(("127.0.0.1", port)))
        except OSError:
            continue
        else:
            return base
        finally:
            for each in sockets:
                each.close()
    raise AssertionError("no 20 free ports in a row")


def code(counter: int) -> str:
    return pyotp.HOTP(SECRET).at(counter)


def wait_for(condition: Callable[[], bool], what: str, within_s: float = WAIT_S) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {within_s} s for {what}"
        time.sleep(0.02)


class Process:
    """A child whose output is collected."""

    def __init__(self, *arguments: str, environment: dict[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            [*COMMAND, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **(environment or {})},
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        self.lines.extend(iter(self.process.stdout.readline, ""))

    @property
    def output(self) -> str:
        return "".join(self.lines)

    def wait(self, within_s: float = WAIT_S) -> int:
        code = self.process.wait(within_s)
        self._reader.join(5)
        return code

    def says(self, words: str, within_s: float = WAIT_S) -> None:
        wait_for(
            lambda: words in self.output or self.process.poll() is not None, f"{words!r} in: {self.output}", within_s
        )
        assert words in self.output, self.output

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.wait()

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reader.join(5)
        assert self.process.stdout is not None
        self.process.stdout.close()


@dataclass
class Cluster:
    """`watchword up` in a directory."""

    directory: Path
    port: int
    up: Process
    further: list[Process]

    @classmethod
    def start(cls, directory: Path, *options: str, environment: dict[str, str] | None = None) -> Cluster:
        port = free_ports()
        arguments = ["--dir", str(directory), *options]
        if not (directory / "development.toml").exists():
            arguments += ["--port", str(port)]
        cluster = cls(directory, port, Process("up", *arguments, environment=environment), [])
        try:
            cluster.up.says("Ready.")
        except BaseException:
            cluster.close()
            raise
        return cluster

    @property
    def profile(self) -> Profile:
        return load_profile(self.directory / "client.toml")

    def client(self, timeout_s: float = 10.0, endpoint: int | None = None) -> Client:
        """Of all endpoints, or of that of node number `endpoint` (from 1)."""
        profile = self.profile
        return Client(profile if endpoint is None else profile.at(profile.endpoints[endpoint - 1]), timeout_s=timeout_s)

    def node(self, number: int) -> Path:
        return self.directory / f"node-{number}"

    def kill(self, number: int) -> None:
        """kill -9, and gone."""
        pid = int((self.node(number) / "pid").read_text())
        os.kill(pid, signal.SIGKILL)
        self.up.says(f"node-{number} was ended by signal 9")

    def restart(self, number: int, environment: dict[str, str] | None = None) -> Process:
        process = Process("serve", "--config", str(self.node(number) / "watchword.toml"), environment=environment)
        self.further.append(process)
        return process

    async def statuses(self) -> dict[int, GetStatusResponse]:
        """What the nodes that answer say, by number."""
        async with self.client(timeout_s=3.0) as client:
            answers = await client.get_statuses()
        endpoints = self.profile.endpoints
        return {
            number: answer
            for number, endpoint in enumerate(endpoints, 1)
            if not isinstance(answer := answers[endpoint], WatchwordError)
        }

    async def leader(self) -> int:
        async with asyncio.timeout(WAIT_S):
            while True:
                for status in (await self.statuses()).values():
                    if status.quorum and status.leader:
                        return int(status.leader.removeprefix("node-"))
                await asyncio.sleep(0.05)

    async def until(self, condition: Callable[[dict[int, GetStatusResponse]], bool], what: str) -> None:
        deadline = time.monotonic() + WAIT_S
        while not condition(await self.statuses()):
            assert time.monotonic() < deadline, f"waited {WAIT_S} s for {what}"
            await asyncio.sleep(0.05)

    async def until_serving(self, *numbers: int) -> None:
        await self.until(
            lambda statuses: all(n in statuses and statuses[n].node.serving for n in numbers), f"{numbers} to serve"
        )

    def log(self, number: int) -> str:
        return (self.node(number) / "log").read_text()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        for process in self.further:
            process.end()
        return self.up.end(number)

    def close(self) -> None:
        """Leaves no process behind, whatever happened."""
        for process in [self.up, *self.further]:
            if process.process.poll() is None:
                process.process.terminate()
                try:
                    process.wait(30)
                except subprocess.TimeoutExpired:
                    self._kill_nodes()
            process.close()

    def _kill_nodes(self) -> None:
        for pid_file in self.directory.glob("node-*/pid"):
            text = pid_file.read_text().strip()
            if text:
                os.kill(int(text), signal.SIGKILL)


async def enrol(client: Client, user: str) -> str:
    """A user with an HOTP token of the known secret; returns the token's id."""
    await client.add_user(user)
    enrolled = await client.add_token(user, administration_pb2.TOKEN_TYPE_HOTP, secret=SECRET_BYTES)
    return enrolled.token_id
