"""Tables of packed records, and the overlay in which one command changes them wholly or not at all.

A table holds packed records by key, in bytes: small, quick to freeze, and without an order that anything depends on.
"""

from bisect import bisect_left, insort
from collections.abc import Mapping, Sequence
from typing import Any, Final, Generic, TypeVar

import msgspec

from cluster.state.errors import DamagedState, NewerState
from cluster.state.records import (
    Attempt,
    Bypass,
    ClusterIdentity,
    Failures,
    FormerMember,
    Invitation,
    IssuingKey,
    Lease,
    Member,
    Pin,
    RecoveryCodes,
    RequestKey,
    Roles,
    Settings,
    Token,
    Transfer,
    User,
)
from cluster.state.shards import Frozen, Shards

R = TypeVar("R")

_encoder: Final = msgspec.msgpack.Encoder()
SINGLE: Final = b""  # the key of a table that has one record


class Table(Generic[R]):
    """A table's name and the type of its records."""

    __slots__ = ("decode", "name", "single", "unpacked")

    def __init__(self, name: str, record: type[R], *, single: bool = False, unpacked: bool = False) -> None:
        """`single`: it has exactly one record. `unpacked`: the state keeps its records decoded beside the table."""
        self.name = name
        self.decode = msgspec.msgpack.Decoder(record).decode
        self.single = single
        self.unpacked = unpacked


USERS: Final = Table("users", User)  # by user id
TOKENS: Final = Table("tokens", Token)  # by token id
FAILURES: Final = Table("failures", Failures)  # by user id
ATTEMPTS: Final = Table("attempts", list[Attempt])  # by user id, oldest first
PINS: Final = Table("pins", Pin)  # by user id
RECOVERY_CODES: Final = Table("recovery_codes", RecoveryCodes)  # by user id
BYPASSES: Final = Table("bypasses", Bypass)  # by user id
ROLES: Final = Table("roles", Roles, unpacked=True)  # by identity
MEMBERS: Final = Table("members", Member)  # by member id
LEASES: Final = Table("leases", Lease)  # by the lease's name
FORMER_MEMBERS: Final = Table("former_members", FormerMember)  # by member id
INVITATIONS: Final = Table("invitations", Invitation)  # by id
TRANSFERS: Final = Table("transfers", Transfer)  # at most one, under SINGLE
IDENTITY: Final = Table("identity", ClusterIdentity, single=True, unpacked=True)
ISSUING_KEY: Final = Table("issuing_key", IssuingKey, single=True)
REQUEST_KEY: Final = Table("request_key", RequestKey, single=True)
SETTINGS: Final = Table("settings", Settings, single=True, unpacked=True)

TABLES: Final[dict[str, Table[Any]]] = {
    table.name: table
    for table in (
        USERS,
        TOKENS,
        FAILURES,
        ATTEMPTS,
        PINS,
        RECOVERY_CODES,
        BYPASSES,
        ROLES,
        MEMBERS,
        LEASES,
        FORMER_MEMBERS,
        INVITATIONS,
        TRANSFERS,
        IDENTITY,
        ISSUING_KEY,
        REQUEST_KEY,
        SETTINGS,
    )
}


