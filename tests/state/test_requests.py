"""A request id has one answer, counts once, and is never forgotten early."""

import pytest

from cluster.state.apply import State
from cluster.state.commands import AddToken, AddUser, ConfirmToken, DisableUser, Verify
from cluster.state.errors import DamagedState
from cluster.state.reads import get_user, list_attempts
from cluster.state.records import Role, Settings, TokenType
from cluster.state.requests import CLIENTS, GENERATION_MS, REQUESTS, RequestMemory
from cluster.state.results import Code, Decision, Reason, Result
from tests.state.fixtures import FRONTEND, OPERATOR, SECRET, START_MS, Driver, hotp, new_state, reloaded

OTHERS = [f"{FRONTEND}-{number}" for number in range(4)]


@pytest.fixture
def driver() -> Driver:
    made = Driver()
    made.add_user("anna")
    return made


def unmarked(result: Result) -> tuple[Code, Reason, str, str]:
    """An answer without its events, which the first one alone has."""
    return result.code, result.reason, result.token_id, result.field


def test_a_retry_gets_the_first_answer_and_counts_nothing(driver: Driver) -> None:
    driver.add_hotp("anna")
    accepted = driver.verify("anna", hotp(0), request_id="one")
    rejected = driver.verify("anna", "wrong", request_id="two")
    for _ in range(6):
        assert unmarked(driver.verify("anna", hotp(0), request_id="one")) == unmarked(accepted)
        assert unmarked(driver.verify("anna", "wrong", request_id="two")) == unmarked(rejected)
    assert accepted.decision is Decision.ACCEPT
    view = get_user(driver.state, "anna", driver.now_ms)
    assert view is not None
    assert view.failures == 1
    assert len(list_attempts(driver.state, "anna")) == 2
    assert driver.verify("anna", hotp(0), request_id="one").events == ()


def test_a_retry_within_one_group_or_entry_is_a_retry(driver: Driver) -> None:
    driver.add_hotp("anna")
    packed = driver.packed(Verify("anna", hotp(0)), client=FRONTEND, request_id="one")
    results = driver.entry([packed, packed], [packed])
    assert [result.decision for group in results for result in group] == [Decision.ACCEPT] * 3
    assert len(list_attempts(driver.state, "anna")) == 1


@pytest.mark.parametrize(
    "other",
    [
        Verify("anna", "other"),
        Verify("ben", "wrong"),
        Verify("anna", "wrong", "token"),
        Verify("anna", "wrong", "", "vpn"),
        AddUser("anna"),
    ],
)
def test_other_contents_are_an_error_that_changes_nothing(other: Verify | AddUser) -> None:
    both = [Role.OPERATOR, Role.FRONTEND]
    driver = Driver(new_state(roles={OPERATOR: both}))
    driver.add_user("anna")
    driver.add_hotp("anna")
    first = driver.run(Verify("anna", "wrong"), request_id="one")
    before = list(driver.state.records())
    result = driver.run(other, request_id="one")
    assert (result.code, result.field, result.events) == (Code.REQUEST_ID_REUSED, "request_id", ())
    assert list(driver.state.records()) == before
    assert unmarked(driver.run(Verify("anna", "wrong"), request_id="one")) == unmarked(first)


def test_a_request_id_belongs_to_its_client() -> None:
    driver = Driver(new_state(roles={FRONTEND: [Role.FRONTEND], FRONTEND + "2": [Role.FRONTEND]}))
    assert driver.verify("anna", "1", request_id="one").code is Code.OK
    other = driver.verify("ben", "2", request_id="one", client=FRONTEND + "2")
    assert other.code is Code.OK
    assert len(other.events) == 1
    # What stands at the end of the one must not be readable as the beginning of the other.
    memory = RequestMemory(bytes(32))
    assert memory.identify("b", "1a") != memory.identify("ab", "1")
    assert memory.identify("1", "11") != memory.identify("11", "1")


