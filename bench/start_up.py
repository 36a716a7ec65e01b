"""How long nodes take to start, and what they hold in memory, by the number of users."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import psutil

from bench.cluster_under_test import ClusterUnderTest
from bench.figures import CpuMeter, median

USERS = (0, 10_000, 100_000)
SETTLE_S = 2.0
IDLE_S = 3.0


async def measure(directory: Path, users: int) -> dict[str, Any]:
    """Three nodes started at once, with one token a user. Medians and worst of the three."""
    cluster = await asyncio.to_thread(ClusterUnderTest.make, directory, users)
    data_file = directory / "node-1" / "mfa.data"
    cluster.start()
    try:
        started = await cluster.ready()
        await asyncio.sleep(SETTLE_S)
        meter = CpuMeter(cluster.pids())
        await asyncio.sleep(IDLE_S)
        idle_cores = meter.used_s() / IDLE_S / len(started)
        memory = [psutil.Process(pid).memory_full_info() for pid in cluster.pids()]
    finally:
        await asyncio.to_thread(cluster.stop)
    return {
        "listens_s": _of([each.listens_s for each in started.values()]),
        "serves_s": _of([each.serves_s for each in started.values()]),
        "resident_mib": _of([each.rss / 2**20 for each in memory]),
        "private_mib": _of([each.uss / 2**20 for each in memory]),
        "idle_cores_a_node": idle_cores,
        "data_file_mib": data_file.stat().st_size / 2**20,
    }


def _of(values: list[float]) -> dict[str, float]:
    return {"median": median(values), "worst": max(values)}
