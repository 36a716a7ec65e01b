"""What a frame from a peer may do: who is let in, and which part of the engine it is for."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from cluster.raft.acquaintance import Acquaintance
from cluster.raft.digests import Digests
from cluster.raft.elections import Elections
from cluster.raft.errors import FrameRefused, RolledBack
from cluster.raft.follower import Follower
from cluster.raft.membership import Membership
from cluster.raft.messages import (
    Append,
    AppendReply,
    Frame,
    Group,
    HandOver,
    HandOverRefused,
    Heartbeat,
    HeartbeatReply,
    Notice,
    Outdated,
    PreVote,
    PreVoteRequest,
    Refused,
    SnapshotChunk,
    SnapshotReply,
    TimeoutNow,
    Vote,
    VoteRequest,
)
from cluster.raft.proposals import Proposals
from cluster.raft.replication import Replication
from cluster.raft.snapshot_transfer import SnapshotReceiver
from cluster.raft.timestamps import Reading
from cluster.raft.wire import Clock, Sender, Wire


@dataclass(frozen=True, slots=True, kw_only=True)
class Reception:
    """`sender`: this member, as its own frames name it."""

    sender: Sender
    membership: Membership
    acquaintances: dict[str, Acquaintance]
    readings: dict[str, Reading]
    digests: Digests
    wire: Wire
    clock: Clock
    elections: Elections
    follower: Follower
    receiver: SnapshotReceiver
    replication: Replication
    proposals: Proposals
    log_event: Callable[..., None]
    refused_at: dict[str, float] = field(default_factory=dict)
    met: set[str] = field(default_factory=set)

    def admit(self, member_id: str, frame: Frame) -> bool:
        listed = member_id in self.membership.others
        # A leader may be of a configuration that this member has not heard of (dissertation, section 4.1).
        leads = member_id in self.met and isinstance(frame.body, Append | Heartbeat | SnapshotChunk)
        if not listed and not leads:
            raise FrameRefused("not a member")
        acquaintance = self.acquaintances.setdefault(member_id, Acquaintance())
        if frame.member != member_id:
            raise FrameRefused("a member that speaks for another")
        if frame.incarnation != self.sender.incarnation:
            raise FrameRefused("another incarnation")
        if not acquaintance.admit(frame.session, frame.start_term, frame.start_index, frame.term):
            self._refuse(member_id, frame.session)
            return False
        if isinstance(frame.body, Append):
            # A leader vouches for its own log as a follower does by acknowledging: nothing of it goes in that term.
            acquaintance.acknowledged(frame.term, frame.body.synced_index)
        self.readings[member_id] = Reading(frame.wall_ms, self.clock.monotonic())
        if frame.digest is not None and listed:
            self.digests.heard(member_id, *frame.digest)
        return True

    def _refuse(self, member_id: str, session: bytes) -> None:
        now = self.clock.monotonic()
        if now - self.refused_at.get(member_id, -math.inf) >= 1.0:
            self.refused_at[member_id] = now
            self.log_event("member_rolled_back", member=member_id)
            self.wire.post(member_id, Refused(session))

    def dispatch(self, peer: str, frame: Frame) -> None:
        term = frame.term
        match frame.body:
            case Append() as append:
                self.follower.on_append(peer, term, append)
            case AppendReply() as reply:
                self.replication.on_append_reply(peer, term, reply)
            case Heartbeat():
                self.follower.on_heartbeat(peer, term)
            case HeartbeatReply():
                self.replication.on_heartbeat_reply(peer, term)
            case HandOver(groups):
                self.proposals.offer(peer, [Group(*group) for group in groups])
            case HandOverRefused(group_ids, _):
                self.proposals.on_refused(group_ids)
            case VoteRequest() as request:
                self.elections.on_vote_request(peer, term, request)
            case Vote():
                self.elections.on_vote(peer, term)
            case PreVoteRequest() as request:
                self.elections.on_pre_vote_request(peer, request)
            case PreVote() as answer:
                self.elections.on_pre_vote(peer, term, answer)
            case Outdated():
                self.elections.on_outdated(term)
            case TimeoutNow():
                self.elections.on_timeout_now(peer, term)
            case SnapshotChunk() as chunk:
                self.receiver.on_chunk(peer, term, chunk)
            case SnapshotReply(name, offset):
                self.replication.on_snapshot_reply(peer, term, name, offset)
            case Notice():
                pass
            case Refused(session):
                # One that is meant for an earlier process of this member, whose last frame came late, is not for us.
                if session == self.sender.session:
                    raise RolledBack(peer)
