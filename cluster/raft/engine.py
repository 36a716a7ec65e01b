"""What the rest of the house sees of consensus.

Sans I/O: frames, ticks and finished syncs come in by calls; frames, applied entries and snapshot requests go out by
the protocols below.  One thread calls everything.  After any call, `wants_sync` says whether the journal has
something to write; `synced` is called when that is on disk.  Any RaftError or DatastoreError that comes out of a call
is final: the node stops serving.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from cluster.raft.acquaintance import Acquaintance
from cluster.raft.applying import Applied, Applier, StateMachine
from cluster.raft.changes import Changes
from cluster.raft.digests import Digests
from cluster.raft.elections import Elections
from cluster.raft.errors import SafetyViolation
from cluster.raft.follower import Follower
from cluster.raft.log import EngineLog, membership_in
from cluster.raft.membership import Configuration
from cluster.raft.messages import (
    Group,
    HandOver,
    Notice,
    decode,
)
from cluster.raft.proposals import Proposals
from cluster.raft.pysyncobj_patches import Core
from cluster.raft.reception import Reception
from cluster.raft.replication import Replication
from cluster.raft.settings import RaftSettings
from cluster.raft.snapshot_transfer import SnapshotMeta, SnapshotReceiver, Snapshots, SnapshotSender
from cluster.raft.standing import Standing
from cluster.raft.status import EngineStatus, PeerStatus
from cluster.raft.timestamps import Reading
from cluster.raft.transfer import Transfer
from cluster.raft.wire import Clock, Outbound, Sender, Wire
from datastore.journal import Journal

__all__ = [
    "Applied",
    "Clock",
    "Configuration",
    "Engine",
    "EngineStatus",
    "Group",
    "Outbound",
    "PeerStatus",
    "RaftSettings",
    "SnapshotMeta",
    "Snapshots",
    "StateMachine",
]


class Random(Protocol):
    def random(self) -> float: ...
    def randbytes(self, n: int, /) -> bytes: ...


class Engine:
    """One member.  `members` holds this member's id, too; an engine with no other member elects itself.

    `unlisted`: this member may be in no configuration yet, as long as it is being filled; then it does not vote.
    The journal must reach up to `applied` without a gap: `journal.base_index <= applied.index <= journal.last_index`.
    `log_event(name, **fields)` is told what an operator should know; no field ever holds an entry's contents.
    """

    def __init__(
        self,
        *,
        member_id: str,
        members: Sequence[str],
        learners: Sequence[str] = (),
        incarnation: str,
        journal: Journal,
        state_machine: StateMachine,
        applied: Applied,
        clock: Clock,
        random: Random,
        outbound: Outbound,
        snapshots: Snapshots,
        settings: RaftSettings,
        log_event: Callable[..., None],
        unlisted: bool = False,
    ) -> None:
        if not unlisted and member_id not in members and member_id not in learners:
            raise SafetyViolation("this member is not in the configuration that its own files hold")
        if not journal.base_index <= applied.index <= journal.last_index:
            raise SafetyViolation("the journal does not continue the data file")
        self.member_id = member_id
        self.settings = settings
        self.on_leader_changed: Callable[[str | None], None] = lambda _: None
        self.on_configuration_changed: Callable[[], None] = lambda: None
        self._incarnation = incarnation
        self._journal = journal
        self._clock = clock
        self._random = random
        self._log_event = log_event
        if journal.current_term < journal.last_term:
            # A journal that begins after a snapshot: no frame may speak of a term older than the log's.
            journal.set_term(journal.last_term, None)
        base = Configuration(tuple(sorted(members)), tuple(sorted(learners)))
        self._membership = membership_in(journal, member_id, applied.index, base)
        self._log = EngineLog(journal, applied.index, self._membership)
        self._readings: dict[str, Reading] = {}
        self._acquaintances = {peer: Acquaintance() for peer in self._membership.others}
        self._digests = Digests(self._membership, settings.digest_interval, clock.monotonic, log_event)
        self._leader: str | None = None
        self._connected: set[str] = set()
        session = random.randbytes(8)
        sender = Sender(incarnation, member_id, session, journal.current_term, journal.last_index)
        self._wire = Wire(sender, journal, self._log, clock, outbound, self._digests.for_frame)
        self._elections = Elections(self._membership, journal, self._wire, settings, clock.monotonic, random.random)
        self._follower = Follower(journal, self._wire, clock, self._elections, log_event)
        self._sender = SnapshotSender(self._wire, snapshots, settings, clock.monotonic)
        self._receiver = SnapshotReceiver(journal, self._wire, snapshots, self._follower, self._snapshot_installed)
        self._replication = Replication(
            self._membership, journal, self._wire, self._sender, self._acquaintances, settings, clock.monotonic
        )
        self._proposals = Proposals(
            member_id,
            self._membership,
            journal,
            self._wire,
            clock,
            self._readings,
            settings,
            lambda: self._applier.stamp_ms,
        )
        self._applier = Applier(
            journal,
            state_machine,
            self._digests,
            self._membership,
            applied,
            settings,
            clock.monotonic,
        )
        self._transfer = Transfer(
            self._membership, journal, self._replication, self._proposals, settings, clock.monotonic
        )
        self._changes = Changes(self._membership, self._replication, self._proposals)
        self._reception = self._make_reception(sender)
        self._core = self._make_core(applied.index)
        self._standing = self._make_standing()
        self._membership.changed = self._configuration_changed

    def _make_reception(self, sender: Sender) -> Reception:
        return Reception(
            sender=sender,
            membership=self._membership,
            acquaintances=self._acquaintances,
            readings=self._readings,
            digests=self._digests,
            wire=self._wire,
            clock=self._clock,
            elections=self._elections,
            follower=self._follower,
            receiver=self._receiver,
            replication=self._replication,
            proposals=self._proposals,
            log_event=self._log_event,
        )

    def _make_core(self, applied_index: int) -> Core:
        core = Core(
            self.member_id,
            list(self._membership.other_voters),
            self._log,
            applied_index,
            self,
            election_timeout_min=self.settings.election_timeout_min,
            election_timeout_max=self.settings.election_timeout_max,
            heartbeat=self.settings.heartbeat,
        )
        for part in (
            self._elections,
            self._follower,
            self._receiver,
            self._replication,
            self._proposals,
            self._applier,
            self._transfer,
            self._sender,
            self._changes,
        ):
            part.core = core
        return core

    def _make_standing(self) -> Standing:
        return Standing(
            self.member_id,
            self._membership,
            self._connected,
            self._readings,
            self._core,
            self._journal,
            self._clock,
            self._elections,
            self._follower,
            self._replication,
            self._applier,
            self._digests,
            self.settings,
        )

    # -- called by the node ------------------------------------------------------------------------------------------
    @property
    def on_group_refused(self) -> Callable[[bytes], None]:
        """Called with the id of a group of this node's that the leader did not take."""
        return self._proposals.refused

    @on_group_refused.setter
    def on_group_refused(self, callback: Callable[[bytes], None]) -> None:
        self._proposals.refused = callback

    def receive(self, member_id: str, data: bytes) -> None:
        """A frame from the peer whose certificate names `member_id`.

        Raises FrameRefused for bytes that no sound peer sends: the caller closes that connection and goes on.
        """
        frame = decode(data)
        with self._entered():
            if self._reception.admit(member_id, frame):
                self._reception.dispatch(member_id, frame)
                self._proposals.propose()
            self._tell_leader()

    def connected(self, member_id: str) -> None:
        """Frames can reach this peer from now on (it may become a member only later)."""
        with self._entered():
            self._connected.add(member_id)
            self._core.set_connected(member_id, member_id in self._membership.others)
            self._replication.set_connected(member_id, True)

    def met(self, member_id: str) -> None:
        """A node of this cluster that no configuration here has: it may lead, by one that is still to come."""
        self._reception.met.add(member_id)

    def disconnected(self, member_id: str) -> None:
        with self._entered():
            self._connected.discard(member_id)
            self._core.set_connected(member_id, False)
            self._replication.set_connected(member_id, False)
            self._wire.forget(member_id)

    def tick(self) -> None:
        """Timers, commit, apply; every 10 to 20 ms, after frames and syncs, and again soon while `busy`."""
        with self._entered():
            self._core.step()
            self._replication.step_down_from_a_dead_disk()
            self._proposals.propose()
            if self._proposals.hand_leadership_to is not None:
                self._transfer.start(self._proposals.hand_leadership_to)
                self._proposals.hand_leadership_to = None
            self._transfer.tick()
            for peer in self._digests.to_be_told():
                self._wire.post(peer, Notice())
            self._tell_leader()

    def synced(self) -> None:
        """The journal's last sync has ended."""
        with self._entered():
            self._wire.release()
            self._replication.synced()

    def hand_over(self, group: Group) -> bool:
        """Gives a group to the leader, which may be this node.  False: no leader is known or can be reached."""
        with self._entered():
            if self._core.is_leader:
                self._proposals.offer(self.member_id, [group])
                self._proposals.propose()
                return True
            leader = self._core.leader
            if leader is None or leader not in self._connected:
                return False
            self._wire.post(leader, HandOver(((group.group_id, group.payload, group.cost),)))
            return True

    def transfer_leadership(self, member_id: str | None = None) -> None:
        """Hands leadership to `member_id`, or to any peer that has caught up; nothing where this node doesn't lead."""
        with self._entered():
            self._transfer.start(member_id)

    def change_configuration(self, new: Configuration) -> None:
        """Appends a change of members to the log; it is in effect at once, and made when it is applied.

        Raises ChangeRefused where it may not be made now: the caller tries again, or gives up.
        """
        with self._entered():
            self._changes.propose(new)

    @property
    def configuration(self) -> Configuration:
        """The newest configuration in the log, committed or not."""
        return self._membership.configuration

    @property
    def configuration_index(self) -> int:
        return self._membership.index

    @property
    def needed_index(self) -> int | None:
        """What comes after this index is needed by a follower that answers; None where that is not known of any."""
        return self._replication.needed_index()

    def is_filled(self, member_id: str) -> bool:
        """Whether a learner's log has caught up, as this leader sees it."""
        return self._replication.is_filled(member_id)

    @property
    def peers(self) -> Sequence[str]:
        return self._membership.others

    @property
    def transferring(self) -> bool:
        return self._transfer.active

    def wants_sync(self) -> bool:
        return self._journal.written > self._journal.synced

    @property
    def busy(self) -> bool:
        """Committed entries wait for the next tick to be applied."""
        return self._applier.busy

    def clock_offset_ms(self) -> int | None:
        """How far the wall clock is ahead of the median of a majority's; None while too few peers are heard."""
        return self._standing.clock_offset_ms()

    def status(self) -> EngineStatus:
        return self._standing.status()

    # -- asked by the engine's core (see pysyncobj_patches.Seams) ----------------------------------------------------
    def monotonic(self) -> float:
        return self._clock.monotonic()

    def random(self) -> float:
        return self._random.random()

    def may_campaign(self) -> bool:
        return self._elections.may_campaign()

    def replicate(self) -> None:
        self._replication.replicate()

    def apply_committed(self) -> bool:
        moved = self._applier.apply_committed()
        self._proposals.propose()  # the next entry's frames carry the new commit index: none of its own is needed
        return moved

    def became_leader(self) -> None:
        self._replication.begin()
        self._transfer.stop()

    def send(self, member_id: str, message: dict[str, Any]) -> None:
        match message["type"]:
            case "request_vote":
                self._elections.engine_requests_vote(member_id, message)
            case "response_vote":
                self._elections.engine_votes(member_id)
            case "next_node_idx":
                self._follower.engine_acknowledges(member_id, message)
            case "timeout_now":
                self._elections.engine_transfers(member_id)
            case other:
                raise SafetyViolation(f"the engine would send {other}")

    # -- inside ------------------------------------------------------------------------------------------------------
    @contextmanager
    def _entered(self) -> Iterator[None]:
        self._core.enter()
        yield

    def _configuration_changed(self) -> None:
        for peer in self._membership.others:
            self._acquaintances.setdefault(peer, Acquaintance())
            self._core.set_connected(peer, peer in self._connected)
        self._core.set_other_voters(self._membership.other_voters)
        self._replication.configuration_changed()
        self._digests.configuration_changed()
        self.on_configuration_changed()

    def _snapshot_installed(self, meta: SnapshotMeta, configuration: Configuration) -> None:
        self._membership.installed(meta.index, configuration)
        self._digests.forget()
        self._applier.snapshot_installed(meta.stamp_ms, meta.running_digest, configuration)
        self._log_event("snapshot_installed", index=meta.index, term=meta.term)

    def _tell_leader(self) -> None:
        if not self._core.is_leader:
            self._proposals.refuse_all("not leader")
        leader = self._core.leader
        if leader != self._leader:
            self._leader = leader
            self.on_leader_changed(leader)
