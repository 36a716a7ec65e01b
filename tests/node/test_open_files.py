"""Strangers who connect never take the files that the node itself needs."""

from __future__ import annotations

import resource
from collections.abc import Callable

import pytest

from cluster.node import open_files
from cluster.services import limits


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], list[tuple[int, int]]]:
    """Pretends a soft and a hard limit; gives what is set."""
    made: list[tuple[int, int]] = []

    def pretend(soft: int, hard: int) -> list[tuple[int, int]]:
        monkeypatch.setattr(resource, "getrlimit", lambda _which: (soft, hard))
        monkeypatch.setattr(resource, "setrlimit", lambda _which, limits_: made.append(limits_))
        return made

    return pretend


@pytest.mark.parametrize(
    ("soft", "hard", "then"),
    [
        (1024, 524_288, 65_536),
        (1024, 4096, 4096),
        (4096, 4096, 4096),
        (1024, resource.RLIM_INFINITY, 65_536),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, 65_536),
        (200_000, 524_288, 200_000),
    ],
)
def test_the_limit_is_raised_as_far_as_it_goes(
    limit: Callable[[int, int], list[tuple[int, int]]], soft: int, hard: int, then: int
) -> None:
    made = limit(soft, hard)
    assert open_files.raise_limit() == then
    assert made == ([] if soft in {then, resource.RLIM_INFINITY} else [(then, hard)])


def test_both_servers_together_leave_the_reserve() -> None:
    for files in (1024, 4096, 16_384, 65_536):
        assert open_files.SERVERS * open_files.connections_max(files) + open_files.RESERVED <= files
    assert open_files.connections_max(65_536) == limits.CONNECTIONS_MAX
    assert open_files.connections_max(64) == open_files.CONNECTIONS_MIN
