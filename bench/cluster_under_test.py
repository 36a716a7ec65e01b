"""A real cluster of three nodes in a directory of its own: files, processes, and how to reach them."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import grpc
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from bench.population import populated
from bench.ports import LOOPBACK, free_ports
from cluster.node import bootstrap
from cluster.node.clock import system_wall_ms
from cluster.node.configuration import Address
from cluster.state.records import Role
from datastore.files import RealFiles
from datastore.keys import KeyRing, key_text, new_kek, write_kek_file
from watchword.client import CHANNEL_OPTIONS
from watchword.v1 import cluster_pb2
from watchword.v1.cluster_pb2_grpc import ClusterStub

CLIENT = "bench"
KEK_FILE = "kek.key"
POLL_S = 0.01
READY_S = 120.0
END_S = 90.0


@dataclass(frozen=True, slots=True)
class Started:
    """When a node was ready, in seconds from the start of its process, and what it then held."""

    listens_s: float
    serves_s: float


class ClusterUnderTest:
    """Nodes are named node-1 to node-3; `endpoints` is in that order."""

    def __init__(self, directory: Path, endpoints: dict[str, str], credentials: grpc.ChannelCredentials) -> None:
        self.directory = directory
        self.endpoints = endpoints
        self._credentials = credentials
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._began: dict[str, float] = {}

    @classmethod
    def make(cls, directory: Path, users: int, nodes: int = 3) -> ClusterUnderTest:
        """All files of a new cluster with `users` users, as `watchword up` makes them."""
        files, now_ms = RealFiles(), system_wall_ms()
        files.make_directory(str(directory))
        kek = new_kek(os.urandom)
        write_kek_file(files, str(directory / KEK_FILE), key_text(kek))
        ports = iter(free_ports(2 * nodes))
        new = [
            bootstrap.NewNode(f"node-{n}", Address(LOOPBACK, next(ports)), Address(LOOPBACK, next(ports)))
            for n in range(1, nodes + 1)
        ]
        cluster = bootstrap.new_cluster(new, {CLIENT: (Role.OPERATOR, Role.FRONTEND)}, os.urandom, now_ms)
        cluster = replace(cluster, state=populated(cluster.state, users))
        certificate, key = bootstrap.write_client_files(files, directory, cluster, CLIENT, now_ms)
        for member_id, node in cluster.members.items():
            keys = KeyRing.generate(kek, os.urandom)
            place = directory / node.name
            bootstrap.write_first_files(files, place, cluster, member_id, keys, os.urandom, now_ms)
            text = bootstrap.configuration_text(node, f"file:../{KEK_FILE}", log={"file": "log"})
            bootstrap.write_file(files, place / bootstrap.CONFIGURATION_FILE, text.encode())
        credentials = grpc.ssl_channel_credentials(
            cluster.root.chain_pem, (directory / key).read_bytes(), (directory / certificate).read_bytes()
        )
        return cls(directory, {node.name: str(node.client) for node in new}, credentials)

    # Processes

    def start(self, *names: str) -> None:
        """Start the named nodes; all where none is named."""
        for name in names or self.endpoints:
            assert name not in self._processes, f"{name} runs already"
            self._began[name] = time.monotonic()
            self._processes[name] = subprocess.Popen(
                [*self._command(), "serve", "--config", str(self.directory / name / bootstrap.CONFIGURATION_FILE)],
                stdin=subprocess.DEVNULL,
            )

    def _command(self) -> list[str]:
        return [sys.executable, "-m", "tools.main"]

    def pid(self, name: str) -> int:
        return self._processes[name].pid

    def pids(self) -> list[int]:
        return [process.pid for process in self._processes.values()]

    def kill(self, name: str) -> None:
        """SIGKILL; returns when the process is gone."""
        process = self._processes.pop(name)
        process.kill()
        process.wait()

    def stop(self) -> None:
        """All that run, in good order."""
        processes, self._processes = self._processes, {}
        for process in processes.values():
            process.terminate()
        for name, process in processes.items():
            try:
                code = process.wait(END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise
            assert code == 0, f"{name} ended with exit code {code}; see its log in {self.directory}"

    # What they say

    def channel(self, name: str) -> aio.Channel:
        return aio.secure_channel(self.endpoints[name], self._credentials, options=CHANNEL_OPTIONS)

    async def ready(self, *names: str) -> dict[str, Started]:
        """Wait until the nodes serve."""
        found = await asyncio.gather(*(self._ready(name) for name in names or self.endpoints))
        return dict(zip(names or self.endpoints, found, strict=True))

    async def _ready(self, name: str) -> Started:
        began = self._began[name]
        while not _listens(self.endpoints[name]):
            self._check_alive(name)
            await asyncio.sleep(POLL_S)
        listens_s = time.monotonic() - began
        async with self.channel(name) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            while True:
                self._check_alive(name)
                answer = await health.Check(  # type: ignore[attr-defined]
                    health_pb2.HealthCheckRequest(), wait_for_ready=True, timeout=READY_S
                )
                if answer.status == health_pb2.HealthCheckResponse.SERVING:
                    return Started(listens_s, time.monotonic() - began)
                await asyncio.sleep(POLL_S)

    def _check_alive(self, name: str) -> None:
        process = self._processes[name]
        assert process.poll() is None, f"{name} ended with exit code {process.returncode}"
        assert time.monotonic() - self._began[name] < READY_S, f"{name} does not get ready"

    async def leader(self) -> str:
        """The leader's name, as soon as a running node knows it."""
        while True:
            for name in self._processes:
                async with self.channel(name) as channel:
                    status = await ClusterStub(channel).GetStatus(cluster_pb2.GetStatusRequest(), timeout=5.0)
                    if status.leader:
                        return str(status.leader)
            await asyncio.sleep(POLL_S)


def _listens(endpoint: str) -> bool:
    host, _, port = endpoint.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=1.0).close()
    except OSError:
        return False
    return True
