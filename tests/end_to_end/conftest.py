"""Clusters for tests, ended with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.end_to_end.running import Cluster


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Cluster]]:
    """Starts `watchword up` in the test's directory, or in another."""
    started: list[Cluster] = []

    def begin(*options: str, directory: Path | None = None, environment: dict[str, str] | None = None) -> Cluster:
        cluster = Cluster.start(directory or tmp_path / "cluster", *options, environment=environment)
        started.append(cluster)
        return cluster

    yield begin
    for cluster in started:
        cluster.close()
