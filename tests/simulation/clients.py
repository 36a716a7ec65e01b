"""Clients of the simulated cluster: each asks one thing at a time, and retries with the same request id elsewhere.

A call is tried at one machine after the other until there is a definite answer or its time is over; answers that
come late, to tries given up long ago, are kept too, since they must be the same.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cluster.node.proposer import QueueFull, Unavailable
from cluster.state.codec import command_cost, pack
from cluster.state.commands import Command
from cluster.state.results import Code, Result
from tests.simulation.faults import Odds
from tests.simulation.world import Violation, World

if TYPE_CHECKING:
    from tests.simulation.machine import Machine

CALL_S = 10.0  # in all
TRY_S = (0.3, 5.0)  # one machine's time to answer
BACKOFF_S = (0.01, 0.3)

# These say that nothing was done, and are not remembered under the request id.
PASSING = {Code.RESOURCE_EXHAUSTED, Code.STALE}

Answer = tuple[int, int, str, str]


def answer_of(result: Result) -> Answer:
    """What must be the same each time; events belong to the first application only."""
    return (int(result.code), int(result.reason), result.token_id, result.field)


@dataclass(slots=True)
class Call:
    """One request id, for good."""

    request_id: str
    identity: str
    command: Command
    packed: bytes
    started_s: float
    done: Callable[["Call"], None]
    answer: Answer | None = None
    answered_s: float = 0.0
    closed: bool = False
    tries: int = field(default=0)


class Client:
    """Sends calls; what to ask is decided elsewhere (see workload)."""

    def __init__(self, number: int, world: World, odds: Odds, machines: Sequence["Machine"]) -> None:
        self.identity = f"client-{number}"
        self._world = world
        self._odds = odds
        self._machines = machines
        self._random = world.random(self.identity)
        self._sent = 0
        self.calls: list[Call] = []
        self.calm = False

    def ask(
        self, command: Command, done: Callable[[Call], None], *, first: "Machine | None" = None, generated: bytes = b""
    ) -> Call:
        self._sent += 1
        request_id = f"{self.identity}/{self._sent}"
        packed = pack(command, request_id=request_id, client=self.identity, generated=generated)
        call = Call(request_id, self.identity, command, packed, self._world.now, done)
        self.calls.append(call)
        self._world.counts["calls"] += 1
        self._try(call, first or self._any())
        return call

    def again(self, call: Call) -> None:
        """Sends an answered call once more, to any machine: the answer must be the same."""
        self._world.counts["repeats"] += 1
        self._send(call, self._any(), call.tries)

    def _any(self) -> "Machine":
        return self._random.choice(self._machines)

    def _delay(self) -> float:
        return self._random.uniform(0.0002, 0.003)

    def _try(self, call: Call, machine: "Machine") -> None:
        call.tries += 1
        self._send(call, machine, call.tries)
        self._world.after(self._random.uniform(*TRY_S), self._give_up, call, call.tries)

    def _send(self, call: Call, machine: "Machine", attempt: int) -> None:
        self._world.after(self._delay(), self._arrive, call, machine, attempt)

    def _arrive(self, call: Call, machine: "Machine", attempt: int) -> None:
        refused = not self.calm and self._odds.hits("connection_refused", self._random)
        if refused or not machine.up:
            self._retry_soon(call, attempt)
            return
        left_s = max(0.05, CALL_S - (self._world.now - call.started_s))
        try:
            machine.submit(
                call.packed, command_cost(call.packed), left_s, lambda outcome: self._answered(call, attempt, outcome)
            )
        except QueueFull:
            self._world.counts["queue full"] += 1
            self._retry_soon(call, attempt)

    def _answered(self, call: Call, attempt: int, outcome: Result | Unavailable) -> None:
        if not self.calm and self._odds.hits("answer_lost", self._random):
            self._world.counts["answer_lost"] += 1
            return
        self._world.after(self._delay(), self._receive, call, attempt, outcome)

    def _receive(self, call: Call, attempt: int, outcome: Result | Unavailable) -> None:
        if isinstance(outcome, Unavailable) or outcome.code in PASSING:
            self._retry_soon(call, attempt)
            return
        answer = answer_of(outcome)
        self._world.note("answer", call.request_id, type(call.command).__name__, *answer)
        self._world.counts["answers"] += 1
        if call.answer is not None and call.answer != answer:
            raise Violation(f"request {call.request_id} was answered {call.answer}, then {answer}")
        if call.answer is None:
            call.answer, call.answered_s = answer, self._world.now
        self._close(call)

    def _give_up(self, call: Call, attempt: int) -> None:
        if attempt == call.tries:
            self._retry_soon(call, attempt)

    def _retry_soon(self, call: Call, attempt: int) -> None:
        if not call.closed and attempt == call.tries:
            call.tries += 1  # answers to the last try no longer lead to another
            self._world.after(self._random.uniform(*BACKOFF_S), self._retry, call, call.tries)

    def _retry(self, call: Call, attempt: int) -> None:
        if call.closed or attempt != call.tries:
            return
        if self._world.now - call.started_s >= CALL_S:
            self._world.counts["unanswered"] += 1
            self._close(call)
            return
        self._try(call, self._any())

    def _close(self, call: Call) -> None:
        if not call.closed:
            call.closed = True
            call.done(call)
