"""Events on their way to the trail: none lost, none twice, over crashes, failing disks, snapshots and floods."""

from __future__ import annotations

import random
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.node.events.lines import Note
from cluster.node.events.trail import TrailLimits, file_name
from cluster.node.events.verification import files_of, verify
from cluster.node.events.writer import EventWriter
from cluster.state.results import Event
from datastore.errors import StorageFailed
from datastore.files import RealFiles
from tests.node.trails import NOW_MS, events_in, lines_in, locked, quiet_log, sign_in, writer
from tests.simulation.memory_files import MemoryFiles

DIRECTORY = "/node/events"


def events_of(index: int) -> Sequence[Event]:
    """Always the same for an index: none, one or two."""
    return [sign_in(f"user-{index}"), locked(f"user-{index}")][: index % 3]


def expected(last: int) -> list[tuple[int, int]]:
    return [(index, n) for index in range(2, last + 1) for n in range(1, index % 3 + 1)]


def memory() -> MemoryFiles:
    files = MemoryFiles(random.Random(1))
    files.make_directory("/node")
    return files


def apply(events: EventWriter, *indices: int) -> None:
    for index in indices:
        events.applied(index, NOW_MS, events_of(index))


class History:
    """A node's life: what it applied, its journal (all of it), and the data file it starts from."""

    def __init__(self, seed: int, limits: TrailLimits) -> None:
        self.files = MemoryFiles(random.Random(seed))
        self.files.make_directory("/node")
        self.files.sync_directory("/node")
        self.limits = limits
        self.applied = self.data_file = 1
        self.open()

    def open(self) -> None:
        """Start, and apply again what the journal has after the data file."""
        self.events = writer(self.files, DIRECTORY, self.data_file, limits=self.limits)
        applied, self.applied = self.applied, self.data_file
        self.apply(applied - self.applied)

    def apply(self, count: int) -> None:
        for _ in range(count):
            self.applied += 1
            apply(self.events, self.applied)

    def snapshot(self) -> None:
        """Publish a data file, as a node does: when the events up to it are durable."""
        self.events.position(self.applied)
        self.events.write_out(sync=True)
        if self.events.wait_durable(self.applied, 0):
            self.data_file = self.applied

    def die(self, how: str) -> None:
        getattr(self.files, how)()
        self.open()


STEP = st.one_of(
    st.tuples(st.just("apply"), st.integers(1, 9)),
    st.tuples(st.just("write"), st.booleans()),
    st.tuples(st.just("snapshot")),
    st.tuples(st.just("crash")),
    st.tuples(st.just("kill")),
    st.tuples(st.just("fail_sync")),
    st.tuples(st.just("fill"), st.integers(0, 2_000)),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(STEP, max_size=30), st.integers(0, 2**32), st.sampled_from([600, 1_500, 1 << 20]))
def test_each_event_is_there_once_whatever_happens(steps: list[tuple[Any, ...]], seed: int, file_bytes: int) -> None:
    history = History(seed, TrailLimits(file_bytes=file_bytes))
    for step in steps:
        match step:
            case ("apply", count):
                history.apply(count)
            case ("write", sync):
                history.events.write_out(sync=sync)
            case ("snapshot",):
                history.snapshot()
            case ("crash" | "kill" as how,):
                history.die(how)
            case ("fail_sync",):
                history.files.failing_syncs = 1
                history.events.write_out(sync=True)
                history.files.failing_syncs = 0
            case ("fill", space):
                history.files.space_bytes = space
                history.events.write_out(sync=True)
                history.files.space_bytes = None
    assert history.events.write_out(sync=True)
    assert history.events.waiting == 0
    assert events_in(history.files, DIRECTORY) == expected(history.applied)
    assert not [line for line in lines_in(history.files, DIRECTORY) if line.kind == Note.GAP or line.why]


def test_what_comes_again_after_a_start_is_not_written_twice() -> None:
    files = memory()
    first = writer(files, DIRECTORY)
    apply(first, *range(2, 8))
    first.write_out(sync=True)
    files.kill()
    again = writer(files, DIRECTORY, 1)
    apply(again, *range(2, 11))
    again.write_out(sync=True)
    assert events_in(files, DIRECTORY) == expected(10)


def test_a_snapshot_of_a_peer_leaves_a_line_that_says_so() -> None:
    files = memory()
    events = writer(files, DIRECTORY)
    apply(events, 2, 3, 4)
    events.installed(5, 90)
    apply(events, 91, 92)
    events.write_out(sync=True)
    gaps = [(line.from_index, line.index) for line in lines_in(files, DIRECTORY) if line.kind == Note.GAP]
    assert gaps == [(5, 90)]
    assert events.wait_durable(90, 0)
    files.kill()
    writer(files, DIRECTORY, 90)
    assert gaps == [(line.from_index, line.index) for line in lines_in(files, DIRECTORY) if line.kind == Note.GAP]


