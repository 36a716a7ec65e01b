"""A node under a service manager says when it is ready, that it lives, and that it stops; its key is a credential."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.node.service_manager import ServiceManager
from datastore.files import RealFiles
from tests.end_to_end.running import Process, free_ports
from tools.development_files import open_or_make

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(60)
        yield listening


def until(manager: socket.socket, wanted: str) -> list[str]:
    """What came before it."""
    before: list[str] = []
    while (told := manager.recv(4096).decode()) != wanted:
        before.append(told)
    return before


def test_ready_then_signs_of_life_then_stopping(manager: socket.socket, tmp_path: Path) -> None:
    node = open_or_make(RealFiles(), tmp_path / "cluster", 1, free_ports()).path / "node-1"
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (node.parent / "kek.key").rename(credentials / "watchword.kek")
    file = node / "watchword.toml"
    lines = file.read_text().splitlines()
    file.write_text(
        "\n".join('kek = "credential:watchword.kek"' if line.startswith("kek ") else line for line in lines)
    )
    environment = {
        "NOTIFY_SOCKET": str(tmp_path / "notify"),
        "WATCHDOG_USEC": "300000",
        "CREDENTIALS_DIRECTORY": str(credentials),
    }
    process = Process("serve", "--config", str(file), environment=environment)
    try:
        assert until(manager, "READY=1") == []
        assert [manager.recv(4096) for _ in range(5)] == [b"WATCHDOG=1"] * 5
        process.process.send_signal(signal.SIGTERM)
        assert set(until(manager, "STOPPING=1")) <= {"WATCHDOG=1"}
        assert process.wait() == 0
    finally:
        process.close()


def test_a_loop_that_does_not_turn_gives_no_sign_of_life(manager: socket.socket, tmp_path: Path) -> None:
    node = open_or_make(RealFiles(), tmp_path / "cluster", 1, free_ports()).path / "node-1"
    environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "300000"}
    process = Process("serve", "--config", str(node / "watchword.toml"), environment=environment)
    try:
        until(manager, "READY=1")
        process.process.send_signal(signal.SIGSTOP)
        manager.settimeout(1.0)
        with pytest.raises(TimeoutError):
            until(manager, "READY=1")
        process.process.send_signal(signal.SIGCONT)
        manager.settimeout(60)
        until(manager, "WATCHDOG=1")
    finally:
        process.close()


@pytest.mark.parametrize(
    ("environment", "watchdog_s"),
    [
        ({}, 0.0),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "7"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "8"}, 0.0),
        ({"WATCHDOG_USEC": "-1"}, 0.0),
        ({"WATCHDOG_USEC": "soon"}, 0.0),
    ],
)
def test_what_the_environment_asks_for(environment: dict[str, str], watchdog_s: float) -> None:
    assert ServiceManager.of(environment, 7).watchdog_s == watchdog_s


async def test_without_a_manager_nothing_is_sent_and_one_that_is_gone_stops_nobody(tmp_path: Path) -> None:
    alone = ServiceManager.of({"WATCHDOG_USEC": "1000"}, os.getpid())
    assert not alone.tell("READY=1")
    await alone.feed()
    assert not ServiceManager(str(tmp_path / "gone")).tell("READY=1")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind("\0watchword-test-" + os.urandom(8).hex())
        assert ServiceManager("@" + listening.getsockname()[1:].decode()).tell("READY=1", "STATUS=well")
        assert listening.recv(100) == b"READY=1\nSTATUS=well"
