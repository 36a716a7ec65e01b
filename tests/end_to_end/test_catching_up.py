"""A node that was away comes back by the journal, or by a snapshot where the journal is gone."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable

import pytest

from tests.end_to_end.running import Cluster, code, enrol

Start = Callable[..., Cluster]
pytestmark = pytest.mark.timeout(240)

# As little journal as may be kept, so that a few hundred sign-ins are more than that.
LITTLE = "\n[snapshots]\njournal_bytes = 65536\ntail_bytes = 65536\n"


async def busy(cluster: Cluster, users: list[str], first: int, count: int) -> None:
    async with cluster.client(timeout_s=20.0) as client:

        async def sign_in(user: str) -> None:
            for counter in range(first, first + count):
                assert (await client.verify(user, code(counter))).accepted

        await asyncio.gather(*(sign_in(user) for user in users))


async def test_a_node_that_was_away_too_long_is_filled_by_a_snapshot(start: Start) -> None:
    cluster = start()
    users = [f"user-{n}" for n in range(20)]
    async with cluster.client() as client:
        await asyncio.gather(*(enrol(client, user) for user in users))
    assert cluster.stop() == 0
    for number in (1, 2, 3):
        with (cluster.node(number) / "watchword.toml").open("a") as file:
            file.write(LITTLE)
    cluster = start()
    cluster.kill(3)
    first = 0
    before = {number: cluster.log(number).count("data_file_written") for number in (1, 2)}

    def forgotten() -> bool:
        """Each data file stands for 64 KiB more, and as much is kept before it."""
        return all(cluster.log(number).count("data_file_written") >= count + 3 for number, count in before.items())

    while not forgotten():
        assert first < 2_000, "no data file was written, however much was"
        await busy(cluster, users, first, 40)
        first += 40
    cluster.restart(3)
    await cluster.until_serving(1, 2, 3)
    assert "snapshot_installed" in cluster.log(3)
    async with cluster.client(endpoint=3) as itself:
        for user in users[:3]:
            assert not (await itself.verify(user, code(first - 1))).accepted
    assert cluster.stop() == 0
    # What it installed is its own now: it starts from it, and its peers' files aren't needed.
    cluster = start()
    await cluster.until_serving(1, 2, 3)
    assert "snapshot_installed" not in cluster.log(3).rpartition('"started"')[2]
    async with cluster.client(endpoint=3) as itself:
        assert (await itself.verify(users[0], code(first))).accepted
    assert cluster.stop() == 0


async def test_generations_and_journal_stay_bounded(start: Start) -> None:
    cluster = start("--nodes", "1")
    users = [f"user-{n}" for n in range(20)]
    async with cluster.client() as client:
        await asyncio.gather(*(enrol(client, user) for user in users))
    assert cluster.stop() == 0
    with (cluster.node(1) / "watchword.toml").open("a") as file:
        file.write(LITTLE)
    cluster = start()
    first = 0
    while cluster.log(1).count("data_file_written") < 6:
        assert first < 2_000, "no data file was written, however much was"
        await busy(cluster, users, first, 40)
        first += 40
    names = {path.name for path in cluster.node(1).iterdir()}
    assert len([name for name in names if name.startswith("mfa.data") and not name.endswith(".tmp")]) == 3
    assert cluster.stop(signal.SIGINT) == 0, "as Ctrl-C does"
