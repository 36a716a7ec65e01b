"""The Authentication service: one passcode in, one decision out."""

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

from grpc import aio

from cluster.services import fields, limits
from cluster.services.deadline import budget_s
from cluster.services.gate import current_caller
from cluster.services.proposals import Proposals
from cluster.services.roles import may_know_reasons
from cluster.services.sign_ins import Asked, PinChange, SignIns, without_pin
from cluster.services.status import CallError, internal
from cluster.services.streams import StreamLimits, VerifyStreams
from cluster.state import commands
from cluster.state.results import Decision, Reason, Result
from factors.passcode import normalise
from watchword.v1 import authentication_pb2, authentication_pb2_grpc


class AuthenticationService(authentication_pb2_grpc.AuthenticationServicer):
    def __init__(self, proposals: Proposals, sign_ins: SignIns, stream_limits: StreamLimits | None = None) -> None:
        self._proposals = proposals
        self._sign_ins = sign_ins
        self._under_way: set[asyncio.Task[None]] = set()  # of streams, with a PIN; a task that nobody holds may vanish
        self.streams = VerifyStreams(self._begin, self._respond_to, stream_limits)

    async def Verify(  # noqa: N802 - named as in the contract
        self, request: authentication_pb2.VerifyRequest, context: aio.ServicerContext[Any, Any]
    ) -> authentication_pb2.VerifyResponse:
        command = verify_command(request)
        result = await self._sign_ins.verify(command, asked_by_caller(request.request_id, context))
        return self._respond_to(current_caller().identity)(result)

    async def ChangePin(  # noqa: N802 - named as in the contract
        self, request: authentication_pb2.ChangePinRequest, context: aio.ServicerContext[Any, Any]
    ) -> authentication_pb2.ChangePinResponse:
        change = pin_change(request)
        result = await self._sign_ins.change_pin(change, asked_by_caller(request.request_id, context))
        told = self._respond_to(current_caller().identity)(result)
        return authentication_pb2.ChangePinResponse(decision=told.decision, reason=told.reason, advice=told.advice)

    async def VerifyStream(  # type: ignore[override]  # noqa: N802 - named as in the contract; it writes by itself
        self,
        request_iterator: AsyncIterator[authentication_pb2.VerifyBatch],
        context: aio.ServicerContext[Any, Any],
    ) -> None:
        await self.streams.serve(request_iterator, context)

    def _begin(
        self,
        request: authentication_pb2.VerifyRequest,
        identity: str,
        timeout_s: float,
        answer: Callable[[Result | CallError], None],
    ) -> None:
        command = verify_command(request)
        if not self._sign_ins.pin_required:
            self._proposals.begin(without_pin(command), request.request_id, identity, timeout_s, answer)
            return
        loop = asyncio.get_running_loop()
        asked = Asked(fields.request_id(request.request_id), identity, loop.time() + timeout_s)
        task = loop.create_task(self._answer_later(command, asked, answer))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _answer_later(
        self, command: commands.Verify, asked: Asked, answer: Callable[[Result | CallError], None]
    ) -> None:
        outcome: Result | CallError = internal()
        try:
            outcome = await self._sign_ins.verify(command, asked)
        except CallError as error:
            outcome = error
        finally:
            answer(outcome)  # whatever happens: a place on the stream waits for it

    def _respond_to(self, identity: str) -> Callable[[Result], authentication_pb2.VerifyResponse]:
        """How that client is told a result."""
        return partial(verify_response, reasons=may_know_reasons(self._proposals.state.roles_of(identity)))


def asked_by_caller(request_id: str, context: aio.ServicerContext[Any, Any]) -> Asked:
    until = asyncio.get_running_loop().time() + budget_s(context.time_remaining)
    return Asked(fields.request_id(request_id), current_caller().identity, until)


def pin_change(request: authentication_pb2.ChangePinRequest) -> PinChange:
    """Raises CallError (INVALID_ARGUMENT) where a field is out of its bounds."""
    return PinChange(
        user_id=fields.user_id(request.user_id),
        old_pin=normalise(fields.passcode("old_pin", request.old_pin)),
        code=normalise(fields.passcode("code", request.code)),
        new_pin=normalise(fields.passcode("new_pin", request.new_pin)),
        application=fields.shown_text("client.application", request.client.application, limits.APPLICATION_BYTES_MAX),
        address=fields.shown_text("client.address", request.client.address, limits.ADDRESS_BYTES_MAX),
    )


def verify_command(request: authentication_pb2.VerifyRequest) -> commands.Verify:
    """The command, its fields within their bounds and the name normalised.

    Raises:
        CallError: INVALID_ARGUMENT.
    """
    return commands.Verify(
        user_id=fields.user_id(request.user_id),
        passcode=fields.passcode("passcode", request.passcode),
        token_id=fields.token_id(request.token_id) if request.HasField("token_id") else "",
        application=fields.shown_text("client.application", request.client.application, limits.APPLICATION_BYTES_MAX),
        address=fields.shown_text("client.address", request.client.address, limits.ADDRESS_BYTES_MAX),
    )


def advice_of(result: Result) -> authentication_pb2.Advice.ValueType:
    """The same for every rejection."""
    if result.decision is not Decision.ACCEPT:
        return authentication_pb2.ADVICE_TRY_AGAIN
    due = result.reason is Reason.PIN_DUE
    return authentication_pb2.ADVICE_CHANGE_PIN if due else authentication_pb2.ADVICE_UNSPECIFIED


def _told(result: Result, reasons: bool) -> authentication_pb2.Reason.ValueType:
    return authentication_pb2.Reason.ValueType(result.reason) if reasons else authentication_pb2.REASON_UNSPECIFIED


def verify_response(result: Result, *, reasons: bool) -> authentication_pb2.VerifyResponse:
    """The answer; without `reasons`, every rejection is the same."""
    if result.decision is Decision.ACCEPT:
        return authentication_pb2.VerifyResponse(
            decision=authentication_pb2.DECISION_ACCEPT,
            reason=_told(result, reasons),
            advice=advice_of(result),
            token_id=result.token_id,
        )
    return authentication_pb2.VerifyResponse(
        decision=authentication_pb2.DECISION_REJECT,
        reason=_told(result, reasons),
        advice=advice_of(result),
        token_id=result.token_id if reasons else "",
    )
