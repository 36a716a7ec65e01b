"""Frames and introductions against whatever bytes a stranger may send."""

from __future__ import annotations

import contextlib
import struct

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.raft.framing import FrameDecoder, FramingError, encode_frame
from cluster.raft.introduction import (
    Introduction,
    RefusedError,
    RemovedError,
    TwiceError,
    check_introduction,
    decode_introduction,
    encode_introduction,
    encode_refusal,
)

OWN = Introduction("c" * 32, 2, "e" * 32, "1" * 32)
OTHER = Introduction("c" * 32, 2, "e" * 32, "2" * 32, "192.0.2.1", 7401, "5e551011")
CERTIFIED = ("c" * 32, "2" * 32)


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=20), st.data())
def test_frames_come_out_as_they_went_in_however_the_stream_is_cut(bodies: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(encode_frame(body) for body in bodies)
    decoder, found = FrameDecoder(300), []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        decoder.feed(stream[:size])
        stream = stream[size:]
        while (frame := decoder.next_frame()) is not None:
            found.append(frame)
    assert found == bodies


@pytest.mark.parametrize("length", [0, 101, 2**32 - 1])
def test_a_length_outside_the_limit_is_refused_before_anything_is_kept_for_it(length: int) -> None:
    decoder = FrameDecoder(100)
    decoder.feed(struct.pack(">I", length))
    with pytest.raises(FramingError, match="allowed are 1 to 100"):
        decoder.next_frame()


def test_an_introduction_is_read_as_it_was_written() -> None:
    assert decode_introduction(encode_introduction(OTHER)) == OTHER
    check_introduction(OWN, OTHER, CERTIFIED)


def test_a_refusal_is_read_as_one() -> None:
    with pytest.raises(RefusedError, match="the peer refused this node: 'because'"):
        decode_introduction(encode_refusal(RefusedError("because")))


def test_a_refusal_that_can_be_acted_upon_says_so() -> None:
    with pytest.raises(RemovedError, match="because"):
        decode_introduction(encode_refusal(RemovedError("because")))
    with pytest.raises(TwiceError, match="because"):
        decode_introduction(encode_refusal(TwiceError("because")))
    for more in (True, 3, -1, "yes", None):
        with pytest.raises(RefusedError) as refused:
            decode_introduction(msgpack.packb([0, "because", more]))
        assert type(refused.value) is RefusedError


def test_another_protocol_version_is_named() -> None:
    with pytest.raises(RefusedError, match="protocol 2, this node 1"):
        decode_introduction(msgpack.packb([2, "whatever", {}]))


@given(st.binary(max_size=200))
def test_any_bytes_are_an_introduction_or_refused(data: bytes) -> None:
    with contextlib.suppress(RefusedError):
        decode_introduction(data)


@given(st.recursive(st.none() | st.booleans() | st.integers(0, 2**60) | st.text(max_size=8), st.lists, max_leaves=12))
def test_any_msgpack_is_an_introduction_or_refused(value: object) -> None:
    with contextlib.suppress(RefusedError):
        decode_introduction(msgpack.packb(value))


@pytest.mark.parametrize(
    ("other", "certified", "words"),
    [
        (OTHER, None, "not a node's"),
        (OTHER, ("d" * 32, "2" * 32), "another cluster"),
        (Introduction("d" * 32, 2, "e" * 32, "2" * 32), CERTIFIED, "another cluster"),
        (Introduction("c" * 32, 1, "e" * 32, "2" * 32), CERTIFIED, "incarnation 1, this one is of 2"),
        (Introduction("c" * 32, 2, "f" * 32, "2" * 32), CERTIFIED, "incarnation"),
        (Introduction("c" * 32, 2, "e" * 32, "3" * 32), CERTIFIED, "its certificate says 2222"),
    ],
)
def test_who_may_not_speak_is_told_why(other: Introduction, certified: tuple[str, str] | None, words: str) -> None:
    with pytest.raises(RefusedError, match=words):
        check_introduction(OWN, other, certified)
