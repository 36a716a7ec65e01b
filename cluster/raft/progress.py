"""Pure: how far each follower is, and what to send it next, so that each entry is sent once.

Three states, as in etcd's raft: *probe* (one message, then wait), *replicate* (send ahead of the acknowledgements),
*snapshot* (what the follower needs was compacted away).
"""

from __future__ import annotations

import enum
import math
from collections import deque
from dataclasses import dataclass, field


class Mode(enum.Enum):
    PROBE = "probe"
    REPLICATE = "replicate"
    SNAPSHOT = "snapshot"


@dataclass(slots=True)
class Progress:
    """One follower, in one term of ours.

    `match`: highest index known to equal ours and to be on its disk.  `next`: the next index to send.
    Times are monotonic seconds; `heard`: of its last frame in this term; `sent`: of our last append or heartbeat.
    """

    next: int
    match: int = 0
    mode: Mode = Mode.PROBE
    sent: float = -math.inf
    heard: float = -math.inf
    moved: float = -math.inf
    waiting: bool = False
    commit_sent: int = 0
    in_flight_bytes: int = 0
    _in_flight: deque[tuple[int, int]] = field(default_factory=deque)

    def sent_entries(self, last_index: int, size_bytes: int, now: float) -> None:
        """Entries up to `last_index` are on their way."""
        if self.mode is Mode.PROBE:
            self.waiting = True
        else:
            if not self._in_flight:
                self.moved = now
            self.next = last_index + 1
            self._in_flight.append((last_index, size_bytes))
            self.in_flight_bytes += size_bytes
        self.sent = now

    def accepted(self, index: int, now: float) -> None:
        """The follower's log matches ours up to `index`."""
        self.heard = now
        self.waiting = False
        if index > self.match:
            self.match = index
            self.moved = now
            while self._in_flight and self._in_flight[0][0] <= index:
                self.in_flight_bytes -= self._in_flight.popleft()[1]
        self.next = max(self.next, self.match + 1)
        if self.mode is Mode.PROBE or (self.mode is Mode.SNAPSHOT and index >= self.next - 1):
            self.mode = Mode.REPLICATE
            self.moved = now

    def rejected(self, hint: int, last_index: int, now: float) -> None:
        """The follower does not hold what stood before our message.  A late rejection can't lead below `match`."""
        self.heard = now
        if self.mode is Mode.SNAPSHOT:
            return
        self._probe(min(max(hint, self.match + 1), last_index + 1))

    def lost_contact(self) -> None:
        """A connection ended: what was under way may be gone."""
        self._probe(self.match + 1 if self.match else self.next)
        self.sent = -math.inf

    def installing(self, index: int) -> None:
        self._probe(index + 1)
        self.mode = Mode.SNAPSHOT

    def installed_or_given_up(self, last_index: int) -> None:
        self._probe(min(self.next, last_index + 1))
        self.sent = -math.inf

    def stalled(self, now: float, timeout: float) -> bool:
        """Sent ahead, and no acknowledgement has moved for `timeout` seconds."""
        return self.mode is Mode.REPLICATE and self.next - 1 > self.match and now - self.moved > timeout

    def go_back(self) -> None:
        self._probe(self.match + 1)

    def _probe(self, next_index: int) -> None:
        self.mode = Mode.PROBE
        self.next = next_index
        self.waiting = False
        self._in_flight.clear()
        self.in_flight_bytes = 0

    def may_send(self, now: float, heartbeat: float) -> bool:
        """Whether entries may leave now: always while replicating, once a heartbeat while probing."""
        return self.mode is Mode.REPLICATE or not self.waiting or now - self.sent >= heartbeat
