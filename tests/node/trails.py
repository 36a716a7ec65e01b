"""Trails for tests: an owner, events as apply returns them, and what stands in the files."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import structlog
from structlog.typing import FilteringBoundLogger

from cluster.node.events.lines import Line, peek
from cluster.node.events.scan import raw_lines
from cluster.node.events.trail import Owner, Trail, TrailLimits, number_of
from cluster.node.events.writer import EventWriter
from cluster.state.pseudonyms import Pseudonyms
from cluster.state.results import Event, Reason
from datastore.files import Files

CLUSTER_ID = "c0" * 16
PREFIX = f"watchword://{CLUSTER_ID}/"
OWNER = Owner("0a" * 16, CLUSTER_ID, "1c" * 16)
NOW_MS = 1_790_000_000_000
PSEUDONYMS = Pseudonyms(bytes(range(32)))


def sign_in(user: str = "alice", reason: Reason = Reason.ACCEPTED, application: str = "vpn") -> Event:
    return Event("verify", f"{PREFIX}client/frontend", "request-1", user, "token-1", reason, application)


def locked(user: str = "alice") -> Event:
    return Event("user_locked", f"{PREFIX}client/frontend", "request-1", user)


def open_trail(
    files: Files,
    directory: str,
    index: int = 1,
    *,
    owner: Owner = OWNER,
    limits: TrailLimits | None = None,
    wall_ms: Callable[[], int] = lambda: NOW_MS,
) -> Trail:
    return Trail.open(files, directory, owner, index, wall_ms, limits or TrailLimits())


def quiet_log(lines: list[dict[str, Any]] | None = None) -> FilteringBoundLogger:
    def keep(_logger: object, _method: str, event: Any) -> Any:
        if lines is not None:
            lines.append(dict(event))
        raise structlog.DropEvent

    log: FilteringBoundLogger = structlog.wrap_logger(None, processors=[keep])
    return log


def defect(error: Exception) -> None:
    raise error


def writer(
    files: Files,
    directory: str,
    index: int = 1,
    *,
    log: FilteringBoundLogger | None = None,
    limits: TrailLimits | None = None,
    waiting_max: int = 1_000,
    wall_ms: Callable[[], int] = lambda: NOW_MS,
    monotonic: Callable[[], float] = lambda: 0.0,
) -> EventWriter:
    return EventWriter(
        lambda at: open_trail(files, directory, at, limits=limits, wall_ms=wall_ms),
        index,
        pseudonym=PSEUDONYMS.of,
        prefix=PREFIX,
        log=log or quiet_log(),
        on_defect=defect,
        waiting_max=waiting_max,
        gather_s=0.0,
        monotonic=monotonic,
    )


def lines_in(files: Files, directory: str) -> list[Line]:
    """Every line of a trail, in order."""
    found = []
    for name in files.list(directory):
        assert number_of(name) is not None, name
        file = files.open(f"{directory}/{name}", writable=False)
        lines = [peek(raw.data) for raw in raw_lines(file.read_at)]
        file.close()
        assert None not in lines
        found += [line for line in lines if line is not None]
    return found


def events_in(files: Files, directory: str) -> list[tuple[int, int]]:
    """(index, number) of every line that is an event."""
    return [(line.index, line.number) for line in lines_in(files, directory) if line.of]
