"""What can be asked of the state."""

import pytest

from cluster.state import reads
from cluster.state.commands import AddUser, DeleteUser, DisableUser
from cluster.state.reads import UserFilter, get_user, list_users
from cluster.state.records import Role, Settings
from tests.state.fixtures import CLUSTER_ID, FRONTEND, OPERATOR, SECRET, STRANGER, Driver, new_state

NAMES = ["anna", "anton", "ben", "berta", "carl", "Ωmega", "z"]


@pytest.fixture
def driver() -> Driver:
    made = Driver()
    for name in reversed(NAMES):
        made.add_user(name)
    return made


def ids(driver: Driver, after: str = "", limit: int = 100, wanted: UserFilter | None = None) -> list[str]:
    return [view.user_id for view in list_users(driver.state, after, limit, driver.now_ms, wanted).users]


def all_pages(driver: Driver, limit: int, wanted: UserFilter | None = None) -> list[str]:
    found: list[str] = []
    after: str | None = ""
    while after is not None:
        page = list_users(driver.state, after, limit, driver.now_ms, wanted)
        assert len(page.users) <= limit
        found += [view.user_id for view in page.users]
        after = page.next_after
    return found


@pytest.mark.parametrize("limit", range(1, 9))
def test_pages_hold_everybody_once_and_in_order(driver: Driver, limit: int) -> None:
    assert all_pages(driver, limit) == ["anna", "anton", "ben", "berta", "carl", "z", "Ωmega"]


def test_the_order_is_kept_while_users_come_and_go(driver: Driver) -> None:
    ids(driver)
    driver.run(DeleteUser("ben"))
    driver.add_user("aaron")
    driver.run(AddUser("anna"))
    assert ids(driver) == ["aaron", "anna", "anton", "berta", "carl", "z", "Ωmega"]
    driver.add_user("ben")
    assert ids(driver, after="anton", limit=2) == ["ben", "berta"]


def test_a_page_goes_on_after_a_user_that_was_deleted(driver: Driver) -> None:
    page = list_users(driver.state, "", 2, driver.now_ms)
    assert page.next_after == "anton"
    driver.run(DeleteUser("anton"))
    assert ids(driver, after=page.next_after, limit=1) == ["ben"]


def test_filters(driver: Driver) -> None:
    driver.run(DisableUser("berta"))
    driver.add_hotp("anton")
    for _ in range(5):
        driver.verify("anton", "wrong")
    assert ids(driver, wanted=UserFilter(prefix="an")) == ["anna", "anton"]
    assert ids(driver, wanted=UserFilter(prefix="be"), after="ben") == ["berta"]
    assert ids(driver, wanted=UserFilter(prefix="x")) == []
    assert ids(driver, wanted=UserFilter(enabled=False)) == ["berta"]
    assert ids(driver, wanted=UserFilter(prefix="b", enabled=True)) == ["ben"]
    assert ids(driver, wanted=UserFilter(locked=True)) == ["anton"]
    assert "anton" not in ids(driver, wanted=UserFilter(locked=False))
    assert all_pages(driver, 1, UserFilter(enabled=False)) == ["berta"]


def test_a_page_looks_at_so_many_users_only(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reads, "USERS_SCANNED_MAX", 3)
    driver.run(DisableUser("carl"))
    page = list_users(driver.state, "", 100, driver.now_ms, UserFilter(enabled=False))
    assert (page.users, page.next_after) == ((), "ben")
    assert all_pages(driver, 100, UserFilter(enabled=False)) == ["carl"]


def test_a_lock_that_is_over_is_not_shown_though_nothing_was_logged_since(driver: Driver) -> None:
    driver.add_hotp("anna")
    for _ in range(5):
        driver.verify("anna", "wrong")
    locked = get_user(driver.state, "anna", driver.now_ms)
    assert locked is not None
    assert (locked.locked, locked.locked_until_ms) == (True, driver.now_ms + 900_000)
    # A reader's clock that is behind the log does not bring back what is over, nor the other way round.
    behind = get_user(driver.state, "anna", 0)
    assert behind is not None
    assert behind.locked
    later = get_user(driver.state, "anna", driver.now_ms + 900_000)
    assert later is not None
    assert not later.locked


def test_a_view_of_a_token_has_no_secret(driver: Driver) -> None:
    token_id = driver.add_totp("anna")
    view = reads.get_token(driver.state, token_id)
    assert view is not None
    assert (view.token_id, view.user_id, view.digits, view.period_s, view.last_used_ms) == (token_id, "anna", 6, 30, 0)
    assert not any(getattr(view, name) == SECRET for name in view.__slots__)
    whole = reads.token_with_secret(driver.state, token_id)
    assert whole is not None
    assert whole.secret == SECRET
    for shown in (view, whole):
        assert "anna" not in repr(shown)
    assert reads.list_tokens(driver.state, "nobody") is None


def test_roles_settings_members_and_keys() -> None:
    state = new_state(Settings(hotp_look_ahead=20))
    assert reads.roles_of(state, OPERATOR) == {Role.OPERATOR}
    assert reads.roles_of(state, FRONTEND) == {Role.FRONTEND}
    assert reads.roles_of(state, STRANGER) == frozenset()
    assert reads.settings(state).hotp_look_ahead == 20
    assert reads.cluster_identity(state).cluster_id == CLUSTER_ID
    assert [(member_id, member.name) for member_id, member in reads.members(state).items()] == [("0a" * 16, "node-1")]
    assert reads.issuing_key(state).private_key == b"private"
    assert "private" not in repr(reads.issuing_key(state))


def test_an_attempt_names_the_client_in_full(driver: Driver) -> None:
    assert reads.full_client(driver.state, "client/vpn") == f"watchword://{CLUSTER_ID}/client/vpn"
    other = "watchword://another/client/vpn"
    assert reads.full_client(driver.state, other) == other
    assert reads.full_client(driver.state, "") == ""
