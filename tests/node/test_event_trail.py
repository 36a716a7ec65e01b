"""The files of a trail: going on after the last line, rotating, and what is found there that should not be."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.node.events.lines import CHAIN_START, WHOLE, Line, Note, Place, lines_of, timestamp
from cluster.node.events.trail import Owner, Trail, TrailLimits, file_name
from cluster.node.events.verification import files_of, verify
from datastore.errors import InsecurePermissions
from datastore.files import RealFiles
from tests.node.trails import (
    CLUSTER_ID,
    NOW_MS,
    OWNER,
    PREFIX,
    PSEUDONYMS,
    events_in,
    lines_in,
    locked,
    open_trail,
    sign_in,
)

FILES = RealFiles()
SMALL = TrailLimits(file_bytes=1_500)


@pytest.fixture
def events(tmp_path: Path) -> str:
    return str(tmp_path / "events")


def write(trail: Trail, *indices: int) -> None:
    for index in indices:
        trail.append(lines_of(index, NOW_MS, [sign_in(), locked()], PSEUDONYMS.of, PREFIX))
    trail.sync()


def test_a_new_trail_begins_with_whose_it_is(events: str) -> None:
    trail = open_trail(FILES, events)
    trail.close()
    (begin,) = lines_in(FILES, events)
    assert begin == Line(
        1,
        timestamp(NOW_MS),
        Note.BEGIN,
        file=1,
        oldest=1,
        node=OWNER.member_id,
        cluster=CLUSTER_ID,
        incarnation=OWNER.incarnation_id,
        previous=CHAIN_START.hex(),
        format=1,
    )
    assert (Path(events).stat().st_mode & 0o777, (Path(events) / file_name(1)).stat().st_mode & 0o777) == (
        0o700,
        0o600,
    )


def test_it_goes_on_after_the_last_line(events: str) -> None:
    trail = open_trail(FILES, events)
    write(trail, 2, 3)
    trail.close()
    again = open_trail(FILES, events, 1)
    assert again.place == Place(3, WHOLE)
    write(again, 4)
    again.close()
    assert events_in(FILES, events) == [(i, n) for i in (2, 3, 4) for n in (1, 2)]
    assert verify(files_of([Path(events)])).intact


def test_a_node_that_was_filled_says_what_is_missing(events: str) -> None:
    """A new node begins at a data file of others, and one that was away goes on at a later one."""
    open_trail(FILES, events, 40).close()
    assert [(line.kind, line.from_index, line.index) for line in lines_in(FILES, events)][1:] == [(Note.GAP, 2, 40)]
    open_trail(FILES, events, 40).close()
    trail = open_trail(FILES, events, 99)
    trail.close()
    assert [(line.kind, line.from_index, line.index) for line in lines_in(FILES, events)][2:] == [(Note.GAP, 41, 99)]
    assert trail.place == Place(99, WHOLE)


def test_a_gap_within_an_entry_names_that_entry_too(events: str) -> None:
    trail = open_trail(FILES, events)
    trail.append(lines_of(5, NOW_MS, [sign_in(), locked()], PSEUDONYMS.of, PREFIX)[:1])
    trail.close()
    open_trail(FILES, events, 8).close()
    gap = lines_in(FILES, events)[-1]
    assert (gap.from_index, gap.index) == (5, 8)


@pytest.mark.parametrize("cut", [1, 30, 200])
def test_an_unfinished_last_line_is_cut(events: str, cut: int) -> None:
    trail = open_trail(FILES, events)
    write(trail, 2, 3)
    trail.close()
    path = Path(events) / file_name(1)
    path.write_bytes(path.read_bytes()[:-cut])
    again = open_trail(FILES, events)
    assert again.place == Place(3, 1)
    assert again.trouble == ""
    again.append(lines_of(3, NOW_MS, [sign_in(), locked()], PSEUDONYMS.of, PREFIX)[1:])
    again.close()
    assert events_in(FILES, events) == [(2, 1), (2, 2), (3, 1), (3, 2)]
    assert verify([path]).intact


def test_zeros_at_the_end_are_an_unfinished_line(events: str) -> None:
    trail = open_trail(FILES, events)
    write(trail, 2)
    trail.close()
    path = Path(events) / file_name(1)
    path.write_bytes(path.read_bytes() + bytes(100_000))
    again = open_trail(FILES, events)
    again.close()
    assert again.trouble == ""
    assert verify([path]).intact


@pytest.mark.parametrize("left", [0, 1, 100])
def test_a_file_whose_first_line_was_never_finished_is_made_anew(events: str, left: int) -> None:
    trail = open_trail(FILES, events)
    write(trail, 2)
    trail.rotate()
    trail.close()
    path = Path(events) / file_name(2)
    path.write_bytes(path.read_bytes()[:left])
    again = open_trail(FILES, events)
    again.close()
    assert again.place == Place(2, WHOLE)
    # The first file is the last one again, and goes on.
    assert verify(files_of([Path(events)])).intact


def test_files_are_finished_by_size_and_by_age(events: str) -> None:
    now_ms = NOW_MS
    trail = open_trail(FILES, events, limits=TrailLimits(1_500, 60_000), wall_ms=lambda: now_ms)
    assert not trail.is_full()
    write(trail, 2, 3, 4)
    assert trail.is_full()
    trail.rotate()
    assert not trail.is_full()
    now_ms += 60_000
    assert trail.is_full()
    trail.close()


def test_a_file_is_finished_between_entries_only(events: str) -> None:
    trail = open_trail(FILES, events, limits=TrailLimits(1, 1))
    trail.append(lines_of(5, NOW_MS, [sign_in(), locked()], PSEUDONYMS.of, PREFIX)[:1])
    assert not trail.is_full()
    trail.close()


def rotated(events: str, files: int, keep: int = 0) -> list[Path]:
    trail = open_trail(FILES, events, limits=TrailLimits(keep_files=keep))
    for index in range(2, files + 1):
        write(trail, index)
        trail.rotate()
    write(trail, files + 1)
    trail.close()
    return files_of([Path(events)])


def test_only_as_many_files_are_kept_as_may(events: str) -> None:
    paths = rotated(events, 5, keep=2)
    assert [path.name for path in paths] == [file_name(4), file_name(5)]
    assert verify(paths).intact
    assert verify(paths, whole=True).intact, "the node itself removed the others"
    assert verify(paths).first_file == 4


def test_a_removal_that_a_crash_interrupted_is_finished(events: str) -> None:
    paths = rotated(events, 5, keep=2)
    left_over = Path(events) / file_name(3)
    left_over.write_bytes(paths[0].read_bytes())
    left_over.chmod(0o600)
    open_trail(FILES, events).close()
    assert not left_over.exists()


def test_a_changed_file_is_left_as_it_is_and_a_new_one_goes_on(events: str) -> None:
    trail = open_trail(FILES, events)
    write(trail, 2, 3, 4)
    trail.close()
    path = Path(events) / file_name(1)
    damaged = path.read_bytes().replace(b'"index":3', b'"index":9', 1)
    path.write_bytes(damaged)
    again = open_trail(FILES, events, 3)
    assert again.trouble == "events-00000001.jsonl, line 4, was changed, or does not follow the line before it"
    assert again.place == Place(3, WHOLE)
    write(again, 4)
    again.close()
    assert path.read_bytes() == damaged
    begin = lines_in(FILES, events)[-3]
    assert begin.kind == Note.BEGIN
    assert "line 4" in begin.why
    (finding,) = verify(files_of([Path(events)])).findings
    assert (Path(finding.file).name, finding.line) == (file_name(1), 4)


@pytest.mark.parametrize(
    "owner",
    [Owner("0b" * 16, CLUSTER_ID, "1c" * 16), Owner("0a" * 16, CLUSTER_ID, "2c" * 16)],
    ids=["member", "cluster"],
)
def test_another_member_or_incarnation_begins_a_file_of_its_own(events: str, owner: Owner) -> None:
    """After a restore the log's indices may go back, and nothing of the new log may pass for written."""
    trail = open_trail(FILES, events)
    write(trail, 2, 3)
    trail.close()
    other = open_trail(FILES, events, 2, owner=owner)
    assert other.place == Place(2, WHOLE)
    write(other, 3)
    other.close()
    assert verify(files_of([Path(events)])).intact
    assert [line.node for line in lines_in(FILES, events) if line.kind == Note.BEGIN] == [
        OWNER.member_id,
        owner.member_id,
    ]


