"""Pure: what a node remembers of each peer since its own start, to refuse one that came back with less.

A member that comes back with an older copy of its files would vote again in terms in which it has voted, and would
have forgotten what it acknowledged (design: Members).  Each frame says in which term and with how long a log its
sender's process started; a start behind what an earlier process of that member was seen at is such a copy.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

_RETIRED_SESSIONS_KEPT: Final = 16


@dataclass(slots=True)
class Acquaintance:
    """`term`: highest seen in the peer's frames, which it sends only once that is on its disk.

    `acknowledged_index`: the highest that it acknowledged in `acknowledged_term`, a term in which we led.
    """

    session: bytes | None = None
    term: int = 0
    acknowledged_term: int = 0
    acknowledged_index: int = 0
    rolled_back: bool = False
    _retired: deque[bytes] = field(default_factory=lambda: deque(maxlen=_RETIRED_SESSIONS_KEPT))

    def admit(self, session: bytes, start_term: int, start_index: int, term: int) -> bool:
        """False for a frame of a process that is gone, or of one that came back with less than was seen."""
        if session in self._retired:
            return False
        if session != self.session:
            if self.session is not None:
                self._retired.append(self.session)
            self.session = session
            self.rolled_back = start_term < self.term or (
                start_term == self.term == self.acknowledged_term and start_index < self.acknowledged_index
            )
        if self.rolled_back:
            return False
        self.term = max(self.term, term)
        return True

    def acknowledged(self, term: int, index: int) -> None:
        if term > self.acknowledged_term:
            self.acknowledged_term, self.acknowledged_index = term, index
        elif term == self.acknowledged_term:
            self.acknowledged_index = max(self.acknowledged_index, index)
