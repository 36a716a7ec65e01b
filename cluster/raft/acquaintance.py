"""Pure: what a node remembers of each peer since its own start, to refuse one that came back with less.

A member that comes back with an older copy of its files would vote again in terms in which it has voted, and would
have forgotten what it acknowledged (design: Members).  Each frame says in which term and with how long a log its
sender's process started; a start behind what an earlier process of that member was seen at is such a copy.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

_SESSIONS_KEPT: Final = 16


@dataclass(slots=True)
class Acquaintance:
    """`term`: highest seen in the peer's frames, which it sends only once that is on its disk.

    `acknowledged_index`: the highest that it said to be on its disk in `acknowledged_term`: in a term in which we led
    by acknowledging, in one in which it led by telling how far its own log was synced.
    """

    term: int = 0
    acknowledged_term: int = 0
    acknowledged_index: int = 0
    _sound: OrderedDict[bytes, None] = field(default_factory=OrderedDict)

    def admit(self, session: bytes, start_term: int, start_index: int, term: int) -> bool:
        """False for a frame of a process that came back with less than was seen.

        A session is judged by its first frame.  Late frames of a sound one that is gone stay welcome: what they claim
        was on disk, and the network may deliver them after those of its successor.
        """
        if session not in self._sound:
            if self._is_behind(start_term, start_index):
                return False
            self._sound[session] = None
            if len(self._sound) > _SESSIONS_KEPT:
                self._sound.popitem(last=False)
        self.term = max(self.term, term)
        return True

    def _is_behind(self, start_term: int, start_index: int) -> bool:
        return start_term < self.term or (
            start_term == self.term == self.acknowledged_term and start_index < self.acknowledged_index
        )

    def acknowledged(self, term: int, index: int) -> None:
        if term > self.acknowledged_term:
            self.acknowledged_term, self.acknowledged_index = term, index
        elif term == self.acknowledged_term:
            self.acknowledged_index = max(self.acknowledged_index, index)
