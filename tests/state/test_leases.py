"""Leases: one holder at a time, epochs that only grow, and nothing for whoever comes back too late."""

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from cluster.state.commands import AcquireLease, Command, ReleaseLease, RenewLease
from cluster.state.context import Context
from cluster.state.lease_reads import get_lease, list_leases
from cluster.state.leases import check_lease
from cluster.state.records import LEASE_TTL_MS_MAX, LEASE_TTL_MS_MIN, LEASES_MAX, Role, Rules
from cluster.state.results import ChangeEvent, Code, Refused, Result
from tests.state.fixtures import CLUSTER_ID, FRONTEND, OPERATOR, Driver, new_state, reloaded

FIRST = f"watchword://{CLUSTER_ID}/client/directory-1"
SECOND = f"watchword://{CLUSTER_ID}/client/directory-2"
AUDITOR = f"watchword://{CLUSTER_ID}/client/auditor"
TTL_MS = 30_000


def driver_of() -> Driver:
    roles = {
        OPERATOR: [Role.OPERATOR],
        FRONTEND: [Role.FRONTEND],
        FIRST: [Role.CONNECTOR],
        SECOND: [Role.CONNECTOR],
        AUDITOR: [Role.AUDITOR, Role.HELPDESK],
    }
    return Driver(new_state(roles=roles))


@pytest.fixture
def driver() -> Driver:
    return driver_of()


def refused(result: Result) -> tuple[Code, str]:
    assert result.events == ()
    return result.code, result.field


HELD = (Code.FAILED_PRECONDITION, "lease_held")
LOST = (Code.FAILED_PRECONDITION, "lease_lost")


def check(driver: Driver, epoch: int, client: str = FIRST) -> None:
    short = client.removeprefix(f"watchword://{CLUSTER_ID}/")
    rules = Rules.of(driver.state.settings)
    check_lease(driver.state, "directory", epoch, Context(driver.now_ms, rules, client, short, "r", b"", frozenset()))


def test_one_holds_it_until_it_ends_and_the_next_has_the_next_epoch(driver: Driver) -> None:
    result = driver.run(AcquireLease("directory", TTL_MS), client=FIRST)
    assert (result.code, result.token_id) == (Code.OK, "1")
    (event,) = result.events
    assert isinstance(event, ChangeEvent)
    assert (event.kind, event.client, event.subject) == ("lease_acquired", FIRST, "directory 1")
    assert refused(driver.run(AcquireLease("directory", TTL_MS), client=SECOND)) == HELD
    assert refused(driver.run(AcquireLease("directory", TTL_MS), client=FIRST)) == HELD
    assert driver.run(AcquireLease("mail", TTL_MS), client=SECOND).token_id == "1"
    driver.now_ms += TTL_MS - 1
    assert refused(driver.run(AcquireLease("directory", TTL_MS), client=SECOND)) == HELD
    driver.now_ms += 1
    assert driver.run(AcquireLease("directory", TTL_MS), client=SECOND).token_id == "2"
    view = get_lease(driver.state, "directory", 0)
    assert view is not None
    assert (view.holder, view.epoch, view.until_ms, view.held) == (SECOND, 2, driver.now_ms + TTL_MS, True)
    assert [lease.name for lease in list_leases(driver.state, 0)] == ["directory", "mail"]
    assert not list_leases(driver.state, driver.now_ms + TTL_MS)[0].held


def test_a_holder_that_was_stopped_is_refused_whoever_came_after_it(driver: Driver) -> None:
    driver.run(AcquireLease("directory", TTL_MS), client=FIRST)
    check(driver, 1)
    driver.now_ms += TTL_MS
    # Nobody took it: still over.
    assert refused(driver.run(RenewLease("directory", 1, TTL_MS), client=FIRST)) == LOST
    with pytest.raises(Refused):
        check(driver, 1)
    driver.run(AcquireLease("directory", TTL_MS), client=SECOND)
    assert refused(driver.run(RenewLease("directory", 1, TTL_MS), client=FIRST)) == LOST
    assert refused(driver.run(RenewLease("directory", 2, TTL_MS), client=FIRST)) == LOST
    for epoch in (0, 1, 2, 3):
        with pytest.raises(Refused):
            check(driver, epoch)
    check(driver, 2, SECOND)
    before = get_lease(driver.state, "directory", 0)
    assert driver.run(ReleaseLease("directory", 1), client=FIRST) == Result(Code.OK)
    assert get_lease(driver.state, "directory", 0) == before, "an epoch that is over releases nothing"


def test_the_same_holder_again_has_another_epoch(driver: Driver) -> None:
    driver.run(AcquireLease("directory", TTL_MS), client=FIRST)
    driver.now_ms += TTL_MS
    assert driver.run(AcquireLease("directory", TTL_MS), client=FIRST).token_id == "2"
    with pytest.raises(Refused):
        check(driver, 1)


def test_renewals_go_on_from_now_and_leave_no_event(driver: Driver) -> None:
    driver.run(AcquireLease("directory", TTL_MS), client=FIRST)
    for _ in range(5):
        driver.now_ms += TTL_MS - 1
        assert driver.run(RenewLease("directory", 1, TTL_MS), client=FIRST) == Result(Code.OK, token_id="1")
    assert refused(driver.run(AcquireLease("directory", TTL_MS), client=SECOND)) == HELD


def test_a_retry_gets_its_epoch_again(driver: Driver) -> None:
    first = driver.run(AcquireLease("directory", TTL_MS), client=FIRST, request_id="one")
    again = driver.run(AcquireLease("directory", TTL_MS), client=FIRST, request_id="one")
    assert (again.code, again.token_id, again.events) == (Code.OK, first.token_id, ())
    other = driver.run(AcquireLease("mail", TTL_MS), client=FIRST, request_id="one")
    assert other.code is Code.REQUEST_ID_REUSED


