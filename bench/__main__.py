"""Measures a cluster, prints what it finds and writes it as JSON.

    python -m bench                            all of it: about ten minutes
    python -m bench --only calls --rounds 1    a part

Parts: calls (fdatasync, the empty call, sign-ins), streams (many sign-ins on one), start-up (time and memory by users),
leader-killed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc

from bench import disk, empty_call, leader_killed, report, sign_ins, start_up, stream
from bench.cluster_under_test import ClusterUnderTest
from bench.expectations import expectations
from bench.figures import median, medians

PARTS = ("calls", "streams", "start-up", "leader-killed")
ROUNDS = 3
KILLS = 20
RESULTS = Path(__file__).resolve().parent / "results"

Rounds = list[dict[str, dict[str, float]]]


def machine() -> dict[str, Any]:
    return {
        "cpus": os.cpu_count(),
        "processor": processor(),
        "python": platform.python_version(),
        "grpcio": grpc.__version__,
        "system": platform.platform(),
        "load_average_before": [round(each, 2) for each in os.getloadavg()],
    }


def processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def by_level(rounds: Rounds) -> dict[str, dict[str, float]]:
    return {level: medians([each[level] for each in rounds]) for level in rounds[0]}


@asynccontextmanager
async def running(cluster: ClusterUnderTest) -> AsyncIterator[None]:
    """All nodes, from when they serve; whatever happens, none is left behind."""
    cluster.start()
    try:
        await cluster.ready()
        yield
    finally:
        await asyncio.to_thread(cluster.stop)


async def measure_calls(directory: Path, rounds: int) -> dict[str, Any]:
    """Everything that is compared with each other, close to each other in time, round by round; medians."""
    syncs, one, three, sign_in = [], [], [], []
    for number in range(rounds):
        print(f"  calls, round {number + 1} of {rounds}", flush=True)
        cluster = await asyncio.to_thread(ClusterUnderTest.make, directory / f"calls-{number}", sign_ins.PEOPLE)
        syncs.append(disk.measure(cluster.directory))
        one.append(await empty_call.measure(cluster, 1))
        three.append(await empty_call.measure(cluster, 3))
        async with running(cluster):
            sign_in.append(await sign_ins.measure(cluster))
    spreads = [{"p50_ms": each.p50_ms, "p99_ms": each.p99_ms} for each in syncs]
    return {
        "disk": medians(spreads),
        "empty_call": {"one_server": by_level(one), "three_servers": by_level(three)},
        "sign_in": by_level(sign_in),
        "rounds": {"disk": spreads, "one_server": one, "three_servers": three, "sign_in": sign_in},
    }


async def measure_streams(directory: Path, rounds: int) -> dict[str, Any]:
    found = []
    for number in range(rounds):
        print(f"  streams, round {number + 1} of {rounds}", flush=True)
        cluster = await asyncio.to_thread(ClusterUnderTest.make, directory / f"streams-{number}", stream.people())
        async with running(cluster):
            found.append(await stream.measure(cluster))
    return {"stream": by_level(found)}


async def measure_start_up(directory: Path) -> dict[str, Any]:
    found = {}
    for users in start_up.USERS:
        print(f"  start-up with {users} users", flush=True)
        found[str(users)] = await start_up.measure(directory / f"users-{users}", users)
    return {"start_up": found}


async def measure_leader_killed(directory: Path, times: int) -> dict[str, Any]:
    print(f"  the leader is killed {times} times", flush=True)
    cluster = await asyncio.to_thread(ClusterUnderTest.make, directory / "killed", leader_killed.PEOPLE)
    async with running(cluster):
        silences = await leader_killed.measure(cluster, times)
    return {"leader_killed": {"times_s": silences, "median_s": median(silences), "worst_s": max(silences)}}


async def measure(options: argparse.Namespace, directory: Path) -> dict[str, Any]:
    results: dict[str, Any] = {"machine": machine(), "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
    parts = options.only or PARTS
    if "calls" in parts:
        results |= await measure_calls(directory, options.rounds)
    if "streams" in parts:
        results |= await measure_streams(directory, options.rounds)
    if "start-up" in parts:
        results |= await measure_start_up(directory)
    if "leader-killed" in parts:
        results |= await measure_leader_killed(directory, options.kills)
    results["expectations"] = [each.as_figures() for each in expectations(results)]
    return results


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", action="append", choices=PARTS, help="this part; may be repeated")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"rounds of `calls` (default {ROUNDS})")
    parser.add_argument("--kills", type=int, default=KILLS, help=f"how often the leader is killed (default {KILLS})")
    parser.add_argument("--dir", type=Path, help="where the clusters' files lie (default: the temporary directory)")
    parser.add_argument("--json", type=Path, help="where the figures go (default: bench/results/TIME.json)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="watchword-bench-", dir=options.dir) as directory:
        results = asyncio.run(measure(options, Path(directory)))
    print(*report.lines(results), sep="\n")
    file = options.json or RESULTS / f"{results['at'].replace(':', '')}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    print(f"\nwritten to {file}")


if __name__ == "__main__":
    main()
