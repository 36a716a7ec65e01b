"""One run of the node's program on a simulated machine: the real engine, journal, replica and proposer, wired."""

import math
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, cast

from structlog.typing import FilteringBoundLogger

from cluster.node.clock import NodeClock
from cluster.node.compaction import compaction_index
from cluster.node.members import LOOK_S, SETTLE_S
from cluster.node.membership import MembershipDriver
from cluster.node.proposer import Proposer, ProposerLimits, QueueFull, Unavailable
from cluster.node.replica import Replica
from cluster.node.snapshots import DataFiles
from cluster.node.syncing import JournalSyncing
from cluster.raft.engine import Applied as AppliedPosition
from cluster.raft.engine import Engine, Group, RaftSettings
from cluster.raft.errors import FrameRefused
from cluster.state import reads
from cluster.state.apply import State
from cluster.state.codec import pack, pack_group
from cluster.state.commands import SettleMember
from cluster.state.errors import NewerCommand
from cluster.state.results import Result
from datastore.journal import Journal
from tests.simulation.observed import ObservedState
from tests.simulation.storage import Worker, open_again
from tests.simulation.world import Violation

if TYPE_CHECKING:
    from tests.simulation.machine import Machine

LIMITS = ProposerLimits(queue_commands_max=200)
FILLING_BYTES = 20_000
FILE_S = (0.0005, 0.05)  # one piece of work on data files


