"""Apply is total and deterministic: any bytes, any order, the same everywhere; a defect leaves nothing half-done."""

import hashlib
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.state import apply, codec
from cluster.state.apply import NewerCommand, Position, State
from cluster.state.authentication import Context
from cluster.state.codec import command_cost, pack, pack_group, unpack, unpack_contents, unpack_group
from cluster.state.commands import (
    COMMANDS,
    PERMISSIONS,
    PROPOSED_BY,
    VERSION,
    AddUser,
    Barrier,
    DeleteUser,
    ResyncToken,
    Verify,
)
from cluster.state.kinds import Kind
from cluster.state.reads import get_user
from cluster.state.records import Role, Settings, User
from cluster.state.results import Code, Result
from cluster.state.store import USERS, Transaction
from tests.state.fixtures import FRONTEND, OPERATOR, START_MS, STRANGER, Driver, new_state

encode = msgspec.msgpack.encode
CORRUPT = Result(Code.CORRUPT)


@pytest.fixture
def driver() -> Driver:
    return Driver()


def test_an_entry_without_groups_moves_position_and_digest(driver: Driver) -> None:
    before = driver.state.position
    assert driver.raw() == []
    after = driver.state.position
    assert (after.index, after.term, after.stamp_ms) == (before.index + 1, 1, driver.now_ms)
    assert after.running_digest != before.running_digest
    assert len(after.running_digest) == 32


def test_results_come_by_group_in_the_order_of_commands(driver: Driver) -> None:
    first = [driver.packed(AddUser("anna")), driver.packed(AddUser("anna"))]
    second = [driver.packed(DeleteUser("anna")), pack(Barrier()), driver.packed(DeleteUser("anna"))]
    results = driver.entry(first, [], second)
    assert [[result.code for result in group] for group in results] == [
        [Code.OK, Code.ALREADY_EXISTS],
        [],
        [Code.OK, Code.OK, Code.NOT_FOUND],
    ]


def test_a_barrier_needs_nobody_and_changes_nothing(driver: Driver) -> None:
    before = list(driver.state.records())
    assert driver.entry([pack(Barrier())]) == [[Result(Code.OK)]]
    assert list(driver.state.records()) == before


@pytest.mark.parametrize(
    ("index", "term", "stamp_ms", "payloads"),
    [
        (2, 2, 10, [b"a", b"b"]),
        (2, 1, 11, [b"a", b"b"]),
        (2, 1, 10, [b"a", b"c"]),
        (2, 1, 10, [b"ab"]),
        (2, 1, 10, [b"ab", b""]),
        (2, 1, 10, []),
    ],
)
def test_the_digest_tells_entries_apart(index: int, term: int, stamp_ms: int, payloads: list[bytes]) -> None:
    one, other = new_state(), new_state()
    one.apply(2, 1, 10, [b"a", b"b"])
    other.apply(index, term, stamp_ms, payloads)
    assert one.running_digest != other.running_digest


def test_the_digest_tells_states_apart_by_their_results() -> None:
    """Equal logs on states that differ: the first answer that differs shows."""
    one, other = Driver(), Driver()
    for driver in (one, other):
        driver.add_user("anna")
    other.state._store.commit({(USERS.name, b"ben"): encode(User(enabled=True, created_ms=0))})
    assert one.state.running_digest == other.state.running_digest
    for driver in (one, other):
        driver.run(AddUser("ben"), request_id="x")
    assert one.state.running_digest != other.state.running_digest


def state_of_version_1() -> State:
    """As the first state was: its settings end with `request_ids_kept_ms`, and of a client it has the roles alone."""
    fields = {"settings": 11, "roles": 1}
    records = [
        (name, key, encode(msgspec.msgpack.decode(packed)[: fields[name]]) if name in fields else packed)
        for name, key, packed in new_state(command_version=1).records()
    ]
    return State.load(Position(1, 0, START_MS, hashlib.sha256(encode(records)).digest()), records)


def test_the_log_of_version_1_gives_this_digest() -> None:
    """A change of records, results or order would part nodes of different builds: it needs a new command version."""
    driver = Driver(state_of_version_1())
    assert driver.state.settings == Settings()
    driver.add_user("anna")
    driver.add_hotp("anna")
    driver.verify("anna", "755224")
    driver.verify("anna", "755224")
    driver.verify("nobody", "1")
    driver.raw(b"garbage")
    assert driver.state.running_digest.hex() == GOLDEN


GOLDEN = "52f6fc1ccb6d3906a2da6ea26040864d18a5ff3a4093e0f08fd9fa02235899d3"


