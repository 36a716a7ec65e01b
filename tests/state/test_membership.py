"""Invitations are good once and for a time; members change one at a time; who left is remembered."""

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.state import reads
from cluster.state.apply import State
from cluster.state.commands import Invite, Join, RemoveMember, SettleMember, TransferLeadership
from cluster.state.genesis import unfilled
from cluster.state.records import (
    FORMER_MEMBERS_KEPT,
    INVITATION_KEPT_MS,
    INVITATION_MS_MAX,
    INVITATION_MS_MIN,
    INVITATIONS_MAX,
    MEMBERS_MAX,
    Member,
)
from cluster.state.results import ChangeEvent, Code, Result
from tests.state.fixtures import CLUSTER_ID, FRONTEND, OPERATOR, Driver, new_state, reloaded

FIRST = "0a" * 16
SECRET = sha256(b"secret").digest()
HOUR_MS = 3_600_000
NODE = f"watchword://{CLUSTER_ID}/node/{FIRST}"


def member_id(number: int) -> str:
    return bytes([number] * 16).hex()


def joiner(number: int) -> str:
    return f"watchword://{CLUSTER_ID}/join/{member_id(number)}"


def join_command(number: int, key: bytes = b"k" * 32, secret: bytes = SECRET) -> Join:
    return Join(secret, key, f"machine-{number}", f"10.0.0.{number}:2", f"10.0.0.{number}:1")


def invite(driver: Driver, number: int, lifetime_ms: int = HOUR_MS) -> Result:
    return driver.run(Invite(lifetime_ms), generated=bytes([number] * 16) + SECRET)


def join(driver: Driver, number: int, key: bytes = b"k" * 32, secret: bytes = SECRET) -> Result:
    return driver.run(join_command(number, key, secret), client=joiner(number), generated=bytes([number] * 16))


def configure(driver: Driver, voters: list[str], learners: list[str] | None = None) -> None:
    driver.state.configure(driver.state.position.index + 1, 1, driver.now_ms, voters, learners or [])


def joined(driver: Driver, number: int) -> str:
    """A member that votes."""
    assert invite(driver, number).code is Code.OK
    assert join(driver, number).code is Code.OK
    voters = [*reads.configuration(driver.state)[0], member_id(number)]
    configure(driver, sorted(voters))
    return member_id(number)


@pytest.fixture
def driver() -> Driver:
    return Driver()


def test_an_invitation_lets_one_node_in(driver: Driver) -> None:
    invited = invite(driver, 1)
    assert (invited.code, invited.token_id) == (Code.OK, member_id(1))
    result = join(driver, 1)
    assert (result.code, result.token_id) == (Code.OK, member_id(1))
    assert reads.members(driver.state)[member_id(1)] == Member("machine-1", "10.0.0.1:2", "10.0.0.1:1", voter=False)
    assert [type(event) for event in result.events] == [ChangeEvent]
    assert result.events[0].client == joiner(1)
    again = driver.run(join_command(2), client=joiner(1), generated=bytes(16))
    assert (again.code, again.field) == (Code.FAILED_PRECONDITION, "invitation_spent")
    assert set(reads.members(driver.state)) == {FIRST, member_id(1)}


def test_the_same_node_may_ask_again_and_is_told_the_same(driver: Driver) -> None:
    invite(driver, 1)
    join(driver, 1)
    driver.pass_time(2 * 3600)
    assert join(driver, 1) == Result(Code.OK, token_id=member_id(1))
    other_key = join(driver, 1, key=b"x" * 32)
    assert (other_key.code, other_key.field) == (Code.FAILED_PRECONDITION, "invitation_spent")
    configure(driver, [FIRST], [member_id(1)])
    driver.run(RemoveMember(member_id(1)))
    configure(driver, [FIRST])
    assert join(driver, 1).field == "invitation_spent"


