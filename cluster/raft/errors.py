"""What can go wrong inside consensus.  Each of these takes the node out of service: none is retried."""

from __future__ import annotations


class RaftError(Exception):
    """The root of this room's errors."""


class SafetyViolation(RaftError):
    """Raft's own guarantees no longer hold on this node (paper, figure 3); it must stop before it does harm."""


class RolledBack(RaftError):
    """This node came back with less than its peers saw it acknowledge (an older copy of its files)."""

    def __init__(self, told_by: str) -> None:
        super().__init__(
            f"member {told_by} remembers more than this node's journal holds: its files are an older copy. "
            "Remove this member from the cluster and let it join again with an empty directory"
        )
        self.told_by = told_by


class RemovedFromCluster(RaftError):
    """The configuration no longer lists this node."""

    def __init__(self) -> None:
        super().__init__(
            "this node was removed from the cluster. To take part again it must join as a new member with an empty "
            "directory"
        )


class AnotherProcess(RaftError):
    """Two processes speak as one member, which could vote twice."""

    def __init__(self) -> None:
        super().__init__(
            "another process speaks under this node's member id: its directory, or a copy of it, is in use on another "
            "machine. Stop one of them; a copy of a node must never run"
        )


class ChangeRefused(RaftError):
    """A change of members that may not be made now; nothing was changed, and the node goes on.  `reason` says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Diverged(RaftError):
    """This node's state differs from what a majority computed from the same log."""

    def __init__(self, index: int) -> None:
        super().__init__(
            f"the state after log index {index} differs from the majority's. Keep this directory for analysis, "
            "remove this member from the cluster and let it join again with an empty directory"
        )
        self.index = index


class FrameRefused(RaftError):
    """A peer sent bytes that are no frame of this protocol, cluster and incarnation.

    `reason` is one of a fixed set of words, fit for a log line; the bytes themselves are not in it.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(f"frame refused: {reason}")
        self.reason = reason
