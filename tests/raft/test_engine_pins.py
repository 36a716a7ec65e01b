"""The engine is what was examined: one version, and in it the lines that ours build on."""

from __future__ import annotations

import hashlib
import importlib.metadata
import inspect
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pysyncobj.pickle as engine_pickle
import pysyncobj.serializer as engine_serializer
import pytest
from pysyncobj.node import Node
from pysyncobj.syncobj import SyncObj
from pysyncobj.transport import Transport

from cluster.raft.engine import RaftSettings
from cluster.raft.errors import SafetyViolation
from cluster.raft.pysyncobj_patches import PINNED_VERSION, Core, check_version
from tests.raft.stage import Stage

# Of each method's source.  A new version with another one wants that method read again, with cluster/raft/DESIGN.md
# ("What the engine does") beside it: is what we replace still all that is wrong, and what we rely on still so?
RELIED_ON = {
    "__init__": "09df12cd7fd7d727",
    "_onTick": "cc9eb08232d005ba",
    "doTick": "bef78c2ba06d784b",
    "__applyLogEntries": "073db677773b5a2d",
    "__onMessageReceived": "ddfe34b6c0282179",
    "__onNodeConnected": "2655afb481b4c69b",
    "__onNodeDisconnected": "a81c0475ba2218cc",
    "__onBecomeLeader": "5a3fd97bc17dc1cf",
    "__onLeaderChanged": "53b7685e1d897887",
    "__sendNextNodeIdx": "68aaeefc267b8896",
    "__sendAppendEntries": "9cb9073128c392fa",
    "__connectedToAnyone": "acd40e9e3ac6c4cc",
    "__tryLogCompaction": "c2f8a0ec14cc7312",
    "__setCurrentTerm": "0ad5bf456ac06bd3",
    "__setState": "2c1f239f7bd79b39",
    "__getEntries": "e29c4b33293b2101",
    "__getCurrentLogIndex": "e5af22ca246686bd",
    "__getCurrentLogTerm": "1cb8867e6a13d397",
    "__deleteEntriesFrom": "3b23c411bb903d36",
    "__generateRaftTimeout": "92ed37d3620e781a",
    "_applyCommand": "827f207d515b2d64",
    "_checkCommandsToApply": "a386a8079361d204",
    "transferLeadership": "c3ac67963962d9aa",
}
RELIED_ON_ELSEWHERE: dict[str, tuple[Any, str]] = {
    "Node": (Node, "08d57d1bfde2aca1"),
    "Transport": (Transport, "9b0212a7af6123e7"),
}
ATTRIBUTES = (
    "raftState",
    "raftCurrentTerm",
    "raftLeader",
    "raftCommitIndex",
    "raftLastApplied",
    "raftElectionDeadline",
    "transferInProgress",
    "lastResponseTime",
    "newAppendEntriesTime",
    "noopIDx",
    "votesCount",
    "raftMatchIndex",
    "raftNextIndex",
)


def mangled(name: str) -> str:
    return f"_SyncObj{name}" if name.startswith("__") and not name.endswith("__") else name


def fingerprint(code: Any) -> str:
    return hashlib.sha256(inspect.getsource(code).encode()).hexdigest()[:16]


def test_the_pinned_version_is_installed() -> None:
    check_version()
    assert importlib.metadata.version("pysyncobj") == PINNED_VERSION


def test_another_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda _: "0.3.18")
    with pytest.raises(SafetyViolation, match=r"0\.3\.18 is installed, and only 0\.3\.17 has been examined"):
        check_version()


@pytest.mark.parametrize("name", RELIED_ON)
def test_what_we_rely_on_is_as_it_was_read(name: str) -> None:
    found = fingerprint(SyncObj.__dict__[mangled(name)])
    assert found == RELIED_ON[name], f"pysyncobj's SyncObj.{name} has changed: read it again, then pin {found}"


@pytest.mark.parametrize("name", RELIED_ON_ELSEWHERE)
def test_what_we_inherit_is_as_it_was_read(name: str) -> None:
    code, pinned = RELIED_ON_ELSEWHERE[name]
    assert fingerprint(code) == pinned, f"pysyncobj's {name} has changed: read it again, then pin {fingerprint(code)}"


def test_every_replacement_replaces_something() -> None:
    ours = {name for name in vars(Core) if name.startswith("_SyncObj__")}
    assert ours == {mangled(name) for name in RELIED_ON} & ours, "each of them is pinned above"
    assert all(name in vars(SyncObj) for name in ours)


def test_the_engines_state_is_where_we_look_for_it() -> None:
    core = Stage("abc")["a"].core
    assert [name for name in ATTRIBUTES if not hasattr(core, f"_SyncObj__{name}")] == []


@pytest.fixture
def no_pickle(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Every way to pickle raises, in the whole process, and is noted."""
    calls: list[str] = []

    def refuse(name: str) -> Callable[..., None]:
        def refused(*_: object, **__: object) -> None:
            calls.append(name)
            raise AssertionError(f"{name} was called")

        return refused

    for module in (pickle, engine_pickle, engine_serializer.pickle):
        for name in ("loads", "dumps", "load", "dump", "Unpickler", "Pickler"):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, refuse(f"{module.__name__}.{name}"))
    yield calls
    monkeypatch.undo()


def test_nothing_is_ever_pickled(no_pickle: list[str]) -> None:
    """Electing, replicating, filling a follower, handing leadership on and starting again."""
    stage = Stage("abc", settings=RaftSettings(snapshot_chunk_bytes=20_000))
    a = stage.elect("a")
    stage.isolate("c")
    stage.propose("a", *(b"%d" % n for n in range(12)))
    stage.run(0.3)
    stage.propose("b", bytes(200_000))
    a.shelf.take(a.engine.status().term)
    a.journal.compact(a.machine.applied.index)
    stage.heal()
    stage.run(1.0)
    assert stage["c"].machine.payloads == a.machine.payloads
    a.engine.transfer_leadership()
    stage.run(0.5)
    stage["b"].crash()
    stage.run(2.0)
    assert stage["b"].machine.payloads == a.machine.payloads
    assert no_pickle == []
