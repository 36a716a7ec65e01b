"""Nodes on addresses of their own, brought up as an operator does: `init`, `invite`, `join`, `serve`."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from tests.end_to_end.running import COMMAND, WAIT_S, Process, free_ports
from watchword.client import Client
from watchword.profile import Profile, load_profile

EXIT_REMOVED = 7


class Machines:
    """Machine `n` is 127.0.0.n, and its directory `node-n`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_ports()
        self.processes: dict[int, Process] = {}
        self.used = 1

    def address(self, number: int) -> str:
        return f"127.0.0.{number}:{self.port}"

    def node(self, number: int) -> Path:
        return self.directory / f"node-{number}"

    def run(self, *arguments: str, stdin: str = "", profile: bool = True) -> tuple[int, str, str]:
        """One command line: exit code, standard output, standard error."""
        environment = {**os.environ}
        if profile:
            environment["WATCHWORD_PROFILE"] = str(self.node(1) / "client.toml")
        done = subprocess.run(
            [*COMMAND, *arguments],
            input=stdin,
            capture_output=True,
            check=False,
            text=True,
            timeout=WAIT_S,
            env=environment,
        )
        return done.returncode, done.stdout, done.stderr

    def answer(self, *arguments: str, stdin: str = "") -> dict[str, Any]:
        code, out, err = self.run(*arguments, "--json", stdin=stdin)
        assert code == 0, err
        answer: dict[str, Any] = json.loads(out)
        return answer

    def init(self) -> None:
        self.answer("init", "--dir", str(self.node(1)), "--address", self.address(1), "--name", "machine-1")
        self.serve(1)

    def invite(self, *options: str) -> str:
        token: str = self.answer("node", "invite", *options)["token"]
        return token

    def join_arguments(self, number: int, *options: str) -> list[str]:
        place = ["--dir", str(self.node(number)), "--address", self.address(number), "--name", f"machine-{number}"]
        return ["node", "join", "--token", "-", *place, *options]

    def join(self, number: int, *options: str) -> dict[str, Any]:
        return self.answer(*self.join_arguments(number, *options), stdin=self.invite())

    def serve(self, number: int) -> Process:
        process = self.processes[number] = Process("serve", "--config", str(self.node(number) / "watchword.toml"))
        process.says('"event": "started"')
        return process

    def kill(self, number: int) -> None:
        process = self.processes.pop(number)
        process.process.send_signal(signal.SIGKILL)
        process.close()

    def remove(self, number: int) -> None:
        """Out of the cluster, and its process ends."""
        self.answer("node", "remove", f"machine-{number}")
        process = self.processes.pop(number)
        try:
            assert process.wait() == EXIT_REMOVED, process.output
        finally:
            process.close()

    def listed(self) -> dict[str, dict[str, Any]]:
        return {node["id"]: node for node in self.answer("node", "list")["nodes"]}

    @property
    def running(self) -> tuple[int, ...]:
        return tuple(sorted(self.processes))

    def new(self) -> int:
        """The number of a machine that was never there; the loopback network has many."""
        self.used += 1
        return self.used

    def until_voting(self) -> None:
        """All that run, and no other."""
        numbers = self.running
        names = {f"machine-{number}" for number in numbers}
        deadline = time.monotonic() + WAIT_S
        while {name for name, node in self.listed().items() if node["voter"]} != names:
            assert time.monotonic() < deadline, self.told()
            time.sleep(0.1)

    def profile(self, *numbers: int) -> Profile:
        """The first operator's, with the endpoints of these machines, or of all that run."""
        numbers = numbers or self.running
        path = self.node(1) / "client.toml"
        lines = path.read_text().splitlines()
        endpoints = ", ".join(f'"{self.address(number)}"' for number in numbers)
        path.write_text("\n".join([f"endpoints = [{endpoints}]", *lines[1:]]) + "\n")
        return load_profile(path)

    def client(self, *numbers: int, timeout_s: float = 10.0) -> Client:
        return Client(self.profile(*numbers), timeout_s=timeout_s)

    async def until_serving(self) -> None:
        async with self.client(timeout_s=3.0) as client, asyncio.timeout(WAIT_S):
            while True:
                answers = (await client.get_statuses()).values()
                if all(not isinstance(answer, Exception) and answer.node.serving for answer in answers):
                    return
                await asyncio.sleep(0.05)

    def told(self) -> str:
        """The last lines of each."""
        return "\n".join(f"{number}: " + "".join(each.lines[-8:]) for number, each in self.processes.items())

    def close(self) -> None:
        for process in self.processes.values():
            process.close()
