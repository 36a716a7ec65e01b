"""Verify: what is accepted, what is refused and why, what counts and what is spent."""

import pytest

import factors.otp
from cluster.state.commands import AddToken, DisableToken, DisableUser, EnableUser, UnlockUser, Verify
from cluster.state.reads import get_token, get_user, list_attempts
from cluster.state.records import TokenType
from cluster.state.results import Code, Decision, Reason
from factors.otp import Algorithm, Otp, code_at
from tests.state.fixtures import FRONTEND, SECRET, Driver, hotp

OTHER = b"abcdefghijklmnopqrst"
MINUTE = 60


@pytest.fixture
def driver() -> Driver:
    made = Driver()
    made.add_user("anna")
    return made


def fail(driver: Driver, times: int) -> list[Reason]:
    return [driver.verify("anna", "wrong").reason for _ in range(times)]


def failures(driver: Driver) -> int:
    view = get_user(driver.state, "anna", driver.now_ms)
    assert view is not None
    return view.failures


def test_a_right_code_is_accepted_once(driver: Driver) -> None:
    token_id = driver.add_totp("anna")
    first = driver.verify("anna", driver.totp())
    assert (first.code, first.decision, first.reason, first.token_id) == (
        Code.OK,
        Decision.ACCEPT,
        Reason.ACCEPTED,
        token_id,
    )
    again = driver.verify("anna", driver.totp())
    assert (again.code, again.decision, again.reason) == (Code.OK, Decision.REJECT, Reason.REPLAYED)


