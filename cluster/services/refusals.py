"""What the state, or the way to it, said instead of "done", as the error that the caller gets."""

from collections.abc import Callable, Mapping
from typing import Final

from cluster.services.ports import Cause, Unavailable
from cluster.services.status import (
    CallError,
    Reason,
    client_exists,
    exhausted,
    internal,
    invalid,
    lease_lost,
    no_invitation,
    no_such_client,
    no_such_lease,
    no_such_node,
    no_such_token,
    no_such_user,
    node_exists,
    not_allowed,
    not_for_this_user,
    precondition,
    request_id_reused,
    token_exists,
    unavailable,
    user_exists,
)
from cluster.state.results import Code, Result


def refusal(result: Result) -> CallError | None:
    """The error for a result, or None for one that is OK."""
    return None if result.code is Code.OK else _REFUSALS[result.code](result.field)


def no_answer(error: Unavailable) -> CallError:
    reason, what = _CAUSES[error.cause]
    return unavailable(reason, what)


def _not_found(field: str) -> CallError:
    missing: dict[str, Callable[[], CallError]] = {
        "token_id": no_such_token,
        "name": no_such_client,
        "lease": no_such_lease,
        "member_id": no_such_node,
        "invitation": no_invitation,
    }
    return missing.get(field, no_such_user)()


def _already_exists(field: str) -> CallError:
    if field in {"member_id", "member_name", "peer_address", "client_address"}:
        return node_exists(field)
    return {"secret": token_exists, "name": client_exists}.get(field, user_exists)()


def _failed_precondition(field: str) -> CallError:
    if field == "lease_lost":
        return lease_lost()
    reason, subject, what, to_do = _PRECONDITIONS.get(
        field,
        (
            Reason.CODE_NOT_ACCEPTED,
            field,
            "the code is not one that the token shows now",
            "try again with the token's next code",
        ),
    )
    return precondition(reason, subject, what, to_do)


# By what cluster.state.results names: reason, the field of the request, what is so, and what to do.
_PRECONDITIONS: Final[Mapping[str, tuple[Reason, str, str, str]]] = {
    "token_status": (
        Reason.TOKEN_STATE,
        "token_id",
        "the token is in a state that does not allow this",
        "look at its state with `watchword token list USER`",
    ),
    "tokens_per_user": (
        Reason.LIMIT_REACHED,
        "user_id",
        "the user has as many tokens as a user may",
        "delete one first",
    ),
    "new_pin": (Reason.PIN_USED_BEFORE, "new_pin", "the new PIN was in use before", "choose one that is new"),
    "oath_pin": (
        Reason.PINS_NOT_IN_USE,
        "user_id",
        "PINs are not in use",
        "an operator can require them in the settings",
    ),
    "user_state": (Reason.USER_DISABLED, "user_id", "the user is disabled", "enable the user first"),
    "last_operator": (
        Reason.LAST_OPERATOR,
        "name",
        "no other operator with a valid certificate would be left",
        "add another operator first",
    ),
    "clients_max": (
        Reason.LIMIT_REACHED,
        "name",
        "the cluster knows as many clients as it may",
        "use one that there is",
    ),
    "members_max": (
        Reason.LIMIT_REACHED,
        "name",
        "the cluster has as many nodes as it may",
        "remove one first",
    ),
    "invitations_max": (
        Reason.LIMIT_REACHED,
        "ttl_ms",
        "there are as many invitations as there may be",
        "use one that there is, or wait until some are over",
    ),
    "invitation_expired": (
        Reason.INVITATION_EXPIRED,
        "secret",
        "the joining token is too old",
        "ask an operator for a new one (`watchword node invite`)",
    ),
    "invitation_spent": (
        Reason.INVITATION_SPENT,
        "secret",
        "the joining token was used already",
        "ask an operator for a new one (`watchword node invite`)",
    ),
    "last_member": (
        Reason.QUORUM_AT_RISK,
        "node",
        "no other node would be left that votes",
        "let another join first",
    ),
    "only_voter": (Reason.NOT_A_VOTER, "node", "there is no other node that could lead", "let another join first"),
    "not_a_voter": (
        Reason.NOT_A_VOTER,
        "node",
        "the node does not vote, so that it can't lead",
        "wait until it has caught up (`watchword node list`)",
    ),
    "lease_held": (
        Reason.LEASE_HELD,
        "name",
        "somebody holds the lease",
        "wait until it ends, or ask whoever holds it (`watchword status`)",
    ),
    "leases_max": (Reason.LIMIT_REACHED, "name", "there are as many leases as there may be", "use one that there is"),
    "issuer": (Reason.ISSUER_ENDED, "csr", "the authority that signs has ended", "check the clocks of the nodes"),
}

# The fields are those that cluster.state.results names.
_REFUSALS: Final[Mapping[Code, Callable[[str], CallError]]] = {
    Code.INVALID_ARGUMENT: lambda field: invalid(field, "is not what the cluster accepts"),
    Code.NOT_FOUND: _not_found,
    Code.ALREADY_EXISTS: _already_exists,
    Code.FAILED_PRECONDITION: _failed_precondition,
    Code.PERMISSION_DENIED: lambda field: not_for_this_user() if field == "user_id" else not_allowed(),
    Code.RESOURCE_EXHAUSTED: lambda _field: exhausted(
        Reason.TOO_MANY_REQUEST_IDS, "the cluster remembers as many request ids as it may"
    ),
    Code.REQUEST_ID_REUSED: lambda _field: request_id_reused(),
    Code.CORRUPT: lambda _field: internal(),
    Code.INTERNAL: lambda _field: internal(),
    Code.STALE: lambda _field: unavailable(
        Reason.CHANGED_MEANWHILE, "what the request is about changed each time that it was looked at"
    ),
}

_CAUSES: Final = {
    Cause.NO_QUORUM: (Reason.NO_QUORUM, "no majority of the nodes answers"),
    Cause.DEADLINE: (Reason.OUTCOME_UNKNOWN, "the cluster did not answer in time"),
    Cause.STOPPED: (Reason.STOPPING, "this node is stopping"),
    Cause.OUT_OF_SERVICE: (Reason.OUT_OF_SERVICE, "this node has left service; its log says why"),
}