class Store:
    """The committed tables. Only `commit` and `insert` change them."""

    __slots__ = ("_orders", "_tables")

    def __init__(self) -> None:
        self._tables = {name: Shards() for name in TABLES}
        self._orders: dict[str, list[bytes]] = {}  # sorted keys of tables that were asked for in order

    def read(self, table: Table[R], key: bytes) -> R | None:
        packed = self._tables[table.name].get(key)
        return None if packed is None else table.decode(packed)

    def packed(self, table: Table[Any], key: bytes) -> bytes | None:
        return self._tables[table.name].get(key)

    def single(self, table: Table[R]) -> R:
        """The record of a table that has exactly one."""
        packed = self._tables[table.name].get(SINGLE)
        assert packed is not None, f"the state has a record {table.name}"
        return table.decode(packed)

    def ordered(self, table: Table[Any]) -> Sequence[bytes]:
        """The table's keys in order. The first call sorts; from then on the order is kept."""
        order = self._orders.get(table.name)
        if order is None:
            order = self._orders[table.name] = sorted(self._tables[table.name])
        return order

    def count(self, table: Table[Any]) -> int:
        return len(self._tables[table.name])

    def freeze(self) -> dict[str, Frozen]:
        """The tables as they are now, for good."""
        return {name: records.freeze() for name, records in self._tables.items()}

    def insert(self, name: str, key: bytes, packed: bytes) -> None:
        """Take one stored record; raises NewerState or DamagedState for what does not fit."""
        table = TABLES.get(name)
        if table is None:
            raise NewerState(name)
        try:
            table.decode(packed)
        except (msgspec.DecodeError, UnicodeDecodeError):
            # The cause is left out: nothing of a record's contents goes into an error.
            raise DamagedState(name, "a record is of the wrong shape") from None
        if table.single and key != SINGLE:
            raise DamagedState(name, "a key where there is none")
        records = self._tables[name]
        if key in records:
            raise DamagedState(name, "a record comes twice")
        records.put(key, packed)

    def check(self) -> None:
        """Whether what was inserted hangs together; raises DamagedState."""
        for table in TABLES.values():
            if table.single and SINGLE not in self._tables[table.name]:
                raise DamagedState(table.name, "its record is missing")
        owned = 0
        for key, packed in self._tables[USERS.name].items():
            for token_id in USERS.decode(packed).token_ids:
                token = self.read(TOKENS, token_id.encode())
                if token is None or token.user_id.encode() != key:
                    raise DamagedState(TOKENS.name, "a user's token is missing")
                owned += 1
        if owned != self.count(TOKENS):
            raise DamagedState(TOKENS.name, "a token belongs to nobody")

    def commit(self, writes: Mapping[tuple[str, bytes], bytes | None]) -> None:
        """Make a transaction's writes the state; None deletes."""
        for (name, key), packed in writes.items():
            records = self._tables[name]
            if name in self._orders and (packed is None) == (key in records):
                self._reorder(self._orders[name], key, add=packed is not None)
            if packed is None:
                records.discard(key)
            else:
                records.put(key, packed)

    @staticmethod
    def _reorder(order: list[bytes], key: bytes, *, add: bool) -> None:
        if add:
            insort(order, key)
        else:
            del order[bisect_left(order, key)]


class Transaction:
    """What one command reads and writes. Dropped, it leaves no trace."""

    __slots__ = ("_store", "touches_unpacked", "writes")

    def __init__(self, store: Store) -> None:
        self._store = store
        self.writes: dict[tuple[str, bytes], bytes | None] = {}
        self.touches_unpacked = False  # wrote to a table of which the state keeps decoded records

    def packed(self, table: Table[Any], key: bytes) -> bytes | None:
        if self.writes:
            place = (table.name, key)
            if place in self.writes:
                return self.writes[place]
        return self._store.packed(table, key)

    def read(self, table: Table[R], key: bytes) -> R | None:
        packed = self.packed(table, key)
        return None if packed is None else table.decode(packed)

    def keys(self, table: Table[Any]) -> list[bytes]:
        """The table's keys in order, with what this transaction wrote and deleted; for small tables."""
        keys = set(self._store.ordered(table))
        for (name, key), packed in self.writes.items():
            if name == table.name:
                (keys.discard if packed is None else keys.add)(key)
        return sorted(keys)

    def write(self, table: Table[R], key: bytes, record: R) -> None:
        self.write_packed(table, key, _encoder.encode(record))

    def write_packed(self, table: Table[Any], key: bytes, packed: bytes) -> None:
        self._put(table, key, packed)

    def delete(self, table: Table[Any], key: bytes) -> None:
        self._put(table, key, None)

    def _put(self, table: Table[Any], key: bytes, packed: bytes | None) -> None:
        self.writes[table.name, key] = packed
        if table.unpacked:
            self.touches_unpacked = True
