"""Recovery codes and bypasses: accepted once, not for everybody, and with the PIN where one is required."""

import msgspec
import pytest

from cluster.state import one_time, reads
from cluster.state.commands import (
    DeleteUser,
    DisableUser,
    EnableUser,
    IssueBypass,
    IssueRecoveryCodes,
    UnlockUser,
)
from cluster.state.records import Role, Roles, Settings
from cluster.state.results import BYPASS, RECOVERY_CODE, Code, Reason, Result
from cluster.state.store import BYPASSES, RECOVERY_CODES, ROLES
from tests.state.fixtures import CLUSTER_ID, FRONTEND, OPERATOR, Driver, hotp, new_state, reloaded
from tests.state.people import SALT, Desk

PIN = "2468"
encode = msgspec.msgpack.encode


def identity(name: str) -> str:
    return f"watchword://{CLUSTER_ID}/client/{name}"


@pytest.fixture
def desk() -> Desk:
    """Without PINs."""
    made = Desk(Driver(new_state(Settings())))
    made.driver.add_user("anna")
    made.driver.add_hotp("anna")
    return made


def test_each_recovery_code_is_accepted_once(desk: Desk) -> None:
    codes = desk.recovery_codes("anna")
    for code in codes:
        accepted = desk.driver.verify("anna", f"{code[:4].lower()}-{code[4:]}")
        assert (accepted.reason, accepted.token_id) == (Reason.ACCEPTED, RECOVERY_CODE)
        assert desk.driver.verify("anna", code).reason is Reason.WRONG
        desk.driver.run(UnlockUser("anna"))
    assert desk.driver.state.read(RECOVERY_CODES, b"anna") is None


def test_new_ones_replace_those_that_there_were(desk: Desk) -> None:
    first, second = desk.recovery_codes("anna"), desk.recovery_codes("anna")
    assert desk.driver.verify("anna", first[0]).reason is Reason.WRONG
    assert desk.driver.verify("anna", second[0]).reason is Reason.ACCEPTED
    view = reads.get_user(desk.driver.state, "anna", 0)
    assert view is not None
    assert view.recovery_codes == 9


def test_a_bypass_is_accepted_once_and_in_time(desk: Desk) -> None:
    code = str(desk.bypass("anna", 60, reason="ticket 17"))
    accepted = desk.driver.verify("anna", code)
    assert (accepted.reason, accepted.token_id) == (Reason.ACCEPTED, BYPASS)
    assert reads.list_attempts(desk.driver.state, "anna")[0].note == "ticket 17"
    assert desk.driver.verify("anna", code).reason is Reason.WRONG
    late = str(desk.bypass("anna", 60))
    desk.driver.pass_time(60)
    assert desk.driver.verify("anna", late).reason is Reason.WRONG
    in_time = str(desk.bypass("anna", 60))
    desk.driver.pass_time(59)
    assert desk.driver.verify("anna", in_time).reason is Reason.ACCEPTED


def test_a_bypass_helps_who_has_no_token_left(desk: Desk) -> None:
    desk.driver.add_user("ben")
    assert desk.driver.verify("ben", "ABCD2345").reason is Reason.NO_TOKEN
    code = str(desk.bypass("ben"))
    assert desk.driver.verify("ben", "ABCD2345").reason is Reason.WRONG, "now there is something to guess"
    assert desk.driver.verify("ben", code).reason is Reason.ACCEPTED
    assert desk.driver.verify("ben", "ABCD2345").reason is Reason.NO_TOKEN


def test_never_for_a_disabled_user(desk: Desk) -> None:
    code = str(desk.bypass("anna"))
    recovery = desk.recovery_codes("anna")[0]
    desk.driver.run(DisableUser("anna"))
    for passcode in (code, recovery):
        assert desk.driver.verify("anna", passcode).reason is Reason.DISABLED
    refused = desk.bypass("anna")
    assert isinstance(refused, Result)
    assert (refused.code, refused.field) == (Code.FAILED_PRECONDITION, "user_state")
    desk.driver.run(EnableUser("anna"))
    assert desk.driver.verify("anna", code).reason is Reason.ACCEPTED


