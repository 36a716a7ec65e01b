"""PIN and code against the bare hash, on the same cores: how much of what the processor gives is left for sign-ins.

The nodes, however many, and their clients share the machine. The bare hash runs in as many threads as there are cores,
and nothing else with it, before and after.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

from grpc import aio

from bench.cluster_under_test import ClusterUnderTest
from bench.load import closed_loop
from bench.population import Crowd, Person
from factors.pin import SALT_BYTES, hash_pin
from watchword.v1.administration_pb2_grpc import AdministrationStub
from watchword.v1.authentication_pb2 import DECISION_ACCEPT, VerifyRequest
from watchword.v1.authentication_pb2_grpc import AuthenticationStub
from watchword.v1.codes_pb2 import SetPinRequest
from watchword.v1.settings_pb2 import OATH_PIN_REQUIRED, SetSettingsRequest, Settings

PIN = "97539753"
IN_FLIGHT = 16
PEOPLE = 2 * IN_FLIGHT
SECONDS = 8.0
EXPECTED = 0.7


def bare_hashes_a_second(seconds: float = SECONDS) -> float:
    """In as many threads as there are cores."""
    threads = len(os.sched_getaffinity(0))
    end = time.perf_counter() + seconds

    def work() -> int:
        for made in count():
            if time.perf_counter() >= end:
                return made
            hash_pin(PIN, secrets.token_bytes(SALT_BYTES))
        raise AssertionError("count() has no end")

    with ThreadPoolExecutor(threads) as pool:
        return sum(future.result() for future in [pool.submit(work) for _ in range(threads)]) / seconds


async def sign_ins(cluster: ClusterUnderTest, seconds: float = SECONDS) -> dict[str, float]:
    """Of a started cluster that was made with PEOPLE people; callers are spread over its nodes."""
    channels = [cluster.channel(name) for name in cluster.endpoints]
    try:
        await _require_pins(channels[0])
        crowd = Crowd(PEOPLE)
        stubs = [AuthenticationStub(channel) for channel in channels]

        async def sign_in(caller: int) -> None:
            person = crowd.take()
            request = VerifyRequest(
                request_id=secrets.token_hex(16), user_id=person.user_id, passcode=PIN + person.next_code()
            )
            answer = await stubs[caller % len(stubs)].Verify(request, timeout=20.0)
            assert answer.decision == DECISION_ACCEPT, "a right PIN with a right code was rejected"
            crowd.put_back(person)

        load = await closed_loop(IN_FLIGHT, seconds, sign_in, cluster.pids())
        return load.as_figures()
    finally:
        for channel in channels:
            await channel.close()


async def _require_pins(channel: aio.Channel) -> None:
    stub = AdministrationStub(channel)
    for number in range(PEOPLE):
        request = SetPinRequest(request_id=secrets.token_hex(16), user_id=Person(number).user_id, pin=PIN)
        await stub.SetPin(request, timeout=20.0)
    settings = Settings(oath_pin=OATH_PIN_REQUIRED)
    await stub.SetSettings(SetSettingsRequest(request_id=secrets.token_hex(16), settings=settings), timeout=20.0)


async def measure(cluster: ClusterUnderTest) -> dict[str, float]:
    """Hashes and sign-ins a second, each before and after the other, and their ratio."""
    before = await asyncio.to_thread(bare_hashes_a_second)
    signed_in = await sign_ins(cluster)
    after = await asyncio.to_thread(bare_hashes_a_second)
    bare = (before + after) / 2
    return {
        "bare_hashes_a_second": bare,
        "pin_sign_ins_a_second": signed_in["calls_per_second"],
        "ratio": signed_in["calls_per_second"] / bare,
        "p50_ms": signed_in["p50_ms"],
        "p99_ms": signed_in["p99_ms"],
    }


async def measure_new(directory: Path, nodes: int = 3) -> dict[str, float]:
    """The same of a cluster of its own."""
    cluster = await asyncio.to_thread(ClusterUnderTest.make, directory, PEOPLE, nodes)
    cluster.start()
    try:
        await cluster.ready()
        return await measure(cluster)
    finally:
        await asyncio.to_thread(cluster.stop)
