"""The command line against fake nodes: its words, its JSON, its exit codes."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from cluster.services import status as answers
from cluster.services.status import Reason
from tests.client.fake_cluster import HANG, FakeCluster, FakeNode
from tools.main import run
from tools.tokens import secret_bytes
from watchword.errors import InvalidArgument
from watchword.v1 import administration_pb2 as administration
from watchword.v1 import authentication_pb2 as authentication
from watchword.v1 import cluster_pb2 as cluster
from watchword.v1.leases_pb2 import Lease

SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
URI = f"otpauth://totp/Watchword:alice?secret={SECRET}&issuer=Watchword"
ACCEPT = authentication.VerifyResponse(decision=authentication.DECISION_ACCEPT, token_id="t1")
REJECT = authentication.VerifyResponse(decision=authentication.DECISION_REJECT, reason=authentication.REASON_TOO_OLD)
NO_QUORUM = answers.unavailable(Reason.NO_QUORUM, "no majority of the nodes answers")
USER = administration.User(user_id="alice", state=administration.USER_STATE_ENABLED, created_ms=1_000, token_count=1)
TOKEN = administration.Token(
    token_id="t1",
    type=administration.TOKEN_TYPE_TOTP,
    state=administration.TOKEN_STATE_ACTIVE,
    algorithm=administration.ALGORITHM_SHA256,
    digits=6,
    period=30,
    drift_steps=-1,
    created_ms=1_000,
)
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def node(fake_cluster: FakeCluster) -> FakeNode:
    return fake_cluster.start(1)[0]


@pytest.fixture
def watchword(
    fake_cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], node: FakeNode
) -> Run:
    """Runs a command line with the fake cluster's profile: exit code, standard output, standard error."""
    monkeypatch.setenv("WATCHWORD_PROFILE", str(fake_cluster.profile_path()))

    def watchword(*arguments: str, stdin: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        code = run(arguments)
        output = capsys.readouterr()
        return code, output.out, output.err

    return watchword


def test_verify_accepts(watchword: Run, node: FakeNode) -> None:
    node.answers["Verify"] = [ACCEPT]
    assert watchword("verify", "alice", "123456") == (0, "ACCEPT\n", "")
    code, out, _ = watchword("verify", "alice", "123456", "--json", "--request-id", "one")
    assert (code, json.loads(out)) == (0, {"decision": "ACCEPT", "reason": None, "token_id": "t1"})
    assert node.asked("Verify")[-1].request_id == "one"


def test_verify_rejects_and_says_why_to_those_who_may_know(watchword: Run, node: FakeNode) -> None:
    node.answers["Verify"] = [REJECT]
    assert watchword("verify", "alice", "123456") == (1, "REJECT (too old)\n", "")
    code, out, _ = watchword("--json", "verify", "alice", "123456")
    assert (code, json.loads(out)) == (1, {"decision": "REJECT", "reason": "TOO_OLD", "token_id": None})


def test_verify_takes_an_unknown_decision_for_a_rejection(watchword: Run, node: FakeNode) -> None:
    unknown = authentication.VerifyResponse()
    unknown.decision = 42  # type: ignore[assignment]
    node.answers["Verify"] = [unknown]
    assert watchword("verify", "alice", "123456") == (1, "REJECT\n", "")


@pytest.mark.parametrize("arguments", [("alice",), ("alice", "-")])
def test_verify_reads_the_passcode_from_standard_input(watchword: Run, node: FakeNode, arguments: tuple[str]) -> None:
    node.answers["Verify"] = [ACCEPT]
    assert watchword("verify", *arguments, stdin="123 456\r\nrest\n")[0] == 0
    assert node.asked("Verify")[0].passcode == "123 456"


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (answers.invalid("user_id", "must not be empty"), 2),
        (answers.request_id_reused(), 2),
        (answers.not_allowed(), 2),
        (answers.unauthenticated("this certificate is unknown"), 2),
        (NO_QUORUM, 3),
        (answers.exhausted(Reason.QUEUE_FULL, "the queue is full"), 3),
        (HANG, 3),
        (answers.internal(), 4),
        (answers.no_such_user(), 4),
        (answers.precondition(Reason.TOKEN_STATE, "token", "the token is pending", "confirm it"), 4),
        (grpc.StatusCode.UNIMPLEMENTED, 4),
        (grpc.StatusCode.ALREADY_EXISTS, 4),
    ],
)
def test_verify_exits_1_for_a_rejection_and_nothing_else(
    watchword: Run, node: FakeNode, answer: Any, code: int
) -> None:
    node.answers["Verify"] = [answer]
    exit_code, out, err = watchword("verify", "alice", "987654", "--timeout", "0.3")
    assert (exit_code, out) == (code, "")
    assert err.startswith("watchword: ")
    assert err.count("\n") == 1
    assert "987654" not in err


