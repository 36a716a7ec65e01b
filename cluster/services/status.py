"""Errors become gRPC status codes here, and nowhere else (https://grpc.io/docs/guides/status-codes/).

Each carries google.rpc details: an ErrorInfo with a reason that is stable, and what belongs to the code beside it.
Texts are of our own making and name fields, never what stood in them: a message that echoed its input would carry
passcodes and names into the logs of others.
"""

from enum import StrEnum
from typing import Any, Final, NoReturn

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc.code_pb2 import Code
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, PreconditionFailure, ResourceInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc import aio

from cluster.services.limits import RETRY_AFTER_S

DOMAIN: Final = "watchword"
DETAILS_KEY: Final = "grpc-status-details-bin"


class Reason(StrEnum):
    """Stable names that programs may act on."""

    INVALID_FIELD = "INVALID_FIELD"
    MALFORMED_MESSAGE = "MALFORMED_MESSAGE"
    REQUEST_ID_REUSED = "REQUEST_ID_REUSED"
    NO_IDENTITY = "NO_IDENTITY"
    NOT_ALLOWED = "NOT_ALLOWED"
    NO_QUORUM = "NO_QUORUM"
    OUTCOME_UNKNOWN = "OUTCOME_UNKNOWN"
    STOPPING = "STOPPING"
    OUT_OF_SERVICE = "OUT_OF_SERVICE"
    QUEUE_FULL = "QUEUE_FULL"
    TOO_MANY_CALLS = "TOO_MANY_CALLS"
    ANSWERS_NOT_READ = "ANSWERS_NOT_READ"
    TOO_MANY_REQUEST_IDS = "TOO_MANY_REQUEST_IDS"
    LIMIT_REACHED = "LIMIT_REACHED"
    NO_SUCH_USER = "NO_SUCH_USER"
    NO_SUCH_TOKEN = "NO_SUCH_TOKEN"  # noqa: S105 - a reason's name
    USER_EXISTS = "USER_EXISTS"
    TOKEN_EXISTS = "TOKEN_EXISTS"  # noqa: S105 - a reason's name
    NO_SUCH_CLIENT = "NO_SUCH_CLIENT"
    CLIENT_EXISTS = "CLIENT_EXISTS"
    CLIENT_REVOKED = "CLIENT_REVOKED"
    LAST_OPERATOR = "LAST_OPERATOR"
    ISSUER_ENDED = "ISSUER_ENDED"
    CERTIFICATE_REVOKED = "CERTIFICATE_REVOKED"
    CODE_NOT_ACCEPTED = "CODE_NOT_ACCEPTED"
    PIN_USED_BEFORE = "PIN_USED_BEFORE"
    PINS_NOT_IN_USE = "PINS_NOT_IN_USE"
    USER_DISABLED = "USER_DISABLED"
    CODES_REPLACED = "CODES_REPLACED"
    NO_SUCH_LEASE = "NO_SUCH_LEASE"
    NO_SUCH_NODE = "NO_SUCH_NODE"
    NODE_EXISTS = "NODE_EXISTS"
    NO_INVITATION = "NO_INVITATION"
    INVITATION_EXPIRED = "INVITATION_EXPIRED"
    INVITATION_SPENT = "INVITATION_SPENT"
    CHANGE_PENDING = "CHANGE_PENDING"
    QUORUM_AT_RISK = "QUORUM_AT_RISK"
    NOT_A_VOTER = "NOT_A_VOTER"
    NOT_FILLED = "NOT_FILLED"
    LEASE_HELD = "LEASE_HELD"
    LEASE_LOST = "LEASE_LOST"
    CHANGED_MEANWHILE = "CHANGED_MEANWHILE"
    CLUSTER_VERSION = "CLUSTER_VERSION"
    TOKEN_STATE = "TOKEN_STATE"  # noqa: S105 - a reason's name
    DEADLINE_PASSED = "DEADLINE_PASSED"
    INTERNAL = "INTERNAL"


class CallError(Exception):
    """A call that ends with another status than OK."""

    def __init__(self, code: grpc.StatusCode, reason: Reason, what: str, to_do: str, *details: Message) -> None:
        super().__init__(f"{what}; {to_do}")
        self.code = code
        self.reason = reason
        info = ErrorInfo(reason=reason, domain=DOMAIN, metadata={"next": to_do})
        self.details: tuple[Message, ...] = (info, *details)

    def status(self) -> Status:
        """As a google.rpc.Status, which a result of a stream carries."""
        status = Status(code=Code.Value(self.code.name), message=str(self))
        for detail in self.details:
            status.details.add().Pack(detail)
        return status

    def status_bytes(self) -> bytes:
        """The same packed, as the trailing metadata carries it."""
        packed: bytes = self.status().SerializeToString()
        return packed


async def abort(context: aio.ServicerContext[Any, Any], error: CallError) -> NoReturn:
    """End the call with the error's status and details."""
    await context.abort(error.code, str(error), ((DETAILS_KEY, error.status_bytes()),))
    raise AssertionError("abort returned")


def retry_after(seconds: float = RETRY_AFTER_S) -> RetryInfo:
    return RetryInfo(retry_delay=Duration(nanos=round(seconds * 1e9)))


def invalid(field: str, description: str, reason: Reason = Reason.INVALID_FIELD) -> CallError:
    """`description` says what the field must be; it never quotes it."""
    violation = BadRequest.FieldViolation(field=field, description=description, reason=reason)
    return CallError(
        grpc.StatusCode.INVALID_ARGUMENT,
        reason,
        f"{field}: {description}",
        f"correct {field}",
        BadRequest(field_violations=[violation]),
    )


