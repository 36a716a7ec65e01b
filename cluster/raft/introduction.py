"""The first frame each way on a connection between nodes: who is speaking, of which cluster and incarnation.

The dialling side introduces itself; the accepting side answers with its own introduction, or with the reason why it
refuses, and closes. A claim counts only where the certificate of the same connection says the same. Pure functions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgpack

PROTOCOL_VERSION = 1
INTRODUCTION_BYTES_MAX = 1024
REASON_LENGTH_MAX = 200


class RefusedError(Exception):
    """The other side is not a peer of ours; the message names what is wrong, in words for both sides' logs."""


class RemovedError(RefusedError):
    """A member was removed, for good: no id is ever given again."""


@dataclass(frozen=True, slots=True)
class Introduction:
    """Whom a node says it is; ids as in its certificate and its data file."""

    cluster_id: str
    incarnation_counter: int
    incarnation_id: str
    member_id: str
    version: int = PROTOCOL_VERSION


def encode_introduction(own: Introduction) -> bytes:
    fields = [own.version, own.cluster_id, own.incarnation_counter, own.incarnation_id, own.member_id]
    packed: bytes = msgpack.packb(fields)
    return packed


def encode_refusal(reason: str, *, removed: bool = False) -> bytes:
    """`removed`: whoever is refused was a member and is none any more, which this side has seen committed."""
    packed: bytes = msgpack.packb([0, reason[:REASON_LENGTH_MAX], *([True] if removed else [])])
    return packed


def decode_introduction(frame: bytes) -> Introduction:
    """What the other side said.

    Raises:
        RefusedError: it refused us, or it isn't an introduction.
        RemovedError: it says that this member was removed; whether it may say so is for the caller to check.
    """
    fields = _fields(frame)
    match fields:
        case [int(zero), str(reason), *more] if zero == 0:
            refusal = f"the peer refused this node: {reason[:REASON_LENGTH_MAX]!r}"
            raise RemovedError(refusal) if more and more[0] is True else RefusedError(refusal)
        case [int(version), *_] if version != PROTOCOL_VERSION:
            raise RefusedError(
                f"the peer speaks protocol {version}, this node {PROTOCOL_VERSION}; run one version on both"
            )
        case [int(version), str(cluster_id), int(counter), str(incarnation_id), str(member_id)]:
            return Introduction(cluster_id, counter, incarnation_id, member_id, version)
        case _:
            raise RefusedError("the first frame is not an introduction")


def check_introduction(own: Introduction, other: Introduction, certified: tuple[str, str] | None) -> None:
    """Whether `other` may speak to `own`; `certified` is (cluster id, member id) by the peer's certificate.

    Raises:
        RefusedError: another cluster, another incarnation, another's name, or no certificate of a node.
    """
    if certified is None:
        raise RefusedError("the certificate is not a node's; put the node's own certificate into its configuration")
    if certified[0] != own.cluster_id or other.cluster_id != own.cluster_id:
        raise RefusedError(f"a node of another cluster, {other.cluster_id[:32]!r}; this one is {own.cluster_id}")
    if (other.incarnation_counter, other.incarnation_id) != (own.incarnation_counter, own.incarnation_id):
        raise RefusedError(
            f"a node of incarnation {other.incarnation_counter}, this one is of {own.incarnation_counter};"
            " a node left over from before a restore must join anew"
        )
    if certified[1] != other.member_id:
        raise RefusedError(f"claims to be member {other.member_id[:32]!r}, its certificate says {certified[1]}")


def _fields(frame: bytes) -> list[Any]:
    try:
        fields = msgpack.unpackb(frame, max_array_len=8, max_map_len=0, max_bin_len=0, max_ext_len=0)
    except (ValueError, msgpack.UnpackException) as error:
        raise RefusedError("the first frame is not an introduction") from error
    return fields if isinstance(fields, list) else []