def test_a_lock_holds_against_them_too(desk: Desk) -> None:
    code = str(desk.bypass("anna"))
    for _ in range(5):
        assert desk.driver.verify("anna", "ABCD2345").reason is Reason.WRONG
    assert desk.driver.verify("anna", code).reason is Reason.LOCKED
    desk.driver.run(UnlockUser("anna"))
    assert desk.driver.verify("anna", code).reason is Reason.ACCEPTED


def test_where_a_token_is_named_only_it_may_accept(desk: Desk) -> None:
    code = str(desk.bypass("anna"))
    view = reads.list_tokens(desk.driver.state, "anna")
    assert view
    assert desk.driver.verify("anna", code, token_id=view[0].token_id).reason is Reason.WRONG
    assert desk.driver.verify("anna", code).reason is Reason.ACCEPTED


def test_the_pin_still_applies() -> None:
    desk = Desk()
    desk.driver.add_user("anna")
    desk.driver.add_user("ben")
    desk.set_pin("anna", PIN)
    code, recovery = str(desk.bypass("anna")), desk.recovery_codes("anna")[0]
    for passcode in (code, recovery):
        assert desk.verify("anna", passcode).reason is Reason.WRONG
        assert desk.verify("anna", "1357" + passcode).reason is Reason.WRONG
    desk.driver.run(UnlockUser("anna"))
    assert desk.verify("anna", PIN + code).token_id == BYPASS
    assert desk.verify("anna", PIN + recovery).token_id == RECOVERY_CODE
    assert desk.verify("anna", PIN + code).reason is Reason.WRONG
    assert desk.verify("ben", str(desk.bypass("ben"))).reason is Reason.NO_PIN


def test_a_pin_can_be_changed_by_a_bypass() -> None:
    desk = Desk()
    desk.driver.add_user("anna")
    desk.set_pin("anna", PIN)
    code = str(desk.bypass("anna"))
    assert desk.change_pin("anna", PIN, code, "8642").token_id == BYPASS
    assert desk.change_pin("anna", "8642", code, "9753").reason is Reason.NO_TOKEN


@pytest.mark.parametrize("seconds", [-1, 0, 9, 86_401, 2**40])
def test_a_time_out_of_range_is_named(desk: Desk, seconds: int) -> None:
    refused = desk.driver.run(IssueBypass("anna", seconds, "lost"), generated=bytes(32))
    assert (refused.code, refused.field) == (Code.INVALID_ARGUMENT, "seconds")


def test_what_no_servicer_sends_is_refused(desk: Desk) -> None:
    for reason in ("", "x" * 257):
        assert desk.driver.run(IssueBypass("anna", 60, reason), generated=bytes(32)).field == "reason"
    for generated in (b"", bytes(31), bytes(33)):
        assert desk.driver.run(IssueBypass("anna", 60, "lost"), generated=generated).field == "generated"
        assert desk.driver.run(IssueRecoveryCodes("anna"), generated=generated).field == "generated"
    assert desk.driver.run(IssueBypass("nobody", 60, "lost"), generated=bytes(32)).code is Code.NOT_FOUND
    assert desk.driver.run(IssueRecoveryCodes("nobody"), generated=bytes(176)).code is Code.NOT_FOUND


HELPDESK = identity("Helen")
BOSS = identity("boss@example.org")


