"""What a node, or `up`, is given that it must refuse: one line, an exit code, and the data as it was."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.end_to_end.running import Cluster, Process, code, enrol, free_ports, wait_for
from watchword.errors import Unavailable

Start = Callable[..., Cluster]
pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cluster's directory after a run with one user, stopped in good order."""
    import asyncio

    cluster = Cluster.start(tmp_path_factory.mktemp("module") / "cluster")

    async def use() -> None:
        async with cluster.client() as client:
            await enrol(client, "alice")
            assert (await client.verify("alice", code(0))).accepted

    try:
        asyncio.run(use())
        assert cluster.stop() == 0
    finally:
        cluster.close()
    return cluster.directory


@pytest.fixture
def node(stopped: Path, tmp_path: Path) -> Path:
    """A copy of that directory's first node, with the key beside it."""
    copy = tmp_path / "copy"
    shutil.copytree(stopped, copy)
    return copy / "node-1"


def contents(directory: Path) -> dict[str, bytes]:
    """What must stay as it was; the log and the lock are the process's own."""
    files = [path for path in sorted(directory.rglob("*")) if path.is_file() and path.name not in {"log", "pid"}]
    return {str(path): path.read_bytes() for path in files}


def refused(node: Path, words: str, exit_code: int, environment: dict[str, str] | None = None) -> str:
    before = contents(node)
    process = Process("serve", "--config", str(node / "watchword.toml"), environment=environment)
    try:
        assert process.wait() == exit_code, process.output
        assert words in process.output
        assert process.output.startswith("watchword: ")
        assert len(process.output.strip().splitlines()) == 1, process.output
        assert contents(node) == before
        return process.output
    finally:
        process.close()


def change(path: Path, what: Callable[[bytes], bytes]) -> None:
    path.write_bytes(what(path.read_bytes()))


def flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def other_cluster(tmp_path: Path) -> Path:
    """The files of a cluster that never ran."""
    from datastore.files import RealFiles
    from tools.development_files import open_or_make

    return open_or_make(RealFiles(), tmp_path / "other", 3, 20_000).path


def test_the_wrong_key(node: Path, tmp_path: Path) -> None:
    shutil.copy(other_cluster(tmp_path) / "kek.key", node.parent / "kek.key")
    refused(node, "configure the key that the file was sealed under", 5)


def test_no_key(node: Path) -> None:
    (node.parent / "kek.key").unlink()
    refused(node, "kek.key does not exist", 5)


def test_a_key_that_others_can_read(node: Path) -> None:
    (node.parent / "kek.key").chmod(0o644)
    refused(node, "chmod 0600", 2)


def test_a_cut_data_file(node: Path) -> None:
    change(node / "mfa.data", lambda data: data[:-10])
    assert "Last known good" in refused(node, "damaged", 5)


def test_a_flipped_bit_in_the_data_file(node: Path) -> None:
    change(node / "mfa.data", flipped)
    refused(node, "damaged", 5)


def test_a_flipped_bit_in_the_journal(node: Path) -> None:
    change(max((node / "journal").iterdir(), key=lambda path: path.stat().st_size), flipped)
    refused(node, "damaged", 5)


def test_another_clusters_data_file(node: Path, tmp_path: Path) -> None:
    other = other_cluster(tmp_path)
    shutil.copy(other / "kek.key", node.parent / "kek.key")
    shutil.copy(other / "node-1" / "mfa.data", node / "mfa.data")
    process = Process("serve", "--config", str(node / "watchword.toml"))
    try:
        assert process.wait() == 5
        assert "another cluster" in process.output or "sealed under" in process.output
    finally:
        process.close()


def test_no_journal(node: Path) -> None:
    shutil.rmtree(node / "journal")
    refused(node, "lost its journal", 5)


def test_no_data_file(node: Path) -> None:
    for path in node.glob("mfa.data*"):
        path.unlink()
    refused(node, "has no data file", 5)


def test_another_nodes_certificate(node: Path) -> None:
    for name in ("node.pem", "node.key"):
        shutil.copy(node.parent / "node-2" / name, node / name)
    refused(node, "put the certificate that was issued to this node there", 2)


def test_a_certificate_that_is_not_there(node: Path) -> None:
    (node / "node.pem").unlink()
    refused(node, "node.pem: can't be read", 2)


def test_a_private_key_that_others_can_read(node: Path) -> None:
    (node / "node.key").chmod(0o640)
    refused(node, "chmod 600", 2)


