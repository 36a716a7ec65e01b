"""Snapshots on the wire: a data file in numbered parts, one under way at a time for each follower.

Nothing of a snapshot is acknowledged before it is installed (paper, section 7), and one that the follower is past, or
whose last entry its log already holds, is not installed at all (InstallSnapshot RPC, rule 6).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from cluster.raft.follower import Follower
from cluster.raft.membership import Configuration
from cluster.raft.messages import AppendReply, SnapshotChunk, SnapshotReply
from cluster.raft.pysyncobj_patches import Core
from cluster.raft.settings import RaftSettings
from cluster.raft.wire import Wire
from datastore.journal import Journal


@dataclass(frozen=True, slots=True)
class SnapshotMeta:
    """A published data file: the log entry it stands at, and a name that no other one has."""

    index: int
    term: int
    stamp_ms: int
    running_digest: bytes
    size_bytes: int
    name: str


class Installed(Protocol):
    """A received data file that has been verified and decoded."""

    @property
    def configuration(self) -> Configuration:
        """The members, as its state has them."""

    def commit(self) -> None:
        """Makes the state machine stand on it; memory only, so that it can't fail."""


class Snapshots(Protocol):
    """The node's data files.  `done` is called later or at once, in the thread that calls the engine."""

    def latest(self) -> SnapshotMeta | None: ...
    def read(self, meta: SnapshotMeta, offset: int, length: int, done: Callable[[bytes | None], None]) -> None:
        """`None`: that file is gone."""

    def receive(self, meta: SnapshotMeta, offset: int, chunk: bytes, done: Callable[[bool], None]) -> None:
        """Stores a part; offset 0 starts anew.  False: it could not be, and the follower asks for the start again."""

    def install(self, meta: SnapshotMeta, done: Callable[[Installed | None], None]) -> None:
        """Verifies the whole received file before use.  None: it is not a good one."""


@dataclass(slots=True)
class _Sending:
    meta: SnapshotMeta
    term: int
    offset: int = 0
    reading: bool = False
    sent: float | None = None


class SnapshotSender:
    def __init__(
        self, wire: Wire, snapshots: Snapshots, settings: RaftSettings, monotonic: Callable[[], float]
    ) -> None:
        self._wire = wire
        self._snapshots = snapshots
        self._settings = settings
        self._monotonic = monotonic
        self._sending: dict[str, _Sending] = {}
        self.core: Core  # set by the engine, which the core needs first

    def start(self, peer: str) -> SnapshotMeta | None:
        meta = self._snapshots.latest()
        if meta is not None:
            self._sending[peer] = _Sending(meta, self.core.term)
        return meta

    def pump(self, peer: str) -> bool:
        """Sends the next part, or the last one again when no answer came; False: there is nothing to send any more."""
        sending = self._sending.get(peer)
        if sending is None:
            return False
        now = self._monotonic()
        if not sending.reading and (sending.sent is None or now - sending.sent >= 2 * self._settings.retransmit):
            self._read(peer, sending)
        return True

    def on_reply(self, peer: str, name: str, offset: int) -> None:
        sending = self._sending.get(peer)
        if sending is None or sending.meta.name != name or offset > sending.meta.size_bytes:
            return
        if offset != sending.offset or offset == 0:
            sending.offset = offset
            if offset < sending.meta.size_bytes and not sending.reading:
                self._read(peer, sending)

    def forget(self, peer: str) -> None:
        self._sending.pop(peer, None)

    def forget_all(self) -> None:
        self._sending.clear()

    def _read(self, peer: str, sending: _Sending) -> None:
        sending.reading = True
        sending.sent = self._monotonic()
        offset = sending.offset
        length = min(self._settings.snapshot_chunk_bytes, sending.meta.size_bytes - offset)

        def done(data: bytes | None) -> None:
            if self._sending.get(peer) is not sending:
                return
            sending.reading = False
            # Meanwhile this node may have lost its office, and a part in a newer term would claim that term's.
            if data is None or not self.core.is_leader or self.core.term != sending.term:
                self.forget(peer)
                return
            meta = sending.meta
            self._wire.post(
                peer,
                SnapshotChunk(
                    meta.name, meta.index, meta.term, meta.stamp_ms, meta.running_digest, meta.size_bytes, offset, data
                ),
            )

        self._snapshots.read(sending.meta, offset, length, done)


@dataclass(slots=True)
class _Receiving:
    meta: SnapshotMeta
    stored: int = 0
    busy: bool = False


class SnapshotReceiver:
    """`installed(meta)` is called when journal and state machine stand at the snapshot's entry."""

    def __init__(
        self,
        journal: Journal,
        wire: Wire,
        snapshots: Snapshots,
        follower: Follower,
        installed: Callable[[SnapshotMeta, Configuration], None],
    ) -> None:
        self._journal = journal
        self._wire = wire
        self._snapshots = snapshots
        self._follower = follower
        self._installed = installed
        self._receiving: _Receiving | None = None
        self.core: Core  # set by the engine, which the core needs first

    def on_chunk(self, peer: str, term: int, chunk: SnapshotChunk) -> None:
        if not self._follower.follow(peer, term):
            return
        self._follower.leader_committed(chunk.index)
        meta = SnapshotMeta(
            chunk.index, chunk.index_term, chunk.stamp_ms, chunk.running_digest, chunk.size_bytes, chunk.name
        )
        if self._has(meta):
            self._receiving = None
            self._wire.post(peer, AppendReply(True, meta.index), claims=True)
            return
        receiving = self._receiving
        if receiving is not None and receiving.busy:
            return
        if receiving is None or receiving.meta != meta:
            receiving = self._receiving = _Receiving(meta)
        if chunk.offset != receiving.stored or not chunk.data:
            self._wire.post(peer, SnapshotReply(meta.name, receiving.stored))
            return
        self._store(peer, receiving, chunk.data)

    def _has(self, meta: SnapshotMeta) -> bool:
        return meta.index <= self.core.commit_index or self._journal.term_at(meta.index) == meta.term

    def _store(self, peer: str, receiving: _Receiving, data: bytes) -> None:
        receiving.busy = True

        def done(stored: bool) -> None:
            if self._receiving is not receiving:
                return
            receiving.busy = False
            if not stored:
                self._receiving = None
                self._wire.post(peer, SnapshotReply(receiving.meta.name, 0))
                return
            receiving.stored += len(data)
            self._wire.post(peer, SnapshotReply(receiving.meta.name, receiving.stored))
            if receiving.stored >= receiving.meta.size_bytes:
                self._install(peer, receiving)

        self._snapshots.receive(receiving.meta, receiving.stored, data, done)

    def _install(self, peer: str, receiving: _Receiving) -> None:
        receiving.busy = True
        meta = receiving.meta

        def done(file: Installed | None) -> None:
            if self._receiving is receiving:
                self._receiving = None
            if file is None:
                self._wire.post(peer, SnapshotReply(meta.name, 0))
                return
            if not self._has(meta):
                file.commit()
                self._journal.install(meta.index, meta.term)
                self.core.snapshot_installed(meta.index)
                self._installed(meta, file.configuration)
            self._wire.post(peer, AppendReply(True, meta.index), claims=True)

        self._snapshots.install(meta, done)
