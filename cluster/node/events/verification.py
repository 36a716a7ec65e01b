"""Whether files of a trail are as they were written: line after line, and file after file. Needs no node and no key."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cluster.node.events.lines import CHAIN_START
from cluster.node.events.scan import Scan, scan
from cluster.node.events.trail import number_of


@dataclass(frozen=True, slots=True)
class Finding:
    """`what` is wrong, in a file (`line` 0: with the file as a whole)."""

    file: str
    line: int
    what: str


@dataclass(frozen=True, slots=True)
class Verification:
    """`findings` empty: intact. `first_file` above 1: the files before it were not among those named."""

    files: int
    lines: int
    first_file: int
    last_index: int
    findings: tuple[Finding, ...]

    @property
    def intact(self) -> bool:
        return not self.findings


def files_of(paths: Sequence[Path]) -> list[Path]:
    """Files as they are, and those of a trail in directories.

    Raises:
        OSError: one is not there, or can't be read.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found += [path / name for name in sorted(os.listdir(path)) if number_of(name) is not None]
        else:
            found.append(path)
    return found


def verify(paths: Sequence[Path], *, whole: bool = False) -> Verification:
    """Verify each file, and that each begins where the one before it ends.

    `whole`: they should be all that the node kept, as in its directory; otherwise they may begin anywhere.

    Raises:
        OSError: one can't be read.
    """
    scans = sorted(((path, _scan(path)) for path in paths), key=_order)
    findings: list[Finding] = []
    before: tuple[Path, Scan] | None = None
    for path, found in scans:
        if before is not None:
            findings += _between(before[0], before[1], path, found)
        if found.problem:
            findings.append(Finding(str(path), found.lines + 1, found.problem))
        elif found.begin is None:
            findings.append(Finding(str(path), 0, "is empty: its first line is missing"))
        before = path, found
    begins = [found.begin for _, found in scans if found.begin is not None]
    first = min((begin.file for begin in begins), default=0)
    last = max((found.last.index for _, found in scans if found.last is not None), default=0)
    if whole and begins and begins[-1].oldest < first:
        missing = _numbers(begins[-1].oldest, first - 1)
        findings.insert(0, Finding(str(scans[0][0]), 0, f"{missing}, which the node kept"))
    return Verification(len(scans), sum(found.lines for _, found in scans), first, last, tuple(findings))


def _order(scanned: tuple[Path, Scan]) -> tuple[int, str]:
    """By the number in the first line, else in the name."""
    path, found = scanned
    number = found.begin.file if found.begin is not None else number_of(path.name)
    return number or 0, str(path)


def _between(path: Path, before: Scan, next_path: Path, after: Scan) -> list[Finding]:
    """That nothing lies between two neighbours."""
    if before.begin is None or after.begin is None:
        return []
    if after.begin.file == before.begin.file:
        return [Finding(str(next_path), 0, f"has the same number as {path}: verify one node's files at a time")]
    if after.begin.file != before.begin.file + 1:
        missing = _numbers(before.begin.file + 1, after.begin.file - 1)
        return [Finding(str(next_path), 0, f"{missing} before it")]
    if before.problem and after.begin.previous == CHAIN_START.hex():
        return []  # the node met the damage itself, and says so in that line
    if not before.problem and after.begin.previous != before.chain.hex():
        return [
            Finding(str(path), before.lines + 1, f"lines are missing at its end: {next_path.name} goes on elsewhere")
        ]
    return []


def _numbers(first: int, last: int) -> str:
    return f"file {first} is missing" if first == last else f"files {first} to {last} are missing"


def _scan(path: Path) -> Scan:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return scan(lambda offset, length: os.pread(descriptor, length, offset))
    finally:
        os.close(descriptor)
