"""One real member on a disk in memory, with a state machine and data files that a test can look at and hold back."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import msgpack

from cluster.raft.applying import StateMachine
from cluster.raft.engine import Applied, Configuration, Engine, Group, SnapshotMeta
from cluster.raft.entries import pack_groups
from cluster.raft.messages import Body, Frame, decode
from cluster.raft.snapshot_transfer import Installed
from datastore.header import Identity
from datastore.journal import Journal, JournalEntry
from tests.simulation.memory_files import MemoryFiles

if TYPE_CHECKING:
    from tests.raft.stage import Stage

EPOCH_MS = 1_800_000_000_000
START_INDEX = 1  # of the data file that every member starts from
IDENTITY = Identity("c" * 32, 1, "1" * 32)
DIRECTORY = "/node/journal"


def member(name: str) -> str:
    """The id of the member that a script calls `name`, one letter."""
    return name * 32


def group(payload: bytes, cost: int = 1) -> Group:
    return Group(hashlib.sha256(payload).digest()[:16], payload, cost)


def entry(payload: bytes, stamp_ms: int = EPOCH_MS) -> bytes:
    """What the log holds for one group with this payload."""
    return pack_groups(stamp_ms, [group(payload)])


def entries(term: int, *payloads: bytes) -> tuple[tuple[bytes, int], ...]:
    return tuple((entry(payload), term) for payload in payloads)


class Time:
    now = 1000.0


class HandClock:
    """`offset_ms`: how far this member's wall clock is ahead."""

    def __init__(self, time: Time) -> None:
        self.time = time
        self.offset_ms = 0
        self.sound = True

    def monotonic(self) -> float:
        return self.time.now

    def wall_ms(self) -> int:
        return EPOCH_MS + round(self.time.now * 1000) + self.offset_ms

    def trusted(self) -> bool:
        return self.sound


class AppliedEntry(NamedTuple):
    index: int  # type: ignore[assignment]
    term: int
    stamp_ms: int
    payloads: tuple[bytes, ...]


class Machine:
    """A state machine that remembers what it was told.  `on_apply` is called first, and may raise."""

    def __init__(self) -> None:
        self.log: list[AppliedEntry] = []
        self.applied = Applied(START_INDEX, EPOCH_MS, bytes(32))
        self.on_apply: Callable[[int], None] = lambda _: None

    def apply(self, index: int, term: int, stamp_ms: int, groups: Sequence[Group]) -> bytes:
        self.on_apply(index)
        told = AppliedEntry(index, term, stamp_ms, tuple(group.payload for group in groups))
        assert index == self.applied.index + 1, f"index {index} applied after {self.applied.index}"
        self.log.append(told)
        digest = hashlib.sha256(self.applied.running_digest + repr(told).encode()).digest()
        self.applied = Applied(index, stamp_ms, digest)
        return digest

    def configure(self, index: int, term: int, stamp_ms: int, configuration: Configuration) -> bytes:
        members = ",".join((*configuration.voters, "|", *configuration.learners))
        return self.apply(index, term, stamp_ms, [Group(b"configuration", members.encode())])

    @property
    def payloads(self) -> list[bytes]:
        return [payload for told in self.log for payload in told.payloads]

    def twist(self) -> None:
        """From now on this state is another one."""
        self.applied = replace(self.applied, running_digest=b"\xee" * 32)

    def packed(self) -> bytes:
        at = self.applied
        data: bytes = msgpack.packb([at.index, at.stamp_ms, at.running_digest, [list(told) for told in self.log]])
        return data

    def load(self, packed: bytes) -> None:
        index, stamp_ms, digest, log = msgpack.unpackb(packed)
        self.applied = Applied(index, stamp_ms, digest)
        self.log = [AppliedEntry(*told[:3], tuple(told[3])) for told in log]


@dataclass(slots=True)
class _File:
    shelf: Shelf
    data: bytes

    @property
    def configuration(self) -> Configuration:
        return self.shelf.configuration

    def commit(self) -> None:
        self.shelf.saved = self.data
        self.shelf.machine.load(self.data)


