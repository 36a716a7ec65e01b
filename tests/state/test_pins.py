"""PIN and code in the state: what is accepted, counted, spent, told, and what is looked at again."""

import msgspec
import pytest

from cluster.state import reads
from cluster.state.commands import (
    AddToken,
    ChangePin,
    DeleteUser,
    PinGenerated,
    PinSplit,
    SetPin,
    SetSettings,
    Verify,
    VerifyPin,
)
from cluster.state.records import Settings, TokenType
from cluster.state.results import Code, Decision, Reason
from cluster.state.store import PINS
from factors.otp import Algorithm, Otp, code_at
from tests.state.fixtures import FRONTEND, OPERATOR, SECRET, Driver, hotp, new_state, reloaded
from tests.state.people import Desk

PIN = "2468"
OTHER_SECRET = b"abcdefghijklmnopqrst"
encode = msgspec.msgpack.encode


@pytest.fixture
def desk() -> Desk:
    made = Desk()
    made.driver.add_user("anna")
    made.driver.add_hotp("anna")
    made.set_pin("anna", PIN)
    return made


def failures(desk: Desk, user: str = "anna") -> int:
    view = reads.get_user(desk.driver.state, user, 0)
    assert view is not None
    return view.failures


def test_pin_and_code_are_accepted_once(desk: Desk) -> None:
    assert desk.verify("anna", PIN + hotp(0)).reason is Reason.ACCEPTED
    assert desk.verify("anna", PIN + hotp(0)).reason is Reason.REPLAYED
    assert desk.verify("anna", f"{PIN} {hotp(1)[:3]}-{hotp(1)[3:]}").reason is Reason.ACCEPTED


def test_a_wrong_pin_consumes_no_code_and_looks_like_a_wrong_code(desk: Desk) -> None:
    wrong_pin = desk.verify("anna", "1357" + hotp(0))
    wrong_code = desk.verify("anna", PIN + hotp(50))
    assert (wrong_pin.code, wrong_pin.reason, wrong_pin.token_id) == (wrong_code.code, wrong_code.reason, "")
    assert wrong_pin.reason is Reason.WRONG
    assert failures(desk) == 2
    # A code that was used is not told from one that was not, either.
    assert desk.verify("anna", PIN + hotp(0)).reason is Reason.ACCEPTED
    assert desk.verify("anna", "1357" + hotp(0)).reason is Reason.WRONG


@pytest.mark.parametrize("typed", ["", " ", "2468", "755224", "2468755224x", "24687552245", "x", "é" * 20, "-" * 128])
def test_whatever_else_is_typed_is_one_failure(desk: Desk, typed: str) -> None:
    assert desk.verify("anna", typed).reason is Reason.WRONG
    assert failures(desk) == 1


def test_no_pin_is_carried_into_the_log() -> None:
    """Neither the PIN nor, behind a wrong one, what may be a part of the right one."""
    desk = Desk()
    desk.driver.add_user("anna")
    desk.driver.add_hotp("anna")
    desk.set_pin("anna", "97539753")
    for typed in ("97539753" + hotp(0), "97539753", "97539753" + hotp(0)[:5], "9753975397539753"):
        packed = encode(VerifyPin("anna", desk.ways("anna", typed)))
        assert not [part for part in (b"97539753", b"753975") if part in packed], typed


def test_two_lengths_of_codes_are_two_ways_and_one_attempt(desk: Desk) -> None:
    desk.driver.add(AddToken("anna", TokenType.HOTP, digits=8, period_s=0, secret=OTHER_SECRET))
    eight = code_at(Otp(OTHER_SECRET, Algorithm.SHA1, 8), 0)
    assert [split.length for split in desk.ways("anna", PIN + eight)] == [6, 8]
    assert desk.verify("anna", PIN + hotp(40)).reason is Reason.WRONG
    assert failures(desk) == 1
    assert desk.verify("anna", PIN + eight).reason is Reason.ACCEPTED
    assert desk.verify("anna", PIN + hotp(0)).reason is Reason.ACCEPTED
    assert desk.verify("anna", PIN + eight).reason is Reason.REPLAYED


def test_a_user_without_a_pin_and_one_who_is_not_known(desk: Desk) -> None:
    desk.driver.add_user("ben")
    desk.driver.add_hotp("ben", OTHER_SECRET)
    assert desk.verify("ben", hotp(0, OTHER_SECRET)).reason is Reason.NO_PIN
    assert desk.verify("ben", PIN + hotp(0, OTHER_SECRET)).reason is Reason.NO_PIN
    assert failures(desk, "ben") == 0
    assert desk.verify("carl", PIN + hotp(0)).reason is Reason.UNKNOWN_USER


@pytest.mark.parametrize("version", [b"", b"another version."])
def test_a_stale_version_counts_nothing_and_is_asked_again(desk: Desk, version: bytes) -> None:
    before = list(desk.driver.state.records())
    stale = desk.verify("anna", PIN + hotp(0), version=version, request_id="r")
    assert (stale.code, stale.decision, stale.events) == (Code.STALE, Decision.NONE, ())
    assert list(desk.driver.state.records()) == before, "not even the request is remembered"
    assert desk.verify("anna", PIN + hotp(0), request_id="r").reason is Reason.ACCEPTED