def test_verify_without_an_answer_says_how_to_repeat_it(watchword: Run, node: FakeNode) -> None:
    node.answers["Verify"] = [NO_QUORUM]
    code, _, err = watchword("verify", "alice", "987654", "--timeout", "0.3", "--json")
    document = json.loads(err)
    assert (code, document["exit_code"], document["error"]) == (3, 3, "NO_QUORUM")
    assert f"--request-id {node.asked('Verify')[0].request_id}" in document["advice"]


def test_verify_asks_the_named_endpoint_only(watchword: Run, fake_cluster: FakeCluster, node: FakeNode) -> None:
    [other] = fake_cluster.start(1)
    other.answers["Verify"] = [ACCEPT]
    assert watchword("verify", "alice", "1", "--endpoint", other.endpoint)[0] == 0
    assert node.requests == []
    code, _, err = watchword("verify", "alice", "1", "--endpoint", "nowhere")
    assert (code, "HOST:PORT" in err) == (2, True)


@pytest.mark.parametrize(
    "arguments",
    [
        ("verify",),
        ("verify", "alice"),  # and nothing on standard input
        ("verify", "alice", "987654", "987655"),
        ("verify", "alice", "-987654"),
        ("verify", "alice", "98\udc807654"),
        ("verify", "alice", "987654", "--timeout", "0"),
        ("verify", "alice", "987654", "--timeout", "31"),
        ("verify", "alice", "987654", "--timeout", "nan"),
        ("verify", "alice", "987654", "--timeout", "soon"),
        ("verify", "alice", "987654", "--no-such-option"),
        ("verify", "alice", "987654" * 20_000),
        ("no-such-command",),
        (),
        ("user",),
        ("token", "add", "alice"),
        ("token", "add", "alice", "--type", "sms"),
        ("token", "add", "alice", "--type", "totp", "--digits", "7"),
        ("token", "add", "alice", "--type", "totp", "--counter", "1"),
        ("token", "add", "alice", "--type", "hotp", "--period", "30"),
        ("token", "add", "alice", "--type", "totp", "--secret", "987654!"),
        ("user", "list", "--limit", "0"),
        ("user", "delete", "alice"),  # nobody can be asked
        ("--profile", "no-such-file", "status"),
        ("status", "--profile", "no-such-file"),
    ],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_wrong_use_exits_2_with_one_line(watchword: Run, node: FakeNode, arguments: tuple[str], as_json: bool) -> None:
    code, out, err = watchword(*(["--json"] if as_json else []), *arguments)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert "987654" not in err
    if as_json:
        assert json.loads(err)["exit_code"] == 2
    assert node.requests == []


def test_the_profile_may_stand_before_and_after_the_name(
    watchword: Run, fake_cluster: FakeCluster, node: FakeNode, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = str(fake_cluster.profile_path())
    monkeypatch.delenv("WATCHWORD_PROFILE")
    node.answers["UnlockUser"] = [administration.UnlockUserResponse()]
    node.answers["EnableUser"] = [administration.EnableUserResponse()]
    assert watchword("unlock", "alice")[0] == 2
    assert watchword("--profile", path, "unlock", "alice")[0] == 0
    assert watchword("unlock", "--profile", path, "alice")[0] == 0
    assert watchword("unlock", "alice", "--profile", path)[0] == 0
    assert watchword("user", "--profile", path, "enable", "alice")[0] == 0
    assert watchword("--profile", "no-such-file", "user", "enable", "alice", "--profile", path)[0] == 0
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / ".watchword").symlink_to(fake_cluster.profile_path().parent)
    monkeypatch.chdir(tmp_path / "here")
    assert watchword("unlock", "alice")[0] == 0


def test_users(watchword: Run, node: FakeNode) -> None:
    node.answers["AddUser"] = [administration.AddUserResponse(user=USER)]
    node.answers["DisableUser"] = [administration.DisableUserResponse()]
    node.answers["DeleteUser"] = [administration.DeleteUserResponse()]
    assert watchword("user", "add", "alice")[0] == 0
    assert watchword("user", "disable", "alice") == (0, "disabled alice\n", "")
    assert watchword("user", "delete", "alice", "--yes") == (0, "deleted alice\n", "")
    assert [name for name, _ in node.requests] == ["AddUser", "DisableUser", "DeleteUser"]
    assert all(request.user_id == "alice" and request.request_id for _, request in node.requests)


def test_deleting_asks_a_person(watchword: Run, node: FakeNode, monkeypatch: pytest.MonkeyPatch) -> None:
    node.answers["DeleteUser"] = [administration.DeleteUserResponse()]
    monkeypatch.setattr("tools.prompt.is_terminal", lambda: True)
    assert watchword("user", "delete", "alice", stdin="n\n")[0] == 1
    assert node.requests == []
    assert watchword("user", "delete", "alice", stdin="y\n")[0] == 0
    assert node.asked("DeleteUser")


@pytest.mark.parametrize(("answer", "code"), [(answers.no_such_user(), 1), (answers.not_allowed(), 2)])
def test_a_users_error_has_its_code(watchword: Run, node: FakeNode, answer: Any, code: int) -> None:
    node.answers["GetUser"] = [answer]
    exit_code, out, err = watchword("user", "show", "alice", "--json")
    assert (exit_code, out, json.loads(err)["exit_code"]) == (code, "", code)


def test_show_has_the_last_attempts_and_why_each_failed(watchword: Run, node: FakeNode) -> None:
    attempt = administration.Attempt(
        at_ms=1_764_000_000_000,
        decision=authentication.DECISION_REJECT,
        reason=authentication.REASON_REPLAYED,
        token_id="t1",
        client_identity="watchword://c/client/vpn",
        client=authentication.ClientInfo(application="vpn", address="10.0.0.1"),
    )
    node.answers["GetUser"] = [administration.GetUserResponse(user=USER, tokens=[TOKEN], attempts=[attempt])]
    code, out, _ = watchword("user", "show", "alice")
    assert code == 0
    for words in ("alice", "enabled", "t1", "SHA256", "2025-11-24 16:00:00Z", "REPLAYED", "vpn", "10.0.0.1"):
        assert words in out
    document = json.loads(watchword("user", "show", "alice", "--json")[1])
    assert document["user_id"] == "alice"
    assert document["tokens"][0]["drift_steps"] == -1
    assert document["attempts"][0]["reason"] == "REPLAYED"


def test_list_pages_and_filters(watchword: Run, node: FakeNode) -> None:
    node.answers["ListUsers"] = [
        administration.ListUsersResponse(users=[USER], next_page_token="p2"),
        administration.ListUsersResponse(users=[USER]),
    ]
    code, out, err = watchword("user", "list", "--prefix", "al", "--state", "disabled", "--locked", "--limit", "7")
    assert (code, out.count("alice"), "--page p2" in err) == (0, 1, True)
    [request] = node.asked("ListUsers")
    assert (request.prefix, request.page_size, request.locked) == ("al", 7, True)
    assert request.state == administration.USER_STATE_DISABLED
    document = json.loads(watchword("user", "list", "--page", "p2", "--json")[1])
    assert (len(document["users"]), document["next_page"]) == (1, None)
    assert node.asked("ListUsers")[1].page_token == "p2"
    assert not node.asked("ListUsers")[1].HasField("locked")


def test_list_follows_all_pages(watchword: Run, node: FakeNode) -> None:
    node.answers["ListUsers"] = [
        administration.ListUsersResponse(users=[USER], next_page_token="p2"),
        administration.ListUsersResponse(users=[USER]),
    ]
    document = json.loads(watchword("user", "list", "--all", "--json")[1])
    assert (len(document["users"]), document["next_page"]) == (2, None)


def test_token_add(watchword: Run, node: FakeNode) -> None:
    node.answers["AddToken"] = [administration.AddTokenResponse(token_id="t1", uri=URI)]
    code, out, _ = watchword("token", "add", "alice", "--type", "totp", "--json")
    assert (code, json.loads(out)) == (0, {"token_id": "t1", "uri": URI})
    code, out, err = watchword("token", "add", "alice", "--type", "totp", "--pending")
    assert (code, out) == (0, f"token t1\n{URI}\n")
    assert "token confirm t1" in err
    assert [request.pending for request in node.asked("AddToken")] == [False, True]


def test_token_add_takes_a_secret_and_its_parameters(watchword: Run, node: FakeNode) -> None:
    node.answers["AddToken"] = [administration.AddTokenResponse(token_id="t1", uri=URI)]
    options = ("--type", "hotp", "--algorithm", "sha512", "--digits", "8", "--counter", "5", "--secret", "-")
    assert watchword("token", "add", "alice", *options, stdin=f" {SECRET[:5].lower()} {SECRET[5:]}== \n")[0] == 0
    [request] = node.asked("AddToken")
    assert request.secret == secret_bytes(SECRET)
    assert (request.type, request.algorithm) == (administration.TOKEN_TYPE_HOTP, administration.ALGORITHM_SHA512)
    assert (request.digits, request.counter) == (8, 5)


def test_a_terminal_gets_a_qr_code(watchword: Run, node: FakeNode, monkeypatch: pytest.MonkeyPatch) -> None:
    node.answers["AddToken"] = [administration.AddTokenResponse(token_id="t1", uri=URI)]
    without = watchword("token", "add", "alice", "--type", "totp")[1]
    monkeypatch.setattr("tools.tokens.is_terminal", lambda: True)
    with_code = watchword("token", "add", "alice", "--type", "totp")[1]
    assert with_code.startswith(without)
    assert "▀" in with_code[len(without) :]


@pytest.mark.parametrize("text", ["JBSW Y3DP", "jbswy3dp", "JBSWY3DP====", " J B S W Y 3 D P "])
def test_padding_case_and_spaces_of_a_secret_are_ignored(text: str) -> None:
    assert secret_bytes(text) == b"Hello"


@pytest.mark.parametrize("text", ["JBSWY3D1", "é", "0", "A"])
def test_what_is_no_base32_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument) as raised:
        secret_bytes(text)
    assert raised.value.__cause__ is None


