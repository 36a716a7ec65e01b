"""What a command gives back: a code, for a verification a decision and its reason, and events for the audit trail."""

from enum import IntEnum
from typing import Final

from cluster.state.records import Record


class Code(IntEnum):
    """Whether the command did what it says. Stored with remembered requests: numbers are never used anew."""

    OK = 0
    INVALID_ARGUMENT = 1  # `field` names it
    NOT_FOUND = 2  # `field`: user_id or token_id
    ALREADY_EXISTS = 3  # `field`: user_id, or secret (this user has a token with it)
    FAILED_PRECONDITION = 4  # `field` names what stands against it: code, first_code, token_status, tokens_per_user,
    # pin, user_state, oath_pin
    PERMISSION_DENIED = 5
    RESOURCE_EXHAUSTED = 6  # too many request ids are remembered; nothing was done, try later
    REQUEST_ID_REUSED = 7  # the id was used with other contents; nothing was done
    CORRUPT = 8  # the bytes are no group or no command of any version
    INTERNAL = 9  # a defect: the command was undone as a whole
    STALE = 10  # the PIN, the tokens or the setting that the servicer looked at changed: look again. Not remembered
    # (`field` change_pending: another change of members is under way)


class Decision(IntEnum):
    """NONE for commands that decide nothing. The others' numbers are those of the contract."""

    NONE = 0
    ACCEPT = 1
    REJECT = 2


class Reason(IntEnum):
    """Why a verification was decided so. The numbers are those of the contract and of stored attempts."""

    NONE = 0
    ACCEPTED = 1
    WRONG = 2
    REPLAYED = 3
    TOO_OLD = 4
    LOCKED = 5
    DISABLED = 6
    NO_TOKEN = 7
    UNKNOWN_USER = 8
    NO_PIN = 9
    PIN_DUE = 10  # accepted, and the PIN must be changed


# What the decision is ACCEPT for.
ACCEPTANCES: Final = frozenset({Reason.ACCEPTED, Reason.PIN_DUE})


class Event(Record, frozen=True):
    """One line of the audit trail to be. Fields that do not apply are empty. `kind` is one of EVENT_KINDS."""

    kind: str
    client: str
    request_id: str
    user_id: str = ""
    token_id: str = ""
    reason: Reason = Reason.NONE
    application: str = ""
    address: str = ""


class ChangeEvent(Event, frozen=True):
    """An event about something other than a user. `subject` names it (a setting, a client, a member); never a person.

    A class of its own, so that the events there were before are packed, and go into the running digest, as they did.
    """

    subject: str = ""


EVENT_KINDS: Final = (
    "verify",
    "user_locked",
    "user_unlocked",
    "user_added",
    "user_enabled",
    "user_disabled",
    "user_deleted",
    "token_added",
    "token_confirmed",
    "token_resynchronised",
    "token_enabled",
    "token_disabled",
    "token_deleted",
    "pin_set",
    "pin_changed",
    "recovery_codes_issued",
    "bypass_issued",
    "settings_changed",
    "client_added",
    "client_revoked",
    "client_renewed",
    "lease_acquired",
    "lease_released",
    "node_invited",
    "member_added",
    "member_removed",
    "member_kept",
    "leadership_transferred",
)


class Result(Record, frozen=True):
    """The answer to one command. An answer from memory, to a repeated request id, carries no events."""

    code: Code
    reason: Reason = Reason.NONE
    # With OK only: the token that accepted (or RECOVERY_CODE, BYPASS), was recognised, or was added; a lease's epoch.
    # With OK only: the token that accepted (or RECOVERY_CODE, BYPASS), was recognised, or was added; or the id of the
    # invitation or the member that was made.
    token_id: str = ""
    field: str = ""  # with an error only
    events: tuple[Event, ...] = ()

    @property
    def decision(self) -> Decision:
        return decision_of(self.reason)


def decision_of(reason: Reason) -> Decision:
    """The decision that a reason goes with."""
    if reason is Reason.NONE:
        return Decision.NONE
    return Decision.ACCEPT if reason in ACCEPTANCES else Decision.REJECT


class Refused(Exception):
    """A handler's way to say no: the command changes nothing, and `result` is the answer."""

    def __init__(self, code: Code, field: str) -> None:
        super().__init__(code.name, field)
        self.result = Result(code, field=field)


# In the place of a token's id, where it was none of the tokens that accepted.
RECOVERY_CODE: Final = "recovery-code"
BYPASS: Final = "bypass"

RESULT_OK: Final = Result(Code.OK)
RESULT_CORRUPT: Final = Result(Code.CORRUPT)
RESULT_PERMISSION_DENIED: Final = Result(Code.PERMISSION_DENIED)
RESULT_RESOURCE_EXHAUSTED: Final = Result(Code.RESOURCE_EXHAUSTED, field="request_id")
RESULT_REQUEST_ID_REUSED: Final = Result(Code.REQUEST_ID_REUSED, field="request_id")
RESULT_REQUEST_ID_INVALID: Final = Result(Code.INVALID_ARGUMENT, field="request_id")
RESULT_INTERNAL: Final = Result(Code.INTERNAL)