def test_one_that_is_late_is_told_so_and_nothing_is_spent(driver: Driver) -> None:
    invite(driver, 1, INVITATION_MS_MIN)
    driver.pass_time(INVITATION_MS_MIN // 1000)
    late = join(driver, 1)
    assert (late.code, late.field) == (Code.FAILED_PRECONDITION, "invitation_expired")
    assert set(reads.members(driver.state)) == {FIRST}


def test_a_stranger_and_a_wrong_secret_get_nowhere(driver: Driver) -> None:
    assert join(driver, 9).field == "invitation"
    invite(driver, 1)
    wrong = join(driver, 1, secret=bytes(32))
    assert (wrong.code, wrong.field) == (Code.NOT_FOUND, "invitation")
    for client in (OPERATOR, FRONTEND, NODE, "", f"watchword://{'d' * 32}/join/{member_id(1)}"):
        result = driver.run(join_command(1), client=client, generated=bytes(16))
        assert result.code is Code.PERMISSION_DENIED
    assert driver.run(Invite(HOUR_MS), client=joiner(1), generated=bytes(48)).code is Code.PERMISSION_DENIED
    assert set(reads.members(driver.state)) == {FIRST}


@pytest.mark.parametrize("lifetime_ms", [INVITATION_MS_MIN - 1, INVITATION_MS_MAX + 1, 0, -1])
def test_an_invitation_has_an_end_that_is_near(driver: Driver, lifetime_ms: int) -> None:
    assert invite(driver, 1, lifetime_ms).field == "lifetime"


def test_invitations_are_bounded_and_old_ones_make_room(driver: Driver) -> None:
    for number in range(INVITATIONS_MAX):
        assert invite(driver, number, INVITATION_MS_MIN).code is Code.OK
    full = invite(driver, 200)
    assert (full.code, full.field) == (Code.FAILED_PRECONDITION, "invitations_max")
    driver.pass_time((INVITATION_MS_MIN + INVITATION_KEPT_MS) // 1000)
    assert invite(driver, 200).code is Code.OK


def test_nobody_takes_anothers_name_or_address(driver: Driver) -> None:
    joined(driver, 1)
    invite(driver, 2)
    for field, changed in {
        "member_name": ("machine-1", "10.0.0.2:2", "10.0.0.2:1"),
        "peer_address": ("machine-2", "10.0.0.1:2", "10.0.0.2:1"),
        "client_address": ("machine-2", "10.0.0.2:2", "10.0.0.1:2"),
    }.items():
        command = Join(SECRET, b"k" * 32, *changed)
        result = driver.run(command, client=joiner(2), generated=bytes([2] * 16))
        assert (result.code, result.field) == (Code.ALREADY_EXISTS, field)
    assert join(driver, 2).code is Code.OK, "and the invitation was not spent by them"


def test_a_change_that_meets_another_may_ask_again_under_the_same_id(driver: Driver) -> None:
    for number in (1, 2):
        invite(driver, number)
    join(driver, 1)
    command = driver.packed(join_command(2), client=joiner(2), request_id="waits", generated=bytes([2] * 16))
    assert driver.entry([command])[0][0] == Result(Code.STALE, field="change_pending")
    assert driver.run(RemoveMember(FIRST)) == Result(Code.STALE, field="change_pending")
    configure(driver, [FIRST], [member_id(1)])
    assert driver.entry([command])[0][0].code is Code.STALE, "it does not vote yet"
    configure(driver, sorted([FIRST, member_id(1)]))
    assert driver.entry([command])[0][0].code is Code.OK


def test_members_are_bounded(driver: Driver) -> None:
    for number in range(1, MEMBERS_MAX):
        joined(driver, number)
    invite(driver, 100)
    assert join(driver, 100).field == "members_max"


def test_who_is_removed_goes_with_the_configuration_and_stays_known(driver: Driver) -> None:
    second = joined(driver, 1)
    assert driver.run(RemoveMember("ff" * 16)).code is Code.NOT_FOUND
    assert driver.run(RemoveMember(second)).code is Code.OK
    assert reads.members(driver.state)[second].leaving
    assert not reads.was_removed(driver.state, second)
    configure(driver, [FIRST])
    assert set(reads.members(driver.state)) == {FIRST}
    assert reads.was_removed(reloaded(driver.state), second)
    assert driver.run(RemoveMember(second)) == Result(Code.OK), "and may be asked for again"
    assert driver.run(RemoveMember(FIRST)).field == "last_member"


def test_the_leaders_node_settles_what_it_cannot_do(driver: Driver) -> None:
    second = joined(driver, 1)
    driver.run(RemoveMember(second))
    for client in (OPERATOR, joiner(1), f"watchword://{CLUSTER_ID}/node/{member_id(7)}"):
        assert driver.run(SettleMember(second, False), client=client).code is Code.PERMISSION_DENIED
    assert driver.run(SettleMember(second, False), client=NODE).code is Code.OK
    assert reads.members(driver.state)[second].settled
    assert driver.run(SettleMember(second, True), client=NODE) == Result(Code.OK), "nothing is settled twice"
    assert second in reads.members(driver.state)
    driver.run(RemoveMember(second))
    assert driver.run(SettleMember(second, True), client=NODE).code is Code.OK
    assert reads.was_removed(driver.state, second)


def test_a_wish_to_hand_on_is_kept_where_it_can_come_true(driver: Driver) -> None:
    assert driver.run(TransferLeadership(""), generated=FIRST.encode()).field == "only_voter"
    second = joined(driver, 1)
    assert driver.run(TransferLeadership("ff" * 16), generated=FIRST.encode()).field == "not_a_voter"
    assert reads.transfer(driver.state) is None
    assert driver.run(TransferLeadership(second), generated=FIRST.encode()).code is Code.OK
    wish = reads.transfer(driver.state)
    assert wish is not None
    assert driver.run(TransferLeadership(second), generated=b"\xff").field == "generated"
    assert (wish.from_member, wish.to_member, wish.asked_ms) == (FIRST, second, driver.now_ms)


def test_former_members_are_bounded(driver: Driver) -> None:
    removed = []
    for number in range(FORMER_MEMBERS_KEPT + 2):
        driver.pass_time(1)
        new = number.to_bytes(16, "big")
        invite_id = driver.run(Invite(INVITATION_MS_MIN), generated=new + SECRET)
        if invite_id.code is not Code.OK:
            driver.pass_time(2 * INVITATION_KEPT_MS // 1000)
            invite_id = driver.run(Invite(INVITATION_MS_MIN), generated=new + SECRET)
        client = f"watchword://{CLUSTER_ID}/join/{invite_id.token_id}"
        assert driver.run(join_command(5), client=client, generated=new).code is Code.OK
        assert driver.run(RemoveMember(new.hex())).code is Code.OK
        configure(driver, [FIRST])
        removed.append(new.hex())
    known = [reads.was_removed(driver.state, each) for each in removed]
    assert known == [False, False] + [True] * FORMER_MEMBERS_KEPT


def test_what_a_joining_node_starts_from_holds_nothing_of_the_cluster() -> None:
    whole = new_state()
    members = {FIRST: Member("node-1", "a:2", "a:1"), member_id(1): Member("node-2", "b:2", "b:1", voter=False)}
    state = unfilled(cluster=whole.identity, members=members, root_certificate=b"root")
    assert reads.configuration(state) == ((FIRST,), (member_id(1),))
    assert state.position.index == 0
    assert state.roles_of(OPERATOR) == frozenset()
    assert reads.issuing_key(state).private_key == b""
    assert State.load(state.position, list(state.records())).position == state.position


@given(st.lists(st.tuples(st.sampled_from(["invite", "join", "remove", "settle", "configure"]), st.integers(1, 4))))
def test_members_are_never_none_and_never_more_than_may_be(steps: list[tuple[str, int]]) -> None:
    driver = Driver()
    for what, number in steps:
        member = member_id(number)
        match what:
            case "invite":
                invite(driver, number)
            case "join":
                join(driver, number)
            case "remove":
                driver.run(RemoveMember(member))
            case "settle":
                driver.run(SettleMember(member, number % 2 == 0), client=NODE)
            case _:
                wanted = [each for each, record in reads.members(driver.state).items() if not record.leaving]
                configure(driver, sorted(wanted))
        members = reads.members(driver.state)
        assert FIRST in members
        assert sum(not record.settled for record in members.values()) <= 1