def test_a_position_is_durable_only_once_it_is_synced() -> None:
    files = memory()
    events = writer(files, DIRECTORY)
    apply(events, 2, 3)
    events.position(3)
    assert not events.wait_durable(3, 0)
    events.write_out(sync=False)
    assert not events.wait_durable(3, 0)
    events.write_out(sync=True)
    assert events.wait_durable(3, 0)
    assert not events.wait_durable(4, 0)
    assert events.durable_index == 3


def test_a_full_disk_is_said_and_nothing_is_let_go() -> None:
    files, log = memory(), []
    events = writer(files, DIRECTORY, log=quiet_log(log))
    files.space_bytes = 100
    apply(events, *range(2, 30))
    assert not events.write_out(sync=True)
    assert not events.write_out(sync=True)
    assert "cannot write" in events.trouble
    assert [line["event"] for line in log] == ["events_not_written"], "once a minute, not at each attempt"
    assert events.waiting == len(expected(29))
    files.space_bytes = None
    assert events.write_out(sync=True)
    assert (events.trouble, events.waiting) == ("", 0)
    assert log[-1]["event"] == "events_written_again"
    assert events_in(files, DIRECTORY) == expected(29)


def test_more_than_may_wait_stops_the_node_where_nothing_can_be_written() -> None:
    files = memory()
    events = writer(files, DIRECTORY, waiting_max=50)
    files.space_bytes = 0
    with pytest.raises(StorageFailed, match="audit trail"):
        apply(events, *range(2, 200))


def test_more_than_may_wait_is_written_by_whoever_brings_it() -> None:
    """A slow thread holds apply up; it loses nothing and stops nobody."""
    files = memory()
    events = writer(files, DIRECTORY, waiting_max=50)
    apply(events, *range(2, 200))
    assert events.waiting <= 51
    events.write_out(sync=True)
    assert events_in(files, DIRECTORY) == expected(199)


def test_a_file_that_is_removed_while_it_is_written_is_missed_and_said() -> None:
    files, log = memory(), []
    events = writer(files, DIRECTORY, log=quiet_log(log))
    apply(events, 2, 4, 5)
    events.position(5)
    events.write_out(sync=True)
    files.remove(f"{DIRECTORY}/{file_name(1)}")
    apply(events, 7)
    assert not events.write_out(sync=True)
    assert events.write_out(sync=True)
    assert "somebody removed it" in log[0]["reason"]
    assert events_in(files, DIRECTORY) == [(7, 1)]
    (gap,) = [line for line in lines_in(files, DIRECTORY) if line.kind == Note.GAP]
    assert (gap.from_index, gap.index) == (2, 5)


def test_a_file_that_was_changed_is_met_when_the_trail_is_opened_again() -> None:
    """What was durable in it is not written again; the new file's first line says where it goes on."""
    files, log = memory(), []
    events = writer(files, DIRECTORY, log=quiet_log(log))
    apply(events, 2, 4, 5)
    events.position(5)
    events.write_out(sync=True)
    path = f"{DIRECTORY}/{file_name(1)}"
    files.overwrite(path, files.contents(path).replace(b"verify", b"Verify", 1))
    files.failing_syncs = 1
    apply(events, 7, 8)
    assert not events.write_out(sync=True)
    assert events.write_out(sync=True)
    assert [line["event"] for line in log] == ["events_not_written", "events_damaged", "events_written_again"]
    begin = [line for line in lines_in(files, DIRECTORY) if line.kind == Note.BEGIN][-1]
    assert "entries after 5 are written again" in begin.why
    assert events_in(files, DIRECTORY)[-3:] == [(7, 1), (8, 1), (8, 2)]


def test_the_thread_writes_syncs_and_ends_by_itself(tmp_path: Path) -> None:
    files, directory = RealFiles(), str(tmp_path / "events")
    wrote = threading.Event()
    events = writer(files, directory)
    events._on_written = wrote.set
    events.start()
    apply(events, *range(2, 50))
    assert wrote.wait(20)
    events.position(49)
    assert events.wait_durable(49, 20)
    apply(events, 50)
    assert events.close()
    assert events_in(files, directory) == expected(50)
    assert verify(files_of([tmp_path / "events"])).intact


def test_a_defect_in_the_thread_is_told(tmp_path: Path) -> None:
    told = threading.Event()
    events = writer(RealFiles(), str(tmp_path / "events"))
    events._on_defect = lambda _: told.set()
    events.pseudonym = lambda _: 1 // 0
    events.start()
    apply(events, 2)
    assert told.wait(20)
