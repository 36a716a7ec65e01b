"""`watchword events`: what it asks, prints and exits with, and files verified without a node."""

import json
from pathlib import Path

import pytest

from cluster.node.events.lines import lines_of
from cluster.services import status as answers
from cluster.services.status import Reason
from datastore.files import RealFiles
from tests.client.fake_cluster import FakeCluster, FakeNode
from tests.node.trails import NOW_MS, PREFIX, PSEUDONYMS, locked, open_trail, sign_in
from tests.tools.test_commands import Run, node, watchword
from watchword.v1 import authentication_pb2 as authentication
from watchword.v1 import events_pb2 as events

__all__ = ["node", "watchword"]  # fixtures

SIGN_IN = events.AuditEvent(
    index=7,
    at_ms=1_790_000_000_123,
    kind="verify",
    decision=authentication.DECISION_REJECT,
    reason=authentication.REASON_WRONG,
    user_id="alice",
    pseudonym="ab" * 16,
    token_id="t1",
    client="client/vpn",
    application="vpn\n\x1b[31m",
    number=1,
    of=1,
)
CHANGE = events.AuditEvent(index=9, at_ms=0, kind="settings_changed", subject="lockout_failures", client="client/op")
UNKNOWN = events.AuditEvent(index=8, at_ms=0, kind="verify", pseudonym="cd" * 16)
ANSWER = [
    events.ReadEventsResponse(events=[SIGN_IN, UNKNOWN]),
    events.ReadEventsResponse(gaps=[events.EventGap(from_index=3, to_index=6)]),
    events.ReadEventsResponse(events=[CHANGE]),
]


def test_tail_prints_a_line_an_event_and_lets_none_drive_the_terminal(watchword: Run, node: FakeNode) -> None:
    node.answers["Read"] = list(ANSWER)
    code, out, err = watchword("events", "tail")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "2026-09-21 14:13:20Z 7 verify REJECT WRONG alice token t1 by client/vpn for vpn [31m",
        "1970-01-01 00:00:00Z 8 verify ~cdcdcdcdcdcd",
        "entries 3 to 6 are not in this node's trail",
        "1970-01-01 00:00:00Z 9 settings_changed lockout_failures by client/op",
    ]
    (request,) = node.asked("Read")
    assert (request.limit, request.follow, request.only_new) == (20, False, False)


def test_tail_follows_and_speaks_json(watchword: Run, node: FakeNode) -> None:
    node.answers["Read"] = [*ANSWER, answers.unavailable(Reason.STOPPING, "this node is stopping")]
    code, out, err = watchword("events", "tail", "--follow", "--lines", "0", "--json")
    assert code == 3
    assert json.loads(err)["error"] == "STOPPING"
    printed = [json.loads(line) for line in out.splitlines()]
    assert [each["kind"] for each in printed] == ["verify", "verify", "gap", "settings_changed"]
    assert printed[0]["user_id"] == "alice"
    assert printed[1]["user_id"] is None
    (request,) = node.asked("Read")
    assert (request.follow, request.only_new) == (True, True)


def test_search_asks_for_what_is_given(watchword: Run, node: FakeNode) -> None:
    node.answers["Read"] = list(ANSWER)
    options = ["--user", "alice", "--kind", "verify", "--kind", "user_locked", "--decision", "REJECT"]
    options += ["--reason", "wrong", "--client", "vpn", "--application", "a", "--request-id", "r", "--subject", "s"]
    options += ["--token", "t", "--since", "2026-09-21", "--until", "2026-09-21T14:00+02:00", "--limit", "5"]
    code, out, _ = watchword("events", "search", *options, "--json")
    assert code == 0
    document = json.loads(out)
    assert [event["index"] for event in document["events"]] == [7, 8, 9]
    assert document["gaps"] == [{"kind": "gap", "from_index": 3, "to_index": 6}]
    (request,) = node.asked("Read")
    assert request == events.ReadEventsRequest(
        limit=5,
        user_id="alice",
        kinds=["verify", "user_locked"],
        decision=authentication.DECISION_REJECT,
        reason=authentication.REASON_WRONG,
        client="vpn",
        application="a",
        by_request_id="r",
        subject="s",
        token_id="t",
        since_ms=1_789_948_800_000,
        until_ms=1_789_992_000_000,
    )


