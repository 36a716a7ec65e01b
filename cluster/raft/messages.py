"""The frames that nodes exchange: one msgpack array each, strictly decoded.

A frame is `[version, incarnation, member, session, start_term, start_index, wall_ms, term, kind, body, digest]`:
who sends it (`session` is drawn anew at each start of the process; `start_term` and `start_index` say with what its
journal came back), its wall clock (design: Time), its current term (paper, section 5.1), the body's fields in the order
of the dataclass, and now and then the running digest at an index (promise 8).  Nothing here is ever unpickled.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Final, NamedTuple

import msgpack

from cluster.raft.errors import FrameRefused
from datastore.journal import JournalEntry

PROTOCOL_VERSION: Final = 1
FRAME_BYTES_MAX: Final = 12 * 1024 * 1024
ENTRIES_MAX: Final = 4096
GROUPS_MAX: Final = 1024
_INTEGER_MAX: Final = 2**63


class Group(NamedTuple):
    """Commands that one node hands to the leader together.

    `group_id`: 16 random bytes; `payload`: opaque here; `cost`: how long apply will take, in units of a verification.
    """

    group_id: bytes
    payload: bytes
    cost: int = 1


@dataclass(frozen=True, slots=True)
class Append:
    """AppendEntries (paper, section 5.3).  Entries follow `prev_index` without a gap: `(data, term)` each.

    `synced_index`: how far the leader's own log is on its disk, by which a follower knows it again.
    """

    prev_index: int
    prev_term: int
    commit_index: int
    entries: tuple[tuple[bytes, int], ...]
    synced_index: int = 0

    def journal_entries(self) -> list[JournalEntry]:
        return [JournalEntry(data, self.prev_index + 1 + n, term) for n, (data, term) in enumerate(self.entries)]


@dataclass(frozen=True, slots=True)
class AppendReply:
    """What the follower's journal holds *on disk* of the leader's log.

    `success`: everything up to `index` matches; else `index` is where the leader should go on looking.
    """

    success: bool
    index: int


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Keeps a follower that is being filled from starting an election; claims nothing about its log."""


@dataclass(frozen=True, slots=True)
class HeartbeatReply:
    pass


@dataclass(frozen=True, slots=True)
class VoteRequest:
    """RequestVote (section 5.2).  `transfer`: at the leader's own wish (dissertation, section 3.10)."""

    last_index: int
    last_term: int
    transfer: bool


@dataclass(frozen=True, slots=True)
class Vote:
    pass


@dataclass(frozen=True, slots=True)
class PreVoteRequest:
    """Would you vote for me in `next_term`?  (dissertation, section 9.6)"""

    next_term: int
    last_index: int
    last_term: int


@dataclass(frozen=True, slots=True)
class PreVote:
    next_term: int
    granted: bool


@dataclass(frozen=True, slots=True)
class Outdated:
    """The receiver's term is older than the sender's: a leader that reads this steps down (section 5.1)."""


@dataclass(frozen=True, slots=True)
class TimeoutNow:
    """The leader asks this follower to start an election at once (dissertation, section 3.10)."""


@dataclass(frozen=True, slots=True)
class HandOver:
    """Groups for the leader's next entry: `(group_id, payload, cost)` each."""

    groups: tuple[tuple[bytes, bytes, int], ...]