def malformed() -> CallError:
    return CallError(
        grpc.StatusCode.INVALID_ARGUMENT,
        Reason.MALFORMED_MESSAGE,
        "the request is not a message of this method, or a text in it is not UTF-8",
        "send what the contract in watchword/v1 describes",
    )


def request_id_reused() -> CallError:
    return invalid("request_id", "was used for a request with other contents", Reason.REQUEST_ID_REUSED)


def unauthenticated(what: str) -> CallError:
    return CallError(
        grpc.StatusCode.UNAUTHENTICATED, Reason.NO_IDENTITY, what, "use a certificate that this cluster has issued"
    )


def revoked() -> CallError:
    return CallError(
        grpc.StatusCode.UNAUTHENTICATED,
        Reason.CERTIFICATE_REVOKED,
        "the certificate was revoked",
        "ask an operator for a new one",
    )


def not_allowed() -> CallError:
    return CallError(
        grpc.StatusCode.PERMISSION_DENIED,
        Reason.NOT_ALLOWED,
        "no role of this certificate allows the call",
        "ask an operator for a certificate with the role",
    )


def not_for_this_user() -> CallError:
    return CallError(
        grpc.StatusCode.PERMISSION_DENIED,
        Reason.NOT_ALLOWED,
        "a helpdesk may not do this for itself or for an operator",
        "ask an operator",
    )


def unavailable(reason: Reason, what: str, to_do: str = "try again with the same request_id, at any node") -> CallError:
    return CallError(grpc.StatusCode.UNAVAILABLE, reason, what, to_do, retry_after())


def exhausted(reason: Reason, what: str, to_do: str = "try again later, with the same request_id") -> CallError:
    return CallError(grpc.StatusCode.RESOURCE_EXHAUSTED, reason, what, to_do, retry_after())


def deadline_passed() -> CallError:
    return CallError(
        grpc.StatusCode.DEADLINE_EXCEEDED,
        Reason.DEADLINE_PASSED,
        "no time was left when the call arrived, and nothing was changed",
        "allow more time",
    )


def no_such_user() -> CallError:
    return _missing(Reason.NO_SUCH_USER, "user", "look for it with `watchword user list`")


def no_such_token() -> CallError:
    return _missing(Reason.NO_SUCH_TOKEN, "token", "look for it with `watchword token list USER`")


def no_such_client() -> CallError:
    return _missing(Reason.NO_SUCH_CLIENT, "client", "look for it with `watchword client list`")


def no_such_lease() -> CallError:
    return _missing(Reason.NO_SUCH_LEASE, "lease", "look for it with `watchword status`")


def lease_lost() -> CallError:
    return precondition(
        Reason.LEASE_LOST,
        "epoch",
        "this epoch of the lease is over, or is not the caller's",
        "stop what is done under it, and acquire the lease anew",
    )


def no_such_node() -> CallError:
    return _missing(Reason.NO_SUCH_NODE, "node", "look for it with `watchword node list`")


def no_invitation() -> CallError:
    return _missing(Reason.NO_INVITATION, "invitation", "ask an operator for a new token (`watchword node invite`)")


def node_exists(field: str) -> CallError:
    what = {"member_name": "name", "peer_address": "address for the other nodes", "client_address": "address"}
    return _existing(
        Reason.NODE_EXISTS,
        "node",
        f"another node has this {what.get(field, 'id')}",
        "choose another, or remove that node first (`watchword node list`)",
    )


def not_filled() -> CallError:
    return unavailable(Reason.NOT_FILLED, "this node has joined and does not know the cluster yet", "ask another node")


def change_pending(what: str = "another change of members is under way") -> CallError:
    return unavailable(
        Reason.CHANGE_PENDING,
        what,
        "wait for it (`watchword node list`), and try again; remove a node that never comes up",
    )


def _missing(reason: Reason, kind: str, to_do: str) -> CallError:
    description = f"there is no such {kind}"
    # The resource's name stays empty: it is a person's.
    resource = ResourceInfo(resource_type=f"watchword.v1.{kind.capitalize()}", description=description)
    return CallError(grpc.StatusCode.NOT_FOUND, reason, description, to_do, resource)


def user_exists() -> CallError:
    return _existing(Reason.USER_EXISTS, "user", "there is such a user already", "use it, or take another user_id")


def client_exists() -> CallError:
    description = "there is such a client already"
    return _existing(Reason.CLIENT_EXISTS, "client", description, "take another name, or revoke that one first")


def token_exists() -> CallError:
    description = "the user has a token with this secret already"
    return _existing(Reason.TOKEN_EXISTS, "token", description, "use it, or enrol with a new secret")


def _existing(reason: Reason, kind: str, description: str, to_do: str) -> CallError:
    resource = ResourceInfo(resource_type=f"watchword.v1.{kind.capitalize()}", description=description)
    return CallError(grpc.StatusCode.ALREADY_EXISTS, reason, description, to_do, resource)


def precondition(reason: Reason, subject: str, description: str, to_do: str) -> CallError:
    """The request is well-formed, and what it is about is not in the state for it."""
    violation = PreconditionFailure.Violation(type=reason, subject=subject, description=description)
    return CallError(
        grpc.StatusCode.FAILED_PRECONDITION, reason, description, to_do, PreconditionFailure(violations=[violation])
    )


def cluster_version() -> CallError:
    return precondition(
        Reason.CLUSTER_VERSION,
        "cluster",
        "some node of the cluster does not know this yet",
        "upgrade every node, then try again",
    )


def internal() -> CallError:
    return CallError(
        grpc.StatusCode.INTERNAL,
        Reason.INTERNAL,
        "the node met an error of its own",
        "look into its log at this time, and report it",
    )