def test_a_file_that_others_may_read_is_refused(events: str) -> None:
    open_trail(FILES, events).close()
    (Path(events) / file_name(1)).chmod(0o644)
    with pytest.raises(InsecurePermissions, match="chmod"):
        open_trail(FILES, events)


# Verification


def test_verification_counts_what_it_saw(events: str) -> None:
    result = verify(rotated(events, 3))
    assert (result.files, result.lines, result.first_file, result.last_index, result.intact) == (3, 9, 1, 4, True)


@pytest.mark.parametrize(("removed", "what"), [(2, "file 2 is missing before it"), (1, "file 1 is missing, which")])
def test_a_missing_file_is_named(events: str, removed: int, what: str) -> None:
    paths = rotated(events, 4)
    paths[removed - 1].unlink()
    (finding,) = verify(files_of([Path(events)]), whole=True).findings
    assert what in finding.what


def test_several_missing_files_are_named(events: str) -> None:
    paths = rotated(events, 6)
    for path in paths[1:4]:
        path.unlink()
    (finding,) = verify(files_of([Path(events)])).findings
    assert finding.what == "files 2 to 4 are missing before it"


def test_lines_that_were_cut_off_a_finished_file_are_missed(events: str) -> None:
    paths = rotated(events, 3)
    whole = paths[1].read_bytes()
    paths[1].write_bytes(whole[: whole.rindex(b"\n", 0, -1) + 1])
    (finding,) = verify(paths).findings
    assert (finding.file, finding.line) == (str(paths[1]), 3)
    paths[1].write_bytes(whole[:-10])
    (finding,) = verify(paths).findings
    assert (finding.line, finding.what) == (3, "is cut off before its end")


def test_an_empty_file_a_file_of_ours_twice_and_one_of_others(events: str, tmp_path: Path) -> None:
    paths = rotated(events, 2)
    empty, other = tmp_path / "empty", tmp_path / "other"
    empty.write_bytes(b"")
    other.write_bytes(b"\xff\xfe" * 100_000 + b"\n")
    assert verify([empty]).findings[0].what.startswith("is empty")
    assert not verify([other]).intact
    copy = tmp_path / "copy"
    copy.write_bytes(paths[0].read_bytes())
    assert "the same number" in verify([*paths, copy]).findings[0].what


def test_lines_in_another_order_repeated_or_left_out_are_noticed(events: str) -> None:
    (path,) = rotated(events, 1)
    first, second, third = path.read_bytes().splitlines(keepends=True)
    for changed in ((first, third, second), (first, second, second, third), (first, third), (second, third)):
        path.write_bytes(b"".join(changed))
        assert not verify([path]).intact
