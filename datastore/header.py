"""The header that every sealed file and journal segment begins with (docs/format.md, "Header").

Layout, integers big-endian: magic (8) | format version u16 | header length u32 | msgpack map | SHA-256 (32) of all
before it. The length counts the checksum. Prefix and checksum stay as they are in every later format, so that a newer
file is told apart from a damaged one; the checksum is checked before anything else is believed. It is unkeyed: what
stands in the header is authenticated with the contents, as associated data.
"""

import hashlib
import struct
from dataclasses import dataclass

import msgpack

from datastore.errors import Damaged, ForeignFile, NewerFormat, WrongKey
from datastore.files import File
from datastore.wrapping import DataKey, KeyRing, Random, WrappedKey, unwrap

KIND_DATA = "data"
KIND_JOURNAL = "journal"
MAGIC = b"\x93WATCHW\n"
FORMAT_VERSION = 1
HEADER_BYTES_MAX = 64 * 1024
SALT_BYTES = 32
CHECKSUM_BYTES = 32
_PREFIX = struct.Struct(">8sHI")


@dataclass(frozen=True, slots=True)
class Identity:
    """Which cluster a file belongs to, and which life of it: a restore begins a new incarnation."""

    cluster_id: str  # 32 hex characters
    incarnation_counter: int  # from 1
    incarnation_id: str  # 32 hex characters


@dataclass(frozen=True, slots=True)
class Header:
    """What a header says. `attributes` belongs to the kind of contents (journal: the segment's place)."""

    identity: Identity
    kind: str
    schema: int
    key_id: str
    wrapped: tuple[WrappedKey, ...]
    salt: bytes
    attributes: bytes = b""


@dataclass(frozen=True, slots=True)
class StoredHeader:
    """A header and the bytes it stands in."""

    header: Header
    raw: bytes

    @property
    def checksum(self) -> bytes:
        return self.raw[-CHECKSUM_BYTES:]


def new_header(
    identity: Identity, kind: str, schema: int, keys: KeyRing, random: Random, attributes: bytes = b""
) -> StoredHeader:
    """A header with a fresh salt, for contents sealed under the ring's active key."""
    header = Header(identity, kind, schema, keys.active.id, keys.wrapped(random), random(SALT_BYTES), attributes)
    return StoredHeader(header, encode_header(header))


def encode_header(header: Header) -> bytes:
    """The header's bytes, checksum included."""
    identity = header.identity
    body: bytes = msgpack.packb(
        {
            "cluster": bytes.fromhex(identity.cluster_id),
            "incarnation": identity.incarnation_counter,
            "incarnation_id": bytes.fromhex(identity.incarnation_id),
            "kind": header.kind,
            "schema": header.schema,
            "key": header.key_id,
            "wrapped": [[wrapped.kek_id, wrapped.key_id, wrapped.sealed] for wrapped in header.wrapped],
            "salt": header.salt,
            "attributes": header.attributes,
        }
    )
    length = _PREFIX.size + len(body) + CHECKSUM_BYTES
    assert length <= HEADER_BYTES_MAX, "a header stays below its limit"
    raw = _PREFIX.pack(MAGIC, FORMAT_VERSION, length) + body
    return raw + hashlib.sha256(raw).digest()


def read_header(path: str, file: File) -> StoredHeader:
    """Reads and checks the header at the start of `file`; Damaged or NewerFormat."""
    prefix = file.read_at(0, _PREFIX.size)
    if len(prefix) < _PREFIX.size:
        raise Damaged(path, len(prefix), "the file ends within its header")
    magic, version, length = _PREFIX.unpack(prefix)
    if magic != MAGIC:
        raise Damaged(path, 0, "it does not begin like a Watchword file")
    if not _PREFIX.size + CHECKSUM_BYTES <= length <= HEADER_BYTES_MAX:
        raise Damaged(path, 10, "the header's length is impossible")
    raw = file.read_at(0, length)
    if len(raw) < length:
        raise Damaged(path, len(raw), "the file ends within its header")
    if hashlib.sha256(raw[:-CHECKSUM_BYTES]).digest() != raw[-CHECKSUM_BYTES:]:
        raise Damaged(path, length - CHECKSUM_BYTES, "the header does not match its checksum")
    if version > FORMAT_VERSION:
        raise NewerFormat(path, version, FORMAT_VERSION)
    return StoredHeader(_decode_body(path, raw), raw)


def _decode_body(path: str, raw: bytes) -> Header:
    try:
        body = msgpack.unpackb(raw[_PREFIX.size : -CHECKSUM_BYTES])
        identity = Identity(body["cluster"].hex(), int(body["incarnation"]), body["incarnation_id"].hex())
        wrapped = tuple(WrappedKey(str(kek), str(key), bytes(sealed)) for kek, key, sealed in body["wrapped"])
        return Header(
            identity,
            str(body["kind"]),
            int(body["schema"]),
            str(body["key"]),
            wrapped,
            bytes(body["salt"]),
            bytes(body["attributes"]),
        )
    except (ValueError, TypeError, KeyError, AttributeError, msgpack.UnpackException) as error:
        raise Damaged(path, _PREFIX.size, "the header's fields cannot be read") from error


def check_header(path: str, header: Header, kind: str, schema_max: int, expected: Identity | None) -> None:
    """ForeignFile or NewerFormat where the file is not what the place asks for."""
    if header.kind != kind:
        raise ForeignFile(path, "kind of file", repr(header.kind), repr(kind))
    if expected is not None and header.identity.cluster_id != expected.cluster_id:
        raise ForeignFile(path, "cluster", header.identity.cluster_id, expected.cluster_id)
    if expected is not None and header.identity != expected:
        raise ForeignFile(path, "incarnation", _incarnation(header.identity), _incarnation(expected))
    if header.schema > schema_max:
        raise NewerFormat(path, header.schema, schema_max, "schema")


def _incarnation(identity: Identity) -> str:
    return f"{identity.incarnation_counter} ({identity.incarnation_id})"


def open_data_key(path: str, header: Header, keys: KeyRing) -> DataKey:
    """The key that the contents are sealed under; WrongKey if none of our KEKs wrapped it."""
    wrappings = [wrapped for wrapped in header.wrapped if wrapped.key_id == header.key_id]
    if not wrappings:
        raise Damaged(path, _PREFIX.size, "the header holds no wrapping of its own key")
    for kek in keys.keks:
        for wrapped in wrappings:
            if wrapped.kek_id == kek.id:
                key = unwrap(kek, wrapped)
                if key is None:
                    raise Damaged(path, _PREFIX.size, f"its key, wrapped under {kek.id}, does not verify")
                return key
    raise WrongKey(path, tuple(wrapped.kek_id for wrapped in wrappings), tuple(kek.id for kek in keys.keks))
