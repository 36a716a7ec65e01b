"""`pin set`, `token recovery`, `bypass` and `settings` against fake nodes: words, JSON, exit codes; no PIN is shown."""

import io
import json
from collections.abc import Callable
from typing import Any

import pytest

from cluster.services import status as answers
from tests.client.fake_cluster import FakeCluster, FakeNode
from tools.main import run
from watchword.v1 import administration_pb2 as administration
from watchword.v1 import authentication_pb2 as authentication
from watchword.v1 import codes_pb2, settings_pb2

Run = Callable[..., tuple[int, str, str]]
CODES = [f"ABCD234{number}" for number in range(10)]
SETTINGS = settings_pb2.Settings(
    lockout_failures=5, oath_pin=settings_pb2.OATH_PIN_OFF, pin_no_repeated=True, pin_no_phone=False, pin_max_age_ms=0
)


@pytest.fixture
def node(fake_cluster: FakeCluster) -> FakeNode:
    made: FakeNode = fake_cluster.start(1)[0]
    made.answers |= {
        "SetPin": [codes_pb2.SetPinResponse()],
        "IssueRecoveryCodes": [codes_pb2.IssueRecoveryCodesResponse(codes=CODES)],
        "IssueBypass": [codes_pb2.IssueBypassResponse(passcode="ABCD2345", expires_ms=1_000)],
        "GetSettings": [settings_pb2.GetSettingsResponse(settings=SETTINGS)],
        "SetSettings": [settings_pb2.SetSettingsResponse()],
    }
    return made


@pytest.fixture
def watchword(
    fake_cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], node: FakeNode
) -> Run:
    monkeypatch.setenv("WATCHWORD_PROFILE", str(fake_cluster.profile_path()))

    def watchword(*arguments: str, stdin: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        code = run(arguments)
        output = capsys.readouterr()
        return code, output.out, output.err

    return watchword


def test_a_pin_is_read_from_standard_input(watchword: Run, node: FakeNode) -> None:
    code, out, err = watchword("pin", "set", "alice", "--must-change", stdin="2468\n")
    assert (code, out, err) == (0, "set the PIN of alice\n", "")
    (asked,) = node.asked("SetPin")
    assert (asked.user_id, asked.pin, asked.must_change) == ("alice", "2468", True)
    code, out, _ = watchword("pin", "set", "alice", "--json", stdin="2468\n")
    assert (code, json.loads(out)) == (0, {"user_id": "alice", "must_change": False})


def test_a_pin_is_asked_for_twice_on_a_terminal(
    watchword: Run, node: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed = iter(["2468", "2468", "2468", "1357"])
    monkeypatch.setattr("tools.prompt.is_terminal", lambda: True)
    monkeypatch.setattr("tools.codes.is_terminal", lambda: True)
    monkeypatch.setattr("getpass.getpass", lambda *_, **__: next(typed))
    assert watchword("pin", "set", "alice")[0] == 0
    code, out, err = watchword("pin", "set", "alice")
    assert (code, out) == (2, "")
    assert "not the same" in err
    assert "2468" not in err
    assert len(node.asked("SetPin")) == 1


@pytest.mark.parametrize("arguments", [("2468",), ("--pin", "2468"), ("--must-change", "2468")])
def test_a_pin_is_never_an_argument(watchword: Run, node: FakeNode, arguments: tuple[str, ...]) -> None:
    code, out, err = watchword("pin", "set", "alice", *arguments, stdin="1357\n")
    assert (code, out) == (2, "")
    assert "2468" not in err
    assert node.requests == []


@pytest.mark.parametrize("stdin", ["", "\n"])
def test_no_pin_is_wrong_use(watchword: Run, node: FakeNode, stdin: str) -> None:
    code, _, err = watchword("pin", "set", "alice", stdin=stdin)
    assert code == 2
    assert "no PIN was given" in err


@pytest.mark.parametrize("stdin", ["7" * 10_000_000, "7" * 60_000])
def test_a_pin_of_ten_megabytes_is_refused(watchword: Run, node: FakeNode, stdin: str) -> None:
    node.answers["SetPin"] = [answers.invalid("pin", "must be at most 128 bytes of UTF-8")]
    code, _, err = watchword("pin", "set", "alice", stdin=stdin)
    assert code == 2
    assert len(err) < 500


def test_a_rule_that_is_broken_is_said(watchword: Run, node: FakeNode) -> None:
    node.answers["SetPin"] = [answers.invalid("pin", "must be 4 to 16 digits")]
    code, _, err = watchword("pin", "set", "alice", "--json", stdin="    \n")
    document = json.loads(err)
    assert (code, document["field"], document["error"]) == (2, "pin", "INVALID_FIELD")


def test_recovery_codes_are_printed_one_a_line(watchword: Run, node: FakeNode) -> None:
    code, out, err = watchword("token", "recovery", "alice")
    assert (code, out.splitlines()) == (0, CODES)
    assert "once" in err
    code, out, err = watchword("token", "recovery", "alice", "--json")
    assert (code, json.loads(out), err) == (0, {"user_id": "alice", "codes": CODES}, "")


def test_a_bypass_is_printed_once(watchword: Run, node: FakeNode) -> None:
    code, out, err = watchword("bypass", "alice", "--seconds", "60", "--reason", "ticket 17")
    assert (code, out) == (0, "ABCD2345\n")
    assert "until 1970-01-01 00:00:01Z" in err
    (asked,) = node.asked("IssueBypass")
    assert (asked.user_id, asked.seconds, asked.reason) == ("alice", 60, "ticket 17")
    code, out, _ = watchword("--json", "bypass", "alice", "--reason", "ticket 17")
    assert json.loads(out) == {"user_id": "alice", "passcode": "ABCD2345", "expires_ms": 1_000}
    assert node.asked("IssueBypass")[-1].seconds == 300


@pytest.mark.parametrize(
    "arguments",
    [
        ("bypass", "alice"),
        ("bypass", "alice", "--reason"),
        ("bypass", "alice", "--reason", "x", "--seconds", "9"),
        ("bypass", "alice", "--reason", "x", "--seconds", "86401"),
        ("bypass", "--reason", "x"),
        ("token", "recovery"),
        ("pin", "set"),
    ],
)
def test_wrong_use_asks_nothing(watchword: Run, node: FakeNode, arguments: tuple[str, ...]) -> None:
    assert watchword(*arguments, stdin="2468\n")[0] == 2
    assert node.requests == []


def test_a_helpdesk_is_told_that_it_may_not(watchword: Run, node: FakeNode) -> None:
    node.answers["IssueBypass"] = [answers.not_for_this_user()]
    code, _, err = watchword("bypass", "boss", "--reason", "ticket 17")
    assert code == 2
    assert "ask an operator" in err


def test_settings_are_shown(watchword: Run, node: FakeNode) -> None:
    code, out, _ = watchword("settings", "show")
    rows = dict(line.split("\t") for line in out.splitlines()[1:])
    assert code == 0
    assert set(rows) == set(settings_pb2.Settings.DESCRIPTOR.fields_by_name)
    assert (rows["lockout_failures"], rows["oath_pin"], rows["pin_no_repeated"]) == ("5", "off", "on")
    code, out, _ = watchword("settings", "show", "--json")
    document = json.loads(out)
    assert (document["lockout_failures"], document["oath_pin"], document["pin_no_phone"]) == (5, "off", False)


def test_settings_are_set_several_at_a_time(watchword: Run, node: FakeNode) -> None:
    words = ("lockout_failures", "10", "oath_pin", "required", "pin_no_phone", "off")
    code, out, _ = watchword("settings", "set", *words, "--json")
    assert (code, json.loads(out)) == (0, {"lockout_failures": 10, "oath_pin": "required", "pin_no_phone": False})
    (asked,) = node.asked("SetSettings")
    assert asked.settings == settings_pb2.Settings(
        lockout_failures=10, oath_pin=settings_pb2.OATH_PIN_REQUIRED, pin_no_phone=False
    )


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("oath_pin",),
        ("oath_pin", "maybe"),
        ("oath_pin", "unspecified"),
        ("oath_pin", "1"),
        ("pin_no_phone", "true"),
        ("pin_history", "many"),
        ("pin_history", "-1"),
        ("pin_history", "1.5"),
        ("pin_history", "5000000000"),
        ("pin_history", "9" * 5_000),
        ("no_such_setting", "1"),
        ("pin_history", "1", "pin_history", "2"),
        ("pin_history", "1", "oath_pin"),
    ],
)
def test_what_is_no_setting_or_no_value_asks_nothing(watchword: Run, node: FakeNode, words: tuple[str, ...]) -> None:
    assert watchword("settings", "set", *words)[0] == 2
    assert node.requests == []