def test_generated_bytes_are_no_part_of_the_contents(driver: Driver) -> None:
    command = AddToken("anna", TokenType.TOTP)
    first = driver.run(command, request_id="one", generated=b"a" * 30)
    again = driver.run(command, request_id="one", generated=b"b" * 30)
    assert first.code is Code.OK
    assert unmarked(again) == unmarked(first)


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (AddUser("a" * 300), Code.INVALID_ARGUMENT),
        (AddUser("anna"), Code.ALREADY_EXISTS),
        (DisableUser("nobody"), Code.NOT_FOUND),
        (ConfirmToken("nothing", "1"), Code.NOT_FOUND),
        (AddToken("anna", TokenType.TOTP, digits=7, secret=SECRET), Code.INVALID_ARGUMENT),
    ],
)
def test_a_refusal_is_remembered_too(
    driver: Driver, command: AddUser | DisableUser | ConfirmToken | AddToken, code: Code
) -> None:
    first = driver.run(command, request_id="one")
    assert first.code is code
    driver.add_user("nobody")
    assert unmarked(driver.run(command, request_id="one")) == unmarked(first)
    assert driver.run(AddUser("someone"), request_id="one").code is Code.REQUEST_ID_REUSED


@pytest.mark.parametrize("request_id", ["", "a" * 65, "ä"])
def test_a_request_id_has_limits(driver: Driver, request_id: str) -> None:
    result = driver.run(AddUser("ben"), request_id=request_id)
    assert (result.code, result.field) == (Code.INVALID_ARGUMENT, "request_id")
    assert get_user(driver.state, "ben", 0) is None


def test_it_is_kept_for_a_minute_at_least_and_a_generation_more_at_most(driver: Driver) -> None:
    driver.add_hotp("anna")
    assert driver.verify("anna", hotp(0), request_id="one").decision is Decision.ACCEPT
    driver.pass_time(60)
    assert driver.verify("anna", hotp(0), request_id="one").decision is Decision.ACCEPT
    driver.now_ms += GENERATION_MS
    assert driver.verify("anna", hotp(0), request_id="one").reason is Reason.REPLAYED


def test_time_passes_with_any_entry(driver: Driver) -> None:
    remembered = driver.state.requests_remembered
    assert remembered == 1
    driver.pass_time(120)
    driver.raw()
    assert driver.state.requests_remembered == 0


def test_it_is_remembered_over_a_snapshot(driver: Driver) -> None:
    driver.add_hotp("anna")
    assert driver.verify("anna", hotp(0), request_id="one").decision is Decision.ACCEPT
    driver.pass_time(30)
    driver.state = reloaded(driver.state)
    driver.pass_time(29)
    assert driver.verify("anna", hotp(0), request_id="one").decision is Decision.ACCEPT
    assert driver.verify("anna", hotp(1), request_id="one").code is Code.REQUEST_ID_REUSED
    driver.pass_time(10)
    assert driver.verify("anna", hotp(0), request_id="one").reason is Reason.REPLAYED


def test_a_snapshot_does_not_see_what_comes_after_it(driver: Driver) -> None:
    driver.run(AddUser("ben"))
    snapshot = driver.state.snapshot()
    before = list(snapshot.records())
    for number in range(50):
        driver.run(AddUser(f"user-{number}"))
        driver.verify("anna", "wrong")
        driver.now_ms += 3_000
    driver.run(DisableUser("ben"))
    assert list(snapshot.records()) == before
    assert State.load(snapshot.position, before).requests_remembered == 2


BOUND = 1_000


def crowd(clients: list[str]) -> Driver:
    return Driver(new_state(Settings(request_ids_max=BOUND), {client: [Role.FRONTEND] for client in clients}))


def ask(driver: Driver, client: str, times: int) -> list[Code]:
    """That many new requests, in one entry."""
    commands = [driver.packed(Verify("anna", "1"), client=client) for _ in range(times)]
    return [result.code for result in driver.entry(commands)[0]]


def test_one_client_may_use_all_there_is_and_no_more() -> None:
    driver = crowd([FRONTEND])
    first = driver.packed(Verify("anna", "1"), client=FRONTEND, request_id="first")
    assert driver.entry([first])[0][0].code is Code.OK
    codes = ask(driver, FRONTEND, BOUND + 10)
    assert codes == [Code.OK] * (BOUND - 1) + [Code.RESOURCE_EXHAUSTED] * 11
    # Nothing was forgotten for it, and what was refused has left no trace.
    assert driver.state.requests_remembered == BOUND
    assert driver.entry([first])[0][0].events == ()
    driver.pass_time(66)
    assert ask(driver, FRONTEND, 1) == [Code.OK]