@given(st.binary(max_size=200))
def test_any_bytes_are_a_corrupt_group_or_a_group(payload: bytes) -> None:
    driver = Driver()
    before = list(driver.state.records())
    results = driver.raw(payload)
    assert len(results) == 1
    if unpack_group(payload) is None:
        assert results == [[CORRUPT]]
    assert list(driver.state.records()) == before


@given(st.lists(st.binary(max_size=80), max_size=5))
def test_any_bytes_in_a_group_are_corrupt_commands(commands: list[bytes]) -> None:
    driver = Driver()
    try:
        assert driver.entry(commands) == [[CORRUPT] * len(commands)]
    except NewerCommand:
        assert driver.state.position.index == 1


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=8)
    | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
PLACES = [VERSION, int(Kind.VERIFY), "r", FRONTEND, encode(Verify("anna", "1")), b""]


@given(st.integers(0, 5), values)
def test_any_value_in_any_place_of_an_envelope_has_an_answer(place: int, value: object) -> None:
    driver = Driver()
    envelope = list(PLACES)
    envelope[place] = value
    try:
        ((result,),) = driver.entry([encode(envelope)])
    except NewerCommand:
        assert place == 0
        return
    assert isinstance(result, Result)
    assert driver.state.position.index == 2


@given(st.sampled_from(sorted(PERMISSIONS)), st.lists(values, max_size=9))
def test_any_contents_of_any_kind_have_an_answer(kind: int, contents: list[object]) -> None:
    driver = Driver(new_state(roles={OPERATOR: list(Role)}))
    driver.add_user("anna")
    packed = encode([VERSION, kind, "any", OPERATOR, encode(contents), bytes(30)])
    ((result,),) = driver.entry([packed])
    assert result.code is not Code.INTERNAL


@pytest.mark.parametrize("depth", [100, 5_000, 100_000])
def test_depth_without_end_is_corrupt(driver: Driver, depth: int) -> None:
    deep = b"\x91" * depth
    assert driver.raw(deep) == [[CORRUPT]]
    head = bytes([0x96, VERSION, Kind.VERIFY])
    envelope = [VERSION, int(Kind.VERIFY), "r", FRONTEND, b"\x95" + deep, b""]
    assert driver.entry([deep, head + deep, encode(envelope)]) == [[CORRUPT] * 3]


@pytest.mark.parametrize("kind", [2, 99, 127, 128, -1, 2**40])
def test_an_unknown_kind_of_a_known_version_is_corrupt(driver: Driver, kind: int) -> None:
    packed = encode([VERSION, kind, "r", OPERATOR, encode([]), b""])
    assert driver.entry([packed]) == [[CORRUPT]]


def test_a_corrupt_command_leaves_its_neighbours_alone(driver: Driver) -> None:
    results = driver.entry([driver.packed(AddUser("anna")), b"", driver.packed(AddUser("ben"))])
    assert [result.code for result in results[0]] == [Code.OK, Code.CORRUPT, Code.OK]


def newer_envelopes() -> list[bytes]:
    contents = encode(["anna"])
    return [
        pack(AddUser("anna"), request_id="r", client=OPERATOR, version=VERSION + 1),
        encode([VERSION + 1, 99, {"everything": "else"}, 1.5]),
        encode([127, 10, "r", OPERATOR, contents, b"", "a field more"]),
    ]


@pytest.mark.parametrize("newer", newer_envelopes())
def test_a_newer_command_is_told_by_name_and_nothing_of_its_entry_is_applied(driver: Driver, newer: bytes) -> None:
    driver.add_user("anna")
    before, position = list(driver.state.records()), driver.state.position
    with pytest.raises(NewerCommand, match="upgrade this node") as caught:
        driver.entry([driver.packed(AddUser("ben"))], [pack(Barrier()), newer])
    assert (caught.value.index, caught.value.version) == (position.index + 1, newer[1])
    assert list(driver.state.records()) == before
    assert driver.state.position == position


def raising(error: BaseException) -> Callable[[Transaction, Any, Context], Result]:
    def handler(transaction: Transaction, command: AddUser, context: Context) -> Result:
        transaction.write(USERS, b"half", User(enabled=True, created_ms=0))
        transaction.delete(USERS, b"anna")
        raise error

    return handler