@dataclass(slots=True)
class Shelf:
    """The member's data files.  `deferred`: what is asked waits in `waiting` until the test calls it."""

    machine: Machine
    saved: bytes
    configuration: Configuration
    meta: SnapshotMeta | None = None
    data: bytes = b""
    received: bytes = b""
    deferred: bool = False
    reads: int = 0
    waiting: list[Callable[[], None]] = field(default_factory=list)

    def take(self, term: int) -> SnapshotMeta:
        """Saves the state as it stands."""
        self.data = self.saved = self.machine.packed()
        at = self.machine.applied
        name = hashlib.sha256(self.data).hexdigest()[:16]
        self.meta = SnapshotMeta(at.index, term, at.stamp_ms, at.running_digest, len(self.data), name)
        return self.meta

    def latest(self) -> SnapshotMeta | None:
        return self.meta

    def read(self, meta: SnapshotMeta, offset: int, length: int, done: Callable[[bytes | None], None]) -> None:
        self.reads += 1
        part = self.data[offset : offset + length] if meta == self.meta else None
        self._later(lambda: done(part))

    def receive(self, meta: SnapshotMeta, offset: int, chunk: bytes, done: Callable[[bool], None]) -> None:
        self.received = self.received[:offset] + chunk
        self._later(lambda: done(True))

    def install(self, meta: SnapshotMeta, done: Callable[[Installed | None], None]) -> None:
        data = self.received
        name = hashlib.sha256(data).hexdigest()[:16]
        file = _File(self, data) if name == meta.name else None
        self._later(lambda: done(file))

    def answer(self) -> None:
        """What waits is done."""
        waiting, self.waiting = self.waiting, []
        for call in waiting:
            call()

    def _later(self, call: Callable[[], None]) -> None:
        if self.deferred:
            self.waiting.append(call)
        else:
            call()


class Letter(NamedTuple):
    sender: str
    to: str
    data: bytes

    @property
    def frame(self) -> Frame:
        return decode(self.data)

    @property
    def body(self) -> Body:
        return self.frame.body


class Actor:
    """One real member with its disk; `joins`: it is in no configuration yet."""

    def __init__(self, stage: Stage, name: str, base: tuple[int, int], *, joins: bool = False) -> None:
        self.stage, self.name, self.joins = stage, name, joins
        self.random = random.Random(f"{stage.seed}/{name}")
        self.files = MemoryFiles(random.Random(f"{stage.seed}/{name}/disk"))
        self.files.make_directory("/node")
        self.clock = HandClock(stage.time)
        self.machine = Machine()
        self.machine.applied = Applied(base[0], EPOCH_MS, bytes(32))
        self.shelf = Shelf(self.machine, self.machine.packed(), Configuration(tuple(sorted(map(member, stage.names)))))
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.refused: list[bytes] = []
        self.disk_hangs = False  # no sync ends any more
        self.leaders: list[str | None] = []
        self.journal = Journal.create(
            self.files, DIRECTORY, IDENTITY, member(name), stage.keys, self.random.randbytes, *base, stage.limits
        )
        self.engine = self._make_engine()

    def _make_engine(self) -> Engine:
        machine: StateMachine = self.machine
        engine = Engine(
            member_id=member(self.name),
            members=[member(other) for other in self.stage.names],
            incarnation=IDENTITY.incarnation_id,
            journal=self.journal,
            state_machine=machine,
            applied=self.machine.applied,
            clock=self.clock,
            random=self.random,
            outbound=self,
            snapshots=self.shelf,
            settings=self.stage.settings,
            log_event=lambda event, **fields: self.events.append((event, fields)),
            unlisted=self.joins,
        )
        engine.on_group_refused = self.refused.append
        engine.on_leader_changed = self.leaders.append
        return engine

    def send(self, member_id: str, frame: bytes) -> None:
        self.stage.network.append(Letter(self.name, member_id[0], frame))

    def connect(self) -> None:
        for other in self.stage.names:
            if other != self.name:
                self.engine.connected(member(other))

    def sync(self) -> None:
        if self.wants_sync():
            self.journal.sync()
            self.engine.synced()

    def wants_sync(self) -> bool:
        return self.engine.wants_sync() and not self.disk_hangs

    def crash(self, *, power: bool = True) -> None:
        """Down and up again: what was not synced may be gone."""
        self.journal.close()
        if power:
            self.files.crash()
        else:
            self.files.kill()
        self.restart()

    def restart(self) -> None:
        self.machine = Machine()
        self.machine.load(self.shelf.saved)
        meta, data = self.shelf.meta, self.shelf.data
        self.shelf = Shelf(self.machine, self.shelf.saved, self.shelf.configuration, meta, data)
        self.journal = Journal.open(
            self.files, DIRECTORY, IDENTITY, self.stage.keys, self.random.randbytes, self.stage.limits
        )
        at = self.machine.log[-1] if self.machine.log else None
        if at is not None and self.journal.term_at(at.index) != at.term:
            # A snapshot was published, and the power went before the journal was begun anew behind it.
            self.journal.install(at.index, at.term)
            self.journal.sync()
        self.engine = self._make_engine()
        self.connect()

    @property
    def log(self) -> list[JournalEntry]:
        return self.journal.entries(self.journal.first_index, 1 << 40)

    @property
    def core(self) -> Any:
        return self.engine._core

    @property
    def is_leader(self) -> bool:
        return self.engine.status().role == "leader"
