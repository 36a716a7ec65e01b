"""Frames and entries: what goes in comes out, and nothing else is taken."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.raft import entries, messages
from cluster.raft.errors import FrameRefused
from cluster.raft.messages import (
    Append,
    AppendReply,
    Body,
    Frame,
    Group,
    HandOver,
    HandOverRefused,
    Heartbeat,
    HeartbeatReply,
    Notice,
    Outdated,
    PreVote,
    PreVoteRequest,
    Refused,
    SnapshotChunk,
    SnapshotReply,
    TimeoutNow,
    Vote,
    VoteRequest,
    decode,
    encode,
)

BODIES: tuple[Body, ...] = (
    Append(7, 2, 6, ((b"\x01", 2), (b"data", 3))),
    AppendReply(True, 9),
    Heartbeat(),
    HeartbeatReply(),
    VoteRequest(9, 3, True),
    Vote(),
    PreVoteRequest(4, 9, 3),
    PreVote(4, False),
    Outdated(),
    TimeoutNow(),
    HandOver(((b"g" * 16, b"payload", 3),)),
    HandOverRefused((b"g" * 16, b"h" * 16), "full"),
    SnapshotChunk("name", 9, 3, 1_800_000_000_000, bytes(32), 1000, 256, b"part"),
    SnapshotReply("name", 256),
    Refused(b"sessions"),
    Notice(),
)


def frame(body: Body, digest: tuple[int, bytes] | None = None) -> Frame:
    return Frame("i" * 32, "a" * 32, b"session!", 2, 5, 1_800_000_000_000, 3, body, digest)


def test_every_kind_is_tried() -> None:
    assert {type(body) for body in BODIES} == set(messages._KINDS)


@pytest.mark.parametrize("body", BODIES, ids=lambda body: type(body).__name__)
def test_every_kind_comes_back(body: Body) -> None:
    assert decode(encode(frame(body))) == frame(body)
    assert decode(encode(frame(body, (16, bytes(32))))) == frame(body, (16, bytes(32)))


@pytest.mark.parametrize("body", BODIES, ids=lambda body: type(body).__name__)
def test_a_cut_frame_is_refused(body: Body) -> None:
    data = encode(frame(body))
    for size in range(len(data)):
        with pytest.raises(FrameRefused):
            decode(data[:size])
    with pytest.raises(FrameRefused):
        decode(data + b"\x00")


anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=5) | st.binary(),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=3), children, max_size=3),
    max_leaves=8,
)


@given(st.binary(max_size=200))
def test_bytes_of_chance_are_refused(data: bytes) -> None:
    with pytest.raises(FrameRefused):
        decode(data)


@given(st.sampled_from(BODIES), st.data())
def test_a_damaged_frame_is_refused_or_is_another_frame(body: Body, data: st.DataObject) -> None:
    raw = bytearray(encode(frame(body, (16, bytes(32)))))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = decode(bytes(raw))
    except FrameRefused:
        return
    assert decode(encode(found)) == found


@given(st.sampled_from(BODIES), st.integers(0, 10), anything)
def test_a_field_of_another_type_is_refused_or_fits(body: Body, position: int, value: Any) -> None:
    parts = msgpack.unpackb(encode(frame(body)), use_list=True)
    parts[position] = value
    try:
        found = decode(msgpack.packb(parts))
    except FrameRefused:
        return
    assert decode(encode(found)) == found


def test_a_frame_of_another_version_or_size_is_refused() -> None:
    parts = msgpack.unpackb(encode(frame(Heartbeat())))
    with pytest.raises(FrameRefused, match="version"):
        decode(msgpack.packb([2, *parts[1:]]))
    with pytest.raises(FrameRefused, match="too large"):
        decode(bytes(messages.FRAME_BYTES_MAX + 1))
    with pytest.raises(FrameRefused):
        decode(b"\x91" * 100_000)  # nested beyond any stack


def test_what_is_not_msgpacks_own_type_is_refused() -> None:
    parts = msgpack.unpackb(encode(frame(Heartbeat())))
    for extension in (msgpack.Timestamp(1, 2), msgpack.ExtType(5, b"x")):
        with pytest.raises(FrameRefused):
            decode(msgpack.packb([*parts[:6], extension, *parts[7:]]))


groups = st.lists(
    st.tuples(st.binary(min_size=16, max_size=16), st.binary(max_size=64)).map(lambda parts: Group(*parts)), max_size=5
)


@given(st.integers(0, 2**53), groups)
def test_an_entry_comes_back(stamp_ms: int, given_groups: list[Group]) -> None:
    data = entries.pack_groups(stamp_ms, given_groups)
    assert entries.unpack(data) == entries.Envelope(stamp_ms, tuple(given_groups))
    assert entries.stamp_of(data) == stamp_ms


def test_a_no_op_has_no_stamp() -> None:
    assert entries.unpack(entries.NO_OP) == entries.Envelope(None)
    assert entries.stamp_of(entries.NO_OP) is None


@given(st.binary(max_size=80) | st.binary(max_size=80).map(lambda data: entries.REGULAR + data))
def test_bytes_of_chance_are_no_entry(data: bytes) -> None:
    for read in (entries.unpack, entries.stamp_of):
        try:
            read(data)
        except FrameRefused:
            continue
        assert data == entries.NO_OP or data[:1] == entries.REGULAR


@given(anything)
def test_an_entry_of_another_shape_is_refused(value: Any) -> None:
    data = entries.REGULAR + msgpack.packb(value)
    for read in (entries.unpack, entries.stamp_of):
        with pytest.raises(FrameRefused):
            read(data)


@pytest.mark.parametrize("kind", [b"", b"\x02", b"\x03", b"\x01\x00", b"\xff"])
def test_the_engines_other_types_are_refused(kind: bytes) -> None:
    for read in (entries.unpack, entries.stamp_of):
        with pytest.raises(FrameRefused):
            read(kind)
