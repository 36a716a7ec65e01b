"""Clients: added, renewed, revoked for good; and an operator is always left."""

import msgspec
import pytest

from cluster.state.client_reads import client_with, get_client, is_revoked, list_clients
from cluster.state.clients import client_identity, serial_of
from cluster.state.commands import AddClient, AddUser, RenewClient, RevokeClient
from cluster.state.records import (
    CERTIFICATES_KEPT,
    CLIENT_LIFETIME_MS_MAX,
    CLIENT_LIFETIME_MS_MIN,
    Record,
    Role,
    Roles,
)
from cluster.state.results import ChangeEvent, Code, Result
from cluster.state.store import ROLES, TABLES
from tests.state.fixtures import CLUSTER_ID, FRONTEND, OPERATOR, STRANGER, Driver, new_state, reloaded

DAY_MS = 24 * 3600 * 1000
KEY = bytes(range(32))
FAR_MS = 4_000_000_000_000


@pytest.fixture
def driver() -> Driver:
    return Driver()


def add(
    name: str,
    *roles: Role,
    key: bytes = KEY,
    lifetime_ms: int = 730 * DAY_MS,
    issuer_until_ms: int = FAR_MS,
) -> AddClient:
    return AddClient(name, roles or (Role.FRONTEND,), key, lifetime_ms, issuer_until_ms)


def renew(key: bytes = KEY, lifetime_ms: int = 730 * DAY_MS) -> RenewClient:
    return RenewClient(key, lifetime_ms, FAR_MS)


def uri(name: str, generation: int = 1) -> str:
    return client_identity(CLUSTER_ID, name, generation)


def refused(result: Result) -> tuple[Code, str]:
    assert result.events == ()
    return result.code, result.field


def test_a_client_has_the_roles_it_was_added_with(driver: Driver) -> None:
    result = driver.run(add("radius", Role.FRONTEND, Role.AUDITOR, Role.FRONTEND), request_id="one")
    assert result.code is Code.OK
    (event,) = result.events
    assert isinstance(event, ChangeEvent)
    assert (event.kind, event.client, event.subject) == ("client_added", OPERATOR, "client/radius")
    assert driver.state.roles_of(uri("radius")) == {Role.FRONTEND, Role.AUDITOR}
    view = get_client(driver.state, uri("radius"))
    assert view is not None
    assert (view.name, view.roles) == ("radius", (Role.AUDITOR, Role.FRONTEND))
    assert (view.created_ms, view.created_by) == (driver.now_ms, OPERATOR)
    (certificate,) = view.certificates
    assert certificate.serial == serial_of(OPERATOR, "one", KEY)
    assert (certificate.issued_ms, certificate.valid_until_ms) == (driver.now_ms, driver.now_ms + 730 * DAY_MS)
    assert client_with(driver.state, "radius", certificate.serial) == (view, certificate)
    assert client_with(driver.state, "radius", bytes(16)) is None


def test_a_retry_gives_the_same_certificate_and_another_key_is_another_request(driver: Driver) -> None:
    assert driver.run(add("radius"), request_id="one").code is Code.OK
    before = get_client(driver.state, uri("radius"))
    driver.pass_time(5)
    assert driver.run(add("radius"), request_id="one") == Result(Code.OK)
    assert get_client(driver.state, uri("radius")) == before
    assert driver.run(add("radius", key=bytes(32)), request_id="one").code is Code.REQUEST_ID_REUSED


def test_serial_numbers_are_positive_of_one_length_and_of_one_request() -> None:
    serials = {serial_of(asked_by, request_id, KEY) for asked_by in ("a", "b") for request_id in ("1", "2", "1 ")}
    assert len(serials) == 6
    assert all(len(serial) == 16 and 0x40 <= serial[0] < 0x80 for serial in serials)


def test_a_name_is_taken_once(driver: Driver) -> None:
    assert driver.run(add("radius")).code is Code.OK
    assert refused(driver.run(add("radius"))) == (Code.ALREADY_EXISTS, "name")
    assert refused(driver.run(add("operator"))) == (Code.ALREADY_EXISTS, "name"), "as old as the cluster"


