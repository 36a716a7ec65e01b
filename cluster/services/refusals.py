"""What the state, or the way to it, said instead of "done", as the error that the caller gets."""

from collections.abc import Callable, Mapping
from typing import Final

from cluster.services.ports import Cause, Unavailable
from cluster.services.status import (
    CallError,
    Reason,
    exhausted,
    internal,
    invalid,
    no_such_token,
    no_such_user,
    not_allowed,
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
    return no_such_token() if field == "token_id" else no_such_user()


def _already_exists(field: str) -> CallError:
    return token_exists() if field == "secret" else user_exists()


def _failed_precondition(field: str) -> CallError:
    match field:
        case "token_status":
            return precondition(
                Reason.TOKEN_STATE,
                "token_id",
                "the token is in a state that does not allow this",
                "look at its state with ListTokens",
            )
        case "tokens_per_user":
            return precondition(
                Reason.LIMIT_REACHED, "user_id", "the user has as many tokens as a user may", "delete one first"
            )
        case _:
            return precondition(
                Reason.CODE_NOT_ACCEPTED,
                field,
                "the code is not one that the token shows now",
                "try again with the token's next code",
            )


# The fields are those that cluster.state.results names.
_REFUSALS: Final[Mapping[Code, Callable[[str], CallError]]] = {
    Code.INVALID_ARGUMENT: lambda field: invalid(field, "is not what the cluster accepts"),
    Code.NOT_FOUND: _not_found,
    Code.ALREADY_EXISTS: _already_exists,
    Code.FAILED_PRECONDITION: _failed_precondition,
    Code.PERMISSION_DENIED: lambda _field: not_allowed(),
    Code.RESOURCE_EXHAUSTED: lambda _field: exhausted(
        Reason.TOO_MANY_REQUEST_IDS, "the cluster remembers as many request ids as it may"
    ),
    Code.REQUEST_ID_REUSED: lambda _field: request_id_reused(),
    Code.CORRUPT: lambda _field: internal(),
    Code.INTERNAL: lambda _field: internal(),
}

_CAUSES: Final = {
    Cause.NO_QUORUM: (Reason.NO_QUORUM, "no majority of the nodes answers"),
    Cause.DEADLINE: (Reason.OUTCOME_UNKNOWN, "the cluster did not answer in time"),
    Cause.STOPPED: (Reason.STOPPING, "this node is stopping"),
    Cause.OUT_OF_SERVICE: (Reason.OUT_OF_SERVICE, "this node has left service; its log says why"),
}
