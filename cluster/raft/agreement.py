"""Pure: equal index means equal digest, and what follows where it does not (promise 8).

Digests are compared at checkpoints, every CHECKPOINT indices, so that two nodes that are not at the same index still
have one to compare.  Once a difference is seen, everybody speaks of that index until it is settled.
"""

from __future__ import annotations

import enum
from collections import OrderedDict
from typing import Final

from cluster.raft.votes import majority

CHECKPOINT: Final = 16
CHECKPOINTS_KEPT: Final = 512


class Verdict(enum.Enum):
    UNDECIDED = "undecided"
    EQUAL = "equal"
    DIFFERENT = "different"
    MINORITY = "minority"


class Agreement:
    """What this member and its peers computed at recent checkpoints."""

    def __init__(self, members: int) -> None:
        self.members = members
        self._own: OrderedDict[int, bytes] = OrderedDict()
        self._theirs: OrderedDict[int, dict[str, bytes]] = OrderedDict()
        self._announcements = 0
        self.disputed_index: int | None = None

    def applied(self, index: int, digest: bytes) -> Verdict:
        """This member's digest after `index`; compared with what peers said of it before."""
        if index % CHECKPOINT:
            return Verdict.UNDECIDED
        self._own[index] = digest
        while len(self._own) > CHECKPOINTS_KEPT:
            oldest, _ = self._own.popitem(last=False)
            self._theirs.pop(oldest, None)
            if oldest == self.disputed_index:
                self.disputed_index = None
        return self._judge(index)

    def heard(self, member: str, index: int, digest: bytes) -> Verdict:
        """A peer's digest after `index`."""
        if index % CHECKPOINT:
            return Verdict.UNDECIDED
        if index not in self._own and self._own and index < next(iter(self._own)):
            return Verdict.UNDECIDED
        self._theirs.setdefault(index, {})[member] = digest
        while len(self._theirs) > CHECKPOINTS_KEPT:
            self._theirs.popitem(last=False)
        return self._judge(index)

    def announcement(self) -> tuple[int, bytes] | None:
        """What to tell peers: the disputed index, and every third time, or without one, the newest checkpoint.

        Every third, so that a difference that is settled (its minority has left) hides no other.
        """
        self._announcements += 1
        if self.disputed_index is not None and self.disputed_index in self._own and self._announcements % 3:
            return self.disputed_index, self._own[self.disputed_index]
        if not self._own:
            return None
        index = next(reversed(self._own))
        return index, self._own[index]

    def forget(self) -> None:
        """The state was replaced by a snapshot."""
        self._own.clear()
        self.disputed_index = None

    def _judge(self, index: int) -> Verdict:
        own, theirs = self._own.get(index), self._theirs.get(index)
        if own is None or not theirs:
            return Verdict.UNDECIDED
        if all(digest == own for digest in theirs.values()):
            return Verdict.EQUAL
        self.disputed_index = index
        others: dict[bytes, int] = {}
        for digest in theirs.values():
            others[digest] = others.get(digest, 0) + 1
        others.pop(own, None)
        if max(others.values()) >= majority(self.members):
            return Verdict.MINORITY
        return Verdict.DIFFERENT
