"""Questions to the state. Nothing here changes it; whether the state is fresh enough is for the caller to see to.

`now_ms` is the caller's clock: where nothing was logged for a while, the log's time is behind it, and a lockout that
is over would still be shown. The later of both counts.
"""

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from typing import Final

from cluster.state.apply import State, client_prefix
from cluster.state.authentication import is_due
from cluster.state.records import (
    Attempt,
    ClusterIdentity,
    Invitation,
    IssuingKey,
    Member,
    Pin,
    Role,
    Rules,
    Settings,
    Token,
    TokenStatus,
    TokenType,
    Transfer,
    User,
)
from cluster.state.results import Decision, Reason, decision_of
from cluster.state.store import (
    ATTEMPTS,
    BYPASSES,
    FAILURES,
    FORMER_MEMBERS,
    INVITATIONS,
    ISSUING_KEY,
    MEMBERS,
    PINS,
    RECOVERY_CODES,
    SINGLE,
    TOKENS,
    TRANSFERS,
    USERS,
)
from factors.lockout import Lockout, decayed
from factors.otp import Algorithm

USERS_SCANNED_MAX: Final = 5_000  # per page, however few of them fit the filter: about 10 ms


@dataclass(frozen=True, slots=True, repr=False)
class AttemptView:
    """One of the last attempts. `client` is the identity that asked, in full."""

    at_ms: int
    decision: Decision
    reason: Reason
    token_id: str
    client: str
    application: str
    address: str
    note: str = ""


@dataclass(frozen=True, slots=True, repr=False)
class TokenView:
    """A token without its secret."""

    token_id: str
    user_id: str
    type: TokenType
    status: TokenStatus
    algorithm: Algorithm
    digits: int
    period_s: int
    created_ms: int
    last_used_ms: int
    drift_steps: int
    counter: int


@dataclass(frozen=True, slots=True, repr=False)
class UserView:
    """A user. `locked_until_ms` is 0 where there is no lock; `failures` are those that count at present."""

    user_id: str
    enabled: bool
    created_ms: int
    locked_until_ms: int
    failures: int
    token_count: int
    pin_changed_ms: int | None = None  # None: no PIN
    pin_due: bool = False
    recovery_codes: int = 0
    bypass_until_ms: int = 0

    @property
    def locked(self) -> bool:
        return self.locked_until_ms > 0


@dataclass(frozen=True, slots=True)
class UserFilter:
    """None, or an empty prefix: everybody."""

    prefix: str = ""
    enabled: bool | None = None
    locked: bool | None = None


@dataclass(frozen=True, slots=True, repr=False)
class UserPage:
    """Users in order of their id; `next_after` goes into the next call, and is None at the end.

    A page may hold fewer users than asked for, even none, and yet not be the last one.
    """

    users: tuple[UserView, ...]
    next_after: str | None


def get_user(state: State, user_id: str, now_ms: int) -> UserView | None:
    user = state.read(USERS, user_id.encode())
    return None if user is None else _user_view(state, user_id, user, now_ms)


def list_users(state: State, after: str, limit: int, now_ms: int, wanted: UserFilter | None = None) -> UserPage:
    """Up to `limit` users whose id comes after `after` (empty: from the first)."""
    assert limit > 0, "a page holds at least one user"
    wanted = wanted or UserFilter()
    order = state.keys(USERS)
    prefix = wanted.prefix.encode()
    start = max(bisect_right(order, after.encode()) if after else 0, bisect_left(order, prefix))
    found: list[UserView] = []
    for place in range(start, len(order)):
        key = order[place]
        if not key.startswith(prefix):
            break
        if len(found) == limit or place - start == USERS_SCANNED_MAX:
            return UserPage(tuple(found), order[place - 1].decode())
        user_id = key.decode()
        view = get_user(state, user_id, now_ms)
        assert view is not None, "a key of the table is in the table"
        if wanted.enabled in (None, view.enabled) and wanted.locked in (None, view.locked):
            found.append(view)
    return UserPage(tuple(found), None)


def list_attempts(state: State, user_id: str) -> tuple[AttemptView, ...]:
    """The user's last attempts, newest first."""
    attempts = state.read(ATTEMPTS, user_id.encode()) or []
    return tuple(_attempt_view(state, attempt) for attempt in reversed(attempts))


