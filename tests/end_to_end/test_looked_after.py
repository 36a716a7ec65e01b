"""What an operator sees of three real processes: metrics, health, and an audit trail that each node keeps whole."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from cluster.node.events.verification import files_of, verify
from tests.end_to_end.running import Cluster, Process, code, enrol, wait_for
from watchword.client import Client
from watchword.v1 import events_pb2

Start = Callable[..., Cluster]
pytestmark = pytest.mark.timeout(240)
NOTES = {"begin", "position", "gap"}


def get(cluster: Cluster, number: int, path: str) -> tuple[int, str]:
    """A page of a node's metrics port: status and text."""
    base = int(cluster.profile.endpoints[0].rpartition(":")[2])
    url = f"http://127.0.0.1:{base + 12 + number - 1}{path}"
    try:
        with urllib.request.urlopen(url, timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def scrape(cluster: Cluster, number: int) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every sample of a node, by name and labels."""
    status, text = get(cluster, number, "/metrics")
    assert status == 200
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def trail(cluster: Cluster, number: int) -> list[dict[str, Any]]:
    """Every event of a node's trail, without what is the node's own."""
    lines = [
        json.loads(line)
        for path in files_of([cluster.node(number) / "events"])
        for line in path.read_text().splitlines()
    ]
    for line in lines:
        line.pop("chain")
    return [line for line in lines if line["kind"] not in NOTES]


def sign_ins(cluster: Cluster, number: int) -> list[dict[str, Any]]:
    return [line for line in trail(cluster, number) if line["kind"] == "verify"]


async def test_metrics_of_three_nodes_tell_what_happened_and_nobodys_name(start: Start) -> None:
    cluster = start()
    async with cluster.client() as client:
        await enrol(client, "alice")
        for counter in range(5):
            assert (await client.verify("alice", code(counter))).accepted
        assert not (await client.verify("alice", code(0))).accepted
        assert not (await client.verify("nobody", "123456")).accepted
    await asyncio.sleep(0.3)  # a page is kept for a moment
    pages = {number: scrape(cluster, number) for number in (1, 2, 3)}

    def total(name: str, **labels: str) -> float:
        return sum(page.get((name, tuple(sorted(labels.items()))), 0.0) for page in pages.values())

    assert total("watchword_decisions_total", decision="ACCEPT", reason="ACCEPTED") == 5
    assert total("watchword_decisions_total", decision="REJECT", reason="REPLAYED") == 1
    assert total("watchword_decisions_total", decision="REJECT", reason="UNKNOWN_USER") == 1
    assert total("watchword_role", role="leader") == 1
    assert total("watchword_serving") == total("watchword_quorum") == 3
    assert total("watchword_users") == 3
    assert total("watchword_digest_mismatches_total") == total("watchword_digest_disputed") == 0
    assert total("watchword_commit_seconds_count") >= 9
    assert total("watchword_call_seconds_count", method="/watchword.v1.Authentication/Verify") == 7
    for number, page in pages.items():
        assert page["watchword_sync_seconds_count", ()] > 0
        assert page["watchword_groups_per_entry_count", ()] >= 9
        assert page["watchword_failure_tolerance", ()] == 1
        assert page["watchword_certificate_days_left", ()] > 30
        assert page["process_resident_memory_bytes", ()] > 10_000_000
        assert page["watchword_data_file_bytes", ()] > 100
        peers = {f"node-{other}" for other in (1, 2, 3) if other != number}
        assert {peer for peer in peers if page["watchword_peer_connected", (("peer", peer),)] == 1} == peers
        text = get(cluster, number, "/metrics")[1]
        assert not [word for word in ("alice", "nobody", "developer", "watchword://") if word in text]
        assert get(cluster, number, "/healthz") == (200, '{"status": "ok", "events": "ok"}\n')
        assert get(cluster, number, "/readyz")[0] == 200
        assert get(cluster, number, "/")[0] == 404
    assert cluster.stop() == 0


async def test_a_node_without_a_quorum_lives_and_is_not_ready(start: Start) -> None:
    cluster = start()
    for number in (1, 2):
        await asyncio.to_thread(cluster.kill, number)
    wait_for(lambda: get(cluster, 3, "/readyz")[0] == 503, "node-3 to say that it does not serve")
    assert json.loads(get(cluster, 3, "/readyz")[1])["reason"] == "no quorum"
    assert get(cluster, 3, "/healthz")[0] == 200
    wait_for(lambda: scrape(cluster, 3)["watchword_quorum", ()] == 0, "the metrics to say so")
    with socket.create_server(("127.0.0.1", cluster.port + 12)):
        refused = cluster.restart(1)
        assert await asyncio.to_thread(refused.wait) == 2
    assert "metrics_address" in refused.output


async def test_every_node_writes_the_same_events_and_loses_none_to_a_kill(start: Start) -> None:
    cluster = start()
    users = [f"user-{n}" for n in range(10)]
    acknowledged: list[str] = []
    async with cluster.client(timeout_s=20.0) as client:
        await asyncio.gather(*(enrol(client, user) for user in users))

        async def sign_in(user: str) -> None:
            for counter in range(20):
                request_id = f"{user}.{counter}"
                assert (await client.verify(user, code(counter), request_id=request_id)).accepted
                acknowledged.append(request_id)

        async def kill_and_restart(number: int) -> None:
            while len(acknowledged) < 60:  # noqa: ASYNC110 - somewhere in the middle
                await asyncio.sleep(0.001)
            await asyncio.to_thread(cluster.kill, number)
            cluster.restart(number)

        leader = await cluster.leader()
        await asyncio.gather(kill_and_restart(leader), *(sign_in(user) for user in users))
        await cluster.until_serving(1, 2, 3)
        assert not (await client.verify("user-0", "000000", request_id="the-last-one")).accepted

    def has_all(number: int) -> bool:
        return any(line["request_id"] == "the-last-one" for line in sign_ins(cluster, number))

    for number in (1, 2, 3):
        wait_for(lambda number=number: has_all(number), f"node-{number} to write the last event")
    trails = {number: trail(cluster, number) for number in (1, 2, 3)}
    assert trails[1] == trails[2] == trails[3], "the same events, at the same indices"
    accepted = [line["request_id"] for line in sign_ins(cluster, leader) if line["decision"] == "ACCEPT"]
    assert sorted(accepted) == sorted(acknowledged), "each acknowledged sign-in once, across the kill"
    added = [line for line in trails[1] if line["kind"] == "user_added"]
    assert len(added) == len(users)
    assert {line["client"] for line in added} == {"client/developer"}
    assert len({line["pseudonym"] for line in added}) == len(users)
    for number in (1, 2, 3):
        async with cluster.client(endpoint=number) as client:
            found = [event async for event in events_of(client, "user-7")]
        assert {event.user_id for event in found} == {"user-7"}, "a node that may tell names tells them"
        assert [event.kind for event in found] == ["user_added", "token_added"] + ["verify"] * 20
    assert cluster.stop() == 0
    for number in (1, 2, 3):
        directory = cluster.node(number) / "events"
        assert verify(files_of([directory])).intact
        nobody_is_named(directory, users)


async def events_of(client: Client, user: str) -> AsyncIterator[events_pb2.AuditEvent]:
    async for response in client.read_events(events_pb2.ReadEventsRequest(user_id=user)):
        for event in response.events:
            yield event


async def test_who_follows_a_trail_hears_of_a_sign_in_and_of_the_nodes_end(start: Start) -> None:
    cluster = start("--nodes", "1")
    tail = Process("events", "tail", "--follow", "--profile", str(cluster.directory / "client.toml"))
    cluster.further.append(tail)
    async with cluster.client() as client:
        await enrol(client, "alice")
        assert (await client.verify("alice", code(0), application="vpn")).accepted
    await asyncio.to_thread(tail.says, "verify ACCEPT ACCEPTED alice")
    assert cluster.up.end() == 0
    assert await asyncio.to_thread(tail.wait) == 3
    assert "stopping" in tail.output
    assert "user_added alice by client/developer" in tail.output


@contextmanager
def small_disk(directory: Path) -> Iterator[None]:
    """A disk of 64 KiB at `directory`, for the events of one node."""
    options = "size=64k,mode=0700"
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", directory]
    if subprocess.run(command, check=False, capture_output=True).returncode != 0:
        pytest.skip("machine: no disk can be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", directory], check=True)


def enlarge(directory: Path) -> None:
    subprocess.run(["mount", "-o", "remount,size=16m", directory], check=True)


async def test_a_full_disk_under_the_trail_is_loud_and_loses_nothing(start: Start) -> None:
    cluster = start()
    assert cluster.stop() == 0
    directory = cluster.node(1) / "events"
    with small_disk(directory):
        cluster = start()
        async with cluster.client(timeout_s=20.0) as client:
            await enrol(client, "alice")
            for counter in range(250):
                assert (await client.verify("alice", code(counter))).accepted
            wait_for(lambda: "not written" in get(cluster, 1, "/healthz")[1], "node-1 to say that its disk is full")
            assert get(cluster, 1, "/healthz")[0] == get(cluster, 1, "/readyz")[0] == 200, "it goes on all the same"
            assert scrape(cluster, 1)["watchword_events_failing", ()] == 1
            assert (await cluster.statuses())[1].node.events_failing
            assert "events_not_written" in cluster.log(1)
            await asyncio.to_thread(enlarge, directory)
            wait_for(lambda: "not written" not in get(cluster, 1, "/healthz")[1], "node-1 to go on")
        for number in (1, 2):
            wait_for(lambda number=number: len(sign_ins(cluster, number)) == 250, f"node-{number} to have all events")
        assert sign_ins(cluster, 1) == sign_ins(cluster, 2)
        assert verify(files_of([directory])).intact
        assert cluster.stop() == 0


def nobody_is_named(directory: Path, users: list[str]) -> None:
    """Request ids are the front end's own words; here they hold a name, and everything else does not."""
    for path in directory.iterdir():
        for line in path.read_text().splitlines():
            document = json.loads(line)
            document.pop("request_id", None)
            assert not [user for user in users if user in json.dumps(document)]
