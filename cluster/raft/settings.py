"""Timings and bounds of consensus, in one place.  Durations are seconds unless the name says otherwise."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RaftSettings:
    """`heartbeat` lies well below `election_timeout_min`; all members of a cluster use the same values."""

    heartbeat: float = 0.1
    election_timeout_min: float = 0.75
    election_timeout_max: float = 1.5
    retransmit: float = 0.5
    """A follower whose acknowledgements have not moved for this long is probed again."""
    append_bytes_max: int = 1024 * 1024
    """Of entries in one AppendEntries; a single larger entry travels alone."""
    window_bytes_max: int = 8 * 1024 * 1024
    """Of entries sent to one follower and not yet acknowledged."""
    snapshot_chunk_bytes: int = 256 * 1024
    entry_bytes_max: int = 1024 * 1024
    """Of the groups in one entry."""
    entry_cost_max: int = 512
    """Of the groups in one entry, in verifications: it bounds how long one apply takes."""
    entries_in_flight_max: int = 2
    """Entries appended and not yet applied; further groups wait and share the next entry."""
    waiting_groups_max: int = 256
    apply_slice: float = 0.004
    """How long one tick may go on applying before it gives the loop back."""
    digest_interval: float = 0.25

    def __post_init__(self) -> None:
        assert 3 * self.heartbeat < self.election_timeout_min < self.election_timeout_max, "timings out of order"
        assert self.entries_in_flight_max >= 1, "no entry could ever be appended"
