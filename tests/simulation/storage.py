"""A simulated node's directory: how it is founded, opened after any stop, and how data files come and go.

The data files, generations and the journal are the real ones, on a disk in memory.
"""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from cluster.raft.engine import SnapshotMeta
from cluster.state.apply import Snapshot, State
from cluster.state.genesis import genesis
from cluster.state.records import SCHEMA_VERSION, ClusterIdentity, IssuingKey, Member, Role, Settings
from datastore.datafile import DataFileReader, Position, write_data_file
from datastore.errors import NotFound, OlderThanCurrent
from datastore.files import File
from datastore.generations import Generations
from datastore.header import Identity
from datastore.journal import Journal, JournalLimits
from datastore.keys import KeyRing, new_kek
from tests.simulation.clocks import EPOCH_MS
from tests.simulation.faults import Odds
from tests.simulation.world import Violation

if TYPE_CHECKING:
    from tests.simulation.machine import Machine
    from tests.simulation.process import Process

DIRECTORY = "/node"
JOURNAL = f"{DIRECTORY}/journal"
RECEIVED = f"{DIRECTORY}/mfa.data.received.tmp"
RECORD_BYTES_MAX = 1024 * 1024
DISK_S = (0.0005, 0.05)  # for what is read and written beside the journal


class Founding:
    """The first data file of a cluster: the same state on every node, with roles for every client."""

    def __init__(self, random: Random, odds: Odds, settings: Settings) -> None:
        self.member_ids = {f"node-{number}": f"{number}" * 32 for number in range(1, odds.nodes + 1)}
        self.names = {member_id: name for name, member_id in self.member_ids.items()}
        self.identity = Identity(random.randbytes(16).hex(), 1, random.randbytes(16).hex())
        self.keys = KeyRing.generate(new_kek(random.randbytes), random.randbytes)
        self.limits = JournalLimits(odds.segment_bytes, RECORD_BYTES_MAX)
        self.settings = settings
        both = (Role.FRONTEND, Role.OPERATOR)
        self.state = genesis(
            cluster=ClusterIdentity(self.identity.cluster_id, 1, self.identity.incarnation_id, EPOCH_MS),
            members={member_id: Member(name, "", "") for member_id, name in self.names.items()},
            roles={f"client-{number}": both for number in range(odds.clients)},
            issuing_key=IssuingKey(b"", b"", b""),
            digest_key=random.randbytes(32),
            settings=settings,
        )

    def write(self, machine: "Machine") -> None:
        """A node's directory before its first start; all of it is durable."""
        machine.files.make_directory(DIRECTORY)
        generations = Generations(machine.files, DIRECTORY)
        snapshot = self.state.snapshot()
        path = generations.temporary_path("first")
        write_snapshot(machine, path, snapshot)
        generations.publish(path)
        at = snapshot.position
        Journal.create(
            machine.files,
            JOURNAL,
            self.identity,
            self.member_ids[machine.name],
            self.keys,
            machine.random.randbytes,
            at.index,
            at.term,
            self.limits,
        ).close()


@dataclass(frozen=True, slots=True)
class Opened:
    """What a start finds."""

    state: State
    position: Position
    journal: Journal
    generations: Generations


def write_snapshot(machine: "Machine", path: str, snapshot: Snapshot) -> None:
    at = snapshot.position
    write_data_file(
        machine.files,
        path,
        machine.founding.identity,
        machine.founding.keys,
        machine.random.randbytes,
        SCHEMA_VERSION,
        Position(at.index, at.term, at.stamp_ms, at.running_digest),
        machine.clock.wall_ms(),
        snapshot.records(),
    )


def read_state(machine: "Machine", path: str) -> tuple[State, Position]:
    """The whole file, verified before anything of it is used."""
    with DataFileReader(machine.files, path, machine.founding.keys, machine.founding.identity) as reader:
        state = State.load(reader.position, reader.records())
        return state, reader.summary.position


def open_node(machine: "Machine") -> Opened:
    """As the node does: the data file, the journal, and one to go on from the other."""
    founding = machine.founding
    generations = Generations(machine.files, DIRECTORY)
    generations.recover()
    state, position = read_state(machine, generations.path)
    journal = Journal.open(
        machine.files, JOURNAL, founding.identity, founding.keys, machine.random.randbytes, founding.limits
    )
    if position.index < journal.base_index:
        raise Violation(f"{machine.name}: a gap between data file {position.index} and journal {journal.base_index}")
    if journal.term_at(position.index) != position.term:
        # A snapshot was published, and the power went before the journal was begun anew behind it.
        journal.install(position.index, position.term)
        journal.sync()
    return Opened(state, position, journal, generations)


