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
PORT_MAX = 65_535


class RefusedError(Exception):
    """The other side is not a peer of ours; the message names what is wrong, in words for both sides' logs."""


class RemovedError(RefusedError):
    """A member was removed, for good: no id is ever given again."""


class TwiceError(RefusedError):
    """Another process speaks under the same member id."""


_KINDS: dict[int, type[RefusedError]] = {1: RemovedError, 2: TwiceError}


@dataclass(frozen=True, slots=True)
class Introduction:
    """Whom a node says it is; ids as in its certificate and its data file.

    `host` and `port` are where it is reached, for a peer that lags and does not know it yet. `session` is another one
    for each process.
    """

    cluster_id: str
    incarnation_counter: int
    incarnation_id: str
    member_id: str
    host: str = ""
    port: int = 0
    session: str = ""
    version: int = PROTOCOL_VERSION


def encode_introduction(own: Introduction) -> bytes:
    who = [own.version, own.cluster_id, own.incarnation_counter, own.incarnation_id, own.member_id]
    packed: bytes = msgpack.packb([*who, own.host, own.port, own.session])
    return packed


def encode_refusal(error: Exception) -> bytes:
    """The reason; and which it is of those that the other side may act on."""
    kind = next((number for number, known in _KINDS.items() if isinstance(error, known)), 0)
    packed: bytes = msgpack.packb([0, str(error)[:REASON_LENGTH_MAX], kind])
    return packed


def decode_introduction(frame: bytes) -> Introduction:
    """What the other side said.

    Raises:
        RefusedError: it refused us, or it isn't an introduction.
        RemovedError, TwiceError: it says so; whether it may is for the caller to check.
    """
    fields = _fields(frame)
    match fields:
        case [int(zero), str(reason), *more] if zero == 0:
            refusal = f"the peer refused this node: {reason[:REASON_LENGTH_MAX]!r}"
            raise _KINDS.get(more[0] if more and type(more[0]) is int else 0, RefusedError)(refusal)
        case [int(version), *_] if version != PROTOCOL_VERSION:
            raise RefusedError(
                f"the peer speaks protocol {version}, this node {PROTOCOL_VERSION}; run one version on both"
            )
        case [
            int(version),
            str(cluster_id),
            int(counter),
            str(incarnation_id),
            str(member_id),
            str(host),
            int(port),
            str(session),
        ] if 0 <= port <= PORT_MAX:
            return Introduction(cluster_id, counter, incarnation_id, member_id, host, port, session, version)
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
