"""How a servicer changes the state, and how it reads it fresh: through the log, within the caller's deadline."""

from collections.abc import Callable
from typing import Any

from grpc import aio

from cluster.services import fields
from cluster.services.deadline import budget_s
from cluster.services.gate import current_caller
from cluster.services.ports import QueueFull, Replica, Unavailable
from cluster.services.refusals import no_answer, refusal
from cluster.services.roles import is_allowed
from cluster.services.status import CallError, Reason, exhausted, not_allowed
from cluster.state import codec
from cluster.state.apply import State
from cluster.state.commands import Barrier, Command
from cluster.state.results import Result


class Proposals:
    """All errors of these methods are CallErrors."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica

    @property
    def state(self) -> State:
        """As of the last applied entry: with the caller's own changes, and maybe behind those of others."""
        return self._replica.state

    async def change(
        self, command: Command, request_id: str, context: aio.ServicerContext[Any, Any], generated: bytes = b""
    ) -> Result:
        """Have the command applied in the caller's name, once for this request id."""
        packed = codec.pack(
            command,
            request_id=fields.request_id(request_id),
            client=current_caller().identity,
            generated=generated,
        )
        return await self._propose(packed, context)

    def begin(
        self,
        command: Command,
        request_id: str,
        client: str,
        timeout_s: float,
        answer: Callable[[Result | CallError], None],
    ) -> None:
        """As `change`, in that client's name, without a task that waits: `answer` is called once, and not from in here.

        Where this raises, `answer` is never called.
        """

        def answered(outcome: Result | Unavailable) -> None:
            if isinstance(outcome, Unavailable):
                answer(no_answer(outcome))
            else:
                answer(refusal(outcome) or outcome)

        packed = codec.pack(command, request_id=fields.request_id(request_id), client=client)
        try:
            self._replica.submit(packed, timeout_s, answered)
        except QueueFull:
            raise _queue_full() from None
        except Unavailable as error:
            raise no_answer(error) from None

    async def fresh(self, context: aio.ServicerContext[Any, Any]) -> State:
        """The state with all that was acknowledged, by any node, before the call; the caller may still see it."""
        await self._propose(codec.pack(Barrier()), context)
        caller = current_caller()
        # At the door the local state was asked, which may have been behind a revocation.
        if not is_allowed(caller.method, self.state.roles_of(caller.identity)):
            raise not_allowed()
        return self.state

    async def _propose(self, packed: bytes, context: aio.ServicerContext[Any, Any]) -> Result:
        try:
            result = await self._replica.propose(packed, budget_s(context.time_remaining))
        except QueueFull:
            raise _queue_full() from None
        except Unavailable as error:
            raise no_answer(error) from None
        refused = refusal(result)
        if refused is not None:
            raise refused
        return result


def _queue_full() -> CallError:
    return exhausted(Reason.QUEUE_FULL, "as many requests wait at this node as may")
