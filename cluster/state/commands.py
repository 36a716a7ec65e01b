"""Commands: what a node proposes and every node applies. One class a kind; fields grow only at the end, with a default.

Whatever is random in a command is drawn by the servicer and travels beside it as `generated` (see codec.pack).
"""

from typing import ClassVar, Final

from cluster.state.kinds import Kind
from cluster.state.records import PinHash, Record, Role, TokenType
from factors.otp import SECRET_BYTES, Algorithm

VERSION: Final = 2  # the latest command version that this program knows
TOKEN_ID_RANDOM_BYTES: Final = 10


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


class PinSplit(Record, frozen=True):
    """One way to read the passcode, and what the servicer's hash said of its PIN.

    `length` is the code's, or LETTERED. The code is there only where the PIN was right: what stands behind a wrong PIN
    may be a part of the right one, and no PIN enters the log.
    """

    length: int
    right: bool = False
    code: str = ""


class WithPin(Command, frozen=True):
    """What is decided by PIN and code. `generated` tells the PIN's version."""

    user_id: str
    splits: tuple[PinSplit, ...]
    token_id: str = ""
    application: str = ""
    address: str = ""


class VerifyPin(WithPin, frozen=True):
    """As Verify, where a PIN goes before the code. `generated` is a PinGenerated without `hash`."""

    KIND = Kind.VERIFY_PIN
    SINCE = 2


class ChangePin(WithPin, frozen=True):
    """A user's own change, decided as VerifyPin is. `generated` is a PinGenerated."""

    KIND = Kind.CHANGE_PIN
    SINCE = 2


class SetPin(Command, frozen=True):
    """An operator's. `generated` is a PinGenerated."""

    KIND = Kind.SET_PIN
    SINCE = 2
    user_id: str
    must_change: bool = False


class PinGenerated(Record, frozen=True):
    """What goes with a command about a PIN and not into the digest of its request: it differs from retry to retry.

    `version` is that of the PIN that was there, empty for none; where another is there when the command is applied, it
    answers STALE and changes nothing. `recent`: the new PIN is one of those before it.
    """

    version: bytes
    hash: PinHash | None = None
    recent: bool = False


class IssueRecoveryCodes(Command, frozen=True):
    """Replaces those there are. `generated`: salt and fingerprints of the new ones (factors.recovery)."""

    KIND = Kind.ISSUE_RECOVERY_CODES
    SINCE = 2
    user_id: str


class IssueBypass(Command, frozen=True):
    """Replaces the one there is. `generated`: salt and fingerprint of the new one (factors.recovery)."""

    KIND = Kind.ISSUE_BYPASS
    SINCE = 2
    user_id: str
    seconds: int
    reason: str


class SetSettings(Command, frozen=True):
    """Sets what is named, all of it or nothing; `values` are (name, value), each name once."""

    KIND = Kind.SET_SETTINGS
    SINCE = 2
    values: tuple[tuple[str, int], ...]


class AddClient(Command, frozen=True):
    """`key_digest` is of the public key in its certificate, which ends at `issuer_until_ms` at the latest."""

    KIND = Kind.ADD_CLIENT
    SINCE = 2
    name: str
    roles: tuple[Role, ...]
    key_digest: bytes
    lifetime_ms: int
    issuer_until_ms: int


class RevokeClient(Command, frozen=True):
    KIND = Kind.REVOKE_CLIENT
    SINCE = 2
    name: str


class RenewClient(Command, frozen=True):
    """Another certificate for the client that asks; the fields are those of AddClient."""

    KIND = Kind.RENEW_CLIENT
    SINCE = 2
    key_digest: bytes
    lifetime_ms: int
    issuer_until_ms: int


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


class AcquireLease(Command, frozen=True):
    """For `ttl_ms` of the log's time; the answer has the epoch."""

    KIND = Kind.ACQUIRE_LEASE
    SINCE = 2
    name: str
    ttl_ms: int


