"""What a member says of itself and of its peers; the shape that the node passes on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class PeerStatus:
    """`match_index`: known to the leader only.  `clock_offset_ms`: the peer's clock minus ours."""

    member_id: str
    connected: bool
    match_index: int | None
    clock_offset_ms: int | None


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """`quorum`: a leader is known that a majority follows.  `caught_up`: the state is recent enough to serve from.

    `digest`: running digest (32 bytes) after the entry `digest_index`.  `clock_offset_ms`: ours minus the majority's.
    """

    member_id: str
    role: Literal["leader", "follower", "candidate", "non-voter"]
    term: int
    leader: str | None
    commit_index: int
    applied_index: int
    last_index: int
    synced_index: int
    quorum: bool
    caught_up: bool
    digest: bytes
    digest_index: int
    disputed_index: int | None
    clock_offset_ms: int | None
    peers: tuple[PeerStatus, ...]
