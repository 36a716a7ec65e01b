"""Nodes that come and go, with real processes, as an operator has it from the manual."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Iterator
from itertools import count
from pathlib import Path

import pytest

from tests.end_to_end.machines import EXIT_REMOVED, Machines
from tests.end_to_end.running import SECRET_BYTES, Process, code, enrol
from watchword.client import Client
from watchword.v1 import administration_pb2


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    """Three that run, from `init`, `invite` and `join`."""
    machines = Machines(tmp_path_factory.mktemp("machines"))
    try:
        machines.init()
        for _ in range(2):
            number = machines.new()
            machines.join(number)
            machines.serve(number)
        machines.until_voting()
        yield machines
    finally:
        machines.close()


def members(machines: Machines) -> list[tuple[str, str, bool]]:
    return sorted((name, node["member_id"], node["voter"]) for name, node in machines.listed().items())


@contextlib.asynccontextmanager
async def signing_in(client: Client, *names: str) -> AsyncIterator[list[bool]]:
    """Sign-ins one after another for each of these users; what came of each."""
    accepted: list[bool] = []
    stop = asyncio.Event()

    async def one(user: str) -> None:
        for counter in count(1):
            if stop.is_set():
                return
            accepted.append((await client.verify(user, code(counter))).accepted)

    for name in names:
        await client.add_user(name)
        await client.add_token(name, administration_pb2.TOKEN_TYPE_HOTP, secret=SECRET_BYTES, counter=1)
    tasks = [asyncio.create_task(one(name)) for name in names]
    try:
        yield accepted
    finally:
        stop.set()
        await asyncio.gather(*tasks)


async def test_three_machines_sign_in_through_any_of_them(machines: Machines) -> None:
    await machines.until_serving()
    async with machines.client() as client:
        await enrol(client, "alice")
    for counter, number in enumerate(machines.running, 1):
        async with machines.client(number) as client:
            assert (await client.verify("alice", code(counter))).accepted
    code_, out, _ = machines.run("status")
    assert (code_, out.splitlines()[0]) == (0, "the cluster can lose 1 more node")


async def test_leadership_moves_without_a_failed_sign_in(machines: Machines) -> None:
    await machines.until_serving()
    async with machines.client() as client, signing_in(client, *"abcdefgh") as accepted:
        for number in (*machines.running[1:], 1):
            name = f"machine-{number}"
            moved = await asyncio.to_thread(machines.answer, "node", "transfer", name)
            assert moved["leader"] == name
            await asyncio.sleep(0.5)
        moved = await asyncio.to_thread(machines.answer, "node", "transfer")
        assert moved["leader"] != "machine-1"
    assert all(accepted)


def test_what_bad_input_gets(machines: Machines, tmp_path: Path) -> None:
    machines.profile()
    token = machines.invite()
    before = members(machines)
    number = machines.new()

    def refused(words: str, *arguments: str, stdin: str = token, code: int = 2) -> None:
        got, out, err = machines.run(*arguments, stdin=stdin, profile=False)
        assert (got, out) == (code, ""), err
        assert words in err.splitlines()[-1]
        assert not machines.node(number).exists()

    join = machines.join_arguments(number)
    refused("is no joining token", *join, stdin="wwjoin2-abc")
    refused("damaged", *join, stdin=token[:-20])
    refused("damaged", *join, stdin=token[:100] + ("A" if token[100] != "A" else "B") + token[101:])
    refused("not empty", "node", "join", "--token", "-", "--dir", str(machines.node(1)), "--address", "127.0.0.7:9")
    taken = ["node", "join", "--token", "-", "--dir", str(machines.node(number)), "--name", "seven", "--address"]
    refused("another node has this address", *taken, machines.address(machines.running[1]), code=1)
    refused("every machine", *taken, "0.0.0.0:7400")
    refused("HOST:PORT", *taken, "nowhere")
    kek = tmp_path / "kek"
    kek.write_text("watchword-kek 1\n")
    kek.chmod(0o600)
    refused("key text", *join, "--kek", str(kek))
    code_, _, err = machines.run("node", "remove", "nobody")
    assert (code_, "no such node" in err) == (1, True)
    code_, _, err = machines.run("node", "transfer", "nobody")
    assert (code_, "no such node" in err) == (1, True)
    assert members(machines) == before


async def test_a_dead_machine_is_replaced_and_told_when_it_comes_back(machines: Machines) -> None:
    """While somebody signs in; and the token that let the new one in lets in nobody else."""
    await machines.until_serving()
    dead, new = machines.running[-1], machines.new()
    async with machines.client(*machines.running[:-1]) as client, signing_in(client, *"klmn") as accepted:
        machines.kill(dead)
        removed = await asyncio.to_thread(machines.answer, "node", "remove", f"machine-{dead}")
        assert len(removed["member_id"]) == 32
        token = await asyncio.to_thread(machines.invite)
        await asyncio.to_thread(machines.answer, *machines.join_arguments(new), stdin=token)
        await asyncio.to_thread(machines.serve, new)
        await asyncio.to_thread(machines.until_voting)
    assert all(accepted)
    code_, _, err = machines.run(*machines.join_arguments(machines.new()), stdin=token)
    assert (code_, "was used already" in err) == (1, True)
    await machines.until_serving()
    again = Process("serve", "--config", str(machines.node(dead) / "watchword.toml"))
    try:
        assert again.wait() == EXIT_REMOVED
        assert "was removed from the cluster" in again.output
    finally:
        again.close()


async def test_a_removal_that_would_cost_the_quorum_is_refused(machines: Machines) -> None:
    await machines.until_serving()
    while len(machines.running) > 3:
        machines.remove(machines.running[-1])
    before = members(machines)
    _, second, down = machines.running
    machines.kill(down)
    code_, _, err = machines.run("node", "remove", f"machine-{second}")
    assert (code_, "too few of the other nodes answer" in err) == (1, True), err
    machines.serve(down)
    await machines.until_serving()
    assert members(machines) == before


def test_an_interrupted_join_may_be_repeated(machines: Machines) -> None:
    """The answer was lost after the token was spent: the same node is told the same again."""
    machines.profile()
    token, number = machines.invite(), machines.new()
    first = machines.answer(*machines.join_arguments(number), stdin=token)
    made = machines.node(number)
    shutil.rmtree(made / "journal")
    made.rename(made.with_name(f".{made.name}.joining"))
    again = machines.answer(*machines.join_arguments(number), stdin=token)
    assert again["member_id"] == first["member_id"]
    machines.serve(number)
    machines.until_voting()


async def test_a_copy_of_a_node_stops_and_the_node_goes_on(machines: Machines) -> None:
    await machines.until_serving()
    machines.answer("node", "transfer", "machine-1")
    number, there = machines.running[-1], machines.new()
    copy = machines.node(there)
    shutil.copytree(machines.node(number), copy)
    text = (copy / "watchword.toml").read_text()
    (copy / "watchword.toml").write_text(text.replace(f"127.0.0.{number}:", f"127.0.0.{there}:"))
    process = Process("serve", "--config", str(copy / "watchword.toml"))
    try:
        assert process.wait() in (2, 4)  # told that it is a copy, or that it is an old one
        assert "another process speaks" in process.output or "older copy" in process.output
    finally:
        process.close()
    await machines.until_serving()
