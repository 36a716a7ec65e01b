"""A cluster of fake nodes for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.client.fake_cluster import FakeCluster
from tests.services.certificates import Authority


@pytest.fixture(scope="session")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def fake_cluster(tmp_path: Path, authority: Authority) -> Iterator[FakeCluster]:
    cluster = FakeCluster(tmp_path / "profile", authority)
    yield cluster
    cluster.stop()
