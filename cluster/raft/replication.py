"""The leader's side of AppendEntries: each follower's progress, what it is sent, and what the engine is told of it."""

from __future__ import annotations

from collections.abc import Callable

from cluster.raft.acquaintance import Acquaintance
from cluster.raft.membership import Membership
from cluster.raft.messages import Append, AppendReply, Heartbeat
from cluster.raft.progress import Mode, Progress
from cluster.raft.pysyncobj_patches import Core
from cluster.raft.settings import RaftSettings
from cluster.raft.snapshot_transfer import SnapshotSender
from cluster.raft.wire import Wire
from datastore.journal import Journal


class Replication:
    def __init__(
        self,
        membership: Membership,
        journal: Journal,
        wire: Wire,
        snapshots: SnapshotSender,
        acquaintances: dict[str, Acquaintance],
        settings: RaftSettings,
        monotonic: Callable[[], float],
    ) -> None:
        self._membership = membership
        self._journal = journal
        self._wire = wire
        self._snapshots = snapshots
        self._acquaintances = acquaintances
        self._settings = settings
        self._monotonic = monotonic
        self._connected: set[str] = set()
        self.core: Core  # set by the engine, which the core needs first
        self.progress: dict[str, Progress] = {}
        self._unsynced_since: float | None = None

    def begin(self) -> None:
        """This node becomes leader; its no-op is the next thing in the log (paper, section 8)."""
        self.progress = {peer: Progress(self._journal.last_index + 1) for peer in self._membership.others}
        self._snapshots.forget_all()
        self._unsynced_since = None

    def set_connected(self, peer: str, connected: bool) -> None:
        if connected:
            self._connected.add(peer)
        else:
            self._connected.discard(peer)
        self._snapshots.forget(peer)
        if peer in self.progress:
            self.progress[peer].lost_contact()

    def configuration_changed(self) -> None:
        """Members came or went: a new one is sent what comes, and whoever is no member any more nothing."""
        if self.core.is_leader:
            members = self._membership.others
            self.progress = {
                peer: self.progress.get(peer) or Progress(self._journal.last_index + 1) for peer in members
            }

    def is_filled(self, peer: str) -> bool:
        """Whether a follower's log has caught up with ours but for what is on its way."""
        progress = self.progress.get(peer)
        return progress is not None and progress.mode is Mode.REPLICATE and progress.match >= self.core.commit_index

    def needed_index(self) -> int | None:
        """The index after which a follower that answers will need the log, the least of all."""
        if not self.core.is_leader:
            return None
        needed = [
            progress.next - 1 if progress.mode is Mode.SNAPSHOT else progress.match
            for peer, progress in self.progress.items()
            if peer in self.answering() and (progress.match or progress.mode is Mode.SNAPSHOT)
        ]
        return min(needed, default=None)

    def answering(self) -> frozenset[str]:
        """The followers that were heard from lately."""
        oldest = self._monotonic() - self._settings.election_timeout_min
        return frozenset(peer for peer, progress in self.progress.items() if progress.heard >= oldest)

    def reaches(self, peer: str) -> bool:
        return peer in self._connected

    def replicate(self) -> None:
        """Whenever the engine would send: at each heartbeat, each new entry, each change of the commit index."""
        for peer in self._membership.others:
            if peer in self._connected:
                self._replicate_to(peer)

    def _replicate_to(self, peer: str) -> None:
        progress, now = self.progress[peer], self._monotonic()
        if progress.stalled(now, self._settings.retransmit):
            progress.go_back()
        in_log = progress.mode is not Mode.SNAPSHOT and self._send_entries(peer, progress, now)
        if not in_log and progress.mode is not Mode.SNAPSHOT:
            self._start_snapshot(peer, progress)
        if not in_log:
            self._fill(peer, progress, now)
        elif now - progress.sent >= 0.9 * self._settings.heartbeat or progress.commit_sent < self._committed:
            self._append(peer, progress, [], now)

    def _send_entries(self, peer: str, progress: Progress, now: float) -> bool:
        """False where what the follower needs next is no longer in the log."""
        if progress.next <= self._journal.base_index:
            return False
        while (
            progress.next <= self._journal.last_index
            and progress.may_send(now, self._settings.heartbeat)
            and progress.in_flight_bytes < self._settings.window_bytes_max
        ):
            entries = self._journal.entries(progress.next, self._settings.append_bytes_max)
            self._append(peer, progress, [(entry.data, entry.term) for entry in entries], now)
            if progress.mode is Mode.PROBE:
                break
        return True

    def _append(self, peer: str, progress: Progress, entries: list[tuple[bytes, int]], now: float) -> None:
        prev_index = progress.next - 1
        prev_term = self._journal.term_at(prev_index)
        assert prev_term is not None, "the entry before the next one is in the log"
        commit_index = self._committed
        self._wire.post(peer, Append(prev_index, prev_term, commit_index, tuple(entries), self._journal.synced_index))
        progress.commit_sent = commit_index
        if entries:
            progress.sent_entries(prev_index + len(entries), sum(len(data) for data, _ in entries), now)
        else:
            progress.sent = now

    @property
    def _committed(self) -> int:
        """What is agreed on and on this disk, too: a lone voter agrees with itself before it has synced."""
        return min(self.core.commit_index, self._journal.synced_index)

    def _start_snapshot(self, peer: str, progress: Progress) -> None:
        meta = self._snapshots.start(peer)
        if meta is not None and meta.index >= self._journal.base_index:
            progress.installing(meta.index)

    def _fill(self, peer: str, progress: Progress, now: float) -> None:
        """Sends parts of the snapshot, and heartbeats also while there is none that reaches into the log."""
        if progress.mode is Mode.SNAPSHOT and not self._snapshots.pump(peer):
            progress.installed_or_given_up(self._journal.last_index)
        if now - progress.sent >= 0.9 * self._settings.heartbeat:
            self._wire.post(peer, Heartbeat())
            progress.sent = now

    def on_append_reply(self, peer: str, term: int, reply: AppendReply) -> None:
        if not self._is_current(peer, term):
            return
        progress, now = self.progress[peer], self._monotonic()
        if not reply.success:
            progress.rejected(reply.index, self._journal.last_index, now)
            self._tell_engine(peer, alive_only=True)
            self._replicate_to(peer)
            return
        if reply.index > self._journal.last_index:
            # Not an acknowledgement of our log: this leader never held what it speaks of.
            return
        filling = progress.mode is Mode.SNAPSHOT
        progress.accepted(reply.index, now)
        if filling and progress.mode is not Mode.SNAPSHOT:
            self._snapshots.forget(peer)
        self._acquaintances[peer].acknowledged(term, reply.index)
        self._tell_engine(peer)
        self._replicate_to(peer)

    def on_heartbeat_reply(self, peer: str, term: int) -> None:
        if self._is_current(peer, term):
            self.progress[peer].heard = self._monotonic()
            self._tell_engine(peer, alive_only=True)

    def on_snapshot_reply(self, peer: str, term: int, name: str, offset: int) -> None:
        if self._is_current(peer, term):
            self.progress[peer].heard = self._monotonic()
            self._tell_engine(peer, alive_only=True)
            if self.progress[peer].mode is Mode.SNAPSHOT:
                self._snapshots.on_reply(peer, name, offset)

    def step_down_from_a_dead_disk(self) -> None:
        """A leader whose disk neither fails nor ends a sync would go on sending heartbeats, and commit nothing."""
        if not self.core.is_leader or not self._membership.others or self._journal.written == self._journal.synced:
            self._unsynced_since = None
            return
        now = self._monotonic()
        if self._unsynced_since is None:
            self._unsynced_since = now
        elif now - self._unsynced_since > self._settings.election_timeout_max:
            self.core.step_down(self.core.term)

    def synced(self) -> None:
        """More of the own log is on disk, so more of the acknowledgements counts."""
        self._unsynced_since = None
        if self.core.is_leader:
            for peer in self._membership.other_voters:
                if self.progress[peer].match:
                    self._tell_engine(peer, heard=False)

    def _is_current(self, peer: str, term: int) -> bool:
        # An acknowledgement of another term speaks of another leader's log.
        return self.core.is_leader and term == self.core.term and peer in self.progress

    def _tell_engine(self, peer: str, *, alive_only: bool = False, heard: bool = True) -> None:
        """The engine counts the leader's own vote from memory, so it hears of others' only up to our synced index."""
        if peer not in self._membership.other_voters:
            return  # a learner counts for nothing
        match = min(self.progress[peer].match, self._journal.synced_index)
        self.core.acknowledge(peer, None if alive_only or not match else match, heard=heard)