class RenewLease(Command, frozen=True):
    """For `ttl_ms` from now on, of the one that holds this epoch."""

    KIND = Kind.RENEW_LEASE
    SINCE = 2
    name: str
    epoch: int
    ttl_ms: int


class ReleaseLease(Command, frozen=True):
    KIND = Kind.RELEASE_LEASE
    SINCE = 2
    name: str
    epoch: int


class Invite(Command, frozen=True):
    """An invitation that ends so long after it is applied. `generated`: its id, then the digest of its secret."""

    KIND = Kind.INVITE
    SINCE = 2
    lifetime_ms: int


class Join(Command, frozen=True):
    """Spends the invitation that the client's identity names, and adds a member, in one. `generated`: the member's id.

    The same key may ask again: it is told the same id.
    """

    KIND = Kind.JOIN
    SINCE = 2
    secret_digest: bytes
    key_digest: bytes  # SHA-256 of the public key that the member's certificate is to be for
    name: str
    peer_address: str
    client_address: str


class SettleMember(Command, frozen=True):
    """A removal that cannot be made is given up, or (`gone`) is over, since no configuration has that member."""

    KIND = Kind.SETTLE_MEMBER
    SINCE = 2
    member_id: str
    gone: bool


class TransferLeadership(Command, frozen=True):
    """`to_member` empty: to any other. `generated`: the id of who led when it was asked for."""

    KIND = Kind.TRANSFER_LEADERSHIP
    SINCE = 2
    to_member: str


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
        VerifyPin,
        ChangePin,
        SetPin,
        IssueRecoveryCodes,
        IssueBypass,
        SetSettings,
        AddClient,
        RevokeClient,
        RenewClient,
        AddMember,
        RemoveMember,
        AcquireLease,
        RenewLease,
        ReleaseLease,
        Invite,
        Join,
        SettleMember,
        TransferLeadership,
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
    Kind.VERIFY_PIN: frozenset({Role.FRONTEND}),
    Kind.CHANGE_PIN: frozenset({Role.FRONTEND}),
    Kind.SET_PIN: frozenset({Role.OPERATOR}),
    Kind.ISSUE_RECOVERY_CODES: frozenset({Role.OPERATOR}),
    Kind.ISSUE_BYPASS: frozenset({Role.OPERATOR, Role.HELPDESK}),
    Kind.SET_SETTINGS: frozenset({Role.OPERATOR}),
    Kind.ADD_CLIENT: frozenset({Role.OPERATOR}),
    Kind.REVOKE_CLIENT: frozenset({Role.OPERATOR}),
    Kind.RENEW_CLIENT: frozenset(Role),
    Kind.ADD_MEMBER: frozenset({Role.OPERATOR}),
    Kind.REMOVE_MEMBER: frozenset({Role.OPERATOR}),
    Kind.ACQUIRE_LEASE: frozenset({Role.OPERATOR, Role.CONNECTOR}),
    Kind.RENEW_LEASE: frozenset({Role.OPERATOR, Role.CONNECTOR}),
    Kind.RELEASE_LEASE: frozenset({Role.OPERATOR, Role.CONNECTOR}),
    Kind.INVITE: frozenset({Role.OPERATOR}),
    Kind.JOIN: frozenset(),
    Kind.SETTLE_MEMBER: frozenset(),
    Kind.TRANSFER_LEADERSHIP: frozenset({Role.OPERATOR}),
}

# Those that no role permits, but what the identity is: its path in the cluster begins so.
PROPOSED_BY: Final[dict[int, str]] = {Kind.JOIN: "join/", Kind.SETTLE_MEMBER: "node/"}


def add_token_random_bytes(algorithm: Algorithm) -> int:
    """How many random bytes go with AddToken as `generated`: for the token's id, then for its secret."""
    return TOKEN_ID_RANDOM_BYTES + SECRET_BYTES[algorithm]
