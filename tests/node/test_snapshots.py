"""Data files of a running node: written, read back, given away, taken in; and what becomes of each step that fails."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import pytest

from cluster.node.configuration import SnapshotOptions
from cluster.node.directory import received_path
from cluster.node.logs import make_logger
from cluster.node.opening import OpenedNode
from cluster.node.snapshot_policy import SnapshotPolicy
from cluster.node.snapshots import DataFiles, Verified
from cluster.raft.snapshot_transfer import SnapshotMeta
from cluster.state.apply import State
from datastore.errors import DatastoreError, StorageFailed
from datastore.files import RealFile, RealFiles
from tests.node.test_opening import NOW, advance, append, close, make_cluster, opened

T = TypeVar("T")


@dataclass
class Worker:
    """Runs what it is given when the test says so, as the thread would: one piece after another."""

    waiting: list[Callable[[], None]] = field(default_factory=list)

    def __call__(self, work: Callable[[], T], then: Callable[[T], None], failed: Callable[[Exception], None]) -> None:
        def run() -> None:
            try:
                result = work()
            except DatastoreError as error:
                failed(error)
            else:
                then(result)

        self.waiting.append(run)

    def run(self) -> None:
        while self.waiting:
            self.waiting.pop(0)()


class FullDisk(RealFiles):
    """Takes no more bytes once it is full."""

    full = False

    def create(self, path: str) -> RealFile:
        if self.full:
            raise StorageFailed(path, "create", OSError(28, "full"))
        return super().create(path)


@dataclass
class Stage:
    """A node's data files with a worker under the test's hand."""

    node: OpenedNode
    directory: Path
    files: FullDisk
    worker: Worker = field(default_factory=Worker)
    taken: list[State] = field(default_factory=list)
    published: list[int] = field(default_factory=list)
    failures: list[Exception] = field(default_factory=list)
    may_publish: bool = True

    def __post_init__(self) -> None:
        self.data_files = DataFiles(
            files=self.files,
            opened=self.node,
            worker=self.worker,
            written=lambda: self.node.journal.written,
            random=os.urandom,
            wall_ms=lambda: NOW,
            take_state=self.taken.append,
            on_published=self.published.append,
            on_failure=self.failures.append,
            log=make_logger(io.StringIO(), "info"),
            pause=lambda _: None,
            may_publish=lambda _: self.may_publish,
        )

    def advance(self, count: int) -> None:
        append(self.node, count)
        advance(self.node.state, self.node)

    def write(self) -> bool:
        begun = self.data_files.write(self.node.state.snapshot())
        self.worker.run()
        return begun

    def names(self) -> set[str]:
        return {path.name for path in self.directory.iterdir() if path.name.startswith("mfa.data")}

    def close(self) -> None:
        self.worker.run()
        self.data_files.close()
        close(self.node)


@pytest.fixture
def stages(tmp_path: Path) -> list[Stage]:
    return [Stage(opened(path), path, FullDisk()) for path in make_cluster(tmp_path)[:2]]


def test_a_new_data_file_is_read_back_published_and_known(stages: list[Stage]) -> None:
    stage = stages[0]
    stage.advance(4)
    assert stage.write()
    assert stage.names() == {"mfa.data", "mfa.data.1"}
    assert stage.published == [1], "the journal is kept back to the oldest generation"
    assert stage.data_files.current.position.index == 5
    assert stage.data_files.latest() is not None
    stage.close()
    again = opened(stage.directory)
    assert (again.data_file.position.index, again.state.running_digest) == (5, stage.node.state.running_digest)
    close(again)


def test_a_data_file_that_may_not_be_published_leaves_everything_as_it_was(stages: list[Stage]) -> None:
    stage = stages[0]
    stage.advance(4)
    stage.may_publish = False
    assert stage.write()
    assert (stage.names(), stage.published, stage.failures) == ({"mfa.data"}, [], [])
    assert stage.data_files.current.position.index == 1
    stage.may_publish = True
    assert stage.write()
    assert stage.data_files.current.position.index == 5
    assert stage.data_files.written_count == 1
    stage.close()


def test_one_at_a_time_and_never_an_older_one(stages: list[Stage]) -> None:
    stage = stages[0]
    older = stage.node.state.snapshot()
    stage.advance(4)
    assert stage.data_files.write(stage.node.state.snapshot())
    assert not stage.data_files.write(stage.node.state.snapshot())
    stage.worker.run()
    assert not stage.data_files.write(older)
    assert stage.worker.waiting == []
    stage.close()


def test_hazard_08_a_disk_that_fills_up_leaves_the_good_one_and_is_told(stages: list[Stage]) -> None:
    stage = stages[0]
    before = (stage.directory / "mfa.data").read_bytes()
    stage.advance(4)
    stage.files.full = True
    stage.write()
    assert [type(error) for error in stage.failures] == [StorageFailed]
    assert (stage.directory / "mfa.data").read_bytes() == before
    assert stage.published == []
    stage.close()


def parts(giver: Stage, size: int = 700) -> tuple[SnapshotMeta, list[tuple[int, bytes]]]:
    meta = giver.data_files.latest()
    assert meta is not None
    found: list[tuple[int, bytes]] = []
    for offset in range(0, meta.size_bytes, size):

        def keep(data: bytes | None, offset: int = offset) -> None:
            assert data is not None
            found.append((offset, data))

        giver.data_files.read(meta, offset, min(size, meta.size_bytes - offset), keep)
    giver.worker.run()
    assert sum(len(data) for _, data in found) == meta.size_bytes
    return meta, found


def send(taker: Stage, meta: SnapshotMeta, chunks: list[tuple[int, bytes]]) -> list[bool]:
    stored: list[bool] = []
    for offset, data in chunks:
        taker.data_files.receive(meta, offset, data, stored.append)
        taker.worker.run()
    return stored


def install(taker: Stage, meta: SnapshotMeta, *, commit: bool = True) -> Verified | None:
    """As the engine does it: commit and reset the journal within the call."""
    got: list[Verified | None] = []

    def done(verified: Verified | None) -> None:
        got.append(verified)
        if verified is not None and commit:
            verified.commit()
            taker.node.journal.install(meta.index, meta.term)

    taker.data_files.install(meta, done)
    taker.worker.run()
    return got[0]


def test_hazard_19_a_peers_snapshot_becomes_the_data_file_after_its_journal_is_on_disk(stages: list[Stage]) -> None:
    giver, taker = stages
    giver.advance(9)
    giver.write()
    meta, chunks = parts(giver)
    assert all(send(taker, meta, chunks))
    assert install(taker, meta) is not None
    assert [state.position.index for state in taker.taken] == [10]
    assert taker.data_files.current.position.index == 1
    assert "mfa.data.received" in taker.names()
    taker.data_files.journal_synced(taker.node.journal.synced)
    taker.worker.run()
    assert taker.data_files.current.position.index == 1, "its journal is not on disk yet"
    taker.node.journal.sync()
    taker.data_files.journal_synced(taker.node.journal.synced)
    taker.worker.run()
    assert taker.data_files.current.position.index == 10
    assert "mfa.data.received" not in taker.names()
    assert taker.published
    for stage in stages:
        stage.close()
    again = opened(taker.directory)
    assert again.state.running_digest == giver.node.state.running_digest
    assert again.journal.base_index == 10
    close(again)


def test_a_snapshot_that_the_engine_does_not_need_leaves_nothing(stages: list[Stage]) -> None:
    giver, taker = stages
    giver.advance(9)
    giver.write()
    meta, chunks = parts(giver)
    send(taker, meta, chunks)
    assert install(taker, meta, commit=False) is not None
    assert not Path(received_path(taker.directory)).exists()
    assert taker.taken == []
    for stage in stages:
        stage.close()


@pytest.mark.parametrize("broken", [0, 1, -1])
def test_a_damaged_snapshot_is_refused_whole(stages: list[Stage], broken: int) -> None:
    giver, taker = stages
    giver.advance(9)
    giver.write()
    meta, chunks = parts(giver)
    offset, data = chunks[broken]
    chunks[broken] = (offset, data[:-1] + bytes([data[-1] ^ 1]))
    assert all(send(taker, meta, chunks))
    assert install(taker, meta) is None
    assert taker.taken == []
    assert taker.names() == {"mfa.data"}
    for stage in stages:
        stage.close()


def test_a_snapshot_that_stands_elsewhere_than_announced_is_refused(stages: list[Stage]) -> None:
    giver, taker = stages
    giver.advance(9)
    giver.write()
    meta, chunks = parts(giver)
    other = SnapshotMeta(meta.index + 1, meta.term, meta.stamp_ms, meta.running_digest, meta.size_bytes, meta.name)
    assert all(send(taker, other, chunks))
    assert install(taker, other) is None
    for stage in stages:
        stage.close()


def test_parts_out_of_order_are_refused_and_the_start_begins_anew(stages: list[Stage]) -> None:
    giver, taker = stages
    giver.advance(9)
    giver.write()
    meta, chunks = parts(giver)
    assert send(taker, meta, chunks[1:2]) == [False]
    assert send(taker, meta, [chunks[0], chunks[2]]) == [True, False]
    assert all(send(taker, meta, chunks))
    assert install(taker, meta) is not None
    assert len([name for name in taker.names() if name.endswith(".tmp")]) == 0
    for stage in stages:
        stage.close()


def test_the_file_before_the_current_one_can_still_be_read_by_who_began_with_it(stages: list[Stage]) -> None:
    stage = stages[0]
    answers: list[bytes | None] = []
    metas = []
    for _ in range(3):
        meta = stage.data_files.latest()
        assert meta is not None
        metas.append(meta)
        stage.advance(1)
        stage.write()
    for meta in metas:
        stage.data_files.read(meta, 0, 8, answers.append)
        stage.worker.run()
    assert [answer is not None for answer in answers] == [False, False, True]
    for each in stages:
        each.close()


def test_when_a_data_file_is_due(stages: list[Stage]) -> None:
    stage = stages[0]
    policy = SnapshotPolicy(stage.node.journal, SnapshotOptions(journal_bytes=65_536, age_s=3_600), 1)
    policy.count(1)
    assert not policy.is_due(10**9), "nothing has changed"
    stage.advance(1)
    policy.count(1)
    assert policy.is_due(3_600_000)
    assert not policy.is_due(3_599_999)
    stage.advance(65_536 // 5)
    policy.count(1)
    assert policy.is_due(0)
    policy.count(stage.node.journal.last_index)
    assert not policy.is_due(10**9)
    for each in stages:
        each.close()
