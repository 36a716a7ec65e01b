"""gRPC's status codes and google.rpc details, as this client's errors.  The one place that reads them."""

import re
from dataclasses import dataclass, field

import grpc
import grpc.aio
from google.protobuf.any_pb2 import Any
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from watchword import errors

_DETAILS_KEY = "grpc-status-details-bin"
# BoringSSL's words, as gRPC hands them on, for a certificate that we do not accept.
_CERTIFICATE_REFUSED = re.compile(r"CERTIFICATE_VERIFY_FAILED|certificate signature failure|[Hh]ostname [Vv]erif")
_NO_QUORUM = "NO_QUORUM"
_NEXT = "next"  # the key of ErrorInfo's metadata that says what to do

# What did not reach a decision, so that another node may be asked the same.  CANCELLED is a node that is stopping.
RETRIED = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.CANCELLED,
    }
)


_PLAIN: dict[grpc.StatusCode, tuple[type[errors.WatchwordError], str]] = {
    grpc.StatusCode.UNAUTHENTICATED: (
        errors.NotAllowed,
        "use a profile whose certificate this cluster issued and has not revoked",
    ),
    grpc.StatusCode.PERMISSION_DENIED: (
        errors.NotAllowed,
        "use a profile whose certificate has a role that allows this",
    ),
    grpc.StatusCode.NOT_FOUND: (errors.NotFound, ""),
    grpc.StatusCode.ALREADY_EXISTS: (errors.AlreadyExists, ""),
    grpc.StatusCode.FAILED_PRECONDITION: (errors.FailedPrecondition, ""),
}


@dataclass(slots=True)
class Details:
    """What a node said beside the code; empty where it said nothing."""

    message: str = ""
    next: str = ""
    reason: str = ""
    fields: list[tuple[str, str]] = field(default_factory=list)
    preconditions: list[str] = field(default_factory=list)
    retry_after_s: float = 0.0


def details_of(error: grpc.aio.AioRpcError) -> Details:
    """The google.rpc details that came with an error.  What cannot be read is left out: the code still stands."""
    details = Details(message=error.details() or "")
    for key, value in error.trailing_metadata() or ():
        if key != _DETAILS_KEY or not isinstance(value, bytes):
            continue
        try:
            status = status_pb2.Status.FromString(value)
        except DecodeError:
            continue
        _take_all(details, status)
    return details


def _take_all(details: Details, status: status_pb2.Status) -> None:
    for detail in status.details:
        _take(details, detail)
    # The message of a node ends with what to do, for those who see nothing else.
    details.message = details.message.removesuffix(f"; {details.next}")


def _take(details: Details, detail: Any) -> None:
    info = error_details_pb2.ErrorInfo()
    request = error_details_pb2.BadRequest()
    retry = error_details_pb2.RetryInfo()
    precondition = error_details_pb2.PreconditionFailure()
    if detail.Unpack(info):
        details.reason = info.reason
        details.next = info.metadata.get(_NEXT, "")
    elif detail.Unpack(request):
        details.fields += [(violation.field, violation.description) for violation in request.field_violations]
    elif detail.Unpack(retry):
        details.retry_after_s = retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9
    elif detail.Unpack(precondition):
        details.preconditions += [violation.description for violation in precondition.violations]


def error_of(error: grpc.aio.AioRpcError, endpoint: str) -> errors.WatchwordError:
    """What to raise for an answer of `endpoint` that is an error."""
    return _error(error.code(), details_of(error), endpoint)


@dataclass(frozen=True, slots=True)
class Failed:
    """One request of a stream that a node answered with an error."""

    code: grpc.StatusCode
    error: errors.WatchwordError
    retry_after_s: float


def failed_of(status: status_pb2.Status, endpoint: str) -> Failed:
    """What an error in the result of a stream means."""
    details = Details(message=status.message)
    _take_all(details, status)
    code = _CODES.get(status.code, grpc.StatusCode.UNKNOWN)
    return Failed(code, _error(code, details, endpoint), details.retry_after_s)


_CODES = {code.value[0]: code for code in grpc.StatusCode}


def _error(code: grpc.StatusCode, details: Details, endpoint: str) -> errors.WatchwordError:
    message = details.message or f"{endpoint} answered {code.name}"
    if code in RETRIED:
        return _unavailable(code, details, endpoint)
    if code is grpc.StatusCode.INVALID_ARGUMENT:
        return _invalid_argument(details, message)
    if code in _PLAIN:
        kind, advice = _PLAIN[code]
        return kind(message, reason=details.reason, advice=details.next or "; ".join(details.preconditions) or advice)
    return errors.Unexpected(
        f"{endpoint} answered {code.name} ({message})",
        reason=details.reason,
        advice=details.next or "see the log of that node; client and server may differ in version",
    )


def _invalid_argument(details: Details, message: str) -> errors.InvalidArgument:
    name, description = details.fields[0] if details.fields else ("", "")
    if name and name not in message:
        message = f"{name}: {message}"
    advice = details.next or (description if description not in message else "")
    return errors.InvalidArgument(message, field=name, reason=details.reason, advice=advice)


def _unavailable(code: grpc.StatusCode, details: Details, endpoint: str) -> errors.Unavailable:
    """Nodes that answer speak through ErrorInfo; what comes without it is the transport's own word."""
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return errors.Overloaded(
            f"the cluster has too much to do ({endpoint}: {details.message})",
            reason=details.reason,
            advice=details.next or "repeat it later, with the same request id",
        )
    if details.reason == _NO_QUORUM:
        return errors.NoQuorum(
            f"the cluster cannot decide ({endpoint}: {details.message})",
            reason=details.reason,
            advice="bring back nodes until a majority runs; `watchword status` shows which are away",
        )
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return errors.NoAnswerInTime(
            f"no answer in time from {endpoint}",
            advice="look at `watchword status` and that node's log, then repeat it",
        )
    if details.reason:
        return errors.Unavailable(
            f"{endpoint} does not answer: {details.message}", reason=details.reason, advice=details.next
        )
    if _CERTIFICATE_REFUSED.search(details.message):
        return errors.NoConnection(
            f"{endpoint} has a certificate that the profile's CA did not issue for this address",
            advice="use the profile of that cluster, and the address that its certificate carries",
        )
    return errors.NoConnection(
        f"no connection to {endpoint} ({_short(details.message)})",
        advice="check that the node runs and that the profile's endpoints are right",
    )


_SHORT = 160


def _short(message: str) -> str:
    """The end of gRPC's chain of causes, which is the cause."""
    cause = message.rsplit("last error: ", 1)[-1].rsplit("remote host: ", 1)[-1].removeprefix("UNKNOWN: ")
    return cause if len(cause) <= _SHORT else f"{cause[:_SHORT]}…"


def preferred(found: list[errors.Unavailable]) -> errors.Unavailable:
    """Of what the endpoints failed with, what says most: a node's own word before the transport's."""
    assert found, "something failed"
    order = (errors.NoConnection, errors.NoAnswerInTime, errors.Unavailable, errors.Overloaded, errors.NoQuorum)
    return max(reversed(found), key=lambda error: order.index(type(error)))
