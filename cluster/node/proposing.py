"""The proposer as the services see it: awaited, with a timeout, and an error that says why there is no answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from cluster.node import proposer
from cluster.node.consensus import Consensus
from cluster.services.ports import Cause, QueueFull, Unavailable
from cluster.state import codec
from cluster.state.apply import State
from cluster.state.results import Result


class Proposing:
    """Implements `cluster.services.ports.Replica`."""

    def __init__(self, consensus: Consensus) -> None:
        self._consensus = consensus

    @property
    def state(self) -> State:
        return self._consensus.state

    async def propose(self, command: bytes, timeout_s: float) -> Result:
        answer: asyncio.Future[Result | Unavailable] = asyncio.get_running_loop().create_future()

        def answered(outcome: Result | Unavailable) -> None:
            if not answer.done():  # the caller may be gone
                answer.set_result(outcome)

        self.submit(command, timeout_s, answered)
        outcome = await answer
        if isinstance(outcome, Unavailable):
            raise outcome
        return outcome

    def submit(self, command: bytes, timeout_s: float, answer: Callable[[Result | Unavailable], None]) -> None:
        consensus = self._consensus
        if consensus.failed:
            raise Unavailable(Cause.STOPPED)
        if consensus.replica.out_of_service:
            raise Unavailable(Cause.OUT_OF_SERVICE)

        def resolve(outcome: Result | proposer.Unavailable) -> None:
            answer(Unavailable(self._cause(outcome)) if isinstance(outcome, proposer.Unavailable) else outcome)

        deadline = consensus.clock.monotonic() + timeout_s
        try:
            consensus.proposer.submit(command, codec.command_cost(command), deadline, resolve)
        except proposer.QueueFull as error:
            raise QueueFull(str(error)) from error

    def _cause(self, outcome: proposer.Unavailable) -> Cause:
        if outcome.cause is proposer.Cause.STOPPED or self._consensus.failed:
            return Cause.STOPPED
        if self._consensus.replica.out_of_service:
            return Cause.OUT_OF_SERVICE
        return Cause.DEADLINE if self._consensus.engine.status().quorum else Cause.NO_QUORUM
