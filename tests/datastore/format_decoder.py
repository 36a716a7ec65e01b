"""Reads our files by docs/format.md alone. Written from that page; imports nothing of the datastore."""

import hashlib
import struct
import zlib
from io import BytesIO
from typing import Any, NamedTuple

import msgpack
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDF


def hkdf(key: bytes, salt: bytes, info: bytes, length: int = 32) -> bytes:
    return HKDF(SHA256(), length, salt, info).derive(key)


class Parsed(NamedTuple):
    fields: dict[str, Any]
    attributes: list[Any]
    header: bytes
    rest: bytes


def parse_header(data: bytes) -> Parsed:
    assert data[:8] == bytes.fromhex("93 57 41 54 43 48 57 0A")
    version, length = struct.unpack(">HI", data[8:14])
    assert length <= 65_536
    header = data[:length]
    assert hashlib.sha256(header[:-32]).digest() == header[-32:]
    assert version == 1
    fields = msgpack.unpackb(header[14:-32])
    names = ["cluster", "incarnation", "incarnation_id", "kind", "schema", "key", "wrapped", "salt", "attributes"]
    assert list(fields) == names
    return Parsed(fields, msgpack.unpackb(fields["attributes"]), header, data[length:])


def kek_id(kek: bytes) -> str:
    return hkdf(kek, b"", b"watchword/kek-id/1", 8).hex()


def kek_of(text: str, passphrase: str = "") -> bytes:
    words = [word for line in text.splitlines() for word in line.partition("#")[0].split()]
    assert words[:3] == ["watchword-kek", "1", "id"]
    if words[4] == "key":
        kek = bytes.fromhex(words[5])
    else:
        assert words[4] == "argon2id"
        memory, passes, lanes = map(int, words[6:])
        kdf = Argon2id(salt=bytes.fromhex(words[5]), length=32, iterations=passes, lanes=lanes, memory_cost=memory)
        kek = kdf.derive(passphrase.encode())
    assert kek_id(kek) == words[3]
    return kek


def data_key(fields: dict[str, Any], kek: bytes) -> bytes:
    for wrapped_by, key_id, wrapped in fields["wrapped"]:
        if (wrapped_by, key_id) == (kek_id(kek), fields["key"]):
            context = b"watchword/wrap/1\0" + wrapped_by.encode() + b"\0" + key_id.encode()
            return AESGCM(kek).decrypt(wrapped[:12], wrapped[12:], context)
    raise AssertionError("the wrong KEK")


def unseal(parsed: Parsed, kek: bytes) -> bytes:
    cipher = AESGCM(hkdf(data_key(parsed.fields, kek), parsed.fields["salt"], b"watchword/sealed/1"))
    source, plain, number = BytesIO(parsed.rest), b"", 0
    while True:
        chunk = source.read(65_552)
        last = source.tell() == len(parsed.rest)
        plain += cipher.decrypt(number.to_bytes(11, "big") + bytes([last]), chunk, parsed.header)
        number += 1
        if last:
            return plain


def decode_data_file(data: bytes, kek: bytes) -> tuple[list[Any], list[Any], dict[str, Any]]:
    parsed = parse_header(data)
    assert (parsed.fields["kind"], parsed.fields["schema"]) == ("data", 1)
    position, *records, closing = msgpack.Unpacker(BytesIO(unseal(parsed, kek)))
    assert parsed.attributes == position[:2]
    digest, counts = hashlib.sha256(), dict[str, int]()
    for table, key, value in records:
        digest.update(msgpack.packb([table, key, value]))
        counts[table] = counts.get(table, 0) + 1
    assert closing == {"digest": digest.digest(), "counts": counts}
    return position, records, closing


class Log(NamedTuple):
    base: tuple[int, int]
    entries: list[tuple[int, int, bytes]]
    state: tuple[int, str]


def torn(data: bytes, start: int, end: int) -> bool:
    return any(not data[at:].strip(b"\0") for at in (start, *range(-(-start // 512) * 512, end, 512)))


def records_of(parsed: Parsed, kek: bytes, last: bool) -> list[bytes]:
    cipher = AESGCM(hkdf(data_key(parsed.fields, kek), parsed.fields["salt"], b"watchword/journal/1"))
    data, at, plains = parsed.header + parsed.rest, len(parsed.header), list[bytes]()
    while at < len(data):
        if len(data) - at < 8:
            assert last
            break
        length, check = struct.unpack_from(">II", data, at)
        if check != zlib.crc32(data[at : at + 4]):
            assert last
            assert torn(data, at, at + 8)
            break
        if at + 8 + length > len(data):
            assert last
            break
        number, end = len(plains).to_bytes(12, "big"), at + 8 + length
        try:
            plains.append(cipher.decrypt(number, data[at + 8 : end], parsed.header[-32:] + number))
        except InvalidTag:
            if last and torn(data, at, end):
                break
            raise
        at = end
    return plains


def decode_journal(segments: dict[str, bytes], kek: bytes, member: str) -> Log:
    parsed = [parse_header(data) for _, data in sorted(segments.items())]
    assert [f"{one.attributes[1]:08}.journal" for one in parsed] == sorted(segments)
    while any(one.attributes[2] for one in parsed[1:]):
        parsed.pop(0)
    base, entries, state = (0, 0), list[tuple[int, int, bytes]](), None
    for at, one in enumerate(parsed):
        owner, sequence, reset, index, term = one.attributes
        assert one.fields["kind"] == "journal"
        assert owner.hex() == member
        assert sequence == parsed[0].attributes[1] + at
        if at == 0 or reset or index < base[0]:
            base, entries = (index, term), []
        else:
            entries = entries[: index - base[0]]
            assert (index, term) == (entries[-1][:2] if entries else base)
        for number, plain in enumerate(records_of(one, kek, one is parsed[-1])):
            if plain[0] == 1:
                index, term = struct.unpack_from(">QQ", plain, 1)
                assert number > 0
                assert index == base[0] + len(entries) + 1
                entries.append((index, term, plain[17:]))
            else:
                assert plain[0] == 2
                found = (struct.unpack_from(">Q", plain, 1)[0], plain[9:].decode())
                assert number or state in (None, found)
                state = found
    assert state is not None
    return Log(base, entries, state)