def test_who_holds_it_or_an_operator_releases_it(driver: Driver) -> None:
    driver.run(AcquireLease("directory", TTL_MS), client=FIRST)
    assert refused(driver.run(ReleaseLease("directory", 1), client=SECOND)) == LOST
    assert refused(driver.run(ReleaseLease("directory", 2), client=FIRST)) == LOST
    assert refused(driver.run(ReleaseLease("nothing", 1), client=FIRST)) == (Code.NOT_FOUND, "lease")
    (event,) = driver.run(ReleaseLease("directory", 1), client=FIRST).events
    assert event.kind == "lease_released"
    assert refused(driver.run(RenewLease("directory", 1, TTL_MS), client=FIRST)) == LOST
    assert driver.run(AcquireLease("directory", TTL_MS), client=SECOND).token_id == "2"
    assert driver.run(ReleaseLease("directory", 2), client=OPERATOR).code is Code.OK
    with pytest.raises(Refused):
        check(driver, 2, SECOND)
    assert driver.run(AcquireLease("directory", TTL_MS), client=FIRST).token_id == "3"


@pytest.mark.parametrize("client", [FRONTEND, AUDITOR])
def test_other_roles_are_refused(driver: Driver, client: str) -> None:
    for command in (
        AcquireLease("directory", TTL_MS),
        RenewLease("directory", 1, TTL_MS),
        ReleaseLease("directory", 1),
    ):
        assert driver.run(command, client=client).code is Code.PERMISSION_DENIED
    assert list_leases(driver.state, 0) == ()


@pytest.mark.parametrize("name", ["", "a" * 65, "a b", "ä", "a\n", "\x00"])
def test_bad_names(driver: Driver, name: str) -> None:
    for command in (AcquireLease(name, TTL_MS), RenewLease(name, 1, TTL_MS), ReleaseLease(name, 1)):
        assert refused(driver.run(command, client=FIRST)) == (Code.INVALID_ARGUMENT, "name")


@pytest.mark.parametrize("ttl_ms", [LEASE_TTL_MS_MIN - 1, LEASE_TTL_MS_MAX + 1, 0, -1, 2**62])
def test_bad_times(driver: Driver, ttl_ms: int) -> None:
    assert refused(driver.run(AcquireLease("a", ttl_ms), client=FIRST)) == (Code.INVALID_ARGUMENT, "ttl_ms")
    driver.run(AcquireLease("a", TTL_MS), client=FIRST)
    assert refused(driver.run(RenewLease("a", 1, ttl_ms), client=FIRST)) == (Code.INVALID_ARGUMENT, "ttl_ms")


def test_there_is_a_bound_on_names_and_those_that_are_known_go_on(driver: Driver) -> None:
    for number in range(LEASES_MAX):
        assert driver.run(AcquireLease(f"lease-{number}", TTL_MS), client=FIRST).code is Code.OK
    assert refused(driver.run(AcquireLease("more", TTL_MS), client=FIRST)) == (Code.FAILED_PRECONDITION, "leases_max")
    driver.now_ms += TTL_MS
    assert driver.run(AcquireLease("lease-0", TTL_MS), client=SECOND).token_id == "2"


names = st.sampled_from(["directory", "mail"])
epochs = st.integers(0, 6)
ttls = st.sampled_from([LEASE_TTL_MS_MIN, TTL_MS])
commands: st.SearchStrategy[Command] = st.one_of(
    st.builds(AcquireLease, names, ttls),
    st.builds(AcquireLease, names, ttls),
    st.builds(RenewLease, names, epochs, ttls),
    st.builds(ReleaseLease, names, epochs),
)
steps = st.tuples(st.sampled_from([0, 1, 1_000, 5_000, 29_999, 30_000]), st.sampled_from([FIRST, SECOND]), commands)


@settings(max_examples=200)
@given(st.lists(steps, max_size=40), st.integers(0, 40))
def test_no_epoch_has_two_holders_and_none_comes_again(log: list[tuple[int, str, Command]], at: int) -> None:
    """Against a model that keeps every epoch ever given; with a snapshot anywhere in it, the same."""
    driver, other = driver_of(), driver_of()
    given_out: dict[str, list[tuple[str, int]]] = {"directory": [], "mail": []}  # (holder, until) by epoch - 1
    for number, (wait_ms, client, command) in enumerate(log):
        if number == at:
            other.state = reloaded(other.state)
        driver.now_ms = other.now_ms = driver.now_ms + wait_ms
        result = driver.run(command, client=client)
        assert other.run(command, client=client) == result
        assert other.state.running_digest == driver.state.running_digest
        assert isinstance(command, AcquireLease | RenewLease | ReleaseLease)
        held = given_out[command.name]
        latest, now_ms = len(held), driver.now_ms
        current = bool(held) and now_ms < held[-1][1]
        match command:
            case AcquireLease():
                assert (result.code is Code.OK) is not current
                if not current:
                    held.append((client, now_ms + command.ttl_ms))
                    assert result.token_id == str(len(held))
            case RenewLease():
                own = current and command.epoch == latest and held[-1][0] == client
                assert (result.code is Code.OK) is own
                if own:
                    held[-1] = (client, now_ms + command.ttl_ms)
            case ReleaseLease():
                if result.code is Code.OK and current and command.epoch == latest:
                    assert held[-1][0] == client
                    held[-1] = (client, now_ms)
        for name, known in given_out.items():
            view = get_lease(driver.state, name, 0)
            assert (view is None) is not known
            if view is not None:
                assert (view.epoch, view.holder, view.until_ms) == (len(known), *known[-1])
    assert list(other.state.records()) == list(driver.state.records())