def test_an_option_that_is_none(node: Path) -> None:
    with (node / "watchword.toml").open("a") as file:
        file.write("\n[raft]\nheartbeat = 3\n")
    refused(node, "unknown option raft.heartbeat; did you mean heartbeat_ms?", 2)


def test_a_port_in_use(node: Path) -> None:
    text = (node / "watchword.toml").read_text()
    for option in ("client_address", "peer_address"):
        line = next(line for line in text.splitlines() if line.startswith(option))
        port = int(line.rpartition(":")[2].strip('"'))
        with socket.create_server(("127.0.0.1", port)):
            refused(node, f"can't listen on {option} 127.0.0.1:{port}", 2)


def test_a_directory_that_others_can_read(node: Path) -> None:
    node.chmod(0o755)
    refused(node, "chmod 0700", 2)


def test_a_command_line_pointed_at_nothing(tmp_path: Path) -> None:
    process = Process("serve", "--config", str(tmp_path / "nothing.toml"))
    assert process.wait() == 2
    assert "no such file" in process.output
    process.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MiB."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m,mode=0700", "tmpfs", str(place)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("machine: can't mount a small file system")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def fill(disk: Path) -> None:
    """To the last byte."""
    with (disk / "filler").open("wb", buffering=0) as filler:
        for size in (65_536, 512, 1):
            with contextlib.suppress(OSError):
                while True:
                    filler.write(b"x" * size)


def test_a_read_only_directory(node: Path, small_disk: Path) -> None:
    shutil.copytree(node, small_disk / "node-1")
    shutil.copy(node.parent / "kek.key", small_disk / "kek.key")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    process = Process("serve", "--config", str(small_disk / "node-1" / "watchword.toml"))
    try:
        assert process.wait() == 2
        assert "Read-only file system" in process.output
        assert len(process.output.strip().splitlines()) == 1
    finally:
        process.close()


async def test_a_full_disk_stops_the_node_and_the_others_go_on(start: Start, small_disk: Path) -> None:
    cluster = start()
    async with cluster.client() as client:
        await enrol(client, "alice")
        assert cluster.stop() == 0
        node = cluster.node(3)
        shutil.copytree(node, small_disk / "node-3")
        shutil.copy(cluster.directory / "kek.key", small_disk / "kek.key")
        shutil.rmtree(node)
        cluster = start()  # two of three
        full = Process("serve", "--config", str(small_disk / "node-3" / "watchword.toml"))
        cluster.further.append(full)
        await cluster.until_serving(1, 2, 3)
        fill(small_disk)
        counter = 0
        while full.process.poll() is None:
            assert (await client.verify("alice", code(counter))).accepted
            counter += 1
            assert counter < 5_000, "the disk is full, and yet the node goes on"
        assert full.wait() == 6
        assert "the node stopped: storage failed" in full.output
        assert (await client.verify("alice", code(counter))).accepted
        (small_disk / "filler").unlink()
        again = Process("serve", "--config", str(small_disk / "node-3" / "watchword.toml"))
        cluster.further.append(again)
        await cluster.until_serving(1, 2, 3)
        async with cluster.client(endpoint=3) as itself:
            assert not (await itself.verify("alice", code(counter))).accepted
        assert again.end() == 0


def faketime(offset: str) -> dict[str, str]:
    """The environment in which a process's wall clock, and only that, is elsewhere."""
    import libfaketime

    library = next(Path(libfaketime.__file__).parent.rglob("libfaketime.so*"), None)
    if library is None:
        pytest.skip("machine: the package libfaketime has no library for it")
    return {"LD_PRELOAD": str(library), "FAKETIME": offset, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}


def test_an_expired_certificate(node: Path) -> None:
    refused(node, "node.pem: expired", 2, environment=faketime("+500d"))


def test_a_certificate_that_is_not_valid_yet(node: Path) -> None:
    refused(node, "check this machine's clock", 2, environment=faketime("-10d"))


def test_a_lone_node_with_a_clock_behind_its_data_asks(tmp_path: Path) -> None:
    cluster = Cluster.start(tmp_path / "lone", "--nodes", "1")
    try:
        assert cluster.stop() == 0
        node = cluster.node(1)
        refused(node, "--accept-clock", 2, environment=faketime("-200s"))
        accepted = Process(
            "serve", "--config", str(node / "watchword.toml"), "--accept-clock", environment=faketime("-200s")
        )
        cluster.further.append(accepted)
        accepted_log = cluster.node(1) / "log"
        wait_for(lambda: '"serving"' in accepted_log.read_text().split('"stopped"')[-1], "the lone node to serve")
        assert accepted.end() == 0
    finally:
        cluster.close()