@pytest.mark.parametrize(
    ("command", "field"),
    [
        (add(""), "name"),
        (add("a/2"), "name"),
        (add("a b"), "name"),
        (add("x" * 65), "name"),
        (add("\U0001f511"), "name"),
        (add("a\n"), "name"),
        (AddClient("a", (), KEY, DAY_MS, FAR_MS), "roles"),
        (add("a", key=b""), "csr"),
        (add("a", lifetime_ms=CLIENT_LIFETIME_MS_MIN - 1), "lifetime"),
        (add("a", lifetime_ms=CLIENT_LIFETIME_MS_MAX + 1), "lifetime"),
        (RevokeClient("operator/2"), "name"),
        (renew(key=bytes(31)), "csr"),
    ],
)
def test_what_is_no_client_changes_nothing(driver: Driver, command: AddClient, field: str) -> None:
    before = [record for record in driver.state.records() if record[0] == ROLES.name]
    assert refused(driver.run(command)) == (Code.INVALID_ARGUMENT, field)
    assert [record for record in driver.state.records() if record[0] == ROLES.name] == before


def test_no_certificate_outlives_the_authority(driver: Driver) -> None:
    end_ms = driver.now_ms + DAY_MS
    assert driver.run(add("radius", issuer_until_ms=end_ms)).code is Code.OK
    view = get_client(driver.state, uri("radius"))
    assert view is not None
    assert view.certificates[0].valid_until_ms == end_ms
    assert refused(driver.run(add("late", issuer_until_ms=driver.now_ms))) == (Code.FAILED_PRECONDITION, "issuer")


def test_a_revocation_ends_every_right_at_once_and_for_good(driver: Driver) -> None:
    driver.run(add("radius", Role.FRONTEND, Role.OPERATOR))
    assert driver.run(AddUser("anna"), client=uri("radius")).code is Code.OK
    driver.pass_time(1)
    result = driver.run(RevokeClient("radius"))
    (event,) = result.events
    assert isinstance(event, ChangeEvent)
    assert (event.kind, event.subject) == ("client_revoked", "client/radius")
    assert driver.state.roles_of(uri("radius")) == frozenset()
    assert is_revoked(driver.state, uri("radius"))
    assert driver.run(AddUser("berta"), client=uri("radius")).code is Code.PERMISSION_DENIED
    assert driver.verify("anna", "000000", client=uri("radius")).code is Code.PERMISSION_DENIED
    assert driver.run(renew(), client=uri("radius")).code is Code.PERMISSION_DENIED
    again = reloaded(driver.state)
    assert is_revoked(again, uri("radius"))
    assert again.roles_of(uri("radius")) == frozenset()
    view = get_client(again, uri("radius"))
    assert view is not None
    assert (view.revoked_ms, view.revoked_by) == (driver.now_ms, OPERATOR)
    driver.pass_time(1)
    assert driver.run(RevokeClient("radius")).code is Code.OK, "what is so already"
    assert get_client(driver.state, uri("radius")) == view


def test_a_name_that_was_revoked_and_is_added_again_is_another_identity(driver: Driver) -> None:
    for generation in (1, 2, 3):
        assert driver.run(add("radius")).code is Code.OK
        assert driver.state.roles_of(uri("radius", generation)) == {Role.FRONTEND}
        assert driver.run(RevokeClient("radius")).code is Code.OK
    assert uri("radius", 3).endswith("/client/radius/3")
    assert driver.run(add("radius", Role.AUDITOR)).code is Code.OK
    assert [driver.state.roles_of(uri("radius", generation)) for generation in (1, 2, 3, 4)] == [
        frozenset(),
        frozenset(),
        frozenset(),
        {Role.AUDITOR},
    ]


def test_an_unknown_client_is_not_revoked(driver: Driver) -> None:
    assert refused(driver.run(RevokeClient("nobody"))) == (Code.NOT_FOUND, "name")
    assert not is_revoked(driver.state, uri("nobody"))
    assert get_client(driver.state, uri("nobody")) is None