class SnapshotShelf:
    """The engine's `Snapshots`: the newest data file, parts of it for others, and the one that is being received."""

    def __init__(self, machine: "Machine", process: "Process", opened: Opened) -> None:
        self._machine = machine
        self._process = process
        self._journal = opened.journal
        self._generations = opened.generations
        self._read_files: dict[str, File] = {}
        self._receiving: File | None = None
        self._writing = False
        self._written = 0
        self._meta = self._take_up(opened.position)

    def _take_up(self, position: Position) -> SnapshotMeta:
        """The current data file, under a name that no other file has."""
        file = self._machine.files.open(self._generations.path, writable=False)
        name = self._machine.random.randbytes(8).hex()
        self._read_files = {name: file, **dict(list(self._read_files.items())[:1])}
        return SnapshotMeta(
            position.index, position.term, position.stamp_ms, position.running_digest, file.size(), name
        )

    def _later(self, action: Callable[..., None], *arguments: object) -> None:
        self._machine.later(self._process, self._machine.random.uniform(*DISK_S), action, *arguments)

    # -- writing -----------------------------------------------------------------------------------------------------
    def snapshot_if_due(self) -> None:
        """A copy of the state now, a file of it later; the loop goes on meanwhile."""
        state = self._process.state.now
        if self._writing or state.position.index - self._meta.index < self._machine.odds.snapshot_entries:
            return
        self._writing = True
        self._later(self._write, state.snapshot())

    def _write(self, snapshot: Snapshot) -> None:
        self._writing = False
        self._written += 1
        path = self._generations.temporary_path(f"own-{self._written}")
        write_snapshot(self._machine, path, snapshot)
        if not self._publish(path, snapshot.position.index):
            return
        at = snapshot.position
        self._meta = self._take_up(Position(at.index, at.term, at.stamp_ms, at.running_digest))
        self._machine.world.counts["data files"] += 1
        self._compact()

    def _publish(self, path: str, index: int) -> bool:
        """False where a snapshot was installed meanwhile that is newer."""
        try:
            self._generations.publish(path)
        except OlderThanCurrent:
            self._machine.files.remove(path)
            return False
        return True

    def _compact(self) -> None:
        """Keep a tail for those who lag, and on disk all since the oldest data file."""
        excess = self._journal.tail_bytes - self._machine.odds.tail_bytes
        to_index = self._journal.base_index
        while excess > 0 and to_index < min(self._meta.index, self._journal.last_index):
            to_index += 1
            entry = self._journal.entry(to_index)
            assert entry is not None, "a hole in the journal's memory"
            excess -= len(entry.data)
        if to_index > self._journal.base_index:
            self._journal.compact(to_index)
        self._journal.remove_segments(self._generations.oldest_index())

    # -- for the engine ----------------------------------------------------------------------------------------------
    def latest(self) -> SnapshotMeta | None:
        return self._meta

    def read(self, meta: SnapshotMeta, offset: int, length: int, done: Callable[[bytes | None], None]) -> None:
        self._later(self._read, meta, offset, length, done)

    def _read(self, meta: SnapshotMeta, offset: int, length: int, done: Callable[[bytes | None], None]) -> None:
        file = self._read_files.get(meta.name)
        done(None if file is None else file.read_at(offset, length))

    def receive(self, meta: SnapshotMeta, offset: int, chunk: bytes, done: Callable[[bool], None]) -> None:
        self._later(self._receive, offset, chunk, done)

    def _receive(self, offset: int, chunk: bytes, done: Callable[[bool], None]) -> None:
        files = self._machine.files
        if offset == 0:
            if files.exists(RECEIVED):
                files.remove(RECEIVED)
            self._receiving = files.create(RECEIVED)
        if self._receiving is None or self._receiving.size() != offset:
            done(False)
            return
        self._receiving.append(chunk)
        done(True)

    def install(self, meta: SnapshotMeta, done: "Callable[[Installed | None], None]") -> None:
        self._later(self._install, meta, done)

    def _install(self, meta: SnapshotMeta, done: "Callable[[Installed | None], None]") -> None:
        if self._receiving is None:
            done(None)
            return
        self._receiving.sync()
        self._receiving = None
        try:
            state, position = read_state(self._machine, RECEIVED)
        except NotFound:
            done(None)
            return
        if (position.index, position.term, position.running_digest) != (meta.index, meta.term, meta.running_digest):
            raise Violation("a snapshot is not what its sender said")
        if not self._publish(RECEIVED, position.index):
            done(None)
            return
        self._meta = self._take_up(position)
        done(Installed(self._process, state, position))


class Installed:
    """A received data file, published; `commit` makes the replica stand on it."""

    def __init__(self, process: "Process", state: State, position: Position) -> None:
        self._process = process
        self._state = state
        self._position = position

    def commit(self) -> None:
        self._process.stand_on(self._state, self._position)
