"""Users and tokens: what each command changes, and when it says no."""

import pytest

from cluster.state.commands import (
    AddToken,
    AddUser,
    Command,
    ConfirmToken,
    DeleteToken,
    DeleteUser,
    DisableToken,
    DisableUser,
    EnableToken,
    EnableUser,
    ResyncToken,
    UnlockUser,
    add_token_random_bytes,
)
from cluster.state.reads import get_token, get_user, list_attempts, list_tokens, token_with_secret
from cluster.state.records import Settings, TokenStatus, TokenType
from cluster.state.results import Code, Decision, Reason, Result
from cluster.state.store import ATTEMPTS, FAILURES, TOKENS, USERS
from factors.otp import Algorithm
from tests.state.fixtures import OPERATOR, SECRET, Driver, hotp, new_state

OTHER = b"abcdefghijklmnopqrst"


@pytest.fixture
def driver() -> Driver:
    made = Driver()
    made.add_user("anna")
    return made


def answer(result: Result) -> tuple[Code, str]:
    return result.code, result.field


def status(driver: Driver, token_id: str) -> TokenStatus:
    view = get_token(driver.state, token_id)
    assert view is not None
    return view.status


def test_a_user_is_added_once(driver: Driver) -> None:
    view = get_user(driver.state, "anna", driver.now_ms)
    assert view is not None
    assert (view.enabled, view.created_ms, view.token_count, view.locked) == (True, driver.now_ms, 0, False)
    assert answer(driver.run(AddUser("anna"))) == (Code.ALREADY_EXISTS, "user_id")


@pytest.mark.parametrize("user_id", ["", "a" * 257, "ä" * 129])
def test_a_user_id_has_limits(driver: Driver, user_id: str) -> None:
    assert answer(driver.run(AddUser(user_id))) == (Code.INVALID_ARGUMENT, "user_id")


def test_disabling_and_enabling_twice_is_fine(driver: Driver) -> None:
    for command, enabled in [(DisableUser, False), (DisableUser, False), (EnableUser, True), (EnableUser, True)]:
        assert driver.run(command("anna")).code is Code.OK
        view = get_user(driver.state, "anna", 0)
        assert view is not None
        assert view.enabled is enabled


def test_deleting_a_user_leaves_nothing(driver: Driver) -> None:
    driver.add_hotp("anna")
    driver.add_totp("anna", OTHER)
    driver.verify("anna", "wrong")
    assert driver.run(DeleteUser("anna")).code is Code.OK
    assert [driver.state.count(table) for table in (USERS, TOKENS, FAILURES, ATTEMPTS)] == [0, 0, 0, 0]
    assert driver.verify("anna", hotp(0)).reason is Reason.UNKNOWN_USER
    driver.add_user("anna")
    assert list_tokens(driver.state, "anna") == ()
    assert list_attempts(driver.state, "anna") == ()


@pytest.mark.parametrize(
    "command",
    [
        EnableUser("nobody"),
        DisableUser("nobody"),
        DeleteUser("nobody"),
        UnlockUser("nobody"),
        AddToken("nobody", TokenType.TOTP, secret=SECRET),
    ],
)
def test_an_unknown_user_is_not_found(driver: Driver, command: Command) -> None:
    assert answer(driver.run(command, generated=bytes(30))) == (Code.NOT_FOUND, "user_id")


@pytest.mark.parametrize(
    "command",
    [
        ConfirmToken("x", "1"),
        ResyncToken("x", "1", "2"),
        EnableToken("x"),
        DisableToken("x"),
        DeleteToken("x"),
        DeleteToken(""),
    ],
)
def test_an_unknown_token_is_not_found(driver: Driver, command: Command) -> None:
    assert answer(driver.run(command)) == (Code.NOT_FOUND, "token_id")


@pytest.mark.parametrize("algorithm", list(Algorithm))
def test_a_token_without_a_secret_gets_the_generated_one(driver: Driver, algorithm: Algorithm) -> None:
    generated = bytes(range(add_token_random_bytes(algorithm)))
    result = driver.run(AddToken("anna", TokenType.TOTP, algorithm, 8, 60), generated=generated)
    token = token_with_secret(driver.state, result.token_id)
    assert token is not None
    assert token.secret == generated[10:]
    assert result.token_id == "aaaqeayeaudaocaj"
    assert (token.algorithm, token.digits, token.period_s) == (algorithm, 8, 60)


def test_a_given_secret_is_used(driver: Driver) -> None:
    token = token_with_secret(driver.state, driver.add_hotp("anna", OTHER, counter=2**63 - 1))
    assert token is not None
    assert (token.secret, token.counter, token.period_s) == (OTHER, 2**63 - 1, 0)


