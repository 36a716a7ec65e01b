"""A fixed set of histories. A failure prints the command that replays it; fresh seeds are run by `make soak`."""

import pytest

from tests.simulation.history import run_seed
from tests.simulation.run import report

pytestmark = pytest.mark.timeout(900)  # a busy machine takes its time; nothing here is timed
HISTORIES = 40
CHUNK = 2


@pytest.mark.parametrize("first", range(0, HISTORIES, CHUNK))
def test_the_promises_hold(first: int) -> None:
    for seed in range(first, first + CHUNK):
        outcome = run_seed(seed)
        assert outcome.failure is None, report(outcome)


@pytest.mark.parametrize("nodes", [1, 3, 5])
def test_each_size_of_cluster(nodes: int) -> None:
    outcome = run_seed(10_000 + nodes, nodes=nodes)
    assert outcome.failure is None, report(outcome)
