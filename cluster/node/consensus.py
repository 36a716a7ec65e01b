"""Engine, journal, links, proposer and data files of one node, driven by its event loop.

    frames ----> engine.receive ---+
    requests --> proposer ---------+--> turn: tick, apply, begin a sync --> worker thread --> engine.synced --> turn
    timer -------------------------+

Whatever storage or Raft itself says is wrong ends the node (fail-stop): links closed, waiting requests answered
"unavailable", one line. Going on would mean to acknowledge what may be lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from functools import partial
from random import SystemRandom

from structlog.typing import FilteringBoundLogger

from cluster.node.clock import NodeClock
from cluster.node.compaction import FILLING_BYTES, compaction_index
from cluster.node.configuration import NodeConfiguration, parse_address
from cluster.node.identity import node_of_certificate
from cluster.node.members import Members
from cluster.node.observation import Observation
from cluster.node.offload import WorkerThread
from cluster.node.opening import OpenedNode
from cluster.node.proposer import Proposer, ProposerLimits
from cluster.node.replica import Replica
from cluster.node.snapshots import DataFiles
from cluster.node.syncing import JournalSyncing
from cluster.raft.engine import Applied, Engine, Group, RaftSettings
from cluster.raft.errors import AnotherProcess, FrameRefused, RemovedFromCluster
from cluster.raft.introduction import Introduction
from cluster.raft.links import Links, LinkSettings
from cluster.state import codec, reads
from cluster.state.apply import NewerCommand, State
from cluster.state.results import Result
from datastore.files import Files

EVENTS_DURABLE_S = 10.0


class Consensus:
    """One node's part in the cluster. Made, started and closed in the running loop.

    `on_failure(error)` is called once; from then on nothing here moves.
    """

    def __init__(
        self,
        *,
        files: Files,
        opened: OpenedNode,
        options: NodeConfiguration,
        tls: tuple[ssl.SSLContext, ssl.SSLContext],
        clock: NodeClock,
        random: SystemRandom,
        observation: Observation,
        on_failure: Callable[[Exception], None],
        log: FilteringBoundLogger,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self.options = options
        self._on_failure = on_failure
        self._log = log
        self.observation = observation
        self.opened = opened
        self.clock = clock
        self.journal = opened.journal
        self.failed = False
        self._turn_due = False
        self._timer: asyncio.TimerHandle | None = None
        self._sync_worker, self._file_worker = WorkerThread("sync"), WorkerThread("files")
        self.proposer: Proposer[Result] = Proposer(
            limits=ProposerLimits(),
            pack=codec.pack_group,
            hand_over=self._hand_over,
            monotonic=clock.monotonic,
            random_bytes=random.randbytes,
            call_soon=lambda call: self._loop.call_soon(self._guarded, call),
            on_answered=observation.answered,
        )
        self.replica: Replica[Result] = Replica(
            opened.state,
            on_results=self.proposer.applied,
            on_newer_command=self._newer_command,
            on_applied=observation.applied,
        )
        self.syncing = JournalSyncing(
            self.journal, self._sync_worker, self._synced, self.fail, observation.measures.sync_seconds.observe
        )
        self.data_files = DataFiles(
            files=files,
            opened=opened,
            worker=self._file_worker,
            written=lambda: self.journal.written,
            random=random.randbytes,
            wall_ms=clock.wall_ms,
            take_state=self._take_state,
            on_published=self._data_file_published,
            on_failure=self.fail,
            log=log,
            may_publish=lambda index: observation.events.wait_durable(index, EVENTS_DURABLE_S),
        )
        self.links = self._make_links(tls, random)
        self.engine = self._make_engine(random)
        self.members = Members(
            self.opened.member_id,
            self.engine,
            self.links,
            self.proposer,
            state=lambda: self.state,
            clock=clock,
            log=log,
        )
        self.engine.on_configuration_changed = self._configuration_changed

    def _make_links(self, tls: tuple[ssl.SSLContext, ssl.SSLContext], random: SystemRandom) -> Links:
        identity, limits = self.opened.identity, self.options.limits
        return Links(
            own=Introduction(
                identity.cluster_id,
                identity.incarnation_counter,
                identity.incarnation_id,
                self.opened.member_id,
                *parse_address(self.options.peer_address),
                session=random.randbytes(8).hex(),
            ),
            identify=node_of_certificate,
            server_tls=tls[0],
            client_tls=tls[1],
            receive=self._received,
            connected=lambda member_id: self._guarded(partial(self.engine.connected, member_id)),
            disconnected=lambda member_id: self._guarded(partial(self.engine.disconnected, member_id)),
            random=random,
            log=self._log,
            was_removed=lambda member_id: reads.was_removed(self.state, member_id),
            told_of_removal=lambda _peer: self.fail(RemovedFromCluster()),
            told_of_another=lambda: self.fail(AnotherProcess()),
            met=lambda member_id: self._guarded(partial(self.engine.met, member_id)),
            settings=LinkSettings(
                unauthenticated_max=limits.unauthenticated_peers, send_bytes_max=limits.peer_send_bytes
            ),
        )

    def _make_engine(self, random: SystemRandom) -> Engine:
        at, raft = self.opened.state.position, self.options.raft
        voters, learners = reads.configuration(self.opened.state)
        engine = Engine(
            member_id=self.opened.member_id,
            members=voters,
            learners=learners,
            incarnation=self.opened.identity.incarnation_id,
            journal=self.journal,
            state_machine=self.replica,
            applied=Applied(at.index, at.stamp_ms, at.running_digest),
            clock=self.clock,
            random=random,
            outbound=self.links,
            snapshots=self.data_files,
            settings=RaftSettings(
                heartbeat=raft.heartbeat_ms / 1000,
                election_timeout_min=raft.election_timeout_min_ms / 1000,
                election_timeout_max=raft.election_timeout_max_ms / 1000,
            ),
            log_event=self._raft_event,
            unlisted=True,  # a node that joins is filled before the log says that it is a member
        )
        engine.on_leader_changed = self._leader_changed
        engine.on_group_refused = self.proposer.refused
        return engine

    @property
    def state(self) -> State:
        state = self.replica.state
        assert isinstance(state, State), "this node's replica stands on the whole state"
        return state

    def start(self, listening: socket.socket) -> None:
        """Accept and dial peers, and let time pass."""
        self._compact()
        self.links.listen(listening)
        self._tick()

    def fail(self, error: Exception) -> None:
        """Fail-stop."""
        if self.failed:
            return
        self.failed = True
        if self._timer is not None:
            self._timer.cancel()
        self.proposer.stop()
        self._loop.create_task(self.links.close())
        self._on_failure(error)

    async def close(self) -> None:
        """End links and timers; what the worker threads were given is finished first."""
        if self._timer is not None:
            self._timer.cancel()
        self.proposer.stop()
        await self.links.close()
        await self._drain_syncs()
        self.failed = True
        self._sync_worker.close(wait=True)
        self._file_worker.close(wait=True)
        self.data_files.close()
        self.journal.close()

    async def _drain_syncs(self) -> None:
        while not self.failed and (self.syncing.running or self.engine.wants_sync()):
            self.syncing.begin()
            await asyncio.sleep(0.001)

    # One turn

    def turn_soon(self) -> None:
        if not self._turn_due and not self.failed:
            self._turn_due = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._turn_due = False
        self._guarded(self._advance)

    def _advance(self) -> None:
        self.engine.tick()
        own_vote = self.journal.voted_for == self.opened.member_id
        self.observation.saw_term(self.journal.current_term, own_vote=own_vote)
        if self.engine.wants_sync():
            self.syncing.begin()
        if self.engine.busy:
            self.turn_soon()

    def _tick(self) -> None:
        self._timer = self._loop.call_later(self.options.raft.tick_ms / 1000, self._tick)
        self._guarded(self.proposer.tick)
        self._guarded(self.members.tick)
        self._turn()

    def _guarded(self, call: Callable[[], None]) -> None:
        """Call into the engine; whatever it raises is final."""
        if self.failed:
            return
        try:
            call()
        except Exception as error:  # noqa: BLE001 - a defect must stop the node as a full disk does
            self.fail(error)

    def _received(self, member_id: str, frame: bytes) -> None:
        def receive() -> None:
            try:
                self.engine.receive(member_id, frame)
            except FrameRefused as refused:
                self.links.refuse(member_id, refused.reason)

        self._guarded(receive)
        self.turn_soon()

    def _hand_over(self, group: Group) -> bool:
        taken = False

        def hand_over() -> None:
            nonlocal taken
            taken = self.engine.hand_over(group)

        self._guarded(hand_over)
        self.turn_soon()
        return taken

    def _synced(self) -> None:
        self._guarded(self.engine.synced)
        self._guarded(lambda: self.data_files.journal_synced(self.journal.synced))
        self._turn()

    def _leader_changed(self, leader: str | None) -> None:
        member = reads.members(self.state).get(leader) if leader else None
        self._log.info("leader_changed", leader=member.name if member else None, term=self.journal.current_term)
        self.observation.leader_changed(leader)
        self.proposer.leader_changed(leader)

    def _configuration_changed(self) -> None:
        # Not in the engine's own stack: connections that end are told to the engine.
        self._loop.call_soon(self._guarded, self.members.follow)

    def _raft_event(self, event: str, **fields: object) -> None:
        self.observation.raft_event(event)
        self._log.warning(event, **fields)

    def _newer_command(self, newer: NewerCommand) -> None:
        self._log.error("out_of_service", reason=str(newer))

    # Data files

    def _take_state(self, state: State) -> None:
        self.observation.events.installed(self.state.position.index + 1, state.position.index)
        self.observation.events.pseudonym = state.pseudonyms.of
        self.observation.measures.snapshots_installed += 1
        self.replica.replace(state)
        self._loop.call_soon(self._guarded, self.proposer.snapshot_installed)

    def write_data_file(self) -> bool:
        """Begin to write the state out, if it has moved since the last time. False: nothing was begun.

        Nor where the audit trail can't be written: what the journal still has, the trail can still get.
        """
        state, events = self.state, self.observation.events
        if self.failed or events.trouble or state.position.index <= self.data_files.current.position.index:
            return False
        begun = self.data_files.write(state.snapshot())
        if begun:
            events.position(state.position.index)
        return begun

    async def written_out(self) -> None:
        """When no data file is being written any more."""
        while self.data_files.busy and not self.failed:  # noqa: ASYNC110 - once, at the end
            await asyncio.sleep(0.005)

    def _data_file_published(self, oldest_index: int) -> None:
        self._guarded(self._compact)
        self._guarded(lambda: self.journal.remove_segments(oldest_index))

    def _compact(self) -> None:
        """Forget from memory what the data file holds, but for a tail for those who lag."""
        index = compaction_index(
            self.journal,
            self.data_files.current.position.index,
            self.options.snapshots.tail_bytes,
            self.engine.needed_index,
            FILLING_BYTES,
        )
        if index > self.journal.base_index:
            self.journal.compact(index)

    async def hand_leadership_over(self, within_s: float) -> None:
        """Where this node leads, let another do so; nothing where none can."""
        if self.engine.status().role != "leader" or not self.engine.peers:
            return
        self._guarded(self.engine.transfer_leadership)
        self.turn_soon()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while not self.failed and self.engine.transferring:  # noqa: ASYNC110 - once, at the end
                    await asyncio.sleep(0.01)
