"""Who may start an election, who gets our vote, and how leadership is handed on.

Restores three things that the engine lacks: a pre-vote (dissertation, section 9.6), the refusal of votes while a
leader is live (section 4.2.3), and a leader that learns of a newer term (paper, section 5.1).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cluster.raft.membership import Membership
from cluster.raft.messages import Outdated, PreVote, PreVoteRequest, TimeoutNow, Vote, VoteRequest
from cluster.raft.pysyncobj_patches import Core
from cluster.raft.settings import RaftSettings
from cluster.raft.votes import Ballot, up_to_date
from cluster.raft.wire import Wire
from datastore.journal import Journal


class Elections:
    def __init__(
        self,
        membership: Membership,
        journal: Journal,
        wire: Wire,
        settings: RaftSettings,
        monotonic: Callable[[], float],
        random: Callable[[], float],
    ) -> None:
        self._membership = membership
        self._journal = journal
        self._wire = wire
        self._settings = settings
        self._monotonic = monotonic
        self._random = random
        self.core: Core  # set by the engine, which the core needs first
        # A node that has just started can't know whether a leader is live, so it helps nobody against one.
        self._leader_heard = monotonic()
        self._pre_ballot: Ballot | None = None
        self._next_round = 0.0
        self._ballot: Ballot | None = None
        self._transfer_term: int | None = None

    # -- a leader's life ---------------------------------------------------------------------------------------------
    def heard_leader(self) -> None:
        self._leader_heard = self._monotonic()
        self._pre_ballot = None

    def leader_is_live(self) -> bool:
        """Whether this node leads, or has heard from a leader within the shortest election timeout."""
        recent = self._monotonic() - self._leader_heard < self._settings.election_timeout_min
        return self.core.is_leader or recent

    # -- campaigning -------------------------------------------------------------------------------------------------
    def may_campaign(self) -> bool:
        """Asked at each tick once the election timer has run out; opens a round of pre-votes where there is none."""
        if not self._membership.is_voter:
            self.core.clear_transfer()
            return False
        if not self._membership.other_voters or self._transfer_term == self.core.term:
            return True
        now = self._monotonic()
        next_term = self.core.term + 1
        ballot = self._pre_ballot
        if ballot is not None and ballot.term == next_term and len(ballot.granted_by) + 1 >= self._membership.majority:
            self._pre_ballot = None
            return True
        if ballot is None or ballot.term != next_term or now >= self._next_round:
            self._open_pre_ballot(next_term, now)
        # A transfer that came to nothing must not keep heartbeats from resetting the timer.
        self.core.clear_transfer()
        return False

    def _open_pre_ballot(self, next_term: int, now: float) -> None:
        self._pre_ballot = Ballot(next_term, now)
        self._next_round = now + self._settings.election_timeout_min * (0.3 + 0.4 * self._random())
        self.core.forget_leader()
        request = PreVoteRequest(next_term, self._journal.last_index, self._journal.last_term)
        for peer in self._membership.other_voters:
            self._wire.post(peer, request)

    def engine_requests_vote(self, peer: str, message: dict[str, Any]) -> None:
        """The engine has become a candidate and asks one peer."""
        term = message["term"]
        if self._ballot is None or self._ballot.term != term:
            self._ballot = Ballot(term, self._monotonic())
        transfer = self._transfer_term is not None and self._transfer_term + 1 == term
        request = VoteRequest(message["last_log_index"], message["last_log_term"], transfer)
        self._wire.post(peer, request, claims=True)

    def engine_votes(self, peer: str) -> None:
        self._wire.post(peer, Vote(), claims=True)

    # -- frames ------------------------------------------------------------------------------------------------------
    def on_pre_vote_request(self, peer: str, request: PreVoteRequest) -> None:
        granted = (
            request.next_term > self.core.term
            and not self.leader_is_live()
            and up_to_date(request.last_term, request.last_index, self._journal.last_term, self._journal.last_index)
        )
        self._wire.post(peer, PreVote(request.next_term, granted))

    def on_pre_vote(self, peer: str, term: int, answer: PreVote) -> None:
        if not answer.granted:
            if term > self.core.term and not self.leader_is_live():
                self.core.step_down(term)
            return
        if self._pre_ballot is not None and peer in self._membership.other_voters:
            self._pre_ballot.grant(peer, answer.next_term)

    def on_vote_request(self, peer: str, term: int, request: VoteRequest) -> None:
        if term < self.core.term:
            self._wire.post(peer, Outdated())
            return
        if self.leader_is_live() and not request.transfer:
            return
        self.core.deliver(
            peer,
            {
                "type": "request_vote",
                "term": term,
                "last_log_index": request.last_index,
                "last_log_term": request.last_term,
            },
        )

    def on_vote(self, peer: str, term: int) -> None:
        if term != self.core.term or not self.core.is_candidate or self._ballot is None:
            return
        if peer in self._membership.other_voters and self._ballot.grant(peer, term):
            self.core.deliver(peer, {"type": "response_vote", "term": term})

    def on_outdated(self, term: int) -> None:
        if term > self.core.term:
            self.core.step_down(term)

    def on_timeout_now(self, peer: str, term: int) -> None:
        if term == self.core.term and self.core.leader == peer and not self.core.is_leader:
            # Remembered here: the engine clears its own flag before the requests for votes leave.
            self._transfer_term = term
            self.core.deliver(peer, {"type": "timeout_now", "term": term})

    def engine_transfers(self, peer: str) -> None:
        self._wire.post(peer, TimeoutNow())
