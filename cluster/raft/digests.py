"""Tells peers this member's digest at checkpoints, and judges theirs (promise 8; the rules are in `agreement`).

Followers speak to their leader only, and one that differs from it could never learn what the others found.  So while
a difference is open, everybody who knows of it tells it to everybody.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from cluster.raft.agreement import Agreement, Verdict
from cluster.raft.errors import Diverged
from cluster.raft.membership import Membership


class Digests:
    """`interval`: seconds between two announcements to one peer."""

    def __init__(
        self,
        membership: Membership,
        interval: float,
        monotonic: Callable[[], float],
        log_event: Callable[..., None],
    ) -> None:
        self._membership = membership
        self._interval = interval
        self._monotonic = monotonic
        self._log_event = log_event
        self._agreement = Agreement(len(membership.configuration.members))
        self._announced_at: dict[str, float] = {}

    @property
    def disputed_index(self) -> int | None:
        return self._agreement.disputed_index

    def applied(self, index: int, digest: bytes) -> None:
        """This member's digest after `index`.  Raises Diverged where a majority found another one."""
        self._judge(self._agreement.applied(index, digest), index, "")

    def heard(self, peer: str, index: int, digest: bytes) -> None:
        """A peer's digest after `index`.  Raises Diverged where a majority found another one than this member."""
        self._judge(self._agreement.heard(peer, index, digest), index, peer)

    def for_frame(self, peer: str) -> tuple[int, bytes] | None:
        """What the frame that leaves for `peer` carries in its envelope."""
        if not self._is_due(peer):
            return None
        self._announced_at[peer] = self._monotonic()
        return self._agreement.announcement()

    def to_be_told(self) -> list[str]:
        """The peers to which a frame is owed, though there is nothing else to say to them."""
        if self._agreement.disputed_index is None:
            return []
        return [peer for peer in self._membership.others if self._is_due(peer)]

    def configuration_changed(self) -> None:
        self._agreement.members = len(self._membership.configuration.members)

    def forget(self) -> None:
        """The state was replaced by a snapshot."""
        self._agreement.forget()

    def _is_due(self, peer: str) -> bool:
        return self._monotonic() - self._announced_at.get(peer, -math.inf) >= self._interval

    def _judge(self, verdict: Verdict, index: int, peer: str) -> None:
        if verdict is Verdict.MINORITY:
            self._log_event("state_diverged", index=index, peer=peer)
            raise Diverged(index)
        if verdict is Verdict.DIFFERENT:
            self._log_event("digests_differ", index=index, peer=peer)
