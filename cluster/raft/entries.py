"""An entry's envelope: what the log holds at an index, and which of the engine's own entry types may pass.

The engine's types are one leading byte: 0 for our entries, 1 for the no-op that opens a term (paper, section 5.4.2
and section 8).  Its entries for code versions and membership are never written and refused wherever they come from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgpack

from cluster.raft.errors import FrameRefused
from cluster.raft.membership import Configuration
from cluster.raft.messages import Group

REGULAR: Final = b"\x00"
NO_OP: Final = b"\x01"
ENVELOPE_VERSION: Final = 1
GROUPS_KIND: Final = 0
CONFIGURATION_KIND: Final = 1
_CONFIGURATION_PREFIX: Final = REGULAR + bytes((0x94, CONFIGURATION_KIND))


@dataclass(frozen=True, slots=True)
class Envelope:
    """`stamp_ms`: the leader's time for everything in the entry, milliseconds UTC; None for a no-op.

    An entry holds groups or a configuration, never both.
    """

    stamp_ms: int | None
    groups: tuple[Group, ...] = ()
    configuration: Configuration | None = None


def pack_groups(stamp_ms: int, groups: list[Group]) -> bytes:
    body: bytes = msgpack.packb(
        (GROUPS_KIND, ENVELOPE_VERSION, stamp_ms, [(group.group_id, group.payload) for group in groups]),
        use_bin_type=True,
    )
    return REGULAR + body


def pack_configuration(stamp_ms: int, configuration: Configuration) -> bytes:
    body: bytes = msgpack.packb(
        (CONFIGURATION_KIND, ENVELOPE_VERSION, stamp_ms, (configuration.voters, configuration.learners))
    )
    return REGULAR + body


def configuration_in(data: bytes) -> Configuration | None:
    """The configuration that an entry brings, or None where it holds something else.

    Raises FrameRefused where it is malformed.
    """
    return unpack(data).configuration if data.startswith(_CONFIGURATION_PREFIX) else None


def unpack(data: bytes) -> Envelope:
    """Raises FrameRefused where `data` is not an entry that this version writes."""
    if data == NO_OP:
        return Envelope(None)
    if data[:1] != REGULAR:
        raise FrameRefused("an entry of a type that is never written")
    try:
        parts = msgpack.unpackb(data[1:], use_list=False, raw=False)
    except (ValueError, msgpack.UnpackException) as error:
        raise FrameRefused("malformed entry") from error
    match parts:
        case (int(kind), int(version), int(stamp_ms), tuple(contents)):
            pass
        case _:
            raise FrameRefused("malformed entry")
    if kind not in (GROUPS_KIND, CONFIGURATION_KIND) or version != ENVELOPE_VERSION or stamp_ms < 0:
        raise FrameRefused("an entry of a kind or version that this node does not know")
    if kind == CONFIGURATION_KIND:
        return Envelope(stamp_ms, configuration=_configuration(contents))
    return Envelope(stamp_ms, _groups(contents))


def _configuration(contents: tuple[object, ...]) -> Configuration:
    match contents:
        case (tuple(voters), tuple(learners)) if all(isinstance(member, str) for member in (*voters, *learners)):
            pass
        case _:
            raise FrameRefused("malformed configuration")
    if (
        not voters
        or list(voters) != sorted(set(voters))
        or list(learners) != sorted(set(learners))
        or set(voters) & set(learners)
    ):
        raise FrameRefused("malformed configuration")
    return Configuration(voters, learners)


def _groups(groups: tuple[object, ...]) -> tuple[Group, ...]:
    unpacked: list[Group] = []
    for group in groups:
        match group:
            case (bytes(group_id), bytes(payload)):
                unpacked.append(Group(group_id, payload))
            case _:
                raise FrameRefused("malformed entry")
    return tuple(unpacked)


def stamp_of(data: bytes) -> int | None:
    """The stamp alone, without unpacking the groups; None for a no-op.  Raises FrameRefused as `unpack` does."""
    if data == NO_OP:
        return None
    if data[:1] != REGULAR:
        raise FrameRefused("an entry of a type that is never written")
    unpacker = msgpack.Unpacker(max_buffer_size=0)
    unpacker.feed(data[1:40])
    try:
        if unpacker.read_array_header() != 4 or unpacker.unpack() not in (GROUPS_KIND, CONFIGURATION_KIND):
            raise FrameRefused("malformed entry")
        if unpacker.unpack() != ENVELOPE_VERSION:
            raise FrameRefused("an entry of a kind or version that this node does not know")
        stamp = unpacker.unpack()
    except (ValueError, msgpack.UnpackException) as error:
        raise FrameRefused("malformed entry") from error
    if type(stamp) is not int or stamp < 0:
        raise FrameRefused("malformed entry")
    return stamp
