"""What gRPC itself costs: an empty unary call over mutual TLS, to one server and spread over three."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle

import grpc
from google.protobuf.empty_pb2 import Empty
from grpc import aio

from bench.cluster_under_test import CLIENT, ClusterUnderTest
from bench.echo_server import METHOD, SERVICE
from bench.load import LEVELS, closed_loop
from bench.ports import LOOPBACK, free_ports
from cluster.node.bootstrap import CA_FILE
from watchword.client import CHANNEL_OPTIONS

TIMEOUT_S = 10.0


@contextmanager
def servers(files: ClusterUnderTest, count: int) -> Iterator[dict[int, int]]:
    """Echo servers with the certificates of that many nodes (none of which runs); their pids by port."""
    places = list(files.endpoints)[:count]
    running = {
        port: subprocess.Popen(
            [
                *(sys.executable, "-m", "bench.echo_server"),
                *("--port", str(port), "--directory", str(files.directory / place)),
            ],
            stdin=subprocess.DEVNULL,
        )
        for port, place in zip(free_ports(count), places, strict=True)
    }
    try:
        yield {port: process.pid for port, process in running.items()}
    finally:
        for process in running.values():
            process.kill()
            process.wait()


async def measure(
    files: ClusterUnderTest, count: int, levels: Sequence[tuple[int, float]] = LEVELS
) -> dict[str, dict[str, float]]:
    """By level: calls a second and latency, spread over `count` servers."""
    node = files.directory / next(iter(files.endpoints))
    credentials = grpc.ssl_channel_credentials(
        (node / CA_FILE).read_bytes(),
        (files.directory / f"{CLIENT}.key").read_bytes(),
        (files.directory / f"{CLIENT}.pem").read_bytes(),
    )
    with servers(files, count) as running:
        channels = [aio.secure_channel(f"{LOOPBACK}:{port}", credentials, options=CHANNEL_OPTIONS) for port in running]
        calls = [
            channel.unary_unary(f"/{SERVICE}/{METHOD}", Empty.SerializeToString, Empty.FromString)
            for channel in channels
        ]

        in_turn = cycle(calls)

        async def call(_: int) -> None:
            await next(in_turn)(Empty(), timeout=TIMEOUT_S)

        figures = {}
        try:
            for each in calls:
                await each(Empty(), wait_for_ready=True, timeout=60.0)
            for in_flight, seconds in levels:
                load = await closed_loop(in_flight, seconds, call, list(running.values()))
                figures[str(in_flight)] = load.as_figures()
        finally:
            for channel in channels:
                await channel.close()
    return figures
