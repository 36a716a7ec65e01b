"""The installed command, as a process: exit codes, streams and help."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.client.fake_cluster import FakeCluster
from watchword.v1 import administration_pb2 as administration
from watchword.v1 import authentication_pb2 as authentication

COMMAND = Path(sys.executable).with_name("watchword")


def watchword(*arguments: str, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COMMAND, *arguments],
        input=stdin,
        env={"PATH": os.environ["PATH"], "COLUMNS": "100", **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("decision", "code", "words"),
    [
        (authentication.DECISION_ACCEPT, 0, "ACCEPT\n"),
        (authentication.DECISION_REJECT, 1, "REJECT\n"),
        (authentication.DECISION_UNSPECIFIED, 1, "REJECT\n"),
    ],
)
def test_verify(fake_cluster: FakeCluster, decision: authentication.Decision.ValueType, code: int, words: str) -> None:
    [node] = fake_cluster.start(1)
    node.answers["Verify"] = [authentication.VerifyResponse(decision=decision)]
    done = watchword("verify", "alice", stdin="123456\n", WATCHWORD_PROFILE=str(fake_cluster.profile_path()))
    assert (done.returncode, done.stdout, done.stderr) == (code, words, "")


def test_nobody_there(fake_cluster: FakeCluster) -> None:
    [node] = fake_cluster.start(1)
    path = str(fake_cluster.profile_path())
    node.stop()
    done = watchword("verify", "alice", "-", "--timeout", "0.3", "--profile", path, stdin="123456\n")
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.count("\n") == 1
    assert "no connection" in done.stderr


def test_a_profile_that_is_not_there(tmp_path: Path) -> None:
    done = watchword("status", WATCHWORD_PROFILE=str(tmp_path / "client.toml"))
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_nobody_reads_the_answer(fake_cluster: FakeCluster, unbuffered: str) -> None:
    """A decision that could not be said is neither an acceptance nor a rejection."""
    [node] = fake_cluster.start(1)
    node.answers["Verify"] = [authentication.VerifyResponse(decision=authentication.DECISION_ACCEPT)]
    reader, writer = os.pipe()
    os.close(reader)
    environment = {"PATH": os.environ["PATH"], "WATCHWORD_PROFILE": str(fake_cluster.profile_path())}
    environment["PYTHONUNBUFFERED"] = unbuffered
    done = subprocess.run(
        [COMMAND, "verify", "alice", "123456"], stdout=writer, env=environment, check=False, timeout=60
    )
    os.close(writer)
    assert done.returncode == 4


@pytest.mark.parametrize("redirection", ["2>/dev/full", "2>&-", "2>/dev/full >/dev/full", "2>&- >&-"])
@pytest.mark.parametrize("option", ["", "--json -v"])
def test_nobody_reads_the_error(tmp_path: Path, redirection: str, option: str) -> None:
    """What could not be said is in the exit code: a full disk under the error is no rejection."""
    environment = {"PATH": os.environ["PATH"], "WATCHWORD_PROFILE": str(tmp_path / "client.toml")}
    done = subprocess.run(
        ["/bin/sh", "-c", f"exec {COMMAND} {option} verify alice 123456 {redirection}"],
        env=environment,
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (2, b"")


def test_standard_input_is_closed(fake_cluster: FakeCluster) -> None:
    fake_cluster.start(1)
    environment = {"PATH": os.environ["PATH"], "WATCHWORD_PROFILE": str(fake_cluster.profile_path())}
    for command in ("verify alice", "verify alice -", "user delete alice"):
        done = subprocess.run(
            ["/bin/sh", "-c", f"exec {COMMAND} {command} <&-"],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
        assert "unexpected" not in done.stderr


def test_json_stays_json_where_the_terminal_has_no_unicode(fake_cluster: FakeCluster) -> None:
    [node] = fake_cluster.start(1)
    name = "g\u00fcnther"
    node.answers["AddUser"] = [administration.AddUserResponse(user=administration.User(user_id=name))]
    done = watchword(
        *("user", "add", name, "--json"),
        WATCHWORD_PROFILE=str(fake_cluster.profile_path()),
        PYTHONIOENCODING="latin-1",
    )
    assert done.returncode == 0
    assert name in str(json.loads(done.stdout))


@pytest.mark.parametrize(
    "arguments",
    [(), *((name,) for name in ("up", "serve", "status", "user", "token", "verify", "unlock")), ("token", "add")],
)
def test_help_is_a_manual(arguments: tuple[str, ...]) -> None:
    done = watchword(*arguments, "--help")
    assert done.returncode == 0
    assert done.stderr == ""
    for words in ("--profile", "--json", "--verbose"):
        assert words in done.stdout


def test_a_word_that_is_nearly_a_command_is_told_in_one_line() -> None:
    found = watchword("user", "sho", "bob")
    assert found.returncode == 2
    assert (
        found.stderr
        == "watchword: No such command 'sho'; did you mean 'show': --help shows how the command is written\n"
    )
    assert "Value error" not in watchword("token", "add", "bob", "--type", "sms").stderr
