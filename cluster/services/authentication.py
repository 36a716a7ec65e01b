"""The Authentication service: one passcode in, one decision out."""

from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

from grpc import aio

from cluster.services import fields, limits
from cluster.services.gate import current_caller
from cluster.services.proposals import Proposals
from cluster.services.roles import may_know_reasons
from cluster.services.status import CallError
from cluster.services.streams import StreamLimits, VerifyStreams
from cluster.state.commands import Verify
from cluster.state.results import Decision, Result
from watchword.v1 import authentication_pb2, authentication_pb2_grpc


class AuthenticationService(authentication_pb2_grpc.AuthenticationServicer):
    def __init__(self, proposals: Proposals, stream_limits: StreamLimits | None = None) -> None:
        self._proposals = proposals
        self.streams = VerifyStreams(self._begin, self._respond_to, stream_limits)

    async def Verify(  # noqa: N802 - named as in the contract
        self, request: authentication_pb2.VerifyRequest, context: aio.ServicerContext[Any, Any]
    ) -> authentication_pb2.VerifyResponse:
        result = await self._proposals.change(verify_command(request), request.request_id, context)
        return self._respond_to(current_caller().identity)(result)

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
        self._proposals.begin(verify_command(request), request.request_id, identity, timeout_s, answer)

    def _respond_to(self, identity: str) -> Callable[[Result], authentication_pb2.VerifyResponse]:
        """How that client is told a result."""
        return partial(verify_response, reasons=may_know_reasons(self._proposals.state.roles_of(identity)))


def verify_command(request: authentication_pb2.VerifyRequest) -> Verify:
    """The command, its fields within their bounds and the name normalised.

    Raises:
        CallError: INVALID_ARGUMENT.
    """
    return Verify(
        user_id=fields.user_id(request.user_id),
        passcode=fields.passcode("passcode", request.passcode),
        token_id=fields.token_id(request.token_id) if request.HasField("token_id") else "",
        application=fields.shown_text("client.application", request.client.application, limits.APPLICATION_BYTES_MAX),
        address=fields.shown_text("client.address", request.client.address, limits.ADDRESS_BYTES_MAX),
    )


def verify_response(result: Result, *, reasons: bool) -> authentication_pb2.VerifyResponse:
    """The answer; without `reasons`, every rejection is the same."""
    if result.decision is Decision.ACCEPT:
        return authentication_pb2.VerifyResponse(
            decision=authentication_pb2.DECISION_ACCEPT,
            reason=authentication_pb2.REASON_ACCEPTED if reasons else authentication_pb2.REASON_UNSPECIFIED,
            token_id=result.token_id,
        )
    return authentication_pb2.VerifyResponse(
        decision=authentication_pb2.DECISION_REJECT,
        reason=authentication_pb2.Reason.ValueType(result.reason) if reasons else authentication_pb2.REASON_UNSPECIFIED,
        advice=authentication_pb2.ADVICE_TRY_AGAIN,
        token_id=result.token_id if reasons else "",
    )
