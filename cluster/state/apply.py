"""Applies log entries to the state: deterministic and total.

The same entries give the same records, results and running digest on every node, whatever bytes are in them. What is
no group or no command answers CORRUPT; a defect in a handler answers INTERNAL and leaves nothing of its command. Two
things end it: a command of a later version (NewerCommand, before anything of its entry is applied), and what belongs
to this machine and not to the log (no memory left); then this state must not be used on.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final, Protocol, TypeVar

import msgspec
from msgspec.structs import replace

from cluster.state import (
    administration,
    authentication,
    clients,
    codec,
    digest,
    joining,
    leases,
    membership,
    one_time,
    pins,
    settings,
)
from cluster.state.codec import Envelope
from cluster.state.commands import PERMISSIONS, PROPOSED_BY, VERSION, Command, WithPin
from cluster.state.context import Context
from cluster.state.errors import DamagedState, NewerCommand, NewerState
from cluster.state.kinds import Kind
from cluster.state.pseudonyms import Pseudonyms
from cluster.state.records import (
    REQUEST_ID_CHARACTERS_MAX,
    ClusterIdentity,
    Role,
    Rules,
    Settings,
)
from cluster.state.requests import CLIENTS, REQUESTS, Generation, RequestMemory, records_of
from cluster.state.results import (
    RESULT_CORRUPT,
    RESULT_INTERNAL,
    RESULT_OK,
    RESULT_PERMISSION_DENIED,
    RESULT_REQUEST_ID_INVALID,
    RESULT_RESOURCE_EXHAUSTED,
    Code,
    Decision,
    Refused,
    Result,
)
from cluster.state.shards import Frozen
from cluster.state.store import IDENTITY, REQUEST_KEY, ROLES, SETTINGS, Store, Table, Transaction

__all__ = ["DamagedState", "NewerCommand", "NewerState", "Position", "Snapshot", "State"]

Record = tuple[str, bytes, bytes]  # table, key, packed value
R = TypeVar("R")
Handler = Callable[[Transaction, Any, Context], Result]

HANDLERS: Final[dict[int, Handler]] = {
    Kind.VERIFY: authentication.verify,
    Kind.ADD_USER: administration.add_user,
    Kind.ENABLE_USER: administration.enable_user,
    Kind.DISABLE_USER: administration.disable_user,
    Kind.DELETE_USER: administration.delete_user,
    Kind.UNLOCK_USER: administration.unlock_user,
    Kind.ADD_TOKEN: administration.add_token,
    Kind.CONFIRM_TOKEN: administration.confirm_token,
    Kind.RESYNC_TOKEN: administration.resync_token,
    Kind.ENABLE_TOKEN: administration.enable_token,
    Kind.DISABLE_TOKEN: administration.disable_token,
    Kind.DELETE_TOKEN: administration.delete_token,
    Kind.VERIFY_PIN: pins.verify_pin,
    Kind.CHANGE_PIN: pins.change_pin,
    Kind.SET_PIN: pins.set_pin,
    Kind.ISSUE_RECOVERY_CODES: one_time.issue_recovery_codes,
    Kind.ISSUE_BYPASS: one_time.issue_bypass,
    Kind.SET_SETTINGS: settings.set_settings,
    Kind.ADD_CLIENT: clients.add_client,
    Kind.REVOKE_CLIENT: clients.revoke_client,
    Kind.RENEW_CLIENT: clients.renew_client,
    Kind.ADD_MEMBER: membership.add_member,
    Kind.REMOVE_MEMBER: membership.remove_member,
    Kind.ACQUIRE_LEASE: leases.acquire_lease,
    Kind.RENEW_LEASE: leases.renew_lease,
    Kind.RELEASE_LEASE: leases.release_lease,
    Kind.INVITE: joining.invite,
    Kind.JOIN: joining.join,
    Kind.SETTLE_MEMBER: membership.settle_member,
    Kind.TRANSFER_LEADERSHIP: membership.transfer_leadership,
}

_encode: Final = msgspec.msgpack.Encoder().encode


class At(Protocol):
    """A place in the log, as a data file tells it."""

    @property
    def index(self) -> int: ...
    @property
    def term(self) -> int: ...
    @property
    def stamp_ms(self) -> int: ...
    @property
    def running_digest(self) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Position:
    """Where in the log a state stands: the last entry applied, the log's time, and the digest of all so far."""

    index: int
    term: int
    stamp_ms: int
    running_digest: bytes


