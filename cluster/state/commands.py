"""Commands: what a node proposes and every node applies. One class a kind; fields grow only at the end, with a default.

Whatever is random in a command is drawn by the servicer and travels beside it as `generated` (see codec.pack).
"""

from enum import IntEnum
from typing import ClassVar, Final

from cluster.state.records import Record, Role, TokenType
from factors.otp import SECRET_BYTES, Algorithm

VERSION: Final = 2  # the latest command version that this program knows
TOKEN_ID_RANDOM_BYTES: Final = 10


class Kind(IntEnum):
    """Numbers are never used anew."""

    BARRIER = 0
    VERIFY = 1
    ADD_USER = 10
    ENABLE_USER = 11
    DISABLE_USER = 12
    DELETE_USER = 13
    UNLOCK_USER = 14
    ADD_TOKEN = 20
    CONFIRM_TOKEN = 21
    RESYNC_TOKEN = 22
    ENABLE_TOKEN = 23
    DISABLE_TOKEN = 24
    DELETE_TOKEN = 25
    ADD_MEMBER = 70
    REMOVE_MEMBER = 71


class Command(Record, frozen=True):
    """The base of all commands. `SINCE` is the command version that brought the kind, or its latest field."""

    KIND: ClassVar[Kind]
    SINCE: ClassVar[int] = 1


class Barrier(Command, frozen=True):
    """Changes nothing: when it is applied, everything acknowledged before it was proposed is applied too."""

    KIND = Kind.BARRIER


class Verify(Command, frozen=True):
    """`user_id` in NFC and case-folded. `token_id` empty: any active token of the user."""

    KIND = Kind.VERIFY
    user_id: str
    passcode: str
    token_id: str = ""
    application: str = ""
    address: str = ""


class AddUser(Command, frozen=True):
    KIND = Kind.ADD_USER
    user_id: str


class EnableUser(Command, frozen=True):
    KIND = Kind.ENABLE_USER
    user_id: str


class DisableUser(Command, frozen=True):
    KIND = Kind.DISABLE_USER
    user_id: str


class DeleteUser(Command, frozen=True):
    """Deletes the user with tokens, lockout and attempts."""

    KIND = Kind.DELETE_USER
    user_id: str


class UnlockUser(Command, frozen=True):
    KIND = Kind.UNLOCK_USER
    user_id: str


class AddToken(Command, frozen=True):
    """Enrols. `secret` empty: the generated one. `generated` is add_token_random_bytes() random bytes."""

    KIND = Kind.ADD_TOKEN
    user_id: str
    type: TokenType
    algorithm: Algorithm = Algorithm.SHA1
    digits: int = 6
    period_s: int = 30  # 0 for HOTP
    counter: int = 0  # HOTP only
    pending: bool = False
    secret: bytes = b""


class ConfirmToken(Command, frozen=True):
    KIND = Kind.CONFIRM_TOKEN
    token_id: str
    code: str


class ResyncToken(Command, frozen=True):
    KIND = Kind.RESYNC_TOKEN
    token_id: str
    first_code: str
    second_code: str


class EnableToken(Command, frozen=True):
    KIND = Kind.ENABLE_TOKEN
    token_id: str


class DisableToken(Command, frozen=True):
    KIND = Kind.DISABLE_TOKEN
    token_id: str


class DeleteToken(Command, frozen=True):
    KIND = Kind.DELETE_TOKEN
    token_id: str


class AddMember(Command, frozen=True):
    """A node that is to be filled and then to vote; the leader sees to both. `member_id`: 32 hex digits."""

    KIND = Kind.ADD_MEMBER
    SINCE = 2
    member_id: str
    name: str
    peer_address: str
    client_address: str


class RemoveMember(Command, frozen=True):
    KIND = Kind.REMOVE_MEMBER
    SINCE = 2
    member_id: str


COMMANDS: Final[dict[int, type[Command]]] = {
    command.KIND: command
    for command in (
        Barrier,
        Verify,
        AddUser,
        EnableUser,
        DisableUser,
        DeleteUser,
        UnlockUser,
        AddToken,
        ConfirmToken,
        ResyncToken,
        EnableToken,
        DisableToken,
        DeleteToken,
        AddMember,
        RemoveMember,
    )
}

# Who may have a command applied. A barrier is a node's own, and needs no role.
PERMISSIONS: Final[dict[int, frozenset[Role]]] = {
    Kind.VERIFY: frozenset({Role.FRONTEND}),
    Kind.ADD_USER: frozenset({Role.OPERATOR, Role.CONNECTOR}),
    Kind.ENABLE_USER: frozenset({Role.OPERATOR, Role.CONNECTOR}),
    Kind.DISABLE_USER: frozenset({Role.OPERATOR, Role.CONNECTOR}),
    Kind.DELETE_USER: frozenset({Role.OPERATOR, Role.CONNECTOR}),
    Kind.UNLOCK_USER: frozenset({Role.OPERATOR, Role.HELPDESK}),
    Kind.ADD_TOKEN: frozenset({Role.OPERATOR}),
    Kind.CONFIRM_TOKEN: frozenset({Role.OPERATOR, Role.HELPDESK}),
    Kind.RESYNC_TOKEN: frozenset({Role.OPERATOR, Role.HELPDESK}),
    Kind.ENABLE_TOKEN: frozenset({Role.OPERATOR, Role.HELPDESK}),
    Kind.DISABLE_TOKEN: frozenset({Role.OPERATOR, Role.HELPDESK}),
    Kind.DELETE_TOKEN: frozenset({Role.OPERATOR, Role.HELPDESK}),
    Kind.ADD_MEMBER: frozenset({Role.OPERATOR}),
    Kind.REMOVE_MEMBER: frozenset({Role.OPERATOR}),
}


def add_token_random_bytes(algorithm: Algorithm) -> int:
    """How many random bytes go with AddToken as `generated`: for the token's id, then for its secret."""
    return TOKEN_ID_RANDOM_BYTES + SECRET_BYTES[algorithm]
