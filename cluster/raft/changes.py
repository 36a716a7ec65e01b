"""The leader's side of a change of members: what has to hold before one may enter the log."""

from __future__ import annotations

from cluster.raft.errors import ChangeRefused
from cluster.raft.membership import Configuration, Membership, objection
from cluster.raft.proposals import Proposals
from cluster.raft.pysyncobj_patches import Core
from cluster.raft.replication import Replication
from cluster.raft.votes import majority


class Changes:
    def __init__(self, membership: Membership, replication: Replication, proposals: Proposals) -> None:
        self._membership = membership
        self._replication = replication
        self._proposals = proposals
        self.core: Core  # set by the engine, which the core needs first

    def propose(self, new: Configuration) -> None:
        """Raises ChangeRefused; then nothing was changed."""
        reason = self._objection(new) or objection(self._membership.configuration, new)
        if reason is not None:
            raise ChangeRefused(reason)
        if not self._proposals.propose_configuration(new):
            raise ChangeRefused("the clocks don't agree, or leadership is being handed on")

    def _objection(self, new: Configuration) -> str | None:
        core, membership = self.core, self._membership
        if not core.is_leader:
            return "this node does not lead"
        # Raft's single-server changes are sound only behind an entry of the leader's own term, and one at a time.
        if core.opening_index is None or core.applied_index < core.opening_index:
            return "this leader's term has not begun"
        if core.applied_index < membership.index:
            return "another change is under way"
        if membership.member_id not in new.voters:
            return "a leader does not remove itself: hand leadership on first"
        promoted = set(new.voters) & set(membership.configuration.learners)
        if any(not self._replication.is_filled(member) for member in promoted):
            return "the new member has not caught up"
        answering = self._replication.answering() | {membership.member_id}
        if len(answering.intersection(new.voters)) < majority(len(new.voters)):
            return "too few of the remaining voters answer: the change would cost the quorum"
        return None