@dataclass(frozen=True, slots=True)
class HandOverRefused:
    """`reason` is one of the words in `REFUSALS`."""

    group_ids: tuple[bytes, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class SnapshotChunk:
    """A part of a data file; `name` is unique to that file, `offset` where `data` stands in its `size_bytes`."""

    name: str
    index: int
    index_term: int
    stamp_ms: int
    running_digest: bytes
    size_bytes: int
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class SnapshotReply:
    """`offset`: what the follower has stored so far of the file `name`; `size_bytes` of it and more: installing."""

    name: str
    offset: int


@dataclass(frozen=True, slots=True)
class Refused:
    """The sender remembers more of the receiver than its process `session` came back with (design: Members)."""

    session: bytes


@dataclass(frozen=True, slots=True)
class Notice:
    """Says only what its envelope says: a digest about which members differ."""


Body = (
    Append
    | AppendReply
    | Heartbeat
    | HeartbeatReply
    | VoteRequest
    | Vote
    | PreVoteRequest
    | PreVote
    | Outdated
    | TimeoutNow
    | HandOver
    | HandOverRefused
    | SnapshotChunk
    | SnapshotReply
    | Refused
    | Notice
)

REFUSALS: Final = ("not leader", "full", "clock", "too large")

_KINDS: Final[tuple[type[Body], ...]] = (
    Append,
    AppendReply,
    Heartbeat,
    HeartbeatReply,
    VoteRequest,
    Vote,
    PreVoteRequest,
    PreVote,
    Outdated,
    TimeoutNow,
    HandOver,
    HandOverRefused,
    SnapshotChunk,
    SnapshotReply,
    Refused,
    Notice,
)
_NUMBER_OF_KIND: Final = {kind: number for number, kind in enumerate(_KINDS)}
_FIELDS: Final = {kind: tuple((field.name, str(field.type)) for field in fields(kind)) for kind in _KINDS}


@dataclass(frozen=True, slots=True)
class Frame:
    """One message with its envelope; `digest` is `(index, 32 bytes)` or None."""

    incarnation: str
    member: str
    session: bytes
    start_term: int
    start_index: int
    wall_ms: int
    term: int
    body: Body
    digest: tuple[int, bytes] | None = None


def encode(frame: Frame) -> bytes:
    body = frame.body
    kind = type(body)
    packed: bytes = msgpack.packb(
        (
            PROTOCOL_VERSION,
            frame.incarnation,
            frame.member,
            frame.session,
            frame.start_term,
            frame.start_index,
            frame.wall_ms,
            frame.term,
            _NUMBER_OF_KIND[kind],
            [getattr(body, name) for name, _ in _FIELDS[kind]],
            frame.digest,
        ),
        use_bin_type=True,
    )
    return packed


def decode(data: bytes) -> Frame:
    """Raises FrameRefused for whatever is not exactly a frame of this protocol version."""
    if len(data) > FRAME_BYTES_MAX:
        raise FrameRefused("too large")
    try:
        parts = msgpack.unpackb(data, use_list=False, raw=False, strict_map_key=True, max_ext_len=0)
    except (ValueError, msgpack.UnpackException, RecursionError) as error:
        raise FrameRefused("not msgpack") from error
    if not isinstance(parts, tuple) or not parts or not isinstance(parts[0], int):
        raise FrameRefused("no envelope")
    if parts[0] != PROTOCOL_VERSION:
        raise FrameRefused("another protocol version")
    if len(parts) != 11:
        raise FrameRefused("no envelope")
    _, incarnation, member, session, start_term, start_index, wall_ms, term, number, values, digest = parts
    if not (isinstance(incarnation, str) and isinstance(member, str) and isinstance(session, bytes)):
        raise FrameRefused("no envelope")
    if not all(_is_count(value) for value in (start_term, start_index, wall_ms, term)):
        raise FrameRefused("no envelope")
    if not (isinstance(number, int) and 0 <= number < len(_KINDS)):
        raise FrameRefused("unknown kind")
    return Frame(
        incarnation,
        member,
        session,
        start_term,
        start_index,
        wall_ms,
        term,
        _body(_KINDS[number], values),
        _digest(digest),
    )


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < _INTEGER_MAX


def _digest(value: object) -> tuple[int, bytes] | None:
    if value is None:
        return None
    if isinstance(value, tuple) and len(value) == 2 and _is_count(value[0]) and isinstance(value[1], bytes):
        return value
    raise FrameRefused("malformed digest")


def _is_tuple_of(value: object, length_max: int, *element_types: type) -> bool:
    if not isinstance(value, tuple) or len(value) > length_max:
        return False
    for element in value:
        if not isinstance(element, tuple) or len(element) != len(element_types):
            return False
        for part, expected in zip(element, element_types, strict=True):
            if not (_is_count(part) if expected is int else isinstance(part, expected)):
                return False
    return True


def _is_valid(value: object, annotation: str) -> bool:
    match annotation:
        case "int":
            return _is_count(value)
        case "bool":
            return isinstance(value, bool)
        case "str":
            return isinstance(value, str) and len(value) <= 128
        case "bytes":
            return isinstance(value, bytes)
        case "tuple[tuple[bytes, int], ...]":
            return _is_tuple_of(value, ENTRIES_MAX, bytes, int)
        case "tuple[tuple[bytes, bytes, int], ...]":
            return _is_tuple_of(value, GROUPS_MAX, bytes, bytes, int)
        case "tuple[bytes, ...]":
            return (
                isinstance(value, tuple) and len(value) <= GROUPS_MAX and all(isinstance(part, bytes) for part in value)
            )
    raise AssertionError(f"no rule for a field of type {annotation}")


def _body(kind: type[Body], values: Any) -> Body:
    shape = _FIELDS[kind]
    if not isinstance(values, tuple) or len(values) != len(shape):
        raise FrameRefused("malformed body")
    if not all(_is_valid(value, annotation) for value, (_, annotation) in zip(values, shape, strict=True)):
        raise FrameRefused("malformed body")
    return kind(*values)