class Process:
    """Everything in memory; it dies with the process."""

    def __init__(self, machine: "Machine") -> None:
        self._machine = machine
        self._names, self._member_ids = machine.founding.names, machine.founding.member_ids
        self._soon: list[Callable[[], None]] = []
        self._turn_due = False
        self._connected: set[str] = set()
        self._looked_at = -math.inf
        self._settling = False
        self.highest = (0, 0)  # commit and applied index, for the checks
        opened = open_again(machine)
        self.journal: Journal = opened.journal
        self.node_clock = NodeClock(machine.clock.monotonic, machine.clock.wall_ms)
        self.proposer: Proposer[Result] = Proposer(
            limits=LIMITS,
            pack=pack_group,
            hand_over=self._hand_over,
            monotonic=machine.clock.monotonic,
            random_bytes=machine.random.randbytes,
            call_soon=self._soon.append,
        )
        self.state = ObservedState(opened.state, machine)
        self.replica: Replica[Result] = Replica(
            self.state, on_results=self.proposer.applied, on_newer_command=_newer_command
        )
        self.syncing = JournalSyncing(
            self.journal, Worker(machine, self, machine.sync_delay_s), self._synced, _fail_stop
        )
        self.data_files = DataFiles(
            files=machine.files,
            opened=opened,
            worker=Worker(machine, self, lambda: machine.random.uniform(*FILE_S)),
            written=lambda: self.journal.written,
            random=machine.random.randbytes,
            wall_ms=machine.clock.wall_ms,
            take_state=self._take_state,
            on_published=self._data_file_published,
            on_failure=_fail_stop,
            log=cast("FilteringBoundLogger", TraceLog(machine)),
            pause=lambda seconds: None,
        )
        at, (voters, learners) = opened.state.position, reads.configuration(opened.state)
        machine.checks.installed(machine, at.index, at.running_digest)
        self.engine = Engine(
            member_id=self._member_ids[machine.name],
            members=voters,
            learners=learners,
            unlisted=True,
            incarnation=machine.founding.identity.incarnation_id,
            journal=self.journal,
            state_machine=self.replica,
            applied=AppliedPosition(at.index, at.stamp_ms, at.running_digest),
            clock=self.node_clock,
            random=machine.random,
            outbound=self,
            snapshots=self.data_files,
            settings=RaftSettings(snapshot_chunk_bytes=machine.odds.chunk_bytes),
            log_event=TraceLog(machine).warning,
        )
        self.engine.on_leader_changed = self.proposer.leader_changed
        self.engine.on_group_refused = self.proposer.refused
        self.driver = MembershipDriver(
            self.engine, lambda: reads.members(self.state.now), machine.clock.monotonic, self._settle
        )
        self._compact()

    # -- called by the machine ---------------------------------------------------------------------------------------
    def connected(self, peer: str) -> None:
        self._connected.add(peer)
        self.engine.connected(self._member_ids[peer])

    def disconnected(self, peer: str) -> None:
        self._connected.discard(peer)
        self.engine.disconnected(self._member_ids[peer])

    def receive(self, peer: str, frame: bytes) -> None:
        """As the links have it: who is not listed is met, and a frame that is refused ends the connection."""
        member_id, state = self._member_ids[peer], self.state.now
        if reads.was_removed(state, member_id):
            return
        if member_id not in reads.members(state):
            self.engine.met(member_id)
        try:
            self.engine.receive(member_id, frame)
        except FrameRefused:
            self._machine.world.counts["frames refused"] += 1
            self._machine.network.cut_soon(self._machine.name, peer)
        self._turn_soon()

    def submit(
        self, packed: bytes, cost: int, within_s: float, resolve: Callable[[Result | Unavailable], None]
    ) -> None:
        self.proposer.submit(packed, cost, self._machine.clock.monotonic() + within_s, resolve)

    def tick(self) -> None:
        self.proposer.tick()
        self._look()
        self._turn()

    def _look(self) -> None:
        """As `cluster.node.members`: tell who was removed, and where this machine leads, make the next step."""
        now = self._machine.clock.monotonic()
        if now - self._looked_at < LOOK_S:
            return
        self._looked_at = now
        for peer in sorted(self._connected):
            if reads.was_removed(self.state.now, self._member_ids[peer]):
                self._machine.network.tell_of_removal(self._machine.name, peer)
        if self.leading_term() is None:
            self.driver.pause()
        elif not self._settling:
            self.driver.step()

    def _settle(self, member_id: str, gone: bool) -> None:
        state, own = self.state.now, self._member_ids[self._machine.name]
        client = f"watchword://{state.identity.cluster_id}/node/{own}"
        request_id = f"settle-{member_id[0]}-{state.position.index}"
        command = pack(SettleMember(member_id, gone), request_id=request_id, client=client)
        self._machine.world.counts["settled"] += 1
        self._settling = True

        def settled(_outcome: Result | Unavailable) -> None:
            self._settling = False

        with suppress(QueueFull):
            self.proposer.submit(command, 1, self._machine.clock.monotonic() + SETTLE_S, settled)
            return
        self._settling = False

    def check_clock(self) -> None:
        """As the node does once a second."""
        status = self.engine.status()
        self.node_clock.agree([peer.clock_offset_ms for peer in status.peers], len(status.peers) + 1)

    def transfer_leadership(self) -> None:
        self.engine.transfer_leadership()

    def settle(self) -> None:
        """What follows each step: what was called for soon, and a data file that is due."""
        while self._soon:
            self._soon.pop(0)()
        due_index = self.data_files.current.position.index + self._machine.odds.snapshot_entries
        if self.state.now.position.index >= due_index and not self.data_files.busy:
            self.data_files.write(self.state.now.snapshot())

    def leading_term(self) -> int | None:
        core = self.engine._core
        return core.term if core.is_leader else None

    # -- for the engine ----------------------------------------------------------------------------------------------
    def send(self, member_id: str, frame: bytes) -> None:
        self._machine.network.send(self._machine.name, self._names[member_id], frame)

    # -- inside, as in the node's own loop (cluster.node.consensus) --------------------------------------------------
    def _turn_soon(self) -> None:
        if not self._turn_due:
            self._turn_due = True
            self._machine.later(self, 0.0, self._turn)

    def _turn(self) -> None:
        self._turn_due = False
        self.engine.tick()
        if self.engine.wants_sync():
            self.syncing.begin()
        if self.engine.busy:
            self._turn_soon()

    def _hand_over(self, group: Group) -> bool:
        taken = self.engine.hand_over(group)
        self._turn_soon()
        return taken

    def _synced(self) -> None:
        self.engine.synced()
        self.data_files.journal_synced(self.journal.synced)
        self._turn()

    def _take_state(self, state: State) -> None:
        if state.position.index <= self.state.now.position.index:
            raise Violation(f"{self._machine.name} went back to index {state.position.index} by a snapshot")
        self.state = ObservedState(state, self._machine)
        self.replica.replace(self.state)
        self._machine.world.counts["installs"] += 1
        self._machine.checks.installed(self._machine, state.position.index, state.running_digest)
        self._soon.append(self.proposer.snapshot_installed)

    def _data_file_published(self, oldest_index: int) -> None:
        self._machine.world.counts["data files"] += 1
        self._compact()
        self.journal.remove_segments(oldest_index)

    def _compact(self) -> None:
        index = compaction_index(
            self.journal,
            self.data_files.current.position.index,
            self._machine.odds.tail_bytes,
            self.engine.needed_index,
            FILLING_BYTES,
        )
        if index > self.journal.base_index:
            self.journal.compact(index)


class TraceLog:
    """The node's log, into the trace."""

    def __init__(self, machine: "Machine") -> None:
        self._machine = machine

    def info(self, event: str, **fields: object) -> None:
        self._machine.world.note("log", self._machine.name, event, sorted(fields.items()))

    warning = info


def _fail_stop(error: Exception) -> None:
    """The machine sees it come out of this step, and ends the process."""
    raise error


def _newer_command(error: NewerCommand) -> None:
    raise Violation(f"a command of a newer version in a cluster of one version: {error}")
