"""The client's calls about PINs, recovery codes, bypasses and settings."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from google.protobuf.message import Message

from watchword.v1 import authentication_pb2 as authentication
from watchword.v1 import codes_pb2 as codes
from watchword.v1 import settings_pb2 as settings
from watchword.verification import Verification, name_of, text

if TYPE_CHECKING:
    import grpc.aio

    from watchword.client import Stubs

Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response", bound=Message)


class CodeCalls:
    """A part of `watchword.client.Client`, which makes the calls."""

    async def _call(
        self,
        method: "Callable[[Stubs], grpc.aio.UnaryUnaryMultiCallable[Request, Response]]",
        request: Request,
    ) -> Response:
        raise NotImplementedError

    def _request_id(self, given: str | None) -> str:
        raise NotImplementedError

    async def change_pin(
        self,
        user_id: str,
        old_pin: str,
        code: str,
        new_pin: str,
        *,
        application: str = "",
        address: str = "",
        request_id: str | None = None,
    ) -> Verification:
        """A person's own change: an attempt as any other, whose code is used.  The PIN is new where it is `accepted`.

        `InvalidArgument` where the new PIN breaks a rule, `FailedPrecondition` where it was in use before.
        """
        request = authentication.ChangePinRequest(
            request_id=self._request_id(request_id),
            user_id=text("user_id", user_id),
            old_pin=text("old_pin", old_pin),
            code=text("code", code),
            new_pin=text("new_pin", new_pin),
        )
        if application or address:
            request.client.application = text("application", application)
            request.client.address = text("address", address)
        response = await self._call(lambda stubs: stubs.authentication.ChangePin, request)
        return Verification(
            accepted=response.decision == authentication.DECISION_ACCEPT,
            reason=name_of(authentication.Reason, response.reason, "REASON_"),
            advice=name_of(authentication.Advice, response.advice, "ADVICE_"),
            token_id="",
        )

    async def set_pin(
        self, user_id: str, pin: str, *, must_change: bool = False, request_id: str | None = None
    ) -> None:
        """`InvalidArgument` where it breaks a rule, `FailedPrecondition` where it was in use before."""
        request = codes.SetPinRequest(
            request_id=self._request_id(request_id),
            user_id=text("user_id", user_id),
            pin=text("pin", pin),
            must_change=must_change,
        )
        await self._call(lambda stubs: stubs.administration.SetPin, request)

    async def issue_recovery_codes(self, user_id: str, *, request_id: str | None = None) -> Sequence[str]:
        """Ten new ones, shown by this answer only; those that there were work no more."""
        request = codes.IssueRecoveryCodesRequest(
            request_id=self._request_id(request_id), user_id=text("user_id", user_id)
        )
        response = await self._call(lambda stubs: stubs.administration.IssueRecoveryCodes, request)
        return response.codes

    async def issue_bypass(
        self, user_id: str, reason: str, *, seconds: int = 0, request_id: str | None = None
    ) -> codes.IssueBypassResponse:
        """A passcode that signs in once, for so long (0: 300 s), shown by this answer only."""
        request = codes.IssueBypassRequest(
            request_id=self._request_id(request_id),
            user_id=text("user_id", user_id),
            seconds=seconds,
            reason=text("reason", reason),
        )
        return await self._call(lambda stubs: stubs.administration.IssueBypass, request)

    async def get_settings(self) -> settings.Settings:
        response = await self._call(lambda stubs: stubs.administration.GetSettings, settings.GetSettingsRequest())
        return response.settings

    async def set_settings(self, changed: settings.Settings, *, request_id: str | None = None) -> None:
        """Sets those fields that are given, all or none; `InvalidArgument` names one that is out of its range."""
        request = settings.SetSettingsRequest(request_id=self._request_id(request_id), settings=changed)
        await self._call(lambda stubs: stubs.administration.SetSettings, request)
