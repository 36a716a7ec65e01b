"""Puts frames into their envelope and lets none go before what it claims is on disk.

Paper, section 5 (figure 2): "persistent state is updated on stable storage before responding to RPCs".  Every frame
waits until the term it carries (and the vote in it) is synced; votes and acknowledgements wait for all that was
written before them.  A frame carries the term of the moment it was made, never that of the moment it leaves.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from cluster.raft.log import EngineLog
from cluster.raft.messages import Body, Frame, encode
from datastore.journal import Journal


class Clock(Protocol):
    """`monotonic`: seconds; `wall_ms`: milliseconds UTC; `trusted`: False while the wall clock has departed from the
    monotonic one, which keeps this node from stamping entries."""

    def monotonic(self) -> float: ...
    def wall_ms(self) -> int: ...
    def trusted(self) -> bool: ...


class Outbound(Protocol):
    """Takes a frame for a peer; never blocks, and may lose it."""

    def send(self, member_id: str, frame: bytes) -> None: ...


@dataclass(frozen=True, slots=True)
class Sender:
    """Who speaks: see `messages`."""

    incarnation: str
    member: str
    session: bytes
    start_term: int
    start_index: int


@dataclass(frozen=True, slots=True)
class _Held:
    needs: int
    member: str
    term: int
    body: Body


class Wire:
    def __init__(
        self,
        sender: Sender,
        journal: Journal,
        log: EngineLog,
        clock: Clock,
        outbound: Outbound,
        digest_for: Callable[[str], tuple[int, bytes] | None],
    ) -> None:
        self._sender = sender
        self._journal = journal
        self._log = log
        self._clock = clock
        self._outbound = outbound
        self._digest_for = digest_for
        self._held: deque[_Held] = deque()

    def post(self, member: str, body: Body, *, claims: bool = False) -> None:
        """`claims`: the frame says something of this node's log or vote, so all that is written so far comes first."""
        needs = self._journal.written if claims else self._log.hard_state_written
        held = _Held(needs, member, self._journal.current_term, body)
        if needs <= self._journal.synced:
            self._send(held)
        else:
            self._held.append(held)

    def release(self) -> None:
        """After a sync: what waited for it leaves, in the order in which it was posted."""
        synced = self._journal.synced
        waiting: deque[_Held] = deque()
        for held in self._held:
            if held.needs <= synced:
                self._send(held)
            else:
                waiting.append(held)
        self._held = waiting

    def forget(self, member: str) -> None:
        """A connection ended: what waits for it is not of use to the next one."""
        self._held = deque(held for held in self._held if held.member != member)

    def _send(self, held: _Held) -> None:
        sender = self._sender
        frame = Frame(
            sender.incarnation,
            sender.member,
            sender.session,
            sender.start_term,
            sender.start_index,
            self._clock.wall_ms(),
            held.term,
            held.body,
            self._digest_for(held.member),
        )
        self._outbound.send(held.member, encode(frame))