@pytest.mark.parametrize(
    ("command", "field"),
    [
        (AddToken("anna", TokenType.TOTP, digits=7, secret=SECRET), "digits"),
        (AddToken("anna", TokenType.TOTP, period_s=14, secret=SECRET), "period"),
        (AddToken("anna", TokenType.TOTP, period_s=301, secret=SECRET), "period"),
        (AddToken("anna", TokenType.TOTP, counter=1, secret=SECRET), "counter"),
        (AddToken("anna", TokenType.HOTP, period_s=30, secret=SECRET), "period"),
        (AddToken("anna", TokenType.HOTP, period_s=0, counter=-1, secret=SECRET), "counter"),
        (AddToken("anna", TokenType.HOTP, period_s=0, counter=2**63, secret=SECRET), "counter"),
        (AddToken("anna", TokenType.TOTP, secret=bytes(9)), "secret"),
        (AddToken("anna", TokenType.TOTP, secret=bytes(129)), "secret"),
    ],
)
def test_parameters_have_limits(driver: Driver, command: AddToken, field: str) -> None:
    assert answer(driver.run(command, generated=bytes(30))) == (Code.INVALID_ARGUMENT, field)
    assert list_tokens(driver.state, "anna") == ()


def test_too_few_random_bytes_are_refused(driver: Driver) -> None:
    command = AddToken("anna", TokenType.TOTP, secret=SECRET)
    assert answer(driver.run(command, generated=bytes(9))) == (Code.INVALID_ARGUMENT, "generated")
    assert answer(driver.run(AddToken("anna", TokenType.TOTP), generated=bytes(19))) == (
        Code.INVALID_ARGUMENT,
        "secret",
    )


def test_a_user_has_so_many_tokens() -> None:
    driver = Driver(new_state(Settings(tokens_per_user_max=2)))
    driver.add_user("anna")
    first = driver.add_hotp("anna", SECRET)
    driver.add_hotp("anna", OTHER)
    third = AddToken("anna", TokenType.TOTP, secret=bytes(20))
    assert answer(driver.run(third, generated=b"g" * 10)) == (Code.FAILED_PRECONDITION, "tokens_per_user")
    driver.run(DeleteToken(first))
    assert driver.run(third, generated=b"g" * 10).code is Code.OK


def test_a_secret_is_enrolled_once_a_user(driver: Driver) -> None:
    driver.add_hotp("anna")
    again = AddToken("anna", TokenType.TOTP, secret=SECRET)
    assert answer(driver.run(again, generated=b"g" * 10)) == (Code.ALREADY_EXISTS, "secret")
    driver.add_user("ben")
    driver.add_hotp("ben")


def test_a_token_id_that_comes_again_is_refused(driver: Driver) -> None:
    assert driver.run(AddToken("anna", TokenType.TOTP, secret=SECRET), generated=b"g" * 10).code is Code.OK
    result = driver.run(AddToken("anna", TokenType.TOTP, secret=OTHER), generated=b"g" * 10)
    assert answer(result) == (Code.ALREADY_EXISTS, "token_id")


def test_a_pending_token_becomes_active_by_its_code_which_is_spent(driver: Driver) -> None:
    token_id = driver.add_hotp("anna", pending=True)
    assert status(driver, token_id) is TokenStatus.PENDING
    assert answer(driver.run(ConfirmToken(token_id, hotp(30)))) == (Code.FAILED_PRECONDITION, "code")
    assert answer(driver.run(ConfirmToken(token_id, "1" * 200))) == (Code.INVALID_ARGUMENT, "code")
    code = hotp(2)
    assert driver.run(ConfirmToken(token_id, f"{code[:3]} {code[3:]}")).code is Code.OK
    assert status(driver, token_id) is TokenStatus.ACTIVE
    assert driver.verify("anna", hotp(2)).reason is Reason.REPLAYED
    assert driver.verify("anna", hotp(3)).decision is Decision.ACCEPT
    assert answer(driver.run(ConfirmToken(token_id, hotp(4)))) == (Code.FAILED_PRECONDITION, "token_status")


@pytest.mark.parametrize("change", [EnableToken, DisableToken])
def test_a_pending_token_can_be_deleted_and_nothing_else(
    driver: Driver, change: type[EnableToken | DisableToken]
) -> None:
    token_id = driver.add_totp("anna", pending=True)
    assert answer(driver.run(change(token_id))) == (Code.FAILED_PRECONDITION, "token_status")
    assert answer(driver.run(ResyncToken(token_id, "1", "2"))) == (Code.FAILED_PRECONDITION, "token_status")
    assert driver.run(DeleteToken(token_id)).code is Code.OK
    assert get_token(driver.state, token_id) is None


