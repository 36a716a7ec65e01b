"""The engine, with what its seams don't reach replaced by name.  The only module that imports pysyncobj.

Pinned to one exact version: every name used here is private to it, and `check_version` refuses any other.  What is
replaced, and why, stands beside each replacement; `DESIGN.md` has the whole table.
"""

from __future__ import annotations

import importlib.metadata
import logging
import zlib
from collections.abc import Sequence
from typing import Any, Final, Protocol

import pysyncobj.syncobj as _engine
from pysyncobj.config import SERIALIZER_STATE, SyncObjConf
from pysyncobj.node import Node
from pysyncobj.syncobj import SyncObj
from pysyncobj.transport import Transport

from cluster.raft.errors import SafetyViolation
from cluster.raft.log import EngineLog

PINNED_VERSION: Final = "0.3.17"
ENTRY_BYTES_MAX: Final = 4 * 1024 * 1024
FOLLOWER, CANDIDATE, LEADER = 0, 1, 2


def check_version() -> None:
    version = importlib.metadata.version("pysyncobj")
    if version != PINNED_VERSION:
        raise SafetyViolation(f"pysyncobj {version} is installed, and only {PINNED_VERSION} has been examined")


class Seams(Protocol):
    """What the engine asks of us instead of doing it itself."""

    def monotonic(self) -> float: ...
    def random(self) -> float: ...
    def may_campaign(self) -> bool: ...
    def replicate(self) -> None: ...
    def apply_committed(self) -> bool: ...
    def became_leader(self) -> None: ...
    def send(self, member_id: str, message: dict[str, Any]) -> None: ...


class _Injected:
    """Clock and randomness of the engine that is being entered; the module's globals serve all in a process."""

    seams: Seams
    last: float = 0.0

    def monotonic(self) -> float:
        # The engine has loops that end when time has passed, so time must pass between two calls.
        self.last = max(self.last + 1e-9, self.seams.monotonic())
        return self.last

    def random(self) -> float:
        return self.seams.random()


_injected = _Injected()


class _NoSerializer:
    """The engine's own dumps lose the last good one (it renames a half-written file), so it never makes any."""

    def __init__(self, *_: object) -> None:
        pass

    def checkSerializing(self) -> tuple[int, None]:  # noqa: N802
        return SERIALIZER_STATE.NOT_SERIALIZING, None

    def getTransmissionData(self, _: object) -> tuple[bytes, bool, bool]:  # noqa: N802
        # "In progress" would make one tick spin for its whole period.
        return b"", True, True

    def setTransmissionData(self, _: object) -> bool:  # noqa: N802
        return False

    def cancelTransmisstion(self, _: object) -> None:  # noqa: N802
        pass

    def serialize(self, *_: object) -> None:
        raise SafetyViolation("the engine would write a snapshot by itself")

    def deserialize(self) -> None:
        raise SafetyViolation("the engine would read a snapshot by itself")


class _NoPickle:
    """Nothing that the engine does for us needs pickle; a call of it is a bug or an attack."""

    @staticmethod
    def loads(_: bytes) -> None:
        raise SafetyViolation("the engine would unpickle bytes")

    @staticmethod
    def dumps(*_: object) -> None:
        raise SafetyViolation("the engine would pickle an object")


class _NoPoller:
    def poll(self, _: float) -> None:
        pass

    def subscribe(self, *_: object) -> None:
        pass

    def unsubscribe(self, *_: object) -> None:
        pass


class _GlobalRandom:
    """Stands for the engine's module-wide `random`, of which it uses one function."""

    @staticmethod
    def random() -> float:
        return _injected.random()


def _replace_module_names() -> None:
    replacements: dict[str, Any] = {
        "monotonicTime": _injected.monotonic,
        "random": _GlobalRandom,
        "createPoller": lambda _: _NoPoller(),
        "PIPE_NOTIFIER_ENABLED": False,
        "createJournal": lambda log: log,
        "Serializer": _NoSerializer,
        "pickle": _NoPickle,
        "logger": _silent_logger(),
    }
    for name, replacement in replacements.items():
        if not hasattr(_engine, name):
            raise SafetyViolation(f"pysyncobj.syncobj has no {name}")
        setattr(_engine, name, replacement)