@dataclass(frozen=True, slots=True, repr=False)
class Snapshot:
    """The state as it was at `position`. Nothing in it changes any more, so another thread may write it out."""

    position: Position
    tables: dict[str, Frozen]
    requests: dict[int, Generation]

    def records(self) -> Iterator[Record]:
        """Every record, sorted by table and key."""
        for name in sorted((*self.tables, REQUESTS, CLIENTS)):
            if name in self.tables:
                for key, packed in sorted(chain.from_iterable(shard.items() for shard in self.tables[name])):
                    yield name, key, packed
            else:
                yield from records_of(self.requests, name)


class State:
    """The replicated state. All methods belong to one thread."""

    __slots__ = (
        "_identity",
        "_position",
        "_prefix",
        "_requests",
        "_roles",
        "_rules",
        "_settings",
        "_store",
        "pseudonyms",
    )

    def __init__(self, position: Position, store: Store, requests: RequestMemory) -> None:
        """Use load() or genesis()."""
        self._position = position
        self._store = store
        self._requests = requests
        self.pseudonyms = Pseudonyms(store.single(REQUEST_KEY).key)
        self._refresh()

    @classmethod
    def load(cls, position: At, records: Iterable[Record]) -> "State":
        """The state that a snapshot's records hold. Raises NewerState or DamagedState."""
        store = Store()
        requests: list[Record] = []
        for table, key, packed in records:
            if table in (REQUESTS, CLIENTS):
                requests.append((table, key, packed))
            else:
                store.insert(table, key, packed)
        store.check()
        memory = RequestMemory(store.single(REQUEST_KEY).key)
        for record in requests:
            memory.insert(*record)
        memory.check()
        at = Position(position.index, position.term, position.stamp_ms, position.running_digest)
        return cls(at, store, memory)

    @property
    def position(self) -> Position:
        return self._position

    @property
    def running_digest(self) -> bytes:
        return self._position.running_digest

    @property
    def settings(self) -> Settings:
        return self._settings

    @property
    def identity(self) -> ClusterIdentity:
        return self._identity

    @property
    def requests_remembered(self) -> int:
        return self._requests.count

    def roles_of(self, client: str) -> frozenset[Role]:
        """What that certificate identity may do; empty where it is not known, or was revoked."""
        roles = self._roles.get(client)
        if roles is None:
            record = self._store.read(ROLES, client.encode())
            if record is None:
                return frozenset()  # not kept: anybody could fill the memory with unknown names
            roles = self._roles[client] = frozenset() if record.revoked_ms else frozenset(record.roles)
        return roles

    def read(self, table: Table[R], key: bytes) -> R | None:
        """One committed record, for reads."""
        return self._store.read(table, key)

    def keys(self, table: Table[Any]) -> Sequence[bytes]:
        """A table's keys in order. Not to be kept or changed: the next entry changes it."""
        return self._store.ordered(table)

    def count(self, table: Table[Any]) -> int:
        return self._store.count(table)

    def snapshot(self) -> Snapshot:
        """A copy that stays as it is; takes a millisecond or so, however many users there are."""
        return Snapshot(self._position, self._store.freeze(), self._requests.copy())

    def records(self) -> Iterator[Record]:
        """Every record, sorted, of a copy made now."""
        return self.snapshot().records()

    def apply(self, index: int, term: int, stamp_ms: int, group_payloads: Sequence[bytes]) -> list[list[Result]]:
        """Apply one entry; an empty one (no groups) too. Results by group, in the order of its commands.

        A payload that is no group has one result, CORRUPT. Raises NewerCommand with nothing applied.
        """
        before = self._position
        groups = _unpacked(index, group_payloads)
        now_ms = self._advance(index, term, stamp_ms)
        results = [[self._answer(envelope, now_ms) for envelope in group] for group in groups]
        running = digest.extend(before.running_digest, index, term, stamp_ms, group_payloads, _encode(results))
        self._position = Position(index, term, now_ms, running)
        return results

    def configure(self, index: int, term: int, stamp_ms: int, voters: Sequence[str], learners: Sequence[str]) -> None:
        """Apply an entry that brings a configuration of members, by their ids."""
        before = self._position
        now_ms = self._advance(index, term, stamp_ms)
        transaction = Transaction(self._store)
        membership.configure(transaction, voters, learners, now_ms)
        self._store.commit(transaction.writes)
        running = digest.extend(before.running_digest, index, term, stamp_ms, (), _encode((voters, learners)))
        self._position = Position(index, term, now_ms, running)

    def _advance(self, index: int, term: int, stamp_ms: int) -> int:
        """The log's time at an entry."""
        before = self._position
        assert index == before.index + 1, f"entry {index} comes after {before.index}"
        assert 0 <= term < 2**63, f"entry {index} has no sensible term"
        assert 0 <= stamp_ms < 2**63, f"entry {index} has no sensible stamp"
        # The engine's stamps never fall; should one do so, time stands still here rather than going back.
        now_ms = max(stamp_ms, before.stamp_ms)
        self._requests.advance(now_ms, self._settings.request_ids_kept_ms)
        return now_ms

    def _answer(self, envelope: Envelope | None, now_ms: int) -> Result:
        if envelope is None:
            return RESULT_CORRUPT
        command = codec.unpack_contents(envelope)
        if command is None:
            return RESULT_CORRUPT
        if envelope.kind == Kind.BARRIER:
            return RESULT_OK
        client = envelope.client
        if not self._may_propose(client, envelope.kind):
            return RESULT_PERMISSION_DENIED
        request_id = envelope.request_id
        if not 0 < len(request_id) <= REQUEST_ID_CHARACTERS_MAX or not request_id.isascii():
            return RESULT_REQUEST_ID_INVALID
        key = self._requests.identify(client, request_id)
        contents = self._requests.digest(envelope.kind, envelope.contents)
        rejected = self._rejected_contents(envelope, command, contents)
        first = self._requests.find(key, contents, rejected)
        if first is not None:
            return first
        if not self._requests.admits(client, self._settings.request_ids_max):
            return RESULT_RESOURCE_EXHAUSTED
        result = self._execute(envelope, command, now_ms)
        if result.code is not Code.STALE:
            asked = rejected if result.decision is Decision.REJECT else contents
            self._requests.remember(now_ms, client, key, asked, result)
        return result

    def _may_propose(self, client: str, kind: int) -> bool:
        path = PROPOSED_BY.get(kind)
        if path is not None:
            return client.startswith(self._prefix + path)
        return not PERMISSIONS[kind].isdisjoint(self.roles_of(client))

    def _rejected_contents(self, envelope: Envelope, command: Command, contents: bytes) -> bytes:
        """The digest by which a rejection is remembered: one that does not depend on whether a PIN was right.

        Otherwise whoever repeats a rejected request with another PIN would be told by REQUEST_ID_REUSED, and without
        being counted, that it is the right one.
        """
        if not isinstance(command, WithPin):
            return contents
        return self._requests.digest(envelope.kind, _encode(replace(command, splits=())))

    def _execute(self, envelope: Envelope, command: Command, now_ms: int) -> Result:
        """Run the handler in a transaction of its own, and make its writes the state if it succeeds."""
        transaction = Transaction(self._store)
        client = envelope.client
        context = Context(
            now_ms,
            self._rules,
            client,
            client.removeprefix(self._prefix),
            envelope.request_id,
            envelope.generated,
            self.roles_of(client),
        )
        try:
            result = HANDLERS[envelope.kind](transaction, command, context)
        except Refused as refused:
            return refused.result
        except (MemoryError, RecursionError, OSError):
            raise  # this machine's trouble: no other node would answer so
        except Exception:  # noqa: BLE001 - total by contract: a defect gives every node the same answer and no change
            return RESULT_INTERNAL
        self._store.commit(transaction.writes)
        if transaction.touches_unpacked:
            self._refresh()
        return result

    def _refresh(self) -> None:
        """Unpack what every command asks for; again whenever it changes."""
        self._identity = self._store.single(IDENTITY)
        self._settings = self._store.single(SETTINGS)
        self._rules = Rules.of(self._settings)
        self._prefix = client_prefix(self._identity.cluster_id)
        self._roles: dict[str, frozenset[Role]] = {}


def client_prefix(cluster_id: str) -> str:
    """What the identities of this cluster's certificates begin with."""
    return f"watchword://{cluster_id}/"


def _unpacked(index: int, payloads: Sequence[bytes]) -> list[list[Envelope | None]]:
    """Envelopes by group, None for a corrupt one; raises NewerCommand."""
    try:
        return [
            [None] if (packed := codec.unpack_group(payload)) is None else [codec.unpack(each) for each in packed]
            for payload in payloads
        ]
    except codec.Newer as newer:
        raise NewerCommand(index, newer.version, VERSION) from None
