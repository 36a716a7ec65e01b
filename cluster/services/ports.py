"""What the services ask of the node they run in. The node passes it in; nothing here knows Raft, disks or sockets."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from cluster.state.apply import State
from cluster.state.lease_reads import LeaseView
from cluster.state.results import Result


class Cause(StrEnum):
    """Why there is no answer."""

    # Nobody leads, or no majority answers. The command may have been taken, or may yet be.
    NO_QUORUM = "no quorum"
    # The deadline passed while the command was under way.
    DEADLINE = "deadline"
    # The node ends, or its storage failed.
    STOPPED = "stopped"
    # The node met a command newer than it knows, or disagrees with its peers: its state must not be asked.
    OUT_OF_SERVICE = "out of service"


class Unavailable(Exception):
    """No answer in time; the outcome is unknown, and a retry with the same request id is safe."""

    def __init__(self, cause: Cause) -> None:
        super().__init__(cause)
        self.cause = cause


class QueueFull(Exception):
    """As many commands wait as may; this one was not taken."""


class Replica(Protocol):
    """The replicated state, and the way to change it."""

    @property
    def state(self) -> State:
        """As of the last applied entry. Never kept over an await: a snapshot that is installed replaces it."""
        ...

    async def propose(self, command: bytes, timeout_s: float) -> Result:
        """Have one packed command applied by the cluster; returns what this node's own apply said of it.

        Answers or raises within `timeout_s`; by then `state` has the command. It may be applied though the caller
        is cancelled, or told that there is no answer.

        Raises:
            QueueFull: not taken.
            Unavailable: no answer.
        """
        ...

    def submit(self, command: bytes, timeout_s: float, answer: Callable[[Result | Unavailable], None]) -> None:
        """The same without a task that waits: `answer` is called once within `timeout_s`, and not from in here.

        What is applied together is answered together, in one turn of the loop. Where this raises, `answer` is never
        called.

        Raises:
            QueueFull: not taken.
            Unavailable: no answer.
        """
        ...


class NodeRole(StrEnum):
    """What a node is to the one that tells of it."""

    LEADER = "leader"
    FOLLOWER = "follower"
    CANDIDATE = "candidate"
    NON_VOTER = "non-voter"
    UNREACHABLE = "unreachable"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeView:
    """One node, as this one sees it. None: not known here."""

    name: str
    member_id: str
    address: str  # HOST:PORT for clients
    peer_address: str
    role: NodeRole
    voter: bool
    version: str = ""
    term: int | None = None
    commit_index: int | None = None
    applied_index: int | None = None
    last_index: int | None = None
    synced_index: int | None = None
    lag: int | None = None  # entries
    digest: bytes | None = None  # 32 bytes
    digest_index: int | None = None
    data_file_age_ms: int | None = None
    data_file_index: int | None = None
    clock_offset_ms: int | None = None
    serving: bool | None = None
    events_failing: bool | None = None
    heard_ms_ago: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterView:
    """The cluster, as this node sees it at this moment."""

    cluster_id: str
    incarnation_counter: int
    incarnation_id: str
    quorum: bool
    failure_tolerance: int
    leader_name: str | None
    leader_member_id: str | None
    node: NodeView  # itself
    peers: tuple[NodeView, ...]
    leases: tuple[LeaseView, ...] = ()
    wall_ms: int = 0


class Membership(Protocol):
    """What the node knows of who leads, and what a new node is given."""

    def leader(self) -> str | None:
        """Its member id, where this node knows."""
        ...

    def kek_id(self) -> str: ...
    def kek_text(self) -> str:
        """The key-encryption key as a key file has it."""
        ...


class StatusSource(Protocol):
    def cluster_view(self) -> ClusterView:
        """At once, without the log; works without a quorum."""
        ...