@pytest.mark.parametrize(
    ("user", "allowed"),
    [
        ("anna", True),
        ("helen", False),
        ("helen@example.org", False),
        ("corp\\helen", False),
        ("boss", False),
        ("boss@example.org", False),
        ("corp\\boss", False),
        ("operator", False),
        ("hele", True),
        ("helen2", True),
    ],
)
def test_a_helpdesk_gives_none_to_itself_or_an_operator(user: str, allowed: bool) -> None:
    roles = {HELPDESK: [Role.HELPDESK], BOSS: [Role.OPERATOR], OPERATOR: [Role.OPERATOR], FRONTEND: [Role.FRONTEND]}
    desk = Desk(Driver(new_state(Settings(), roles)))
    desk.driver.add_user(user)
    given = desk.bypass(user, client=HELPDESK)
    assert isinstance(given, str) == allowed
    if isinstance(given, Result):
        assert (given.code, given.field) == (Code.PERMISSION_DENIED, "user_id")
        assert desk.driver.state.read(BYPASSES, user.encode()) is None
    assert isinstance(desk.bypass(user, client=BOSS), str), "an operator may"


def test_an_operator_who_was_revoked_is_none_and_one_who_was_added_again_is() -> None:
    for identity_of_boss, revoked_ms, allowed in (
        (identity("boss/2"), 0, False),
        (identity("boss"), 1, True),
        (identity("boss/2"), 1, True),
    ):
        desk = Desk(Driver(new_state(Settings(), {HELPDESK: [Role.HELPDESK], OPERATOR: [Role.OPERATOR]})))
        record = Roles((Role.OPERATOR,), revoked_ms=revoked_ms)
        desk.driver.state._store.commit({(ROLES.name, identity_of_boss.encode()): encode(record)})
        desk.driver.add_user("boss")
        assert isinstance(desk.bypass("boss", client=HELPDESK), str) == allowed


def test_a_helpdesk_that_was_added_again_gives_none_to_itself_either() -> None:
    again = identity("helen/2")
    desk = Desk(Driver(new_state(Settings(), {again: [Role.HELPDESK], OPERATOR: [Role.OPERATOR]})))
    desk.driver.add_user("helen")
    assert isinstance(desk.bypass("helen", client=again), Result)


def test_who_is_both_is_an_operator() -> None:
    both = identity("helen")
    desk = Desk(Driver(new_state(Settings(), {both: [Role.HELPDESK, Role.OPERATOR], OPERATOR: [Role.OPERATOR]})))
    desk.driver.add_user("helen")
    assert isinstance(desk.bypass("helen", client=both), str)


def test_they_go_with_the_user_and_stay_over_a_snapshot(desk: Desk) -> None:
    code, recovery = str(desk.bypass("anna")), desk.recovery_codes("anna")
    desk.driver.state = reloaded(desk.driver.state)
    assert desk.driver.verify("anna", code).reason is Reason.ACCEPTED
    desk.driver.run(DeleteUser("anna"))
    desk.driver.add_user("anna")
    assert desk.driver.verify("anna", recovery[0]).reason is Reason.NO_TOKEN


def test_the_event_of_a_bypass_says_why_and_shows_no_code(desk: Desk) -> None:
    desk.drawn += 1
    result = desk.driver.run(IssueBypass("anna", 60, "ticket 17"), generated=SALT + bytes(16))
    (event,) = result.events
    assert (event.kind, event.client, event.user_id) == ("bypass_issued", OPERATOR, "anna")
    assert getattr(event, "subject", "") == "ticket 17"


def test_the_same_request_gives_the_same_codes_and_another_gives_others() -> None:
    state = new_state()
    asked = ("client", "request", "anna", SALT)
    codes = one_time.codes_of(state, *asked, 10)
    assert codes == one_time.codes_of(reloaded(state), *asked, 10)
    for place in range(4):
        other = list(asked)
        other[place] = b"x" * 16 if place == 3 else "other"
        assert set(codes).isdisjoint(one_time.codes_of(state, *other, 10))  # type: ignore[arg-type]


def test_codes_of_a_token_are_not_touched_by_them(desk: Desk) -> None:
    desk.recovery_codes("anna")
    assert desk.driver.verify("anna", hotp(0)).reason is Reason.ACCEPTED
    assert desk.driver.verify("anna", hotp(0)).reason is Reason.REPLAYED
