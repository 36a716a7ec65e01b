"""What the tests of this room have in common: one cluster, its neighbours, and damage by hand."""

import hashlib
import struct
from collections.abc import Callable, Iterator

from datastore.header import CHECKSUM_BYTES, Identity
from datastore.journal import Journal, JournalEntry, JournalLimits
from datastore.keys import KeyRing
from tests.simulation.memory_files import MemoryFiles

IDENTITY = Identity("1c" * 16, 1, "2d" * 16)
OTHER_CLUSTER = Identity("4f" * 16, 1, "2d" * 16)
OTHER_INCARNATION = Identity("1c" * 16, 2, "5a" * 16)
MEMBER = "3e" * 16
OTHER_MEMBER = "6b" * 16
JOURNAL = "/node/journal"

Random = Callable[[int], bytes]


def new_journal(
    files: MemoryFiles, keys: KeyRing, random: Random, limits: JournalLimits | None = None, member: str = MEMBER
) -> Journal:
    """A journal whose log begins after entry 10 of term 3."""
    return Journal.create(files, JOURNAL, IDENTITY, member, keys, random, 10, 3, limits or JournalLimits())


def open_journal(
    files: MemoryFiles,
    keys: KeyRing,
    random: Random,
    identity: Identity = IDENTITY,
    limits: JournalLimits | None = None,
) -> Journal:
    return Journal.open(files, JOURNAL, identity, keys, random, limits or JournalLimits())


def add(journal: Journal, count: int, size: int = 20, term: int = 3) -> None:
    """Appends `count` entries; each says its index."""
    for index in range(journal.last_index + 1, journal.last_index + 1 + count):
        journal.append(JournalEntry(index.to_bytes(8, "big").ljust(size, b"."), index, term))


def flips(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Every single byte changed, one at a time, in one bit or in all."""
    for offset in range(len(data)):
        for mask in (1 << offset % 8, 0xFF):
            yield offset, data[:offset] + bytes([data[offset] ^ mask]) + data[offset + 1 :]


def header_length(data: bytes) -> int:
    length: int = struct.unpack_from(">I", data, 10)[0]
    return length


def with_version(data: bytes, version: int) -> bytes:
    """The same file as a later format would write it: another version under a right checksum."""
    length = header_length(data)
    head = data[:8] + struct.pack(">H", version) + data[10 : length - CHECKSUM_BYTES]
    return head + hashlib.sha256(head).digest() + data[length:]
