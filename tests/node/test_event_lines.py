"""One event as one line: what it says, what it hides, and that no byte of it can be changed unseen."""

import json
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.node.events import lines
from cluster.node.events.lines import CHAIN_START, DamagedLine, Line, Place, chained, lines_of, unchained
from cluster.state.results import ChangeEvent, Event, Reason
from tests.node.trails import NOW_MS, PREFIX, PSEUDONYMS, locked, sign_in

EVENTS = [sign_in(reason=Reason.WRONG), locked()]
MADE = lines_of(7, NOW_MS + 5, EVENTS, PSEUDONYMS.of, PREFIX)


def test_a_line_tells_when_what_who_and_by_whom() -> None:
    data, _ = chained(MADE[0], CHAIN_START)
    document = json.loads(data)
    assert document.pop("chain")
    assert document == {
        "index": 7,
        "time": "2026-09-21T14:13:20.005Z",
        "kind": "verify",
        "decision": "REJECT",
        "reason": "WRONG",
        "pseudonym": PSEUDONYMS.of("alice"),
        "token_id": "token-1",
        "client": "client/frontend",
        "application": "vpn",
        "request_id": "request-1",
        "number": 1,
        "of": 2,
    }
    assert data.endswith(b"}\n")
    assert data.count(b"\n") == 1


def test_a_name_is_nowhere_in_a_line() -> None:
    data, _ = chained(MADE[0], CHAIN_START)
    assert b"alice" not in data


def test_a_name_in_what_somebody_wrote_freely_is_withheld() -> None:
    bypass = ChangeEvent("bypass_issued", f"{PREFIX}client/desk", "r", "alice", subject="ALICE lost her phone")
    (line,) = lines_of(9, NOW_MS, [bypass], PSEUDONYMS.of, PREFIX)
    assert line.subject == "[withheld]"
    (line,) = lines_of(9, NOW_MS, [sign_in(application="mail of alice")], PSEUDONYMS.of, PREFIX)
    assert line.application == "[withheld]"
    (line,) = lines_of(9, NOW_MS, [sign_in("al", application="mail")], PSEUDONYMS.of, PREFIX)
    assert line.application == "mail"


def test_a_change_names_its_subject_and_who_made_it() -> None:
    change = ChangeEvent("setting_changed", f"{PREFIX}client/operator", "r", subject="lockout_failures")
    (line,) = lines_of(9, NOW_MS, [change], PSEUDONYMS.of, PREFIX)
    assert (line.client, line.subject, line.pseudonym) == ("client/operator", "lockout_failures", "")


def test_the_chain_is_what_the_format_says() -> None:
    data, chain = chained(MADE[0], CHAIN_START)
    body, _, rest = data.partition(b',"chain":"')
    assert rest[:64].decode() == sha256(CHAIN_START + body).hexdigest() == chain.hex()
    second, after = chained(MADE[1], chain)
    assert unchained(second.rstrip(b"\n"), chain) == (MADE[1], after)
    with pytest.raises(DamagedLine, match="does not follow"):
        unchained(second.rstrip(b"\n"), CHAIN_START)


@settings(deadline=None)
@given(st.data())
def test_every_changed_or_lost_byte_is_noticed(data: st.DataObject) -> None:
    line = chained(MADE[0], CHAIN_START)[0].rstrip(b"\n")
    at = data.draw(st.integers(0, len(line) - 1))
    value = data.draw(st.integers(0, 255).filter(lambda byte: byte != line[at]))
    changed = line[:at] + bytes([value]) + line[at + 1 :]
    with pytest.raises(DamagedLine):
        unchained(changed, CHAIN_START)
    with pytest.raises(DamagedLine):
        unchained(line[:at] + line[at + 1 :], CHAIN_START)


@settings(deadline=None)
@given(st.binary(max_size=400))
def test_bytes_that_are_no_line_are_named_as_such(data: bytes) -> None:
    with pytest.raises(DamagedLine):
        unchained(data, CHAIN_START)
    lines.peek(data)


@pytest.mark.parametrize(
    "text",
    ["\n", "\0", '"chain":"', "\u2028", "}", "\ud7ff", "é" * 60, "</script>", "\\", ',"chain":"' + "0" * 64 + '"}'],
)
def test_no_text_can_pose_as_the_end_of_a_line(text: str) -> None:
    event = Event("verify", f"{PREFIX}client/x", text, "alice", "", Reason.WRONG, text)
    (line,) = lines_of(3, NOW_MS, [event], PSEUDONYMS.of, PREFIX)
    data, chain = chained(line, CHAIN_START)
    assert data.count(b"\n") == 1
    assert unchained(data.rstrip(b"\n"), CHAIN_START) == (line, chain)


@pytest.mark.parametrize("stamp_ms", [0, 1, NOW_MS, 2**63 - 1])
def test_every_stamp_can_be_written(stamp_ms: int) -> None:
    assert lines.milliseconds_of(lines.timestamp(stamp_ms)) == min(stamp_ms, 253_402_300_799_999)


def test_what_is_no_time_is_0() -> None:
    assert lines.milliseconds_of("yesterday") == 0


def test_places_order_as_the_log_does() -> None:
    first, second = (lines.place_of(line) for line in MADE)
    assert first == Place(7, 1)
    assert second == Place(7, lines.WHOLE)
    assert first < second < Place(8, 1)
    assert lines.place_of(Line(7, "", lines.Note.POSITION)) == second