def test_a_value_out_of_range_is_named(watchword: Run, node: FakeNode) -> None:
    node.answers["SetSettings"] = [answers.invalid("lockout_failures", "must be 1 to 100")]
    code, _, err = watchword("settings", "set", "lockout_failures", "101", "--json")
    assert (code, json.loads(err)["field"]) == (2, "lockout_failures")


def test_verify_says_that_a_pin_is_due(watchword: Run, node: FakeNode) -> None:
    node.answers["Verify"] = [
        authentication.VerifyResponse(
            decision=authentication.DECISION_ACCEPT, advice=authentication.ADVICE_CHANGE_PIN, token_id="t"
        )
    ]
    code, out, err = watchword("verify", "alice", "2468123456")
    assert (code, out) == (0, "ACCEPT\n")
    assert "PIN" in err
    code, out, _ = watchword("verify", "alice", "2468123456", "--json")
    assert json.loads(out)["advice"] == "CHANGE_PIN"


def test_a_user_is_shown_with_pin_codes_and_bypass(watchword: Run, node: FakeNode) -> None:
    user = administration.User(
        user_id="alice",
        state=administration.USER_STATE_ENABLED,
        pin=administration.PinState(changed_ms=1_000, due=True),
        recovery_codes=9,
        bypass_until_ms=2_000,
    )
    attempt = administration.Attempt(at_ms=1_000, token_id="bypass", note="ticket 17")
    node.answers["GetUser"] = [administration.GetUserResponse(user=user, attempts=[attempt])]
    _, out, _ = watchword("user", "show", "alice")
    for part in ("PIN since 1970-01-01 00:00:01Z", "to be changed", "codes left: 9", "until 1970", "ticket 17"):
        assert part in out
    document: dict[str, Any] = json.loads(watchword("user", "show", "alice", "--json")[1])
    assert document["pin"] == {"changed_ms": 1_000, "due": True}
    assert (document["recovery_codes"], document["bypass_until_ms"]) == (9, 2_000)
    assert document["attempts"][0]["note"] == "ticket 17"
