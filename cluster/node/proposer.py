"""Turns commands of this node into groups, hands them to the leader, and answers each command once.

What waits is put into one *group* under a random id of this process; each node finds its own groups in its own
apply, so an answer can never be taken for another's. A group is handed over again, under the same id and with the
same bytes, until its own apply shows it or every deadline in it has passed: the request ids inside the commands
make a second application harmless. A group is never packed anew under its old id, since results are matched by place.

There is no clock, loop or socket in here: the node (or the simulator) calls in, and says how to be called back.
"""

import logging
import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, NamedTuple, TypeVar

from cluster.raft.messages import Group

R = TypeVar("R")

GROUP_ID_BYTES = 16


class QueueFull(Exception):
    """The proposer holds as many unanswered commands as it may; the caller tries again later (RESOURCE_EXHAUSTED)."""


class CommandTooLarge(ValueError):
    """One command is larger than a group may be; the limits at the door are wrong, since they should have caught it."""


class Cause(StrEnum):
    """Why there is no answer. In each case the command may have been applied, or may yet be."""

    DEADLINE = "deadline"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Unavailable:
    """No answer. The outcome is unknown; a retry with the same request id is safe and gets the first answer."""

    cause: Cause


class Pace(NamedTuple):
    """How long to wait before the next hand-over: at first, and at most, where each wait is twice the last."""

    first_s: float
    most_s: float


REFUSED_PACE = Pace(0.05, 0.4)
SILENCE_PACE = Pace(0.4, 3.2)


@dataclass(frozen=True, slots=True)
class ProposerLimits:
    """Bounds of the queue and of a group, and the pace at which an unanswered group is handed over again."""

    group_commands_max: int = 512
    group_bytes_max: int = 256 * 1024
    group_cost_max: int = 20_000  # in checks of one passcode; a resynchronisation costs about a thousand
    groups_in_flight_max: int = 2
    queue_commands_max: int = 10_000  # waiting and in flight together
    queue_bytes_max: int = 16 * 1024 * 1024
    refused: Pace = REFUSED_PACE  # after "not leader", "full", "clock", or where no leader is known
    silence: Pace = SILENCE_PACE  # handed over, and not seen in the own apply

    def __post_init__(self) -> None:
        assert self.group_commands_max > 0, "a group holds at least one command"
        assert self.groups_in_flight_max > 0, "at least one group must be allowed in flight"
        assert self.queue_bytes_max >= self.group_bytes_max, "the queue must hold a whole group"


class _Command(Generic[R]):
    """One command that waits for its answer; `resolve` becomes None when it has been given."""

    __slots__ = ("cost", "data", "deadline", "resolve", "since")

    def __init__(
        self, data: bytes, cost: int, since: float, deadline: float, resolve: Callable[[R | Unavailable], None]
    ) -> None:
        self.data = data
        self.since = since
        self.cost = cost
        self.deadline = deadline
        self.resolve: Callable[[R | Unavailable], None] | None = resolve


class _InFlight(Generic[R]):
    """One group in flight: what was handed over, who waits, and when it is handed over again."""

    __slots__ = ("again_at", "commands", "group", "wait_s")

    def __init__(self, group: Group, commands: list[_Command[R]]) -> None:
        self.group = group
        self.commands = commands
        self.again_at = 0.0  # monotonic seconds
        self.wait_s = 0.0