def test_search_prints_a_table(watchword: Run, node: FakeNode) -> None:
    node.answers["Read"] = list(ANSWER)
    code, out, err = watchword("events", "search")
    assert code == 0
    assert out.splitlines()[0].split("\t")[:3] == ["TIME", "INDEX", "KIND"]
    assert "alice" in out
    assert "entries 3 to 6" in err


@pytest.mark.parametrize(
    "options", [["--reason", "NONSENSE"], ["--since", "yesterday"], ["--decision", "maybe"], ["--limit", "0"]]
)
def test_search_refuses_what_means_nothing(watchword: Run, node: FakeNode, options: list[str]) -> None:
    code, out, err = watchword("events", "search", *options)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert node.asked("Read") == []


def test_a_node_that_is_gone_is_passed_over(
    fake_cluster: FakeCluster, watchword: Run, node: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    (other,) = fake_cluster.start(1)
    monkeypatch.setenv("WATCHWORD_PROFILE", str(fake_cluster.profile_path()))
    node.stop()
    other.answers["Read"] = list(ANSWER)
    code, out, _ = watchword("events", "tail")
    assert code == 0
    assert "alice" in out


def test_who_may_not_is_told_so(watchword: Run, node: FakeNode) -> None:
    node.answers["Read"] = [answers.not_allowed()]
    assert watchword("events", "tail")[0] == 2


# verify


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A trail of three files."""
    path = tmp_path / "events"
    trail = open_trail(RealFiles(), str(path))
    for index in range(2, 5):
        trail.append(lines_of(index, NOW_MS, [sign_in(), locked()], PSEUDONYMS.of, PREFIX))
        trail.rotate()
    trail.close()
    return path


def test_an_intact_trail_is_said_to_be(watchword: Run, directory: Path) -> None:
    code, out, _ = watchword("events", "verify", str(directory))
    assert (code, out) == (0, "intact: 10 lines in 4 files, up to entry 4\n")
    files = sorted(str(path) for path in directory.iterdir())
    code, out, _ = watchword("events", "verify", *files[1:], "--json")
    assert code == 0
    assert json.loads(out) == {
        "intact": True,
        "files": 3,
        "lines": 7,
        "first_file": 2,
        "last_index": 4,
        "findings": [],
    }


def test_a_changed_line_is_named_with_its_file_and_exits_1(watchword: Run, directory: Path) -> None:
    path = directory / "events-00000002.jsonl"
    path.write_bytes(path.read_bytes().replace(b"ACCEPT", b"REJECT", 1))
    code, out, _ = watchword("events", "verify", str(directory))
    assert code == 1
    assert out == f"{path}, line 2 was changed, or does not follow the line before it\n"
    code, out, _ = watchword("events", "verify", str(path), "--json")
    assert code == 1
    assert [(each["line"], Path(each["file"]).name) for each in json.loads(out)["findings"]] == [(2, path.name)]


def test_a_missing_file_is_named(watchword: Run, directory: Path) -> None:
    (directory / "events-00000002.jsonl").unlink()
    code, out, _ = watchword("events", "verify", str(directory))
    assert code == 1
    assert "file 2 is missing before it" in out


@pytest.mark.parametrize("name", ["not-there", "."])
def test_nothing_to_verify_is_wrong_use(watchword: Run, tmp_path: Path, name: str) -> None:
    code, _, err = watchword("events", "verify", str(tmp_path / name))
    assert code == 2
    assert err.count("\n") == 1
