"""A lone node's engine, journal, proposer and links in one loop, and how each kind of failure stops it."""

from __future__ import annotations

import asyncio
import errno
import io
import os
from collections.abc import AsyncIterator
from pathlib import Path
from random import SystemRandom

import pytest

from cluster.node.bootstrap import CA_FILE, CERTIFICATE_FILE, KEY_FILE
from cluster.node.clock import NodeClock
from cluster.node.configuration import NodeConfiguration
from cluster.node.consensus import Consensus
from cluster.node.identity import peer_contexts
from cluster.node.logs import make_logger
from cluster.node.metrics.instruments import Measures
from cluster.node.observation import Observation
from cluster.node.proposing import Proposing
from cluster.node.view import ClusterViews
from cluster.services.ports import Cause, NodeRole, Unavailable
from cluster.state import codec
from cluster.state.commands import Barrier
from cluster.state.results import Code
from datastore.errors import StorageFailed
from datastore.files import RealFiles
from tests.node.test_links import listening_socket, until
from tests.node.test_opening import make_cluster, opened
from tests.node.trails import writer

OPTIONS = NodeConfiguration(name="n", client_address="127.0.0.1:1", peer_address="127.0.0.1:2", kek="file:kek")
BARRIER = codec.pack(Barrier())


class Lone:
    """A node of a cluster of one, on a free port."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.failures: list[Exception] = []
        self.events = writer(RealFiles(), str(directory / "events"))
        self.events.start()
        tls = peer_contexts(directory / CA_FILE, directory / CERTIFICATE_FILE, directory / KEY_FILE)
        self.consensus = Consensus(
            files=RealFiles(),
            opened=opened(directory),
            options=OPTIONS,
            tls=tls,
            clock=NodeClock(),
            random=SystemRandom(),
            observation=Observation(self.events, Measures()),
            on_failure=self.failures.append,
            log=make_logger(io.StringIO(), "info"),
        )
        self.proposing = Proposing(self.consensus)
        self.views = ClusterViews(self.consensus)
        self.consensus.start(listening_socket())


@pytest.fixture
async def lone(tmp_path: Path) -> AsyncIterator[Lone]:
    lone = Lone(make_cluster(tmp_path, nodes=1)[0])
    yield lone
    await lone.consensus.close()


async def test_a_lone_node_elects_itself_and_answers(lone: Lone) -> None:
    await until(lone.views.is_ready)
    result = await lone.proposing.propose(BARRIER, 5.0)
    assert result.code is Code.OK
    view = lone.views.cluster_view()
    assert (view.node.role, view.quorum, view.failure_tolerance, view.peers) == (NodeRole.LEADER, True, 0, ())
    assert view.node.applied_index == lone.consensus.state.position.index
    assert lone.failures == []


async def test_what_was_answered_is_there_after_a_stop(tmp_path: Path) -> None:
    directory = make_cluster(tmp_path, nodes=1)[0]
    for _ in range(2):
        lone = Lone(directory)
        await until(lone.views.is_ready)
        await asyncio.gather(*(lone.proposing.propose(BARRIER, 5.0) for _ in range(50)))
        assert lone.consensus.write_data_file()
        await lone.consensus.written_out()
        index = lone.consensus.state.position.index
        digest = lone.consensus.state.running_digest
        await lone.consensus.close()
        again = opened(directory)
        assert (again.state.position.index, again.state.running_digest) == (index, digest)
        again.journal.close()


async def stopped(lone: Lone, error: type[Exception]) -> None:
    """Told once, links closed, and whoever waits is answered."""
    assert [type(each) for each in lone.failures] == [error]
    assert not lone.views.is_ready()
    with pytest.raises(Unavailable) as raised:
        await lone.proposing.propose(BARRIER, 5.0)
    assert raised.value.cause is Cause.STOPPED
    await asyncio.sleep(0.05)
    assert len(lone.failures) == 1


async def test_hazard_17_a_failed_sync_stops_the_node_and_answers_who_waits(
    lone: Lone, monkeypatch: pytest.MonkeyPatch
) -> None:
    await until(lone.views.is_ready)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fdatasync", full)
    with pytest.raises(Unavailable) as raised:
        await lone.proposing.propose(BARRIER, 5.0)
    assert raised.value.cause is Cause.STOPPED
    await stopped(lone, StorageFailed)


async def test_a_failed_data_file_stops_the_node(lone: Lone, monkeypatch: pytest.MonkeyPatch) -> None:
    await until(lone.views.is_ready)
    await lone.proposing.propose(BARRIER, 5.0)

    def unwritable(*_: object, **__: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("datastore.files.os.write", unwritable)
    assert lone.consensus.write_data_file()
    await until(lambda: bool(lone.failures))
    await stopped(lone, StorageFailed)


async def test_a_defect_in_the_engine_stops_the_node(lone: Lone, monkeypatch: pytest.MonkeyPatch) -> None:
    await until(lone.views.is_ready)

    def broken() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(lone.consensus.engine, "tick", broken)
    await until(lambda: bool(lone.failures))
    await stopped(lone, ZeroDivisionError)


async def test_a_caller_that_went_away_leaves_the_others_alone(lone: Lone) -> None:
    await until(lone.views.is_ready)
    gone = asyncio.create_task(lone.proposing.propose(BARRIER, 5.0))
    await asyncio.sleep(0)
    gone.cancel()
    assert (await lone.proposing.propose(BARRIER, 5.0)).code is Code.OK
    assert lone.failures == []


async def test_a_deadline_without_a_quorum_is_unavailable_in_time(tmp_path: Path) -> None:
    """One of three, whose peers are not there."""
    lone = Lone(make_cluster(tmp_path)[0])
    with pytest.raises(Unavailable) as raised:
        await lone.proposing.propose(BARRIER, 0.3)
    assert raised.value.cause is Cause.NO_QUORUM
    assert not lone.views.is_ready()
    view = lone.views.cluster_view()
    assert [peer.role for peer in view.peers] == [NodeRole.UNREACHABLE] * 2
    assert (view.quorum, view.failure_tolerance) == (False, 0)
    await lone.consensus.close()