def test_tokens(watchword: Run, node: FakeNode) -> None:
    node.answers["ListTokens"] = [administration.ListTokensResponse(tokens=[TOKEN])]
    node.answers["ConfirmToken"] = [administration.ConfirmTokenResponse()]
    node.answers["ResyncToken"] = [administration.ResyncTokenResponse()]
    node.answers["EnableToken"] = [administration.EnableTokenResponse()]
    node.answers["DisableToken"] = [administration.DisableTokenResponse()]
    node.answers["DeleteToken"] = [administration.DeleteTokenResponse()]
    assert "t1\ttotp\tactive\tSHA256" in watchword("token", "list", "alice")[1]
    assert watchword("token", "confirm", "t1", "-", stdin="123456\n")[0] == 0
    assert watchword("token", "resync", "t1", "-", "-", stdin="111111\n222222\n")[0] == 0
    assert watchword("token", "resync", "t1", "333333", "444444")[0] == 0
    assert watchword("token", "disable", "t1")[0] == 0
    assert watchword("token", "enable", "t1")[0] == 0
    assert watchword("token", "delete", "t1")[0] == 0
    assert node.asked("ConfirmToken")[0].code == "123456"
    codes = [(request.first_code, request.second_code) for request in node.asked("ResyncToken")]
    assert codes == [("111111", "222222"), ("333333", "444444")]