def test_above_half_a_client_has_its_share_of_the_bound() -> None:
    driver = crowd(OTHERS)
    assert ask(driver, OTHERS[0], 600) == [Code.OK] * 600
    # A second client is admitted up to half of the bound, and the first not beyond its own half.
    assert ask(driver, OTHERS[1], 300) == [Code.OK] * 300
    assert ask(driver, OTHERS[0], 1) == [Code.RESOURCE_EXHAUSTED]
    assert ask(driver, OTHERS[2], 1) == [Code.OK]
    assert ask(driver, OTHERS[1], 40) == [Code.OK] * 33 + [Code.RESOURCE_EXHAUSTED] * 7
    assert ask(driver, OTHERS[3], 70) == [Code.OK] * 66 + [Code.RESOURCE_EXHAUSTED] * 4
    assert driver.state.requests_remembered == BOUND


def test_a_share_is_of_the_clients_and_requests_of_the_window() -> None:
    driver = crowd(OTHERS)
    assert ask(driver, OTHERS[0], 450) + ask(driver, OTHERS[1], 10) == [Code.OK] * 460
    driver.pass_time(66)
    assert ask(driver, OTHERS[2], 1) == [Code.OK]
    assert ask(driver, OTHERS[0], 510) == [Code.OK] * 500 + [Code.RESOURCE_EXHAUSTED] * 10


def test_what_was_refused_for_want_of_room_can_be_asked_again() -> None:
    driver = crowd([FRONTEND])
    ask(driver, FRONTEND, BOUND)
    late = driver.packed(Verify("anna", "1"), client=FRONTEND, request_id="late")
    assert driver.entry([late])[0][0].code is Code.RESOURCE_EXHAUSTED
    driver.pass_time(66)
    assert driver.entry([late])[0][0].code is Code.OK


def test_who_may_not_ask_takes_no_room() -> None:
    driver = crowd([FRONTEND])
    result = driver.run(AddUser("ben"), client=FRONTEND)
    assert result.code is Code.PERMISSION_DENIED
    assert driver.state.requests_remembered == 0


def test_nothing_readable_of_a_request_is_kept(driver: Driver) -> None:
    driver.verify("somebody", "135791", request_id="readable-request-id")
    driver.run(AddUser("ben"), request_id="another-request-id")
    kept = b"".join(key + value for table, key, value in driver.state.records() if table in (REQUESTS, CLIENTS))
    for text in (b"somebody", b"135791", b"request-id", b"ben"):
        assert text not in kept


def test_the_digests_are_keyed() -> None:
    one, other = RequestMemory(bytes(32)), RequestMemory(b"\1" * 32)
    assert one.identify("c", "r") != other.identify("c", "r")
    assert one.digest(1, b"x") != other.digest(1, b"x")
    assert one.digest(1, b"1x") != one.digest(11, b"x")


NUMBER = (START_MS // GENERATION_MS).to_bytes(8, "big")


@pytest.mark.parametrize(
    "records",
    [
        [(REQUESTS, NUMBER + bytes(15), bytes(14))],
        [(CLIENTS, NUMBER + b"c", (1).to_bytes(8, "big"))],
        [(REQUESTS, NUMBER + bytes(14), bytes(14)), (CLIENTS, NUMBER + b"c", (1).to_bytes(8, "big"))],
        [(REQUESTS, NUMBER + bytes(15), bytes(13)), (CLIENTS, NUMBER + b"c", (1).to_bytes(8, "big"))],
        [(REQUESTS, NUMBER + bytes(15), b"\xff" * 14), (CLIENTS, NUMBER + b"c", (1).to_bytes(8, "big"))],
        [(REQUESTS, NUMBER + bytes(15), bytes(14) + b"\xff"), (CLIENTS, NUMBER + b"c", (1).to_bytes(8, "big"))],
        [(REQUESTS, NUMBER + bytes(15), bytes(14)), (CLIENTS, NUMBER + b"\xff", (1).to_bytes(8, "big"))],
        [(REQUESTS, NUMBER + bytes(15), bytes(14)), (CLIENTS, NUMBER + b"c", b"\1")],
        [(CLIENTS, NUMBER + b"c", bytes(8))],
        [(REQUESTS, b"short", bytes(14))],
    ],
)
def test_a_memory_that_does_not_hang_together_is_not_loaded(records: list[tuple[str, bytes, bytes]]) -> None:
    state = new_state()
    with pytest.raises(DamagedState):
        State.load(state.position, [*state.records(), *records])
