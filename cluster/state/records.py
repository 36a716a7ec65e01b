"""The records of the replicated state, as they are packed into msgpack arrays.

A record grows only at its end, and a new field has a default, so that an older data file can be read. Times are
integer milliseconds UTC of the log (0: never). No floats anywhere: msgspec refuses them where it expects an integer.
"""

from enum import IntEnum, StrEnum
from typing import Final, NamedTuple

from msgspec import Struct

from factors import pin as pins
from factors.lockout import LockoutPolicy
from factors.otp import STEP_NONE, Algorithm, HotpWindow, Otp, TotpWindow

SCHEMA_VERSION: Final = 1  # of the tables as a whole; goes into a data file's header

# Lengths of text are in bytes of UTF-8.
USER_ID_BYTES_MAX: Final = 256
APPLICATION_BYTES_MAX: Final = 128
MEMBER_NAME_BYTES_MAX: Final = 128
MEMBER_ADDRESS_BYTES_MAX: Final = 262  # a host name of 255 and a port
MEMBERS_MAX: Final = 7
FORMER_MEMBERS_KEPT: Final = 256  # the latest
INVITATIONS_MAX: Final = 64  # that could still be used, or be asked about
INVITATION_MS_MIN: Final = 60 * 1000
INVITATION_MS_MAX: Final = 7 * 24 * 3600 * 1000
INVITATION_KEPT_MS: Final = 24 * 3600 * 1000  # after its end: whoever comes late is told so
INVITATION_ID_BYTES: Final = 16
INVITATION_SECRET_BYTES: Final = 16
MEMBER_ID_BYTES: Final = 16
ADDRESS_BYTES_MAX: Final = 64
CLIENT_BYTES_MAX: Final = 256
REQUEST_ID_CHARACTERS_MAX: Final = 64
PERIOD_S_MIN: Final = 15
PERIOD_S_MAX: Final = 300
COUNTER_MAX: Final = 2**63 - 1
ATTEMPTS_KEPT: Final = 10
REQUEST_KEY_BYTES: Final = 32
KEY_DIGEST_BYTES: Final = 32  # SHA-256 of a public key (SubjectPublicKeyInfo)
SERIAL_BYTES: Final = 16
CERTIFICATES_KEPT: Final = 8  # the latest of a client
CLIENTS_MAX: Final = 10_000  # those that were revoked included
CLIENT_GENERATIONS_MAX: Final = 1_000  # of one name
CLIENT_LIFETIME_MS_MIN: Final = 3600 * 1000
CLIENT_LIFETIME_MS_MAX: Final = 825 * 24 * 3600 * 1000
BYPASS_SECONDS_MIN: Final = 10
BYPASS_SECONDS_MAX: Final = 24 * 3600
BYPASS_REASON_BYTES_MAX: Final = 256
LEASES_MAX: Final = 256  # names; a name that was used once stays
LEASE_TTL_MS_MIN: Final = 5_000
LEASE_TTL_MS_MAX: Final = 3600 * 1000


