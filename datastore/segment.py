"""One segment of the journal: its place in the log, and the codec of its records (docs/format.md, "Journal").

A record is `length u32 | CRC-32 of the four length bytes u32 | AES-256-GCM ciphertext and tag`, `length` counting
ciphertext and tag. The nonce is the record's number in the segment, the associated data the header's checksum and
that number. The check of the length keeps a flipped bit in it from passing for a torn tail.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import msgpack
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from datastore.errors import Damaged
from datastore.header import KIND_JOURNAL, Header, Identity, StoredHeader, new_header
from datastore.wrapping import TAG_BYTES, DataKey, KeyRing, Random, derive

SCHEMA = 1
SECTOR_BYTES = 512
FRAME = struct.Struct(">II")
_LENGTH = struct.Struct(">I")
_ENTRY = struct.Struct(">BQQ")
_HARD_STATE = struct.Struct(">BQ")
_TYPE_ENTRY = 1
_TYPE_HARD_STATE = 2


class JournalEntry(NamedTuple):
    """One log entry; `data` is the engine's, opaque here."""

    data: bytes
    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody needs of an entry
    term: int


class HardState(NamedTuple):
    """Current term, and the member voted for in it."""

    term: int
    voted_for: str | None


class Place(NamedTuple):
    """Where a segment stands: what it holds follows the entry at `index` of `term`.

    It supersedes whatever earlier segments held after `index`; with `reset`, all that they held.
    """

    member_id: str
    sequence: int
    reset: bool
    index: int  # type: ignore[assignment]
    term: int


@dataclass(frozen=True, slots=True)
class JournalLimits:
    """A segment is closed before it outgrows `segment_bytes_max`; an entry's data may have `record_bytes_max`."""

    segment_bytes_max: int = 16 * 1024 * 1024
    record_bytes_max: int = 8 * 1024 * 1024


DEFAULT_LIMITS = JournalLimits()


def segment_name(sequence: int) -> str:
    return f"{sequence:08d}.journal"


def pack_entry(entry: JournalEntry) -> bytes:
    return _ENTRY.pack(_TYPE_ENTRY, entry.index, entry.term) + entry.data


def pack_hard_state(state: HardState) -> bytes:
    return _HARD_STATE.pack(_TYPE_HARD_STATE, state.term) + (state.voted_for or "").encode()


def unpack_record(plain: bytes) -> JournalEntry | HardState | None:
    """The record's meaning; None where it has none (a type or shape we never write)."""
    if len(plain) >= _ENTRY.size and plain[0] == _TYPE_ENTRY:
        _, index, term = _ENTRY.unpack_from(plain)
        return JournalEntry(plain[_ENTRY.size :], index, term)
    if len(plain) >= _HARD_STATE.size and plain[0] == _TYPE_HARD_STATE:
        _, term = _HARD_STATE.unpack_from(plain)
        try:
            return HardState(term, plain[_HARD_STATE.size :].decode() or None)
        except UnicodeDecodeError:
            return None
    return None


def segment_header(identity: Identity, place: Place, keys: KeyRing, random: Random) -> StoredHeader:
    """The header of a new segment; its salt makes it a key of its own."""
    attributes = msgpack.packb([bytes.fromhex(place.member_id), place.sequence, place.reset, place.index, place.term])
    return new_header(identity, KIND_JOURNAL, SCHEMA, keys, random, attributes)


def place_of(path: str, header: Header) -> Place:
    """The segment's place as its header states it."""
    try:
        member, sequence, reset, index, term = msgpack.unpackb(header.attributes)
        return Place(member.hex(), int(sequence), bool(reset), int(index), int(term))
    except (ValueError, TypeError, AttributeError, msgpack.UnpackException) as error:
        raise Damaged(path, 0, "the header does not state the segment's place") from error


def _cipher(stored: StoredHeader, key: DataKey) -> AESGCM:
    return AESGCM(derive(key.key, stored.header.salt, b"watchword/journal/1"))


class SegmentSealer:
    """Seals the records of one segment in order; `size_bytes` is the length of the file so far."""

    __slots__ = ("_checksum", "_encrypt", "_number", "size_bytes")

    def __init__(self, stored: StoredHeader, key: DataKey) -> None:
        self._encrypt = _cipher(stored, key).encrypt
        self._checksum = stored.checksum
        self._number = 0
        self.size_bytes = len(stored.raw)

    def seal(self, plain: bytes) -> bytes:
        number = self._number.to_bytes(12, "big")
        self._number += 1
        sealed = self._encrypt(number, plain, self._checksum + number)
        length = _LENGTH.pack(len(sealed))
        self.size_bytes += FRAME.size + len(sealed)
        return b"".join((length, _LENGTH.pack(zlib.crc32(length)), sealed))


class OpenedRecord(NamedTuple):
    """One record, and the offset at which it begins; `record` is None at a torn tail (always the last)."""

    offset: int
    record: JournalEntry | HardState | None


def read_records(path: str, stored: StoredHeader, key: DataKey, data: bytes, last: bool) -> Iterator[OpenedRecord]:
    """The records of a whole segment file; Damaged where one is not what was written.

    In the `last` segment a torn tail ends the records instead: a record shorter than its length, or one that does not
    verify and is zero from a 512-byte boundary (or from its own start) to the end of the file.
    """
    decrypt = _cipher(stored, key).decrypt
    checksum, size, number, offset = stored.checksum, len(data), 0, len(stored.raw)
    zeros_from = len(data.rstrip(b"\0")) if last else size
    view = memoryview(data)
    while offset < size:
        if size - offset < FRAME.size:
            yield _torn(path, offset, last, "the file ends within a record's length")
            return
        length, check = FRAME.unpack_from(data, offset)
        start, end = offset + FRAME.size, offset + FRAME.size + length
        if zlib.crc32(view[offset : offset + 4]) != check or length < TAG_BYTES:
            zero = zeroed(offset, start, zeros_from)
            yield _torn(path, offset, last and zero, f"the length of record {number} does not verify")
            return
        if end > size:
            yield _torn(path, offset, last, f"the file ends within record {number}")
            return
        counter = number.to_bytes(12, "big")
        try:
            plain = decrypt(counter, view[start:end], checksum + counter)
        except InvalidTag:
            zero = zeroed(offset, end, zeros_from)
            yield _torn(path, offset, last and zero, f"record {number} does not verify")
            return
        record = unpack_record(plain)
        if record is None:
            raise Damaged(path, offset, f"record {number} is of an unknown type")
        yield OpenedRecord(offset, record)
        offset, number = end, number + 1


def zeroed(offset: int, end: int, zeros_from: int) -> bool:
    """Whether the record in [offset, end) is zero from its start, or from a sector's, where only zeros follow."""
    boundary = -(-max(offset, zeros_from) // SECTOR_BYTES) * SECTOR_BYTES
    return zeros_from <= offset or boundary < end


def _torn(path: str, offset: int, tolerated: bool, what: str) -> OpenedRecord:
    if not tolerated:
        raise Damaged(path, offset, what)
    return OpenedRecord(offset, None)
