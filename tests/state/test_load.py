"""A state is loaded whole or not at all, and the first one is made whole."""

import contextlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.state.apply import Position, State
from cluster.state.errors import DamagedState, NewerState, StateError
from cluster.state.genesis import genesis
from cluster.state.records import (
    SETTINGS_RANGES,
    ClusterIdentity,
    IssuingKey,
    Member,
    Role,
    Settings,
    settings_out_of_range,
)
from cluster.state.shards import Shards
from cluster.state.store import TABLES
from tests.state.fixtures import OPERATOR, START_MS, Driver, new_state

Record = tuple[str, bytes, bytes]
encode = msgspec.msgpack.encode


@pytest.fixture
def records() -> list[Record]:
    driver = Driver()
    driver.add_user("anna")
    driver.add_totp("anna")
    driver.verify("anna", "wrong")
    # The memory of requests has a form of its own, and tests of its own.
    return [record for record in driver.state.records() if record[0] in TABLES]


AT = Position(7, 3, START_MS, bytes(32))


def test_it_stands_where_it_is_said_to_stand(records: list[Record]) -> None:
    state = State.load(AT, records)
    assert state.position == AT
    assert state.running_digest == bytes(32)
    state.apply(8, 3, START_MS, [])


def test_an_unknown_table_is_a_newer_state(records: list[Record]) -> None:
    with pytest.raises(NewerState, match=r"'challenges'.*upgrade this node"):
        State.load(AT, [*records, ("challenges", b"k", b"v")])


@pytest.mark.parametrize("place", range(9))
def test_a_record_twice_or_of_the_wrong_shape_is_damage(records: list[Record], place: int) -> None:
    table, key, packed = records[place]
    with pytest.raises(DamagedState):
        State.load(AT, [*records, records[place]])
    others = records[:place] + records[place + 1 :]
    for wrong in (b"", b"\xc0", packed[:-1], packed + b"\0", encode([1.5] * 5)):
        with pytest.raises(DamagedState) as caught:
            State.load(AT, [*others, (table, key, wrong)])
        assert "anna" not in str(caught.value)


@pytest.mark.parametrize("table", ["identity", "issuing_key", "request_key", "settings", "tokens", "users"])
def test_a_missing_record_is_damage(records: list[Record], table: str) -> None:
    with pytest.raises(DamagedState):
        State.load(AT, [record for record in records if record[0] != table])


def test_a_single_record_has_no_key(records: list[Record]) -> None:
    moved = [(table, b"k" if table == "settings" else key, packed) for table, key, packed in records]
    with pytest.raises(DamagedState):
        State.load(AT, moved)


@given(
    st.sampled_from(sorted([*TABLES, "requests", "request_clients"])), st.binary(max_size=30), st.binary(max_size=30)
)
def test_any_record_is_taken_or_refused_by_name(table: str, key: bytes, packed: bytes) -> None:
    records = [*new_state().records(), (table, key, packed)]
    with contextlib.suppress(StateError):
        assert list(State.load(AT, records).records()) == sorted(records)


def test_genesis_is_the_same_for_all_and_tells_clusters_apart() -> None:
    one, same = new_state(), new_state()
    assert one.position == same.position
    assert (one.position.index, one.position.term, one.position.stamp_ms) == (1, 0, START_MS)
    other = new_state(roles={OPERATOR: [Role.AUDITOR]})
    assert one.running_digest != other.running_digest


def test_genesis_refuses_what_makes_no_sense() -> None:
    cluster = ClusterIdentity("c0" * 16, 1, "1c" * 16, START_MS)
    member = {"0a" * 16: Member("node-1", "a:1", "a:2")}
    key = IssuingKey(b"", b"", b"")
    with pytest.raises(AssertionError, match="digest key"):
        genesis(cluster=cluster, members=member, roles={}, issuing_key=key, digest_key=b"short")
    with pytest.raises(AssertionError, match="hotp_look_ahead"):
        genesis(
            cluster=cluster,
            members=member,
            roles={},
            issuing_key=key,
            digest_key=bytes(32),
            settings=Settings(hotp_look_ahead=1_000),
        )


def test_every_setting_has_a_range_and_its_default_is_in_it() -> None:
    assert set(SETTINGS_RANGES) == set(Settings.__struct_fields__)
    assert settings_out_of_range(Settings()) is None
    for name, (least, most) in SETTINGS_RANGES.items():
        assert settings_out_of_range(Settings(**{name: least - 1})) == name
        assert settings_out_of_range(Settings(**{name: most + 1})) == name


def test_the_defaults_are_those_that_were_promised() -> None:
    assert Settings() == Settings(
        lockout_failures=5,
        lockout_window_ms=300_000,
        lockout_duration_ms=900_000,
        hotp_look_ahead=10,
        totp_window_steps=1,
        resync_positions=1_000,
        request_ids_max=1_000_000,
        request_ids_kept_ms=60_000,
    )


@given(st.lists(st.tuples(st.sampled_from(["put", "discard", "freeze"]), st.binary(max_size=1), st.binary(max_size=1))))
def test_shards_behave_as_a_dict_and_frozen_ones_stay(steps: list[tuple[str, bytes, bytes]]) -> None:
    shards, model = Shards(), dict[bytes, bytes]()
    frozen = []
    for step, key, value in steps:
        if step == "put":
            shards.put(key, value)
            model[key] = value
        elif step == "discard":
            shards.discard(key)
            model.pop(key, None)
        else:
            frozen.append((shards.freeze(), dict(model)))
        assert (len(shards), shards.get(key), key in shards) == (len(model), model.get(key), key in model)
    assert dict(shards.items()) == model
    assert sorted(shards) == sorted(model)
    for pieces, then in frozen:
        assert {key: value for piece in pieces for key, value in piece.items()} == then
