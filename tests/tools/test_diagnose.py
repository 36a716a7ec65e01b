"""`watchword config check` and `watchword diagnose` on a node's real files, as they are and with one thing wrong."""

import fcntl
import json
import os
import re
import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cluster.node import diagnosis
from cluster.node.clock import system_wall_ms
from cluster.node.diagnosis import Check, Verdict, check_clock, check_disk, check_files, check_port, exit_code
from datastore.files import RealFiles
from datastore.keys import key_text, new_kek
from tests.client.fake_cluster import FakeCluster
from tests.end_to_end.running import free_ports
from tools.development_files import open_or_make
from tools.main import run
from watchword.v1 import cluster_pb2 as cluster

DAY_MS = 24 * 3600 * 1000
Run = Callable[..., tuple[int, dict[str, dict[str, str]]]]


@pytest.fixture
def node(tmp_path: Path) -> Path:
    """The directory of a node that never ran."""
    made = open_or_make(RealFiles(), tmp_path / "cluster", 1, free_ports())
    return made.path / "node-1"


@pytest.fixture
def watchword(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    monkeypatch.setenv("WATCHWORD_PROFILE", str(tmp_path / "no-profile"))

    def watchword(*arguments: str) -> tuple[int, dict[str, dict[str, str]]]:
        code = run([*arguments, "--json"])
        document = json.loads(capsys.readouterr().out)
        assert document["exit_code"] == code
        return code, {check.pop("name"): check for check in document["checks"]}

    return watchword


def check(node: Path, now_ms: int | None = None, environment: dict[str, str] | None = None) -> dict[str, Check]:
    _, checks = check_files(node / "watchword.toml", RealFiles(), now_ms or system_wall_ms(), environment or {})
    return {each.name: each for each in checks}


def test_a_node_without_its_journal_would_not_start(node: Path) -> None:
    [segment] = (node / "journal").iterdir()
    segment.unlink()
    assert (check(node)["journal"].verdict, "lost its journal" in check(node)["journal"].text) == (Verdict.FAIL, True)
    (node / "journal").rmdir()
    assert check(node)["journal"].verdict == Verdict.FAIL


def test_a_good_node_is_well(node: Path, watchword: Run) -> None:
    before = {path: path.read_bytes() for path in node.rglob("*") if path.is_file()}
    code, checks = watchword("config", "check", str(node / "watchword.toml"))
    assert (code, {each["verdict"] for each in checks.values()}) == (0, {"ok"})
    assert list(checks) == ["configuration", "permissions", "key", "data file", "journal", "certificate"]
    code, checks = watchword("diagnose", "--config", str(node / "watchword.toml"))
    assert [name for name, each in checks.items() if each["verdict"] != "ok" and name != "sync"] == ["clock"]
    assert {"disk", "sync", "client_address", "peer_address", "metrics_address"} < set(checks)
    assert code == 1
    assert {path: path.read_bytes() for path in node.rglob("*") if path.is_file()} == before, "nothing is changed"


def test_as_text_one_line_a_check(node: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["config", "check", str(node / "watchword.toml")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("ok   configuration: node-1")
    assert len(lines) == 6


def test_a_configuration_that_is_none(node: Path, watchword: Run) -> None:
    file = node / "watchword.toml"
    file.write_text(file.read_text() + "\n[raft]\nheartbeet_ms = 1\n")
    code, checks = watchword("config", "check", str(file))
    assert (code, list(checks), checks["configuration"]["verdict"]) == (2, ["configuration"], "fail")
    assert "did you mean heartbeat_ms" in checks["configuration"]["text"]
    assert watchword("diagnose", "--config", str(node / "nothing.toml"))[0] == 2


def test_permissions(node: Path) -> None:
    (node / "watchword.toml").chmod(0o666)
    assert check(node)["permissions"].verdict is Verdict.WARN
    node.chmod(0o755)
    assert check(node)["permissions"].verdict is Verdict.FAIL


def test_another_key_a_missing_one_and_one_beside_the_data(node: Path) -> None:
    kek, file = node.parent / "kek.key", node / "watchword.toml"
    text = kek.read_text()
    kek.chmod(0o644)
    assert (check(node)["key"].verdict, "data file" in check(node)) == (Verdict.FAIL, False)
    kek.chmod(0o600)
    kek.write_text(key_text(new_kek(os.urandom)))
    found = check(node)
    assert (found["key"].verdict, found["data file"].verdict) == (Verdict.OK, Verdict.FAIL)
    kek.unlink()
    assert check(node)["key"].verdict is Verdict.FAIL
    own = node / "kek.key"
    own.touch(mode=0o600)
    own.write_text(text)
    configuration = "\n".join(
        f'kek = "file:{own}"' if line.startswith("kek ") else line for line in file.read_text().splitlines()
    )
    file.write_text(configuration)
    found = check(node)
    assert (found["key"].verdict, found["data file"].verdict) == (Verdict.WARN, Verdict.OK)
    file.write_text(configuration.replace(f"file:{own}", "credential:watchword.kek"))
    assert check(node)["key"].verdict is Verdict.FAIL
    credentials = node.parent / "credentials"
    credentials.mkdir()
    (credentials / "watchword.kek").write_text(text)
    found = check(node, environment={"CREDENTIALS_DIRECTORY": str(credentials)})
    assert (found["key"].verdict, found["data file"].verdict) == (Verdict.OK, Verdict.OK)


def test_a_damaged_data_file(node: Path) -> None:
    data_file = node / "mfa.data"
    data_file.write_bytes(data_file.read_bytes()[:40] + b"x" + data_file.read_bytes()[41:])
    assert check(node)["data file"].verdict is Verdict.FAIL
    data_file.unlink()
    assert check(node)["data file"].verdict is Verdict.FAIL


def test_certificates(node: Path, tmp_path: Path) -> None:
    now_ms = system_wall_ms()
    days = int(check(node)["certificate"].text.rpartition(" ends in ")[2].split()[0])
    assert check(node, now_ms + (days - 10) * DAY_MS)["certificate"].verdict is Verdict.WARN
    assert check(node, now_ms + (days + 2) * DAY_MS)["certificate"].verdict is Verdict.FAIL
    assert check(node, now_ms - 2 * DAY_MS)["certificate"].verdict is Verdict.FAIL
    other = open_or_make(RealFiles(), tmp_path / "other", 1, free_ports()).path / "node-1"
    key, chain = (node / "node.key").read_bytes(), (node / "node.pem").read_bytes()
    shutil.copy(other / "node.key", node / "node.key")
    assert "does not belong to the private key" in check(node)["certificate"].text
    shutil.copy(other / "node.pem", node / "node.pem")
    assert "another cluster" in check(node)["certificate"].text
    (node / "node.pem").write_bytes(b"nothing")
    assert check(node)["certificate"].verdict is Verdict.FAIL
    (node / "node.pem").write_bytes(chain)
    (node / "node.key").write_bytes(key)
    (node / "node.key").chmod(0o640)
    assert "chmod 600" in check(node)["certificate"].text
    (node / "node.key").chmod(0o600)
    ca = next(path for path in (node / "ca.pem", node.parent / "ca.pem") if path.exists())
    shutil.copy(next(path for path in (other / "ca.pem", other.parent / "ca.pem") if path.exists()), ca)
    assert "does not lead to" in check(node)["certificate"].text


def test_ports_that_are_taken(node: Path, watchword: Run) -> None:
    configuration, _ = check_files(node / "watchword.toml", RealFiles(), system_wall_ms(), {})
    assert configuration is not None
    with socket.create_server(configuration.client):
        code, checks = watchword("diagnose", "--config", str(node / "watchword.toml"))
        assert (code, checks["client_address"]["verdict"]) == (2, "fail")
        assert checks["peer_address"]["verdict"] == "ok"
        with (node / "pid").open("w") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            _, checks = watchword("diagnose", "--config", str(node / "watchword.toml"))
            assert checks["client_address"]["verdict"] == "ok", "the node itself has it"
    elsewhere = check_port("client_address", configuration.client._replace(host="192.0.2.1"), running=False)
    assert elsewhere.verdict is Verdict.FAIL


def test_slow_and_full_disks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter(range(10_000))
    slow = {each.name: each for each in check_disk(tmp_path, lambda: next(ticks) * 0.1)}
    assert slow["sync"].verdict is Verdict.WARN
    assert "p50 100.0 ms" in slow["sync"].text
    assert list(tmp_path.iterdir()) == []
    for free, verdict in ((1 << 20, Verdict.FAIL), (1 << 30, Verdict.WARN), (1 << 40, Verdict.OK)):
        usage = shutil.disk_usage(tmp_path)._replace(free=free)
        monkeypatch.setattr(diagnosis.shutil, "disk_usage", lambda _path, usage=usage: usage)
        assert next(check_disk(tmp_path, time.perf_counter)).verdict is verdict
    (gone,) = check_disk(tmp_path / "nothing", time.perf_counter)
    assert gone.verdict is Verdict.FAIL


@pytest.mark.parametrize(
    ("offsets", "verdict"),
    [({}, "warn"), ({"a": 3, "b": -499}, "ok"), ({"a": 3, "b": -500}, "warn"), ({"a": 2_000, "b": 0}, "fail")],
)
def test_clocks(offsets: dict[str, int], verdict: str) -> None:
    assert check_clock(offsets).verdict == verdict


def test_the_clock_is_compared_with_the_nodes_of_the_profile(
    node: Path, watchword: Run, fake_cluster: FakeCluster
) -> None:
    fakes = fake_cluster.start(1)
    profile = str(fake_cluster.profile_path())
    ahead = cluster.GetStatusResponse(wall_ms=system_wall_ms() + 3_600_000)
    fakes[0].answers["GetStatus"] = [ahead, ahead]
    code, checks = watchword("diagnose", "--config", str(node / "watchword.toml"), "--profile", profile)
    assert (code, checks["clock"]["verdict"]) == (2, "fail")
    assert re.search(r"at most -3[56]\d{5} ms .* \(1\)", checks["clock"]["text"])


def test_exit_codes() -> None:
    ok, warn, fail = (Check("x", verdict, "") for verdict in Verdict)
    assert [exit_code(found) for found in ([], [ok], [ok, warn], [fail, warn, ok])] == [0, 0, 1, 2]
