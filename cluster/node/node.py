"""The process: opens a node's files, serves, and ends in good order.

Start: configuration, lock, key, data file, journal, certificate, clock, ports, consensus, gRPC; each refuses by name
before the next one begins. End: health first, then the requests under way, then leadership, then a last data file.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from dataclasses import dataclass
from random import SystemRandom
from typing import Any

import uvloop
from grpc import aio
from grpc_health.v1 import health
from structlog.typing import FilteringBoundLogger

from cluster.node.authority import IssuingAuthority
from cluster.node.certificates import days_left
from cluster.node.clock import NodeClock, check_lone_start
from cluster.node.configuration import LoadedConfiguration
from cluster.node.consensus import Consensus
from cluster.node.directory import DirectoryLock
from cluster.node.errors import EXIT_STOPPED, AddressError, exit_code_of_failure
from cluster.node.events.reader import TrailReader
from cluster.node.events.trail import DIRECTORY
from cluster.node.front_door import FrontDoor
from cluster.node.identity import TlsFiles, check_tls_files, load_tls_files, peer_contexts
from cluster.node.listening import listen
from cluster.node.metrics.instruments import Measures
from cluster.node.metrics.port import Sources, metrics_responder
from cluster.node.observation import Observation, event_writer
from cluster.node.offload import WorkerThread
from cluster.node.open_files import connections_max, raise_limit
from cluster.node.opening import OpenedNode, open_node
from cluster.node.own_certificate import Contexts, OwnCertificate
from cluster.node.proposing import Proposing
from cluster.node.service_manager import ServiceManager
from cluster.node.snapshot_policy import SnapshotPolicy
from cluster.node.syncing import SWITCH_INTERVAL_S
from cluster.node.view import ClusterViews, Leadership
from cluster.raft.errors import RaftError
from cluster.services.administration import AdministrationService
from cluster.services.authentication import AuthenticationService
from cluster.services.cluster import ClusterService
from cluster.services.events import EventsService
from cluster.services.gate import Gate
from cluster.services.hashing import HashPool
from cluster.services.membership import Hosting
from cluster.services.proposals import Proposals
from cluster.services.server import build_server, new_health_servicer, set_serving
from cluster.services.sign_ins import SignIns
from cluster.state import reads
from cluster.state.client_reads import is_revoked
from cluster.state.records import Role
from datastore.errors import DatastoreError
from datastore.files import RealFiles
from datastore.keys import load_kek

HEALTH_INTERVAL_S = 0.05
POLICY_INTERVAL_S = 1.0
TRANSFER_S = 2.0
LAST_DATA_FILE_S = 30.0
LAST_EVENTS_S = 1.0
CERTIFICATE_DAYS_LOW = 30


@dataclass(frozen=True, slots=True)
class Prepared:
    """Everything that could be refused was checked; nothing runs yet."""

    configuration: LoadedConfiguration
    lock: DirectoryLock
    opened: OpenedNode
    tls: TlsFiles
    clock: NodeClock


def prepare(configuration: LoadedConfiguration, *, accept_clock: bool) -> Prepared:
    """Open and verify a node's files.

    Raises:
        NodeError, DatastoreError: one line that names the way out. Nothing was changed.
    """
    files, clock = RealFiles(), NodeClock()
    files.check_directory(str(configuration.directory))
    lock = DirectoryLock.take(configuration.directory)
    kek = load_kek(configuration.kek, files)
    opened = open_node(files, configuration.directory, kek, os.urandom, configuration.options.snapshots.generations)
    tls = load_tls_files(configuration.ca_file, configuration.certificate_file, configuration.key_file)
    check_tls_files(tls, opened.identity.cluster_id, opened.member_id, clock.wall_ms(), configuration.certificate_file)
    if len(opened.members) == 1:
        last_stamp_ms = opened.state.position.stamp_ms
        check_lone_start(last_stamp_ms, clock.wall_ms(), accepted=accept_clock)
    return Prepared(configuration, lock, opened, tls, clock)


def run(prepared: Prepared, log: FilteringBoundLogger) -> int:
    """Serve until SIGTERM, SIGINT or failure; returns the exit code.

    Raises:
        NodeError: an address can't be listened on.
    """
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_run(prepared, log))


async def _run(prepared: Prepared, log: FilteringBoundLogger) -> int:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: _unhandled(log, context))
    node = Node(prepared, log)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, node.stop)
    await node.start()
    manager = ServiceManager.of(os.environ, os.getpid())
    manager.tell("READY=1")
    feeding = loop.create_task(manager.feed())
    code = await node.until_stopped()
    manager.tell("STOPPING=1")
    if code == EXIT_STOPPED:
        await node.end()
        prepared.lock.release()
    else:
        await node.abandon()
    feeding.cancel()
    return code


def _unhandled(log: FilteringBoundLogger, context: dict[str, Any]) -> None:
    """What asyncio has no caller for; without its message, which may quote contents."""
    error = context.get("exception")
    if isinstance(error, BaseException):
        log.error("unhandled", exc_info=error)
    else:
        log.warning("asyncio", source=type(context.get("transport") or context.get("task")).__name__)


class Node:
    """One serving node."""

    def __init__(self, prepared: Prepared, log: FilteringBoundLogger) -> None:
        configuration = prepared.configuration
        self._configuration = configuration
        self._options = configuration.options
        self._opened = prepared.opened
        self._clock = prepared.clock
        self._clock_trusted = True
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._stopped: asyncio.Future[int] = self._loop.create_future()
        measures = Measures()
        self._events = event_writer(
            RealFiles(),
            prepared.opened,
            self._options.events,
            wall_ms=prepared.clock.wall_ms,
            log=log,
            on_defect=self._events_failed,
        )
        self._consensus = Consensus(
            files=RealFiles(),
            opened=prepared.opened,
            options=configuration.options,
            tls=peer_contexts(configuration.ca_file, configuration.certificate_file, configuration.key_file),
            clock=prepared.clock,
            random=SystemRandom(),
            observation=Observation(self._events, measures),
            on_failure=self._failed,
            log=log,
        )
        self._proposals = Proposals(Proposing(self._consensus))
        self._hashes = HashPool()
        self._sign_ins = SignIns(self._proposals, self._hashes, os.urandom)
        self._authentication = AuthenticationService(self._proposals, self._sign_ins)
        self._views = ClusterViews(self._consensus)
        self._policy = SnapshotPolicy(
            self._consensus.journal, self._options.snapshots, prepared.opened.data_file.position.index
        )
        self._trail = TrailReader(prepared.opened.directory / DIRECTORY, lambda: self._consensus.state)
        self._gate = Gate(
            cluster_id=self._opened.identity.cluster_id,
            roles_of=self._roles_of,
            is_revoked=self._is_revoked,
            is_filled=lambda: self._consensus.state.position.index > 0,
            log=log,
            on_call=measures.called,
        )
        self._certificate = self._own_certificate(prepared)
        self._metrics = metrics_responder(
            Sources(self._consensus, self._views, self._gate, chain_pem=lambda: self._certificate.tls.chain_pem)
        )
        self._door = FrontDoor(
            configuration.client, self._build_server, drain_s=float(configuration.options.limits.drain_s)
        )
        self._health: health.aio.HealthServicer | None = None
        self._tasks: list[asyncio.Task[None]] = []

    def _own_certificate(self, prepared: Prepared) -> OwnCertificate:
        return OwnCertificate(
            self._configuration,
            prepared.tls,
            cluster_id=self._opened.identity.cluster_id,
            member_id=self._opened.member_id,
            files=RealFiles(),
            clock=self._clock,
            issuing=lambda: reads.issuing_key(self._consensus.state),
            use=self._use_certificate,
            elsewhere=WorkerThread("certificates"),
            log=self._log,
        )

    async def _use_certificate(self, tls: TlsFiles, contexts: Contexts) -> None:
        """Whoever connects from now on sees it."""
        await self._door.change(tls, distrusted=tls.root_pem != self._certificate.tls.root_pem)
        self._consensus.links.renew(*contexts)

    # Start

    async def start(self) -> None:
        """Listen, and take part.

        Raises:
            AddressError: one of the addresses can't be listened on.
        """
        peers = listen(self._configuration.peer, "peer_address")
        if self._configuration.metrics is not None:
            await self._metrics.start(listen(self._configuration.metrics, "metrics_address"))
        self._health = await new_health_servicer()
        try:
            await self._door.open(self._certificate.tls)
        except AddressError:
            peers.close()
            raise
        self._events.start()
        self._consensus.start(peers)
        loop = asyncio.get_running_loop()
        self._tasks = [
            loop.create_task(work) for work in (self._watch_health(), self._look_after(), self._certificate.watch())
        ]
        for task in self._tasks:
            task.add_done_callback(self._task_ended)
        days = days_left(self._certificate.tls.chain_pem, self._clock.wall_ms())
        self._log.info(
            "started",
            member=self._opened.member_id,
            clients=str(self._configuration.client),
            peers=str(self._configuration.peer),
            index=self._opened.state.position.index,
            last_index=self._opened.journal.last_index,
            certificate_days_left=days,
        )
        if days < CERTIFICATE_DAYS_LOW:
            self._log.warning("certificate_ends_soon", days_left=days, file=str(self._configuration.certificate_file))

    def _build_server(self, shares_port: bool) -> aio.Server:
        assert self._health is not None, "the health service is made at the start"
        return build_server(
            gate=self._gate,
            authentication=self._authentication,
            administration=AdministrationService(
                self._proposals,
                IssuingAuthority(),
                self._sign_ins,
                random_bytes=os.urandom,
                wall_ms=self._clock.wall_ms,
            ),
            cluster=ClusterService(
                self._views,
                self._proposals,
                Hosting(Leadership(self._consensus), IssuingAuthority(), os.urandom),
                self._clock.wall_ms,
            ),
            health_servicer=self._health,
            events=EventsService(self._trail, self._opened.state.pseudonyms.of),
            shares_port=shares_port,
            connections_max=connections_max(raise_limit()),
        )

    def _roles_of(self, identity: str) -> frozenset[Role]:
        return self._consensus.state.roles_of(identity)  # the state changes hands when a snapshot is installed

    def _is_revoked(self, identity: str) -> bool:
        return is_revoked(self._consensus.state, identity)

    # While it runs

    async def _watch_health(self) -> None:
        while True:
            await self._set_serving(serving=self._views.is_ready())
            await asyncio.sleep(HEALTH_INTERVAL_S)

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        """They end by being cancelled, or by a defect, which stops the node: nobody else would notice."""
        if not task.cancelled() and isinstance(error := task.exception(), Exception):
            self._consensus.fail(error)

    async def _set_serving(self, *, serving: bool) -> None:
        assert self._health is not None, "the health service is made at the start"
        if serving != self._views.serving:
            self._views.serving = serving
            self._log.info("serving" if serving else "not_serving")
            await set_serving(self._health, serving=serving)

    async def _look_after(self) -> None:
        """Data files when they are due, and the clock's standing with the others."""
        while True:
            await asyncio.sleep(POLICY_INTERVAL_S)
            if self._consensus.failed:
                return
            self._policy.count(self._consensus.data_files.current.position.index)
            age_ms = self._clock.wall_ms() - self._consensus.data_files.current.created_ms
            if self._policy.is_due(age_ms):
                self._consensus.write_data_file()
            self._check_clock()

    def _check_clock(self) -> None:
        """Say when the clock jumps, and believe it again once a majority agrees with it."""
        status = self._consensus.engine.status()
        trusted = self._clock.trusted()
        if self._clock_trusted and not trusted:
            way_out = "set it right; it is believed again once it agrees with a majority"
            if not status.peers:
                way_out = "set it right, then start this node again with --accept-clock"
            self._log.warning("clock_jumped", way_out=way_out)
        if self._clock.agree([peer.clock_offset_ms for peer in status.peers], len(status.peers) + 1):
            self._log.warning("clock_agrees_again")
        self._clock_trusted = self._clock.trusted()

    def _failed(self, error: Exception) -> None:
        """Storage or consensus said no: this is the last line."""
        reason = str(error) if isinstance(error, DatastoreError | RaftError) else type(error).__name__
        self._log.error("stopped_on_failure", reason=reason, exc_info=error)
        if not self._stopped.done():
            self._stopped.set_result(exit_code_of_failure(error))

    def _events_failed(self, error: Exception) -> None:
        """In the thread that writes them: a defect, which stops the node as any other does."""
        self._loop.call_soon_threadsafe(self._consensus.fail, error)

    # End

    def stop(self) -> None:
        """As SIGTERM asks for."""
        if not self._stopped.done():
            self._stopped.set_result(EXIT_STOPPED)

    async def until_stopped(self) -> int:
        return await self._stopped

    async def end(self) -> None:
        """Health first, then requests, then leadership, then the last data file."""
        self._log.info("stopping")
        for task in self._tasks:
            task.cancel()
        await self._set_serving(serving=False)
        self._authentication.streams.drain()
        self._trail.close()
        await self._door.close(float(self._options.limits.drain_s))
        self._hashes.close()
        await self._consensus.hand_leadership_over(TRANSFER_S)
        await self._write_last_data_file()
        await self._consensus.close()
        if not await asyncio.to_thread(self._events.close):
            self._log.warning("events_left_to_the_journal", waiting=self._events.waiting)
        await self._metrics.close()
        self._log.info("stopped")

    async def _write_last_data_file(self) -> None:
        """So that the next start reads one file and little journal; without it nothing is lost."""
        self._consensus.data_files.hurry()
        try:
            async with asyncio.timeout(LAST_DATA_FILE_S):
                await self._consensus.written_out()
                self._consensus.write_data_file()
                await self._consensus.written_out()
        except TimeoutError:
            self._log.warning("last_data_file_skipped")

    async def abandon(self) -> None:
        """After a failure: tell the callers, and go."""
        self._hashes.close()
        for task in self._tasks:
            task.cancel()
        await self._set_serving(serving=False)
        self._authentication.streams.drain()
        self._trail.close()
        await self._door.close(0.2)
        await self._metrics.close()
        # What can still be written is; the journal has the rest.
        await asyncio.to_thread(self._events.close, LAST_EVENTS_S)