def test_the_same_version_never_comes_again(desk: Desk) -> None:
    """Also of a user who was deleted and added again, whose first PIN is another's."""
    old = desk.version("anna")
    desk.driver.run(DeleteUser("anna"))
    desk.pins.clear()
    desk.driver.add_user("anna")
    desk.driver.add_hotp("anna")
    assert desk.driver.state.read(PINS, b"anna") is None
    desk.set_pin("anna", "1357")
    assert desk.verify("anna", "1357" + hotp(0), version=old).code is Code.STALE


def test_a_token_that_was_added_meanwhile_is_looked_at_again(desk: Desk) -> None:

    ways = desk.ways("anna", PIN + hotp(0))
    desk.driver.add(AddToken("anna", TokenType.HOTP, digits=8, period_s=0, secret=OTHER_SECRET))
    generated = encode(PinGenerated(desk.version("anna")))
    assert desk.driver.run(VerifyPin("anna", ways), client=FRONTEND, generated=generated).code is Code.STALE


def test_the_setting_decides_which_kind_of_attempt_there_is(desk: Desk) -> None:
    assert desk.driver.verify("anna", hotp(0)).code is Code.STALE, "without its PIN nobody gets in"
    desk.driver.run(SetSettings((("oath_pin", 0),)))
    assert desk.verify("anna", PIN + hotp(0)).code is Code.STALE
    assert desk.change_pin("anna", PIN, hotp(0), "1357").field == "oath_pin"
    assert desk.driver.verify("anna", hotp(0)).reason is Reason.ACCEPTED


def test_a_repeated_request_does_not_tell_whether_the_pin_was_right(desk: Desk) -> None:
    """A rejected request's id, with PIN after PIN, would otherwise be a way to guess that counts nothing."""
    first = desk.verify("anna", "1357" + hotp(0), request_id="r")
    for guess in ("1358", PIN, "8642"):
        again = desk.verify("anna", guess + hotp(0), request_id="r")
        assert (again.code, again.reason, again.events) == (first.code, first.reason, ())
    assert failures(desk) == 1
    assert desk.verify("anna", PIN + hotp(0)).reason is Reason.ACCEPTED, "and no code was spent"


def test_an_accepted_request_is_not_repeated_with_another_pin_or_code(desk: Desk) -> None:
    first = desk.verify("anna", PIN + hotp(0), request_id="r")
    again = desk.verify("anna", PIN + hotp(0), request_id="r")
    assert (again.reason, again.token_id, again.events) == (first.reason, first.token_id, ())
    for typed in ("1357" + hotp(0), PIN + hotp(1), hotp(0)):
        assert desk.verify("anna", typed, request_id="r").code is Code.REQUEST_ID_REUSED


def test_a_pin_that_somebody_else_set_or_that_is_old_is_due(desk: Desk) -> None:
    desk.set_pin("anna", "9753", must_change=True)
    due = desk.verify("anna", "9753" + hotp(0))
    assert (due.reason, due.decision) == (Reason.PIN_DUE, Decision.ACCEPT)
    [attempt] = reads.list_attempts(desk.driver.state, "anna")
    assert (attempt.reason, attempt.decision) == (due.reason, due.decision)
    assert desk.change_pin("anna", "9753", hotp(1), "8642").reason is Reason.ACCEPTED
    assert desk.verify("anna", "8642" + hotp(2)).reason is Reason.ACCEPTED
    desk.driver.run(SetSettings((("pin_max_age_ms", 60_000),)))
    desk.driver.pass_time(59)
    assert desk.verify("anna", "8642" + hotp(3)).reason is Reason.ACCEPTED
    desk.driver.pass_time(1)
    assert desk.verify("anna", "8642" + hotp(4)).reason is Reason.PIN_DUE
    view = reads.get_user(desk.driver.state, "anna", 0)
    assert view is not None
    assert view.pin_due


def test_the_retry_of_an_acceptance_says_again_that_the_pin_is_due(desk: Desk) -> None:
    desk.set_pin("anna", "9753", must_change=True)
    desk.verify("anna", "9753" + hotp(0), request_id="r")
    desk.driver.state = reloaded(desk.driver.state)
    assert desk.verify("anna", "9753" + hotp(0), request_id="r").reason is Reason.PIN_DUE


def test_changing_a_pin_takes_the_old_one_and_a_code_and_counts_as_an_attempt(desk: Desk) -> None:
    assert desk.change_pin("anna", "1357", hotp(0), "8642").reason is Reason.WRONG
    assert desk.change_pin("anna", PIN, hotp(30), "8642").reason is Reason.WRONG
    assert failures(desk) == 2
    assert desk.change_pin("anna", PIN, hotp(0), "8642").reason is Reason.ACCEPTED
    assert failures(desk) == 0
    assert desk.change_pin("anna", "8642", hotp(0), "9753").reason is Reason.REPLAYED
    assert desk.verify("anna", PIN + hotp(1)).reason is Reason.WRONG
    assert desk.verify("anna", "8642" + hotp(1)).reason is Reason.ACCEPTED