def test_a_code_that_does_not_fit_exits_1(watchword: Run, node: FakeNode) -> None:
    node.answers["ConfirmToken"] = [
        answers.precondition(Reason.CODE_NOT_ACCEPTED, "code", "the code is not right", "try the next one")
    ]
    code, _, err = watchword("token", "confirm", "t1", "987654")
    assert (code, err) == (1, "watchword: the code is not right: try the next one\n")


def test_status(watchword: Run, node: FakeNode) -> None:
    digest = bytes(range(32))
    status = cluster.NodeStatus(
        id="node-1", member_id="1" * 32, address=node.endpoint, role=cluster.NODE_ROLE_LEADER, term=2,
        commit_index=9, applied_index=9, lag=0, digest=digest, digest_index=8, data_file_age_ms=61_000,
        version="0.1.0", clock_offset_ms=0,
    )  # fmt: skip
    lease = Lease(
        name="directory", holder="watchword://c/client/dc-1", epoch=3, acquired_ms=1, until_ms=60_000, held=True
    )
    answer = cluster.GetStatusResponse(quorum=True, failure_tolerance=1, leader="node-1", node=status, leases=[lease])
    node.answers["GetStatus"] = [answer]
    code, out, _ = watchword("status")
    assert code == 0
    assert "directory\tdc-1\t3\t1970-01-01 00:01:00Z" in out
    assert out.splitlines()[0] == "the cluster can lose 1 more node"
    assert "node-1\tleader\t2\t9\t9\t0\t61 s\t00010203@8\t0.1.0\t+0 ms" in out
    document = json.loads(watchword("status", "--json")[1])
    assert list(document) == ["quorum", "failure_tolerance", "leader", "nodes", "leases"]
    assert document["leases"] == [
        {"name": "directory", "holder": lease.holder, "epoch": 3, "acquired_ms": 1, "until_ms": 60_000, "held": True}
    ]
    assert document["nodes"][0]["digest"] == digest.hex()


def test_status_without_a_quorum_exits_3(watchword: Run, node: FakeNode) -> None:
    node.answers["GetStatus"] = [cluster.GetStatusResponse(quorum=False)]
    assert watchword("status")[0] == 3
    node.stop()
    code, out, _ = watchword("status", "--json")
    document = json.loads(out)
    assert (code, document["quorum"], document["nodes"][0]["role"]) == (3, False, "unreachable")


def test_status_that_is_not_allowed_exits_2(watchword: Run, node: FakeNode) -> None:
    node.answers["GetStatus"] = [answers.not_allowed()]
    assert watchword("status")[0] == 2


def test_an_error_of_our_own_does_not_repeat_what_was_typed(watchword: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object) -> None:
        raise ValueError("987654")

    monkeypatch.setattr("tools.verify.secret_argument", broken)
    code, _, err = watchword("verify", "alice", "987654")
    assert (code, "987654" in err, err.count("\n")) == (4, False, 1)
    assert "Traceback" in watchword("verify", "alice", "987654", "-v")[2]