async def test_a_clock_that_jumps_is_noticed_and_the_cluster_goes_on(start: Start, tmp_path: Path) -> None:
    cluster = start()
    async with cluster.client() as client:
        await enrol(client, "alice")
        cluster.kill(1)
        stamp = tmp_path / "faketime"
        stamp.write_text("+0")
        environment = {**faketime("+0"), "FAKETIME_TIMESTAMP_FILE": str(stamp), "FAKETIME_CACHE_DURATION": "1"}
        del environment["FAKETIME"]
        cluster.restart(1, environment=environment)
        await cluster.until_serving(1, 2, 3)
        stamp.write_text("+3600s")
        await cluster.until(lambda _: "clock_jumped" in cluster.log(1), "the jump to be noticed")
        for counter in range(10):
            assert (await client.verify("alice", code(counter))).accepted
        stamp.write_text("+0")
        await cluster.until(lambda _: "clock_agrees_again" in cluster.log(1), "the clock to be believed again")


def test_up_refuses_what_contradicts_the_cluster_that_is_there(stopped: Path) -> None:
    for option, value in (("--nodes", "5"), ("--port", "12340")):
        process = Process("up", "--dir", str(stopped), option, value)
        assert process.wait() == 2
        assert f"holds a cluster with {option}" in process.output
        process.close()


def test_up_refuses_a_directory_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "letter").write_text("dear")
    process = Process("up", "--dir", str(tmp_path))
    assert process.wait() == 2
    assert "is not empty and holds no development cluster" in process.output
    assert [path.name for path in tmp_path.iterdir()] == ["letter"]
    process.close()


def test_up_refuses_any_address_but_loopback(node: Path) -> None:
    change(node / "watchword.toml", lambda data: data.replace(b"127.0.0.1", b"0.0.0.0"))
    process = Process("up", "--dir", str(node.parent))
    assert process.wait() == 2
    assert "is not loopback" in process.output
    process.close()


def test_up_refuses_ports_that_are_in_use_before_it_makes_processes(tmp_path: Path) -> None:
    port = free_ports()
    with socket.create_server(("127.0.0.1", port + 1)):
        process = Process("up", "--dir", str(tmp_path / "cluster"), "--port", str(port))
        assert process.wait() == 2
        assert f"can't listen on client_address 127.0.0.1:{port + 1}: address already in use; " in process.output
        assert "--port PORT" in process.output
        assert list(tmp_path.iterdir()) == []
        process.close()


async def test_a_second_up_in_one_directory_is_refused(start: Start) -> None:
    cluster = start("--nodes", "1")
    process = Process("up", "--dir", str(cluster.directory))
    assert process.wait() == 2
    assert f"in use by process {cluster.up.process.pid}" in process.output
    process.close()
    cluster.kill(1)
    assert cluster.up.wait() != 0
    async with cluster.client(timeout_s=1.0) as client:
        with pytest.raises(Unavailable):
            await client.verify("alice", code(0))


def test_up_names_the_nodes_that_an_earlier_one_has_left(start: Start) -> None:
    cluster = start("--nodes", "1")
    cluster.up.process.kill()
    cluster.up.process.wait()
    pid = (cluster.node(1) / "pid").read_text().strip()
    try:
        process = Process("up", "--dir", str(cluster.directory), "--json")
        assert process.wait() == 2
        answer = json.loads(process.output)
        assert (answer["error"], answer["exit_code"]) == ("DIRECTORY", 2)
        assert "node-1 still runs" in answer["message"]
        assert answer["advice"].endswith(f": kill {pid}")
        process.close()
    finally:
        os.kill(int(pid), signal.SIGKILL)


def test_up_in_a_place_that_is_not_its_own(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    for name in ("file", "loop"):
        process = Process("up", "--dir", str(tmp_path / name))
        assert process.wait() == 2
        assert "is no directory; name one with --dir DIR" in process.output
        process.close()
    assert len(list(tmp_path.iterdir())) == 2


def test_a_signal_before_anything_is_ready_stops_it(tmp_path: Path) -> None:
    process = Process("up", "--dir", str(tmp_path / "cluster"), "--port", str(free_ports()))
    process.says("profile")
    assert process.end() == 0
    pids = [path.read_text().strip() for path in (tmp_path / "cluster").glob("node-*/pid")]
    assert not [pid for pid in pids if pid and Path(f"/proc/{pid}").exists()]
    process.close()
