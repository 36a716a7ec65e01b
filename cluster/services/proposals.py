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
from cluster.services.status import CallError, Reason, cluster_version, exhausted, not_allowed
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
        client = current_caller().identity
        result = await self.answer(command, request_id, client, budget_s(context.time_remaining), generated)
        refused = refusal(result)
        if refused is not None:
            raise refused
        return result

    async def answer(
        self, command: Command, request_id: str, client: str, timeout_s: float, generated: bytes = b""
    ) -> Result:
        """What the state says, in that client's name; a refusal is an answer too."""
        packed = self._packed(command, request_id, client, generated)
        return await self._propose(packed, timeout_s)

    def _packed(self, command: Command, request_id: str, client: str, generated: bytes = b"") -> bytes:
        if self.state.identity.command_version < command.SINCE:
            raise cluster_version()
        return codec.pack(command, request_id=fields.request_id(request_id), client=client, generated=generated)

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

        packed = self._packed(command, request_id, client)
        try:
            self._replica.submit(packed, timeout_s, answered)
        except QueueFull:
            raise _queue_full() from None
        except Unavailable as error:
            raise no_answer(error) from None

    async def fresh(self, context: aio.ServicerContext[Any, Any]) -> State:
        """The state with all that was acknowledged, by any node, before the call; the caller may still see it."""
        refused = refusal(await self._propose(codec.pack(Barrier()), budget_s(context.time_remaining)))
        if refused is not None:
            raise refused
        caller = current_caller()
        # At the door the local state was asked, which may have been behind a revocation.
        if not is_allowed(caller.method, self.state.roles_of(caller.identity)):
            raise not_allowed()
        return self.state

    async def _propose(self, packed: bytes, timeout_s: float) -> Result:
        try:
            return await self._replica.propose(packed, timeout_s)
        except QueueFull:
            raise _queue_full() from None
        except Unavailable as error:
            raise no_answer(error) from None


def _queue_full() -> CallError:
    return exhausted(Reason.QUEUE_FULL, "as many requests wait at this node as may")
