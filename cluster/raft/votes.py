"""Pure: who has given us a vote or a pre-vote, one a peer a term, members only (paper, section 5.2)."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Ballot:
    """The votes, or pre-votes, of one term.  `opened`: monotonic seconds."""

    term: int
    opened: float
    granted_by: set[str] = field(default_factory=set)

    def grant(self, member_id: str, term: int) -> bool:
        """True where this is the member's first vote in this ballot's term."""
        if term != self.term or member_id in self.granted_by:
            return False
        self.granted_by.add(member_id)
        return True


def majority(members: int) -> int:
    """How many of `members` are more than half of them."""
    return members // 2 + 1


def up_to_date(last_term: int, last_index: int, own_last_term: int, own_last_index: int) -> bool:
    """Section 5.4.1: the log with the later last term, then the longer one, is more up to date."""
    return (last_term, last_index) >= (own_last_term, own_last_index)