def test_guessing_by_changes_locks_as_guessing_by_sign_ins_does(desk: Desk) -> None:
    for number in range(5):
        assert desk.change_pin("anna", f"97{number}5", hotp(0), "8642").reason is Reason.WRONG
    assert desk.change_pin("anna", PIN, hotp(0), "8642").reason is Reason.LOCKED
    assert desk.verify("anna", PIN + hotp(0)).reason is Reason.LOCKED


def test_a_new_pin_that_was_used_before_changes_and_spends_nothing(desk: Desk) -> None:
    before = list(desk.driver.state.records())
    refused = desk.change_pin("anna", PIN, hotp(0), PIN, recent=True)
    assert (refused.code, refused.field) == (Code.FAILED_PRECONDITION, "new_pin")
    after = [each for each in desk.driver.state.records() if not each[0].startswith("request")]
    assert after == [each for each in before if not each[0].startswith("request")]
    # Whoever has not the old one is not told.
    assert desk.change_pin("anna", "1357", hotp(0), PIN, recent=True).reason is Reason.WRONG
    assert desk.set_pin("anna", PIN, recent=True).field == "new_pin"


def test_so_many_hashes_are_kept_as_are_compared_and_one_at_least(desk: Desk) -> None:
    for number in range(8):
        desk.set_pin("anna", f"97{number}5")
    pin = desk.driver.state.read(PINS, b"anna")
    assert pin is not None
    assert [each.salt for each in (pin.current, *pin.earlier)] == [salt for salt, _ in desk.pins["anna"][:5]]
    desk.driver.run(SetSettings((("pin_history", 0),)))
    desk.set_pin("anna", "8642")
    pin = desk.driver.state.read(PINS, b"anna")
    assert pin is not None
    assert len(pin.earlier) == 1


@pytest.mark.parametrize(
    ("ways", "field"),
    [
        ((), "splits"),
        ((PinSplit(6), PinSplit(8), PinSplit(0)), "splits"),
        ((PinSplit(6), PinSplit(6)), "splits"),
        ((PinSplit(7),), "splits"),
        ((PinSplit(-1),), "splits"),
        ((PinSplit(6, True, "1" * 10_000),), "splits"),
    ],
)
def test_a_command_that_no_servicer_makes_is_refused(desk: Desk, ways: tuple[PinSplit, ...], field: str) -> None:
    generated = encode(PinGenerated(desk.version("anna")))
    refused = desk.driver.run(VerifyPin("anna", ways), client=FRONTEND, generated=generated)
    assert (refused.code, refused.field) == (Code.INVALID_ARGUMENT, field)
    for garbage in (b"", b"\xc0", b"garbage"):
        refused = desk.driver.run(VerifyPin("anna", ways), client=FRONTEND, generated=garbage)
        assert (refused.code, refused.field) == (Code.INVALID_ARGUMENT, "generated")
    without_hash = encode(PinGenerated(desk.version("anna")))
    for command, client in ((SetPin("anna"), OPERATOR), (ChangePin("anna", (PinSplit(6),)), FRONTEND)):
        refused = desk.driver.run(command, client=client, generated=without_hash)
        assert (refused.code, refused.field) == (Code.INVALID_ARGUMENT, "generated")


def test_a_claim_that_a_pin_was_right_helps_nobody_who_has_none() -> None:
    desk = Desk()
    desk.driver.add_user("anna")
    desk.driver.add_hotp("anna")
    command = VerifyPin("anna", (PinSplit(6, True, hotp(0)),))
    assert desk.driver.run(command, client=FRONTEND, generated=encode(PinGenerated(b""))).reason is Reason.NO_PIN


def test_a_pin_stays_over_a_snapshot(desk: Desk) -> None:
    desk.driver.state = reloaded(desk.driver.state)
    assert desk.verify("anna", PIN + hotp(0)).reason is Reason.ACCEPTED


def test_every_change_says_who_made_it(desk: Desk) -> None:
    result = desk.set_pin("anna", "9753")
    assert [(event.kind, event.client, event.user_id) for event in result.events] == [("pin_set", OPERATOR, "anna")]
    changed = desk.change_pin("anna", "9753", hotp(0), "8642")
    assert [(event.kind, event.client) for event in changed.events] == [("verify", FRONTEND), ("pin_changed", FRONTEND)]


def test_without_the_setting_a_pin_is_not_asked_for() -> None:
    desk = Desk(Driver(new_state(Settings())))
    desk.driver.add_user("anna")
    desk.driver.add_hotp("anna", SECRET)
    desk.set_pin("anna", PIN)
    assert desk.driver.run(Verify("anna", PIN + hotp(0)), client=FRONTEND).reason is Reason.WRONG
    assert desk.driver.verify("anna", hotp(0)).reason is Reason.ACCEPTED