def test_a_token_is_disabled_and_enabled(driver: Driver) -> None:
    token_id = driver.add_hotp("anna")
    for command, wanted in [
        (DisableToken, TokenStatus.DISABLED),
        (DisableToken, TokenStatus.DISABLED),
        (EnableToken, TokenStatus.ACTIVE),
        (EnableToken, TokenStatus.ACTIVE),
    ]:
        assert driver.run(command(token_id)).code is Code.OK
        assert status(driver, token_id) is wanted
    assert driver.verify("anna", hotp(0)).decision is Decision.ACCEPT


def test_deleting_a_token_leaves_the_others(driver: Driver) -> None:
    first = driver.add_hotp("anna")
    second = driver.add_hotp("anna", OTHER)
    assert driver.run(DeleteToken(first)).token_id == first
    views = list_tokens(driver.state, "anna")
    assert views is not None
    assert [view.token_id for view in views] == [second]
    assert driver.verify("anna", hotp(0)).reason is Reason.WRONG


def test_hotp_is_resynchronised_over_a_thousand_counters(driver: Driver) -> None:
    token_id = driver.add_hotp("anna")
    assert driver.verify("anna", hotp(990)).reason is Reason.WRONG
    assert driver.run(ResyncToken(token_id, hotp(990), hotp(991))).code is Code.OK
    for counter in (990, 991):
        assert driver.verify("anna", hotp(counter)).reason is Reason.REPLAYED
    assert driver.verify("anna", hotp(992)).decision is Decision.ACCEPT


@pytest.mark.parametrize("pair", [(5, 7), (6, 5), (1000, 1001)])
def test_hotp_is_not_resynchronised_by_anything_else(driver: Driver, pair: tuple[int, int]) -> None:
    token_id = driver.add_hotp("anna")
    result = driver.run(ResyncToken(token_id, hotp(pair[0]), hotp(pair[1])))
    assert answer(result) == (Code.FAILED_PRECONDITION, "first_code")
    assert driver.verify("anna", hotp(0)).decision is Decision.ACCEPT


@pytest.mark.parametrize("offset", [-900, -3, 3, 900])
def test_totp_is_resynchronised_on_both_sides(driver: Driver, offset: int) -> None:
    token_id = driver.add_totp("anna")
    assert driver.run(ResyncToken(token_id, driver.totp(offset), driver.totp(offset + 1))).code is Code.OK
    view = get_token(driver.state, token_id)
    assert view is not None
    assert view.drift_steps == offset + 1
    assert driver.verify("anna", driver.totp(offset + 1)).reason is Reason.REPLAYED
    assert driver.verify("anna", driver.totp(offset + 2)).decision is Decision.ACCEPT


def test_totp_is_not_resynchronised_by_codes_that_are_spent(driver: Driver) -> None:
    token_id = driver.add_totp("anna")
    assert driver.verify("anna", driver.totp()).decision is Decision.ACCEPT
    result = driver.run(ResyncToken(token_id, driver.totp(), driver.totp(1)))
    assert answer(result) == (Code.FAILED_PRECONDITION, "first_code")


def test_resync_codes_have_limits(driver: Driver) -> None:
    token_id = driver.add_totp("anna")
    assert answer(driver.run(ResyncToken(token_id, "1", "2" * 129))) == (Code.INVALID_ARGUMENT, "second_code")


def test_every_change_has_an_event_that_says_who(driver: Driver) -> None:
    token_id = driver.add_hotp("anna")
    commands: list[tuple[Command, str, str]] = [
        (DisableToken(token_id), "token_disabled", token_id),
        (EnableToken(token_id), "token_enabled", token_id),
        (ResyncToken(token_id, hotp(5), hotp(6)), "token_resynchronised", token_id),
        (DeleteToken(token_id), "token_deleted", token_id),
        (DisableUser("anna"), "user_disabled", ""),
        (EnableUser("anna"), "user_enabled", ""),
        (UnlockUser("anna"), "user_unlocked", ""),
        (DeleteUser("anna"), "user_deleted", ""),
        (AddUser("anna"), "user_added", ""),
    ]
    for command, kind, about in commands:
        (event,) = driver.run(command, request_id=kind).events
        assert (event.kind, event.client, event.request_id, event.user_id, event.token_id) == (
            kind,
            OPERATOR,
            kind,
            "anna",
            about,
        )
    assert driver.run(AddUser("anna")).events == ()