def test_the_last_operator_stays(driver: Driver) -> None:
    last = (Code.FAILED_PRECONDITION, "last_operator")
    assert refused(driver.run(RevokeClient("operator"))) == last
    driver.run(add("deputy", Role.OPERATOR, lifetime_ms=DAY_MS))
    assert driver.run(RevokeClient("operator")).code is Code.OK
    assert refused(driver.run(RevokeClient("deputy"), client=uri("deputy"))) == last
    assert driver.run(add("another", Role.OPERATOR), client=uri("deputy")).code is Code.OK
    assert driver.run(RevokeClient("deputy"), client=uri("deputy")).code is Code.OK


def test_an_operator_whose_certificates_are_over_counts_as_none(driver: Driver) -> None:
    driver.run(add("deputy", Role.OPERATOR, lifetime_ms=DAY_MS))
    driver.pass_time(24 * 3600)
    assert refused(driver.run(RevokeClient("operator"))) == (Code.FAILED_PRECONDITION, "last_operator")


def test_a_renewal_adds_a_certificate_and_keeps_the_rest(driver: Driver) -> None:
    for number in range(CERTIFICATES_KEPT + 3):
        driver.pass_time(1)
        result = driver.run(renew(bytes([number]) * 32), client=FRONTEND)
        assert [event.kind for event in result.events] == ["client_renewed"]
    view = get_client(driver.state, FRONTEND)
    assert view is not None
    assert view.roles == (Role.FRONTEND,)
    assert len(view.certificates) == CERTIFICATES_KEPT
    assert view.certificates[-1].issued_ms == driver.now_ms
    assert driver.run(renew(), client=STRANGER).code is Code.PERMISSION_DENIED


@pytest.mark.parametrize("client", [FRONTEND, STRANGER, uri("helper")])
def test_only_an_operator_adds_and_revokes(driver: Driver, client: str) -> None:
    driver.run(add("helper", Role.HELPDESK, Role.AUDITOR, Role.CONNECTOR))
    for command in (add("new"), RevokeClient("helper")):
        assert driver.run(command, client=client).code is Code.PERMISSION_DENIED


def test_as_many_clients_as_may_be(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cluster.state.clients.CLIENTS_MAX", 3)
    monkeypatch.setattr("cluster.state.clients.CLIENT_GENERATIONS_MAX", 1)
    assert driver.run(add("one")).code is Code.OK
    assert refused(driver.run(add("two"))) == (Code.FAILED_PRECONDITION, "clients_max")
    monkeypatch.setattr("cluster.state.clients.CLIENTS_MAX", 4)
    assert driver.run(RevokeClient("one")).code is Code.OK
    assert refused(driver.run(add("one"))) == (Code.FAILED_PRECONDITION, "clients_max")


def test_clients_in_pages(driver: Driver) -> None:
    for name in ("c", "a", "b"):
        driver.run(add(name))
    driver.run(RevokeClient("b"))
    driver.run(add("b"))
    seen = []
    after: str | None = ""
    while after is not None:
        page = list_clients(driver.state, after, 2)
        seen += [(client.name, client.revoked_ms > 0) for client in page.clients]
        after = page.next_after
    assert seen == [("a", False), ("b", True), ("b", False), ("c", False), ("frontend", False), ("operator", False)]


def test_records_from_before_are_read() -> None:
    """One array of roles: what a data file of the first schema holds."""

    class FirstRoles(Record, frozen=True):
        roles: tuple[Role, ...]

    packed = msgspec.msgpack.encode(FirstRoles((Role.OPERATOR,)))
    assert TABLES["roles"].decode(packed) == Roles((Role.OPERATOR,))
    state = new_state()
    records = [
        (table, key, packed if (table, key) == ("roles", OPERATOR.encode()) else value)
        for table, key, value in state.records()
    ]
    old = Driver(type(state).load(state.position, records))
    assert old.run(add("deputy", Role.OPERATOR)).code is Code.OK
    assert old.run(RevokeClient("operator")).code is Code.OK
    assert is_revoked(old.state, OPERATOR)