class Record(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """The base of all records and commands. It is never shown with its contents: they are secrets and names."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


class Role(StrEnum):
    OPERATOR = "operator"
    FRONTEND = "frontend"
    HELPDESK = "helpdesk"
    AUDITOR = "auditor"
    CONNECTOR = "connector"


class TokenType(IntEnum):
    TOTP = 1
    HOTP = 2


class TokenStatus(IntEnum):
    """The life of a token. Pending: enrolled, not yet confirmed by a code, accepts nothing."""

    PENDING = 1
    ACTIVE = 2
    DISABLED = 3


class User(Record, frozen=True):
    enabled: bool
    created_ms: int
    token_ids: tuple[str, ...] = ()  # in the order of enrolment


class Token(Record, frozen=True):
    """An enrolled authenticator. `counter` is the next one expected (HOTP), `last_step` the last one used (TOTP)."""

    user_id: str
    type: TokenType
    status: TokenStatus
    algorithm: Algorithm
    digits: int
    period_s: int  # 0 for HOTP
    secret: bytes
    created_ms: int
    counter: int = 0
    last_step: int = STEP_NONE
    drift_steps: int = 0  # steps that the token's clock is known to be ahead (negative: behind)
    last_used_ms: int = 0

    @property
    def otp(self) -> Otp:
        return Otp(self.secret, self.algorithm, self.digits)


class Failures(Record, frozen=True):
    """A user's lockout (see factors.lockout); absent where there is neither a failure nor a lock."""

    failures_ms: tuple[int, ...]
    locked_until_ms: int


class Attempt(Record, frozen=True):
    """One of a user's last attempts. `client` is short for identities of this cluster (see reads.full_client)."""

    at_ms: int
    reason: int
    token_id: str
    client: str
    application: str
    address: str
    note: str = ""  # why the bypass that was used was given; stored only where it is not empty


class PinHash(Record, frozen=True):
    """Argon2id of a PIN. The salt is random, so that no two hashes ever share one: it is the PIN's version."""

    salt: bytes
    hash: bytes
    memory_kib: int
    passes: int
    lanes: int

    @property
    def cost(self) -> pins.Cost:
        return pins.Cost(self.memory_kib, self.passes, self.lanes)


class Pin(Record, frozen=True):
    """A user's PIN. `earlier` are the ones before, newest first; one at least is kept, for retries (see DESIGN.md)."""

    current: PinHash
    changed_ms: int
    must_change: bool = False
    earlier: tuple[PinHash, ...] = ()

    @property
    def version(self) -> bytes:
        return self.current.salt


class RecoveryCodes(Record, frozen=True):
    """A user's unused recovery codes, as fingerprints (factors.recovery)."""

    salt: bytes
    fingerprints: tuple[bytes, ...]
    issued_ms: int


class Bypass(Record, frozen=True):
    """A passcode that works once, until then. `issuer` is in short, as in an attempt."""

    salt: bytes
    fingerprint: bytes
    expires_ms: int
    reason: str
    issuer: str


class ClusterIdentity(Record, frozen=True):
    cluster_id: str  # 32 hex digits
    incarnation_counter: int  # from 1
    incarnation_id: str  # 32 hex digits
    created_ms: int
    command_version: int = 1  # commands up to this version may be proposed


class Member(Record, frozen=True):
    """A node; its table's key is its member id."""

    name: str
    peer_address: str
    client_address: str
    voter: bool = True
    leaving: bool = False  # is to be removed; gone once a configuration without it is applied

    @property
    def settled(self) -> bool:
        """No change of this member is under way."""
        return self.voter and not self.leaving


class FormerMember(Record, frozen=True):
    """A member that was removed; its table's key is its member id. Ids are random: none ever comes back."""

    name: str
    removed_ms: int


class Invitation(Record, frozen=True):
    """Lets one new node join, once; its table's key is the invitation's id."""

    secret_digest: bytes  # SHA-256 of a random secret
    expires_ms: int
    invited_by: str  # in short, as in an attempt
    member_id: str = ""  # whom it let in
    key_digest: bytes = b""  # of that member's public key


class Transfer(Record, frozen=True):
    """Leadership is to go from one member to another (empty: to any). One record, of the latest wish."""

    from_member: str
    to_member: str
    asked_ms: int


class IssuedCertificate(Record, frozen=True):
    """What is known of a certificate that the cluster has signed."""

    serial: bytes  # SERIAL_BYTES, big-endian
    issued_ms: int
    valid_until_ms: int


class Roles(Record, frozen=True):
    """What one certificate identity may do, and how it came to it; the table's key is the identity's URI.

    `roles` are sorted by name, each once; they stay when it is revoked, and give it nothing any more.
    """

    roles: tuple[Role, ...]
    created_ms: int = 0
    created_by: str = ""  # in short, as in an attempt; empty: it is as old as the cluster
    revoked_ms: int = 0
    revoked_by: str = ""
    certificates: tuple[IssuedCertificate, ...] = ()  # the latest, oldest first; empty: issued before they were counted

    def is_current(self, now_ms: int) -> bool:
        """Whether a certificate of it, as far as is known, can be used."""
        ended = bool(self.certificates) and max(each.valid_until_ms for each in self.certificates) <= now_ms
        return not self.revoked_ms and not ended


class Lease(Record, frozen=True):
    """Who does it, under which epoch, until when in the log's time; the table's key is the lease's name.

    `holder` is in short, as in an attempt. The record stays when it is over, so that no epoch comes twice.
    """

    holder: str
    epoch: int  # from 1
    until_ms: int
    acquired_ms: int

    def is_held(self, now_ms: int) -> bool:
        return now_ms < self.until_ms


class IssuingKey(Record, frozen=True):
    """What certificates are signed with, in PEM."""

    private_key: bytes
    certificate: bytes
    root_certificate: bytes


class RequestKey(Record, frozen=True):
    """The key of the digests by which requests are remembered: REQUEST_KEY_BYTES random bytes."""

    key: bytes


class Settings(Record, frozen=True):
    """What is replicated and can be set. Durations in milliseconds."""

    lockout_failures: int = 5
    lockout_window_ms: int = 5 * 60 * 1000
    lockout_duration_ms: int = 15 * 60 * 1000
    hotp_look_ahead: int = 10
    hotp_look_behind: int = 10
    totp_window_steps: int = 1
    totp_look_behind_steps: int = 5
    resync_positions: int = 1_000
    tokens_per_user_max: int = 10
    request_ids_max: int = 1_000_000
    request_ids_kept_ms: int = 60 * 1000
    oath_pin: int = 0  # an OathPin
    pin_length_min: int = 4
    pin_no_repeated: int = 1  # 1: is held to, 0: is not
    pin_no_sequential: int = 1
    pin_no_phone: int = 1
    pin_history: int = 5  # a new PIN is none of so many before it
    pin_max_age_ms: int = 0  # 0: for ever

    @property
    def pin_rules(self) -> pins.Rules:
        return pins.Rules(
            self.pin_length_min, bool(self.pin_no_repeated), bool(self.pin_no_sequential), bool(self.pin_no_phone)
        )


class OathPin(IntEnum):
    """Whether a PIN goes before the code."""

    OFF = 0
    REQUIRED = 1


class Rules(NamedTuple):
    """The settings as the factors take them, made once and not for every command."""

    lockout: LockoutPolicy
    hotp_window: HotpWindow
    totp_window: TotpWindow
    resync_positions: int
    tokens_per_user_max: int
    pin_required: bool
    pin_history: int
    pin_max_age_ms: int

    @classmethod
    def of(cls, settings: Settings) -> "Rules":
        return cls(
            LockoutPolicy(settings.lockout_failures, settings.lockout_window_ms, settings.lockout_duration_ms),
            HotpWindow(settings.hotp_look_ahead, settings.hotp_look_behind),
            TotpWindow(settings.totp_window_steps, settings.totp_look_behind_steps),
            settings.resync_positions,
            settings.tokens_per_user_max,
            settings.oath_pin == OathPin.REQUIRED,
            settings.pin_history,
            settings.pin_max_age_ms,
        )


# What each setting may be, both ends included.
SETTINGS_RANGES: Final[dict[str, tuple[int, int]]] = {
    "lockout_failures": (1, 100),
    "lockout_window_ms": (1_000, 24 * 3600 * 1000),
    "lockout_duration_ms": (1_000, 7 * 24 * 3600 * 1000),
    "hotp_look_ahead": (0, 100),
    "hotp_look_behind": (0, 100),
    "totp_window_steps": (0, 10),
    "totp_look_behind_steps": (0, 100),
    "resync_positions": (1, 10_000),
    "tokens_per_user_max": (1, 50),
    "request_ids_max": (1_000, 10_000_000),
    "request_ids_kept_ms": (60_000, 600_000),
    "oath_pin": (0, 1),
    "pin_length_min": (pins.DIGITS_MIN, pins.DIGITS_MAX),
    "pin_no_repeated": (0, 1),
    "pin_no_sequential": (0, 1),
    "pin_no_phone": (0, 1),
    "pin_history": (0, 10),
    "pin_max_age_ms": (0, 3650 * 24 * 3600 * 1000),
}


def settings_out_of_range(settings: Settings) -> str | None:
    """The name of the first setting that is out of its range, or None."""
    for name, (least, most) in SETTINGS_RANGES.items():
        if not least <= getattr(settings, name) <= most:
            return name
    return None