def test_a_defect_undoes_its_command_and_answers_the_same_again(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver.add_user("anna")
    before = [record for record in driver.state.records() if not record[0].startswith("request")]
    monkeypatch.setitem(apply.HANDLERS, Kind.ADD_USER, raising(ZeroDivisionError("a defect")))
    command = driver.packed(AddUser("ben"), request_id="defect")
    results = driver.entry([command, driver.packed(DeleteUser("nobody"))])
    assert [result.code for result in results[0]] == [Code.INTERNAL, Code.NOT_FOUND]
    assert [record for record in driver.state.records() if not record[0].startswith("request")] == before
    monkeypatch.undo()
    assert driver.entry([command]) == [[Result(Code.INTERNAL)]]


@pytest.mark.parametrize("error", [MemoryError, RecursionError, OSError])
def test_what_befalls_one_machine_is_no_result(
    driver: Driver, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    monkeypatch.setitem(apply.HANDLERS, Kind.ADD_USER, raising(error()))
    with pytest.raises(error):
        driver.run(AddUser("anna"))


@pytest.mark.parametrize("index", [0, 1, 3, 100])
def test_entries_come_in_order(index: int) -> None:
    with pytest.raises(AssertionError, match=f"entry {index} comes after 1"):
        new_state().apply(index, 1, 0, [])


@pytest.mark.parametrize(("term", "stamp_ms"), [(-1, 0), (0, -1), (2**63, 0), (0, 2**63)])
def test_an_entry_that_no_engine_makes_changes_nothing(term: int, stamp_ms: int) -> None:
    state = new_state()
    with pytest.raises(AssertionError, match="no sensible"):
        state.apply(2, term, stamp_ms, [])
    assert state.position == new_state().position


def test_time_does_not_go_back(driver: Driver) -> None:
    driver.pass_time(100)
    driver.raw()
    later = driver.now_ms
    driver.pass_time(-50)
    driver.add_user("anna")
    assert driver.state.position.stamp_ms == later
    view = get_user(driver.state, "anna", 0)
    assert view is not None
    assert view.created_ms == later


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind is not Kind.BARRIER])
@pytest.mark.parametrize("role", [*Role, None])
def test_every_kind_asks_for_a_role(kind: Kind, role: Role | None) -> None:
    driver = Driver(new_state(roles={OPERATOR: [role] if role else []}))
    fields: dict[str, Any] = {"user_id": "anna", "passcode": "1", "type": 1, "token_id": "t", "code": "1"}
    fields |= {"first_code": "1", "second_code": "2"}
    fields |= {"splits": [], "seconds": 60, "reason": "lost", "values": []}
    fields |= {"name": "radius", "roles": ["frontend"], "key_digest": b"", "lifetime_ms": 1, "issuer_until_ms": 1}
    fields |= {"member_id": "0" * 32, "name": "node", "peer_address": "a:1", "client_address": "a:2"}
    fields |= {"epoch": 1, "ttl_ms": 30_000}
    fields |= {"secret_digest": b"", "gone": True, "from_member": "0" * 32, "to_member": ""}
    command = COMMANDS[kind]
    wanted = [field.name for field in msgspec.structs.fields(command) if field.required]
    built = msgspec.convert([fields[name] for name in wanted], command)
    for client in (OPERATOR, STRANGER, ""):
        denied = driver.run(built, client=client, generated=bytes(30)).code is Code.PERMISSION_DENIED
        assert denied is not (client == OPERATOR and role in PERMISSIONS[kind])


def test_every_kind_has_a_command_a_handler_and_a_row_in_the_table() -> None:
    assert set(COMMANDS) == set(Kind)
    assert set(apply.HANDLERS) == set(PERMISSIONS) == set(Kind) - {Kind.BARRIER}
    assert {kind for kind, roles in PERMISSIONS.items() if not roles} == set(PROPOSED_BY)


def test_a_packed_command_comes_back_as_it_was() -> None:
    command = Verify("anna", "123456", "token", "vpn", "192.0.2.1")
    envelope = unpack(pack(command, request_id="r", client=FRONTEND, generated=b"g"))
    assert envelope is not None
    assert (envelope.version, envelope.kind, envelope.request_id, envelope.client, envelope.generated) == (
        1,
        Kind.VERIFY,
        "r",
        FRONTEND,
        b"g",
    )
    assert unpack_contents(envelope) == command
    assert unpack_group(pack_group([b"a", b"", b"b"])) == [b"a", b"", b"b"]
    assert "123456" not in repr(command) + repr(envelope)
    assert "anna" not in repr(command)


def test_a_resynchronisation_costs_a_thousand_times_a_verification() -> None:
    assert command_cost(pack(Verify("anna", "1"), request_id="r", client=FRONTEND)) == codec.COST_VERIFY == 1
    assert command_cost(pack(ResyncToken("t", "1", "2"), request_id="r", client=OPERATOR)) == codec.COST_RESYNC == 1000
    assert command_cost(pack(Barrier())) == 1
    assert command_cost(b"") == 1
    assert command_cost(b"\x96\x01") == 1