class Proposer(Generic[R]):
    """See the module. All methods are called in one thread; none of them raises what a callback raises.

    `pack` makes a group's payload of commands; `hand_over` gives a group to the leader (False: no
    leader is known, or it takes no more); `call_soon` runs a function after the present call stack, never inside
    it, so that nothing is handed over from within the engine's own apply. `on_answered` is told each outcome and how
    many seconds the command waited for it.
    """

    def __init__(
        self,
        *,
        limits: ProposerLimits,
        pack: Callable[[Sequence[bytes]], bytes],
        hand_over: Callable[[Group], bool],
        monotonic: Callable[[], float],
        random_bytes: Callable[[int], bytes],
        call_soon: Callable[[Callable[[], None]], object],
        on_answered: Callable[[R | Unavailable, float], None] = lambda _outcome, _seconds: None,
        log: logging.Logger | None = None,
    ) -> None:
        self._limits = limits
        self._pack = pack
        self._hand_over = hand_over
        self._monotonic = monotonic
        self._random_bytes = random_bytes
        self._call_soon = call_soon
        self._on_answered = on_answered
        self._log = log or logging.getLogger(__name__)
        self._waiting: deque[_Command[R]] = deque()
        self._groups: dict[bytes, _InFlight[R]] = {}  # in the order they were made
        self._unanswered = 0
        self._held_bytes = 0
        self._earliest_deadline = math.inf  # a lower bound: no unanswered command has an earlier one
        self._pump_due = False
        self._stopped = False

    @property
    def unanswered(self) -> int:
        """Commands that wait for their answer, in a group or not."""
        return self._unanswered

    @property
    def groups_in_flight(self) -> int:
        return len(self._groups)

    def submit(self, command: bytes, cost: int, deadline: float, resolve: Callable[[R | Unavailable], None]) -> None:
        """Take a command; `resolve` is called exactly once, never from within this call.

        `cost` is in checks of one passcode, at least 1; `deadline` in seconds of the monotonic clock.
        Raises QueueFull, or CommandTooLarge; then nothing was taken and `resolve` is never called.
        """
        if len(command) > self._limits.group_bytes_max:
            raise CommandTooLarge(f"a command of {len(command)} bytes; at most {self._limits.group_bytes_max} fit")
        over_count = self._unanswered >= self._limits.queue_commands_max
        if over_count or self._held_bytes + len(command) > self._limits.queue_bytes_max:
            raise QueueFull(f"{self._unanswered} commands wait for their answer; try again later")
        self._waiting.append(_Command(command, cost, self._monotonic(), deadline, resolve))
        self._unanswered += 1
        self._held_bytes += len(command)
        self._earliest_deadline = min(self._earliest_deadline, deadline)
        self._pump_soon()

    def tick(self) -> None:
        """Timers: deadlines and what must be handed over again. Call every 10 to 20 ms."""
        self._pump_due = False
        if self._stopped:
            self.stop()
            return
        now = self._monotonic()
        self._expire(now)
        for group in list(self._groups.values()):
            if now >= group.again_at:
                self._give(group, now)
        self._fill(now)

    def applied(self, group_id: bytes, results: Sequence[R]) -> None:
        """A group was applied here; foreign and already answered groups are ignored. Called by the engine's apply."""
        group = self._groups.pop(group_id, None)
        if group is None:
            return
        assert len(results) == len(group.commands), "one result a command, in their order"
        self._forget(group)
        for command, result in zip(group.commands, results, strict=True):
            self._answer(command, result)
        self._pump_soon()

    def leader_changed(self, leader: str | None) -> None:
        """The leader is another, or not known: what it had may be lost, so the next one gets everything again."""
        if leader is not None:
            self._give_all_again()

    def refused(self, group_id: bytes) -> None:
        """The leader did not take the group ("not leader", "full", "clock"): it was not appended by that hand-over."""
        group = self._groups.get(group_id)
        if group is not None:
            self._back_off(group, self._monotonic(), taken=False)

    def snapshot_installed(self) -> None:
        """The state jumped: groups may have been applied within it, and only their request ids can tell."""
        self._give_all_again()

    def stop(self) -> None:
        """Answer everything with Unavailable and take no more; for the end of the node and for fail-stop."""
        self._stopped = True
        commands = list(self._all())
        self._groups.clear()
        self._waiting.clear()
        self._held_bytes = 0
        for command in commands:
            self._answer(command, Unavailable(Cause.STOPPED))

    def _all(self) -> Iterator[_Command[R]]:
        for group in self._groups.values():
            yield from group.commands
        yield from self._waiting

    def _pump_soon(self) -> None:
        if not self._pump_due:
            self._pump_due = True
            self._call_soon(self.tick)

    def _give_all_again(self) -> None:
        for group in self._groups.values():
            group.again_at = -math.inf
            group.wait_s = 0.0
        if self._groups:
            self._pump_soon()

    def _give(self, group: _InFlight[R], now: float) -> None:
        taken = self._hand_over(group.group)
        if group.group.group_id in self._groups:  # a lone leader may have applied it at once
            self._back_off(group, now, taken=taken)

    def _back_off(self, group: _InFlight[R], now: float, *, taken: bool) -> None:
        pace = self._limits.silence if taken else self._limits.refused
        group.wait_s = min(max(pace.first_s, group.wait_s * 2), pace.most_s)
        group.again_at = now + group.wait_s

    def _fill(self, now: float) -> None:
        """Make groups of what waits, as many as may be in flight, each within its bounds."""
        while self._waiting and len(self._groups) < self._limits.groups_in_flight_max:
            commands = self._take()
            if commands:
                group_id = self._random_bytes(GROUP_ID_BYTES)
                assert len(group_id) == GROUP_ID_BYTES, "the source of randomness gave another length"
                assert group_id not in self._groups, "group ids must be random"
                payload = self._pack([command.data for command in commands])
                group = _InFlight(Group(group_id, payload, sum(command.cost for command in commands)), commands)
                self._groups[group_id] = group
                self._give(group, now)

    def _take(self) -> list[_Command[R]]:
        """The next commands that wait and are not answered yet; one that is dearer than a group may be goes alone."""
        limits = self._limits
        taken: list[_Command[R]] = []
        size = cost = 0
        while self._waiting and len(taken) < limits.group_commands_max:
            command = self._waiting[0]
            fits = size + len(command.data) <= limits.group_bytes_max and cost + command.cost <= limits.group_cost_max
            if taken and not fits:
                break
            self._waiting.popleft()
            if command.resolve is None:
                self._held_bytes -= len(command.data)
                continue
            taken.append(command)
            size += len(command.data)
            cost += command.cost
        return taken

    def _expire(self, now: float) -> None:
        """Answer what is past its deadline; walks over everything, but only when the earliest deadline has passed."""
        if now < self._earliest_deadline:
            return
        unanswered = [command for command in self._all() if command.resolve is not None]
        self._earliest_deadline = min((c.deadline for c in unanswered if c.deadline > now), default=math.inf)
        for command in unanswered:
            if command.deadline <= now:
                self._answer(command, Unavailable(Cause.DEADLINE))
        for group in [g for g in self._groups.values() if all(c.resolve is None for c in g.commands)]:
            del self._groups[group.group.group_id]
            self._forget(group)
        while self._waiting and self._waiting[0].resolve is None:
            self._held_bytes -= len(self._waiting.popleft().data)

    def _forget(self, group: _InFlight[R]) -> None:
        self._held_bytes -= sum(len(command.data) for command in group.commands)

    def _answer(self, command: _Command[R], outcome: R | Unavailable) -> None:
        resolve, command.resolve = command.resolve, None
        if resolve is None:
            return
        self._unanswered -= 1
        try:
            self._on_answered(outcome, self._monotonic() - command.since)
            resolve(outcome)
        except Exception as error:  # noqa: BLE001
            # A caller's bug must not stop apply, nor have the engine apply the entry again.
            self._log.error("a caller's callback raised %s; its answer is lost", type(error).__name__)
