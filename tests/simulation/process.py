"""One run of the node's program on a simulated machine: the real engine, journal, replica and proposer, wired."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from cluster.node.clock import NodeClock
from cluster.node.proposer import Proposer, ProposerLimits, Unavailable
from cluster.node.replica import Replica
from cluster.raft.engine import Applied as AppliedPosition
from cluster.raft.engine import Engine, RaftSettings
from cluster.state.apply import State
from cluster.state.codec import pack_group
from cluster.state.errors import NewerCommand
from cluster.state.results import Result
from datastore.datafile import Position
from datastore.journal import Journal, PendingSync
from tests.simulation.observed import ObservedState
from tests.simulation.storage import Founding, SnapshotShelf, open_node
from tests.simulation.world import Violation

if TYPE_CHECKING:
    from tests.simulation.machine import Machine

__all__ = ["Founding", "Process"]

SETTINGS = RaftSettings(snapshot_chunk_bytes=2_000)
LIMITS = ProposerLimits(queue_commands_max=200)
SYNC_AT_END = 0.5  # how often a sync's I/O happens at the end of its time, and not at the beginning


class Process:
    """Everything in memory; it dies with the process."""

    def __init__(self, machine: "Machine") -> None:
        self._machine = machine
        self._names, self._member_ids = machine.founding.names, machine.founding.member_ids
        self._soon: list[Callable[[], None]] = []
        self._syncing = False
        self._tick_due = False
        opened = open_node(machine)
        self.journal: Journal = opened.journal
        self.node_clock = NodeClock(machine.clock.monotonic, machine.clock.wall_ms)
        self.proposer: Proposer[Result] = Proposer(
            limits=LIMITS,
            pack=pack_group,
            hand_over=lambda group: self.engine.hand_over(group),  # noqa: PLW0108 (the engine is made below)
            monotonic=machine.clock.monotonic,
            random_bytes=machine.random.randbytes,
            call_soon=self._soon.append,
        )
        self.state = ObservedState(opened.state, machine)
        self.replica: Replica[Result] = Replica(
            self.state, on_results=self.proposer.applied, on_newer_command=_newer_command
        )
        self.shelf = SnapshotShelf(machine, self, opened)
        machine.checks.installed(machine, opened.position.index, opened.position.running_digest)
        self.engine = Engine(
            member_id=self._member_ids[machine.name],
            members=list(self._names),
            incarnation=machine.founding.identity.incarnation_id,
            journal=self.journal,
            state_machine=self.replica,
            applied=AppliedPosition(opened.position.index, opened.position.stamp_ms, opened.position.running_digest),
            clock=self.node_clock,
            random=machine.random,
            outbound=self,
            snapshots=self.shelf,
            settings=SETTINGS,
            log_event=lambda name, **fields: machine.world.note("log", machine.name, name, sorted(fields.items())),
        )
        self.engine.on_leader_changed = self.proposer.leader_changed
        self.engine.on_group_refused = self.proposer.refused

    # -- called by the machine ---------------------------------------------------------------------------------------
    def connected(self, peer: str) -> None:
        self.engine.connected(self._member_ids[peer])

    def disconnected(self, peer: str) -> None:
        self.engine.disconnected(self._member_ids[peer])

    def receive(self, peer: str, frame: bytes) -> None:
        self.engine.receive(self._member_ids[peer], frame)
        self._tick_soon()

    def submit(
        self, packed: bytes, cost: int, within_s: float, resolve: Callable[[Result | Unavailable], None]
    ) -> None:
        self.proposer.submit(packed, cost, self._machine.clock.monotonic() + within_s, resolve)

    def tick(self) -> None:
        self._tick_due = False
        self.engine.tick()
        self.proposer.tick()

    def check_clock(self) -> None:
        """As the node does once a second."""
        status = self.engine.status()
        self.node_clock.agree([peer.clock_offset_ms for peer in status.peers], len(status.peers) + 1)

    def stand_on(self, state: State, position: Position) -> None:
        """A snapshot takes the place of the state."""
        self.state = ObservedState(state, self._machine)
        self.replica.replace(self.state)
        self._machine.world.counts["installs"] += 1
        self._machine.checks.installed(self._machine, position.index, position.running_digest)
        self.proposer.snapshot_installed()

    def transfer_leadership(self) -> None:
        self.engine.transfer_leadership()

    def settle(self) -> None:
        """What follows each step: calls asked for soon, the next sync, a snapshot that is due."""
        while self._soon:
            self._soon.pop(0)()
        self.shelf.snapshot_if_due()
        if self.engine.busy:
            self._tick_soon()
        if not self._syncing and self.engine.wants_sync():
            self._begin_sync()

    def leading_term(self) -> int | None:
        core = self.engine._core
        return core.term if core.is_leader else None

    # -- for the engine ----------------------------------------------------------------------------------------------
    def send(self, member_id: str, frame: bytes) -> None:
        self._machine.network.send(self._machine.name, self._names[member_id], frame)

    # -- inside ------------------------------------------------------------------------------------------------------
    def _tick_soon(self) -> None:
        if not self._tick_due:
            self._tick_due = True
            self._machine.later(self, 0.0, self._soon_tick)

    def _soon_tick(self) -> None:
        if self._tick_due:
            self.tick()

    def _begin_sync(self) -> None:
        """The I/O happens at the beginning or at the end of the time it takes; it counts at the end only."""
        pending = self.journal.begin_sync()
        if pending is None:
            return
        self._syncing = True
        if self._machine.random.random() >= SYNC_AT_END:
            pending.run()
        self._machine.later(self, self._machine.sync_delay_s(), self._end_sync, pending)

    def _end_sync(self, pending: PendingSync) -> None:
        if not pending.done:
            pending.run()
        self._syncing = False
        self.journal.end_sync(pending)
        self.engine.synced()
        self._tick_soon()


def _newer_command(error: NewerCommand) -> None:
    raise Violation(f"a command of a newer version in a cluster of one version: {error}")
