"""The part of the Administration service that is about PINs, recovery codes and bypasses."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from grpc import aio

from cluster.services import fields, limits
from cluster.services.authentication import asked_by_caller
from cluster.services.gate import current_caller
from cluster.services.proposals import Proposals
from cluster.services.sign_ins import SignIns
from cluster.services.status import CallError, Reason, invalid, precondition
from cluster.state import one_time
from cluster.state.commands import IssueBypass, IssueRecoveryCodes
from cluster.state.store import BYPASSES, RECOVERY_CODES
from factors import recovery
from factors.passcode import normalise
from watchword.v1 import administration_pb2_grpc
from watchword.v1 import codes_pb2 as messages

# ruff: noqa: N802 - methods are named as in the contract

Context: TypeAlias = aio.ServicerContext[Any, Any]


class CodeAdministration(administration_pb2_grpc.AdministrationServicer):
    """Whoever is one too sets the attributes."""

    _proposals: Proposals
    _sign_ins: SignIns
    _random_bytes: Callable[[int], bytes]

    async def SetPin(self, request: messages.SetPinRequest, context: Context) -> messages.SetPinResponse:
        user_id = fields.user_id(request.user_id)
        pin = normalise(fields.passcode("pin", request.pin))
        await self._sign_ins.set_pin(user_id, pin, request.must_change, asked_by_caller(request.request_id, context))
        return messages.SetPinResponse()

    async def IssueRecoveryCodes(
        self, request: messages.IssueRecoveryCodesRequest, context: Context
    ) -> messages.IssueRecoveryCodesResponse:
        user_id = fields.user_id(request.user_id)
        generated = self._drawn(request.request_id, user_id, recovery.RECOVERY_CODES)
        await self._proposals.change(IssueRecoveryCodes(user_id), request.request_id, context, generated)
        kept = self._proposals.state.read(RECOVERY_CODES, user_id.encode())
        if kept is None:
            raise replaced()
        codes = self._shown(request.request_id, user_id, recovery.RECOVERY_CODES, kept.salt, kept.fingerprints)
        return messages.IssueRecoveryCodesResponse(codes=codes)

    async def IssueBypass(self, request: messages.IssueBypassRequest, context: Context) -> messages.IssueBypassResponse:
        user_id = fields.user_id(request.user_id)
        if not request.reason.strip():
            raise invalid("reason", "must say why")
        command = IssueBypass(
            user_id,
            fields.within(
                "seconds",
                request.seconds or limits.BYPASS_SECONDS_DEFAULT,
                limits.BYPASS_SECONDS_MIN,
                limits.BYPASS_SECONDS_MAX,
            ),
            fields.shown_text("reason", request.reason, limits.BYPASS_REASON_BYTES_MAX),
        )
        generated = self._drawn(request.request_id, user_id, 1)
        await self._proposals.change(command, request.request_id, context, generated)
        kept = self._proposals.state.read(BYPASSES, user_id.encode())
        if kept is None:
            raise replaced()
        (passcode,) = self._shown(request.request_id, user_id, 1, kept.salt, (kept.fingerprint,))
        return messages.IssueBypassResponse(passcode=passcode, expires_ms=kept.expires_ms)

    def _drawn(self, request_id: str, user_id: str, count: int) -> bytes:
        """Salt and fingerprints of new codes, as they travel with the command."""
        salt = self._random_bytes(recovery.SALT_BYTES)
        return salt + b"".join(
            recovery.fingerprint(code, salt) for code in self._codes(request_id, user_id, count, salt)
        )

    def _shown(
        self, request_id: str, user_id: str, count: int, salt: bytes, fingerprints: Sequence[bytes]
    ) -> tuple[str, ...]:
        """The codes that this request brought, if they are those that are kept."""
        codes = self._codes(request_id, user_id, count, salt)
        if not {recovery.fingerprint(code, salt) for code in codes}.issuperset(fingerprints):
            raise replaced()
        return codes

    def _codes(self, request_id: str, user_id: str, count: int, salt: bytes) -> tuple[str, ...]:
        state, client = self._proposals.state, current_caller().identity
        return one_time.codes_of(state, client, fields.request_id(request_id), user_id, salt, count)


def replaced() -> CallError:
    """What a retry is told that comes too late."""
    return precondition(
        Reason.CODES_REPLACED,
        "user_id",
        "what this request issued was used or replaced since",
        "issue new ones, with another request_id",
    )
