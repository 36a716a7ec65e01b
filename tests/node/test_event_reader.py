"""Reading a trail while it is written: the last that fit, what comes, over files that end and go, and names."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cluster.node.events.reader import TrailReader
from cluster.node.events.trail import Trail, TrailLimits
from cluster.services.event_source import EventBatch, SourceClosed, Wanted
from cluster.state.commands import AddUser, DeleteUser
from cluster.state.results import Event
from datastore.files import RealFiles
from tests.node.trails import NOW_MS, PREFIX, open_trail, sign_in
from tests.state.fixtures import Driver

FILES = RealFiles()


class Written:
    """A trail that grows in a test's hand, and its reader."""

    def __init__(self, path: Path, file_bytes: int = 2_000) -> None:
        self.driver = Driver()
        self.path = path / "events"
        self.trail: Trail = open_trail(FILES, str(self.path), limits=TrailLimits(file_bytes=file_bytes))
        self.reader = TrailReader(self.path, lambda: self.driver.state)
        self.index = 1

    def write(self, *events: Event) -> None:
        from cluster.node.events.lines import lines_of

        for event in events:
            self.index += 1
            self.trail.append(
                lines_of(self.index, NOW_MS + self.index, [event], self.driver.state.pseudonyms.of, PREFIX)
            )
            if self.trail.is_full():
                self.trail.rotate()

    async def past(self, wanted: Wanted | None = None, limit: int = 1_000) -> list[int]:
        batches = [batch async for batch in self.reader.read(wanted or Wanted(), limit=limit, follow=False)]
        return [event.index for batch in batches for event in batch.events]


@pytest.fixture
async def written(tmp_path: Path) -> AsyncIterator[Written]:
    written = Written(tmp_path)
    yield written
    written.trail.close()


async def test_the_last_that_fit_come_oldest_first_from_as_many_files_as_it_takes(written: Written) -> None:
    written.write(*(sign_in(f"user-{n % 3}") for n in range(60)))
    assert len(list(written.path.iterdir())) > 5
    assert await written.past() == list(range(2, 62))
    assert await written.past(limit=7) == list(range(55, 62))
    pseudonym = written.driver.state.pseudonyms.of("user-1")
    assert await written.past(Wanted(pseudonym=pseudonym), limit=3) == [54, 57, 60]
    assert await written.past(Wanted(after_index=58)) == [59, 60, 61]
    assert await written.past(Wanted(since_ms=NOW_MS + 60)) == [60, 61]
    assert await written.past(Wanted(until_ms=NOW_MS + 4)) == [2, 3]
    assert await written.past(Wanted(kinds=frozenset({"user_added"}))) == []


async def test_an_unfinished_line_is_not_told(written: Written) -> None:
    written.write(sign_in(), sign_in())
    path = max(written.path.iterdir())
    path.write_bytes(path.read_bytes()[:-5])
    assert await written.past() == [2]


async def test_a_damaged_line_is_left_out_and_the_others_come(written: Written) -> None:
    written.write(sign_in(), sign_in(), sign_in())
    path = max(written.path.iterdir())
    path.write_bytes(path.read_bytes().replace(b'"index":3', b'"index":x'))
    assert await written.past() == [2, 4]


async def test_gaps_stand_where_they_are_and_not_in_a_search_for_a_person(written: Written) -> None:
    written.write(sign_in())
    written.trail.note_gap(3, 9, "a snapshot")
    written.index = 9
    written.write(sign_in())
    batches = [batch async for batch in written.reader.read(Wanted(), limit=10, follow=False)]
    assert [
        [e.index for e in batch.events] or [(g.from_index, g.to_index) for g in batch.gaps] for batch in batches
    ] == [
        [2],
        [(3, 9)],
        [10],
    ]
    pseudonym = written.driver.state.pseudonyms.of("alice")
    assert await written.past(Wanted(pseudonym=pseudonym)) == [2, 10]


async def next_events(batches: AsyncIterator[EventBatch], count: int) -> list[int]:
    found: list[int] = []
    async with asyncio.timeout(20):
        while len(found) < count:
            found += [event.index for event in (await anext(batches)).events]
    return found


async def test_who_follows_gets_each_event_once_over_the_ends_of_files(written: Written) -> None:
    written.write(sign_in(), sign_in())
    batches = aiter(written.reader.read(Wanted(), limit=1, follow=True))
    assert await next_events(batches, 1) == [3]
    for start in range(4, 44, 4):
        written.write(*(sign_in() for _ in range(4)))
        assert await next_events(batches, 4) == list(range(start, start + 4))
    written.reader.close()
    with pytest.raises(SourceClosed):
        await next_events(batches, 1)


async def test_who_follows_from_now_gets_nothing_of_the_past(written: Written) -> None:
    written.write(sign_in(), sign_in())
    batches = aiter(written.reader.read(Wanted(), limit=0, follow=True))
    assert await anext(batches) == EventBatch()
    written.write(sign_in())
    assert await next_events(batches, 1) == [4]
    await batches.aclose()  # type: ignore[attr-defined] # it is a generator


async def test_files_that_are_removed_meanwhile_end_nothing(written: Written) -> None:
    written.write(*(sign_in() for _ in range(30)))
    batches = aiter(written.reader.read(Wanted(), limit=0, follow=True))
    await anext(batches)
    for path in sorted(written.path.iterdir())[:-1]:
        path.unlink()
    written.write(sign_in())
    assert await next_events(batches, 1) == [32]
    assert await written.past(Wanted(after_index=31)) == [32]
    await batches.aclose()  # type: ignore[attr-defined] # it is a generator


async def test_names_are_those_of_the_users_that_there_are(written: Written) -> None:
    driver = written.driver
    pseudonyms = {name: driver.state.pseudonyms.of(name) for name in ("alice", "bob", "nobody")}
    driver.run(AddUser("alice"))
    driver.run(AddUser("bob"))
    asked = frozenset({*pseudonyms.values(), "not hexadecimal"})
    assert await written.reader.names(asked) == {pseudonyms["alice"]: "alice", pseudonyms["bob"]: "bob"}
    driver.run(DeleteUser("bob"))
    assert await written.reader.names(asked) == {pseudonyms["alice"]: "alice"}