def list_tokens(state: State, user_id: str) -> tuple[TokenView, ...] | None:
    """The user's tokens in the order of enrolment; None for an unknown user."""
    user = state.read(USERS, user_id.encode())
    if user is None:
        return None
    views = (get_token(state, token_id) for token_id in user.token_ids)
    return tuple(view for view in views if view is not None)


def get_token(state: State, token_id: str) -> TokenView | None:
    token = token_with_secret(state, token_id)
    if token is None:
        return None
    return TokenView(
        token_id,
        token.user_id,
        token.type,
        token.status,
        token.algorithm,
        token.digits,
        token.period_s,
        token.created_ms,
        token.last_used_ms,
        token.drift_steps,
        token.counter,
    )


def token_with_secret(state: State, token_id: str) -> Token | None:
    """The whole record: for the provisioning URI that answers an enrolment, and its retries, only."""
    return state.read(TOKENS, token_id.encode())


def pin(state: State, user_id: str) -> Pin | None:
    """The record with its hashes: for the servicer that checks a PIN."""
    return state.read(PINS, user_id.encode())


def roles_of(state: State, client: str) -> frozenset[Role]:
    return state.roles_of(client)


def settings(state: State) -> Settings:
    return state.settings


def cluster_identity(state: State) -> ClusterIdentity:
    return state.identity


def members(state: State) -> dict[str, Member]:
    """By member id, in order."""
    found = {key.decode(): state.read(MEMBERS, key) for key in state.keys(MEMBERS)}
    return {member_id: member for member_id, member in found.items() if member is not None}


def was_removed(state: State, member_id: str) -> bool:
    """Whether that id was a member's, and will be nobody's again. The latest FORMER_MEMBERS_KEPT are known."""
    return state.read(FORMER_MEMBERS, member_id.encode()) is not None


def former_member(state: State, name: str) -> str | None:
    """The id of the last member of that name that was removed."""
    removed = [
        (record.removed_ms, key)
        for key in state.keys(FORMER_MEMBERS)
        if (record := state.read(FORMER_MEMBERS, key)) is not None and record.name == name
    ]
    return max(removed)[1].decode() if removed else None


def invitation(state: State, invitation_id: str) -> Invitation | None:
    return state.read(INVITATIONS, invitation_id.encode())


def transfer(state: State) -> Transfer | None:
    """The latest wish to hand leadership on; it may have come true, or be old."""
    return state.read(TRANSFERS, SINGLE)


def issuing_key(state: State) -> IssuingKey:
    key = state.read(ISSUING_KEY, SINGLE)
    assert key is not None, "every state has an issuing key"
    return key


def full_client(state: State, client: str) -> str:
    """The identity as it is in a certificate, of one that an attempt keeps in short."""
    return client if not client or "://" in client else client_prefix(state.identity.cluster_id) + client


def _user_view(state: State, user_id: str, user: User, now_ms: int) -> UserView:
    failures = state.read(FAILURES, user_id.encode())
    lockout = Lockout() if failures is None else Lockout(failures.failures_ms, failures.locked_until_ms)
    now_ms = max(now_ms, state.position.stamp_ms)
    left = decayed(lockout, now_ms, Rules.of(state.settings).lockout)
    key = user_id.encode()
    pin, codes, bypass = state.read(PINS, key), state.read(RECOVERY_CODES, key), state.read(BYPASSES, key)
    return UserView(
        user_id,
        user.enabled,
        user.created_ms,
        left.locked_until_ms,
        len(left.failures_ms),
        len(user.token_ids),
        None if pin is None else pin.changed_ms,
        pin is not None and is_due(pin, now_ms, state.settings.pin_max_age_ms),
        0 if codes is None else len(codes.fingerprints),
        bypass.expires_ms if bypass is not None and now_ms < bypass.expires_ms else 0,
    )


def _attempt_view(state: State, attempt: Attempt) -> AttemptView:
    reason = Reason(attempt.reason)
    return AttemptView(
        attempt.at_ms,
        decision_of(reason),
        reason,
        attempt.token_id,
        full_client(state, attempt.client),
        attempt.application,
        attempt.address,
        attempt.note,
    )


def configuration(state: State) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The ids of the members that vote, and of those that don't yet; sorted."""
    listed = sorted(members(state).items())
    return (
        tuple(member_id for member_id, member in listed if member.voter),
        tuple(member_id for member_id, member in listed if not member.voter),
    )
