"""Frames on a byte stream: a big-endian u32 length, then that many bytes. No I/O here."""

from __future__ import annotations

import struct

LENGTH = struct.Struct(">I")


class FramingError(Exception):
    """The stream can't be a peer's: a length of zero, or beyond the limit. The connection ends."""


def encode_frame(body: bytes) -> bytes:
    assert body, "an empty frame says nothing"
    return LENGTH.pack(len(body)) + body


class FrameDecoder:
    """Takes what arrives, gives whole frames.

    A length is refused before anything is kept for it, so that memory is bounded by the limit and one read.
    """

    __slots__ = ("_buffer", "_offset", "bytes_max")

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self._buffer = bytearray()
        self._offset = 0

    def feed(self, data: bytes) -> None:
        if self._offset:
            del self._buffer[: self._offset]
            self._offset = 0
        self._buffer += data

    def next_frame(self) -> bytes | None:
        """The next whole frame, or None until more arrives.

        Raises:
            FramingError: the stream is not one of frames within the limit.
        """
        start = self._offset + LENGTH.size
        if len(self._buffer) < start:
            return None
        (length,) = LENGTH.unpack_from(self._buffer, self._offset)
        if not 0 < length <= self.bytes_max:
            raise FramingError(f"a frame of {length} bytes, allowed are 1 to {self.bytes_max}")
        if len(self._buffer) < start + length:
            return None
        self._offset = start + length
        return bytes(memoryview(self._buffer)[start : self._offset])