def _silent_logger() -> logging.Logger:
    # What it logs are tracebacks of conditions that we turn into errors of our own.
    logger = logging.getLogger("pysyncobj.replaced")
    logger.disabled = True
    return logger


check_version()
_replace_module_names()


class Peer(Node):  # type: ignore[misc]
    """A member in the engine's sets; its hash is the same in every process, so that the order of sets is, too."""

    def __hash__(self) -> int:
        return zlib.crc32(self.id.encode())


class GuardTransport(Transport):  # type: ignore[misc]
    """Never a socket: hands the engine's messages to ours and keeps no connection of its own."""

    ready = True

    def __init__(self, seams: Seams) -> None:
        super().__init__(None, None, ())
        self._seams = seams

    def send(self, node: Node, message: dict[str, Any]) -> bool:
        self._seams.send(node.id, message)
        return True

    def addNode(self, _: Node) -> None:  # noqa: N802
        raise SafetyViolation("the engine would change the membership")

    def dropNode(self, _: Node) -> None:  # noqa: N802
        raise SafetyViolation("the engine would change the membership")

    def destroy(self) -> None:
        pass


class Core(SyncObj):  # type: ignore[misc]
    """pysyncobj's timers, vote and commit rules and append handler, without the parts that break Raft."""

    def __init__(
        self,
        member_id: str,
        peers: list[str],
        log: EngineLog,
        applied_index: int,
        seams: Seams,
        *,
        election_timeout_min: float,
        election_timeout_max: float,
        heartbeat: float,
    ) -> None:
        self._seams = seams
        self._log = log
        self.enter()
        configuration = SyncObjConf(
            autoTick=False,
            useFork=False,
            appendEntriesUseBatch=False,
            dynamicMembershipChange=False,
            fullDumpFile=None,
            journalFile=log,
            appendEntriesPeriod=heartbeat,
            raftMinTimeout=election_timeout_min,
            raftMaxTimeout=election_timeout_max,
            leaderFallbackTimeout=election_timeout_max,
            connectionTimeout=2 * election_timeout_max,
            appendEntriesBatchSizeBytes=2 * ENTRY_BYTES_MAX,
            commandsWaitLeader=False,
        )
        super().__init__(
            Peer(member_id),
            [Peer(peer) for peer in peers],
            configuration,
            nodeClass=Peer,
            transport=GuardTransport(seams),
        )
        self._SyncObj__raftLastApplied = applied_index

    # -- entered from outside ----------------------------------------------------------------------------------------
    def enter(self) -> None:
        """Makes this engine's clock and randomness the module's; called before every other method."""
        _injected.seams = self._seams
        _injected.last = 0.0

    def step(self) -> None:
        self.doTick(0.0)

    def deliver(self, peer: str, message: dict[str, Any]) -> None:
        self._SyncObj__onMessageReceived(Peer(peer), message)

    def set_connected(self, peer: str, connected: bool) -> None:
        if connected:
            self._SyncObj__onNodeConnected(Peer(peer))
        else:
            self._SyncObj__onNodeDisconnected(Peer(peer))

    def set_other_voters(self, peers: Sequence[str]) -> None:
        """The configuration in effect has these other voters; what is known of those who stay is kept.

        As the engine's own `__updateClusterConfiguration`, which forgets to start the clock of a new peer's silence.
        """
        nodes = {Peer(peer) for peer in peers}
        known: set[Peer] = self.otherNodes
        for node in known - nodes:
            self._SyncObj__raftNextIndex.pop(node, None)
            self._SyncObj__raftMatchIndex.pop(node, None)
            self._SyncObj__lastResponseTime.pop(node, None)
        for node in nodes - known:
            self._SyncObj__raftNextIndex[node] = self._log[-1].index + 1
            self._SyncObj__raftMatchIndex[node] = 0
            self._SyncObj__lastResponseTime[node] = _injected.monotonic()
        self._SyncObj__otherNodes = nodes

    def propose(self, data: bytes) -> None:
        """Appends `data` as the leader's next entry, in this call (the engine's queue is empty before and after)."""
        assert self.is_leader, "only a leader appends"
        before = self._log[-1].index
        self._applyCommand(data, None)
        self._checkCommandsToApply()
        assert self._log[-1].index == before + 1, "the entry was not appended"

    def acknowledge(self, peer: str, index: int | None, *, heard: bool) -> None:
        """The follower's log matches ours up to `index` (None: it is alive, no more is known).

        `heard` False: not news of the follower but of our own disk, which must not keep a lonely leader in office.
        """
        node = Peer(peer)
        before = self._SyncObj__lastResponseTime.get(node)
        self.deliver(
            peer,
            {
                "type": "next_node_idx",
                "reset": False,
                "success": index is not None,
                "next_node_idx": 0 if index is None else index + 1,
            },
        )
        if not heard and before is not None:
            self._SyncObj__lastResponseTime[node] = before

    def request_transfer(self, peer: str) -> None:
        self.transferLeadership(Peer(peer))

    def step_down(self, term: int) -> None:
        """A higher term was seen: follow it (paper, section 5.1); the engine is not told of it by itself."""
        if term > self.term:
            self._SyncObj__setCurrentTerm(term, None)
        self._SyncObj__setState(FOLLOWER)
        self._SyncObj__raftLeader = None
        self._SyncObj__transferInProgress = False

    def forget_leader(self) -> None:
        self._SyncObj__raftLeader = None

    def clear_transfer(self) -> None:
        """A transfer that comes to nothing must not keep heartbeats from resetting the election timer."""
        self._SyncObj__transferInProgress = False

    def snapshot_installed(self, index: int) -> None:
        """The journal starts anew behind `index`, and the state machine stands there."""
        self._SyncObj__raftLastApplied = index
        self._SyncObj__raftCommitIndex = max(index, self.commit_index)
        self._log.setRaftCommitIndex(self.commit_index)

    def entry_applied(self) -> int:
        """Moves last-applied before the entry is applied, so that no error can apply it twice."""
        self._SyncObj__raftLastApplied += 1
        return int(self._SyncObj__raftLastApplied)

    # -- what it knows -----------------------------------------------------------------------------------------------
    @property
    def is_leader(self) -> bool:
        return bool(self._SyncObj__raftState == LEADER)

    @property
    def is_candidate(self) -> bool:
        return bool(self._SyncObj__raftState == CANDIDATE)

    @property
    def term(self) -> int:
        return int(self._SyncObj__raftCurrentTerm)

    @property
    def leader(self) -> str | None:
        leader = self._SyncObj__raftLeader
        return None if leader is None else str(leader.id)

    @property
    def commit_index(self) -> int:
        return int(self._SyncObj__raftCommitIndex)

    @property
    def applied_index(self) -> int:
        return int(self._SyncObj__raftLastApplied)

    @property
    def opening_index(self) -> int | None:
        """The index of this leader's own no-op."""
        index = self._SyncObj__noopIDx
        return None if index is None else int(index)

    # -- replaced by name --------------------------------------------------------------------------------------------
    def _SyncObj__connectedToAnyone(self) -> bool:  # noqa: N802
        # Asked once a tick when the election timer has run out: the place for a pre-vote.
        return self._seams.may_campaign()

    def _SyncObj__sendAppendEntries(self) -> None:  # noqa: N802
        # Progress is ours: the engine sends the whole tail again after every acknowledgement.
        self._SyncObj__newAppendEntriesTime = _injected.monotonic() + self.conf.appendEntriesPeriod
        self._seams.replicate()

    def _SyncObj__applyLogEntries(self) -> bool:  # noqa: N802
        # The engine's own loop applies an entry again when apply or a callback raises, and knows no index.
        return self._seams.apply_committed()

    def _SyncObj__onBecomeLeader(self) -> None:  # noqa: N802
        self._seams.became_leader()
        super()._SyncObj__onBecomeLeader()

    def _SyncObj__tryLogCompaction(self) -> None:  # noqa: N802
        pass
