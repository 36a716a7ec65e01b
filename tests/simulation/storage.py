"""A simulated node's directory: how it is founded and opened, and the threads that read and write in it.

Opening, data files and journal are the real ones, on a disk in memory.
"""

from collections import deque
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from cluster.node.directory import DATA_FILE, journal_directory
from cluster.node.opening import OpenedNode, open_node
from cluster.state.apply import State
from cluster.state.genesis import genesis, unfilled
from cluster.state.records import SCHEMA_VERSION, ClusterIdentity, IssuingKey, Member, Role, Settings
from datastore.datafile import Position, write_data_file
from datastore.errors import StorageFailed
from datastore.header import Identity
from datastore.journal import Journal, JournalLimits
from datastore.keys import KeyRing, new_kek
from tests.simulation.clocks import EPOCH_MS
from tests.simulation.faults import Odds

if TYPE_CHECKING:
    from tests.simulation.machine import Machine
    from tests.simulation.process import Process

DIRECTORY = Path("/node")
KEEP = 2  # data files: the current one and one before it
RECORD_BYTES_MAX = 1024 * 1024
T = TypeVar("T")


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
            members={member_id: Member(name, f"{name}:2", f"{name}:1") for member_id, name in self.names.items()},
            roles={f"client-{number}": both for number in range(odds.clients + 1)},  # the last one is the operator's
            issuing_key=IssuingKey(b"", b"", b""),
            digest_key=random.randbytes(32),
            settings=settings,
        )

    def add(self) -> str:
        """The name of a machine that was never there."""
        number = len(self.member_ids) + 1
        name, member_id = f"node-{number}", f"{number}" * 32
        self.member_ids[name], self.names[member_id] = member_id, name
        return name

    def unfilled(self, members: dict[str, Member]) -> State:
        """What a machine that joins starts from."""
        return unfilled(cluster=self.state.identity, members=members, root_certificate=b"")

    def write(self, machine: "Machine", state: State) -> None:
        """A node's directory before its first start; all of it is durable."""
        files, at = machine.files, state.position
        files.make_directory(str(DIRECTORY))
        write_data_file(
            files,
            str(DIRECTORY / DATA_FILE),
            self.identity,
            self.keys,
            machine.random.randbytes,
            SCHEMA_VERSION,
            Position(at.index, at.term, at.stamp_ms, at.running_digest),
            machine.clock.wall_ms(),
            state.records(),
        )
        Journal.create(
            files,
            journal_directory(DIRECTORY),
            self.identity,
            self.member_ids[machine.name],
            self.keys,
            machine.random.randbytes,
            at.index,
            at.term,
            self.limits,
        ).close()
        files.sync_directory(str(DIRECTORY))


def open_again(machine: "Machine") -> OpenedNode:
    """As the node does at each start."""
    founding = machine.founding
    return open_node(machine.files, DIRECTORY, founding.keys.kek, machine.random.randbytes, KEEP, founding.limits)


class Worker:
    """A thread of the process: one piece of work after another, each at the beginning or the end of its time.

    Implements `cluster.node.offload.Offload`.
    """

    def __init__(self, machine: "Machine", process: "Process", duration_s: Callable[[], float]) -> None:
        self._machine = machine
        self._process = process
        self._duration_s = duration_s
        self._queue: deque[tuple[Callable[[], Any], Callable[[Any], None], Callable[[Exception], None]]] = deque()
        self._busy = False

    def __call__(self, work: Callable[[], T], then: Callable[[T], None], failed: Callable[[Exception], None]) -> None:
        self._queue.append((work, then, failed))
        if not self._busy:
            self._begin()

    def _begin(self) -> None:
        self._busy = True
        work, then, failed = self._queue.popleft()
        ended = self._run(work) if self._machine.random.random() < 0.5 else None
        self._machine.later(self._process, self._duration_s(), self._end, ended, work, then, failed)

    def _end(
        self,
        ended: "Ended | None",
        work: Callable[[], Any],
        then: Callable[[Any], None],
        failed: Callable[[Exception], None],
    ) -> None:
        ended = ended or self._run(work)
        self._busy = False
        if ended.error is None:
            then(ended.result)
        else:
            failed(ended.error)
        if self._queue and not self._busy:
            self._begin()

    @staticmethod
    def _run(work: Callable[[], Any]) -> "Ended":
        try:
            return Ended(work(), None)
        except StorageFailed as error:
            return Ended(None, error)


class Ended(NamedTuple):
    """What became of a piece of work."""

    result: Any
    error: Exception | None