@pytest.mark.parametrize("algorithm", list(Algorithm))
@pytest.mark.parametrize("digits", [6, 8])
@pytest.mark.parametrize("period_s", [15, 30, 60, 300])
def test_every_kind_of_totp_signs_in(driver: Driver, algorithm: Algorithm, digits: int, period_s: int) -> None:
    driver.add(AddToken("anna", TokenType.TOTP, algorithm, digits, period_s, secret=SECRET))
    code = code_at(Otp(SECRET, algorithm, digits), driver.now_ms // 1000 // period_s)
    assert driver.verify("anna", code).decision is Decision.ACCEPT


def test_a_code_with_spaces_is_the_same_code(driver: Driver) -> None:
    driver.add_totp("anna")
    code = driver.totp()
    assert driver.verify("anna", f" {code[:3]} {code[3:]}").decision is Decision.ACCEPT
    for typed in (code, f"{code[:3]}-{code[3:]}"):
        assert driver.verify("anna", typed).reason is Reason.REPLAYED


def test_hotp_moves_past_the_code_and_all_before_it(driver: Driver) -> None:
    token_id = driver.add_hotp("anna", counter=5)
    assert driver.verify("anna", hotp(8)).decision is Decision.ACCEPT
    for counter in (8, 7, 6, 5):
        assert driver.verify("anna", hotp(counter)).reason is Reason.REPLAYED
    token = get_token(driver.state, token_id)
    assert token is not None
    assert token.counter == 9
    assert token.last_used_ms == driver.now_ms


def test_hotp_looks_ten_counters_ahead(driver: Driver) -> None:
    driver.add_hotp("anna")
    assert driver.verify("anna", hotp(11)).reason is Reason.WRONG
    assert driver.verify("anna", hotp(10)).decision is Decision.ACCEPT


def test_drift_is_remembered(driver: Driver) -> None:
    token_id = driver.add_totp("anna")
    for drift in (1, 2, 3):
        assert driver.verify("anna", driver.totp(drift)).decision is Decision.ACCEPT
        driver.pass_time(60)
    token = get_token(driver.state, token_id)
    assert token is not None
    assert token.drift_steps == 3
    driver.pass_time(60)
    assert driver.verify("anna", driver.totp(1)).reason is Reason.TOO_OLD
    assert driver.verify("anna", driver.totp(5)).reason is Reason.WRONG


def test_an_earlier_step_of_the_window_is_spent_with_a_later_one(driver: Driver) -> None:
    driver.add_totp("anna")
    assert driver.verify("anna", driver.totp(1)).decision is Decision.ACCEPT
    for offset in (0, -1):
        assert driver.verify("anna", driver.totp(offset)).reason is Reason.REPLAYED


def test_an_unused_code_of_a_while_ago_is_too_old(driver: Driver) -> None:
    driver.add_totp("anna")
    assert driver.verify("anna", driver.totp(-3)).reason is Reason.TOO_OLD


def test_an_unknown_user_leaves_an_event_and_no_record(driver: Driver) -> None:
    before = [record for record in driver.state.records() if not record[0].startswith("request")]
    result = driver.verify("nobody", "123456")
    assert (result.code, result.decision, result.reason) == (Code.OK, Decision.REJECT, Reason.UNKNOWN_USER)
    assert [(event.kind, event.user_id, event.reason) for event in result.events] == [
        ("verify", "nobody", Reason.UNKNOWN_USER)
    ]
    assert [record for record in driver.state.records() if not record[0].startswith("request")] == before


def test_what_cannot_be_right_costs_what_a_wrong_code_costs(monkeypatch: pytest.MonkeyPatch, driver: Driver) -> None:
    computed: list[int] = []
    codes = factors.otp.codes

    def counting(otp: Otp, first: int, count: int) -> list[bytes]:
        computed.append(max(0, count))
        return codes(otp, first, count)

    def cost(user_id: str, token_id: str = "") -> int:
        computed.clear()
        driver.verify(user_id, "000000", token_id=token_id)
        return sum(computed)

    driver.add_totp("anna")
    driver.add_user("no-token")
    driver.add_user("disabled")
    driver.add_totp("disabled")
    driver.run(DisableUser("disabled"))
    monkeypatch.setattr(factors.otp, "codes", counting)
    wrong = cost("anna")
    assert wrong == 8
    assert {cost("nobody"), cost("no-token"), cost("disabled"), cost("anna", "another")} == {wrong}
    fail(driver, 5)
    assert cost("anna") == wrong


def test_a_disabled_user_is_refused_and_nothing_is_spent(driver: Driver) -> None:
    driver.add_totp("anna")
    driver.run(DisableUser("anna"))
    for _ in range(6):
        assert driver.verify("anna", driver.totp()).reason is Reason.DISABLED
    driver.run(EnableUser("anna"))
    assert driver.verify("anna", driver.totp()).decision is Decision.ACCEPT


def test_without_an_active_token_nothing_is_accepted_or_counted(driver: Driver) -> None:
    assert driver.verify("anna", "123456").reason is Reason.NO_TOKEN
    pending = driver.add_totp("anna", pending=True)
    assert driver.verify("anna", driver.totp()).reason is Reason.NO_TOKEN
    assert driver.verify("anna", driver.totp(), token_id=pending).reason is Reason.NO_TOKEN
    disabled = driver.add_totp("anna", OTHER)
    driver.run(DisableToken(disabled))
    assert driver.verify("anna", driver.totp(secret=OTHER)).reason is Reason.NO_TOKEN
    assert driver.verify("anna", driver.totp(secret=OTHER), token_id=disabled).reason is Reason.DISABLED
    assert failures(driver) == 0


def test_only_the_named_token_accepts(driver: Driver) -> None:
    first = driver.add_totp("anna")
    second = driver.add_totp("anna", OTHER)
    assert driver.verify("anna", driver.totp(), token_id=second).reason is Reason.WRONG
    assert driver.verify("anna", driver.totp(), token_id=first).token_id == first
    assert driver.verify("anna", driver.totp(secret=OTHER)).token_id == second
    driver.add_user("ben")
    assert driver.verify("ben", driver.totp(), token_id=first).reason is Reason.NO_TOKEN


def test_a_code_used_with_one_token_is_not_taken_by_another_that_shows_it_too(driver: Driver) -> None:
    """Equal secrets are refused at enrolment, but two secrets can be one key."""
    first = driver.add_hotp("anna", counter=0)
    # The same codes from another secret: RFC 2104 pads a key with zeros, so this one is equivalent.
    second = driver.add_hotp("anna", SECRET + b"\0", counter=0)
    result = driver.verify("anna", hotp(0))
    assert result.decision is Decision.ACCEPT
    for token_id in ("", first, second):
        assert driver.verify("anna", hotp(0), token_id=token_id).reason is Reason.REPLAYED


def test_a_code_one_token_knows_as_used_is_a_replay_whatever_others_say(driver: Driver) -> None:
    driver.add_hotp("anna", counter=9)
    driver.add_hotp("anna", SECRET + b"\0", counter=0)
    assert driver.verify("anna", hotp(8)).reason is Reason.REPLAYED


def test_five_failures_lock_and_the_right_code_is_refused_and_not_spent(driver: Driver) -> None:
    driver.add_hotp("anna")
    assert fail(driver, 5) == [Reason.WRONG] * 5
    assert driver.verify("anna", hotp(0)).reason is Reason.LOCKED
    driver.pass_time(15 * MINUTE - 1)
    assert driver.verify("anna", hotp(0)).reason is Reason.LOCKED
    driver.pass_time(1)
    assert driver.verify("anna", hotp(0)).decision is Decision.ACCEPT


def test_the_failure_that_locks_says_so_in_an_event(driver: Driver) -> None:
    driver.add_hotp("anna")
    fail(driver, 4)
    result = driver.verify("anna", "wrong", request_id="the-fifth")
    assert [(event.kind, event.client, event.request_id) for event in result.events] == [
        ("verify", FRONTEND, "the-fifth"),
        ("user_locked", FRONTEND, "the-fifth"),
    ]
    assert [event.kind for event in driver.verify("anna", "wrong").events] == ["verify"]


def test_attempts_while_locked_do_not_prolong_the_lock(driver: Driver) -> None:
    driver.add_hotp("anna")
    fail(driver, 5)
    for _ in range(14):
        driver.pass_time(MINUTE)
        assert fail(driver, 3) == [Reason.LOCKED] * 3
    driver.pass_time(MINUTE)
    assert driver.verify("anna", hotp(0)).decision is Decision.ACCEPT


def test_a_replay_counts_as_a_failure(driver: Driver) -> None:
    driver.add_hotp("anna")
    assert driver.verify("anna", hotp(0)).decision is Decision.ACCEPT
    assert [driver.verify("anna", hotp(0)).reason for _ in range(5)] == [Reason.REPLAYED] * 5
    assert driver.verify("anna", hotp(1)).reason is Reason.LOCKED


def test_an_accepted_sign_in_clears_the_count(driver: Driver) -> None:
    driver.add_hotp("anna")
    fail(driver, 4)
    assert driver.verify("anna", hotp(0)).decision is Decision.ACCEPT
    assert failures(driver) == 0
    fail(driver, 4)
    assert driver.verify("anna", hotp(1)).decision is Decision.ACCEPT


def test_failures_fade(driver: Driver) -> None:
    driver.add_hotp("anna")
    fail(driver, 4)
    driver.pass_time(5 * MINUTE)
    assert failures(driver) == 0
    fail(driver, 4)
    assert driver.verify("anna", hotp(0)).decision is Decision.ACCEPT


def test_failures_count_over_all_tokens_of_a_user_and_no_other(driver: Driver) -> None:
    first = driver.add_hotp("anna")
    second = driver.add_hotp("anna", OTHER)
    driver.add_user("ben")
    driver.add_hotp("ben")
    for token_id in (first, second, first, second, ""):
        driver.verify("anna", "wrong", token_id=token_id)
    assert driver.verify("anna", hotp(0)).reason is Reason.LOCKED
    assert driver.verify("ben", hotp(0)).decision is Decision.ACCEPT


def test_unlocking_clears_lock_and_count(driver: Driver) -> None:
    driver.add_hotp("anna")
    fail(driver, 5)
    assert driver.run(UnlockUser("anna")).code is Code.OK
    fail(driver, 4)
    assert driver.verify("anna", hotp(0)).decision is Decision.ACCEPT
    assert driver.run(UnlockUser("anna")).code is Code.OK


@pytest.mark.parametrize("passcode", ["", " - ", "١٢٣٤٥٦", "abcdef", "12345", "1234567", "\x00", "😀"])
def test_what_is_no_code_counts_as_a_wrong_one(driver: Driver, passcode: str) -> None:
    driver.add_totp("anna")
    assert driver.verify("anna", passcode).reason is Reason.WRONG
    assert failures(driver) == 1


@pytest.mark.parametrize(
    ("command", "field"),
    [
        (Verify("", "1"), "user_id"),
        (Verify("a" * 257, "1"), "user_id"),
        (Verify("anna", "1" * 129), "passcode"),
        (Verify("anna", "1", "", "ä" * 65), "client.application"),
        (Verify("anna", "1", "", "", "1" * 65), "client.address"),
    ],
)
def test_a_command_beyond_its_limits_is_refused_and_counts_nothing(driver: Driver, command: Verify, field: str) -> None:
    result = driver.run(command, client=FRONTEND)
    assert (result.code, result.field, result.decision) == (Code.INVALID_ARGUMENT, field, Decision.NONE)
    assert failures(driver) == 0
    assert list_attempts(driver.state, "anna") == ()


def test_the_last_ten_attempts_are_kept(driver: Driver) -> None:
    token_id = driver.add_hotp("anna")
    driver.verify("anna", "wrong")
    for counter in range(9):
        driver.pass_time(1)
        driver.verify("anna", hotp(counter))
    driver.pass_time(1)
    driver.verify("anna", "wrong")
    attempts = list_attempts(driver.state, "anna")
    assert len(attempts) == 10
    assert (attempts[0].reason, attempts[0].decision, attempts[0].token_id) == (Reason.WRONG, Decision.REJECT, "")
    assert (attempts[0].at_ms, attempts[0].client) == (driver.now_ms, FRONTEND)
    assert (attempts[0].application, attempts[0].address) == ("vpn", "192.0.2.7")
    assert {(each.reason, each.decision, each.token_id) for each in attempts[1:]} == {
        (Reason.ACCEPTED, Decision.ACCEPT, token_id)
    }
    assert [each.at_ms for each in attempts] == sorted((each.at_ms for each in attempts), reverse=True)
