"""The tests of the hazards are worth something: with a remedy taken out, its test fails."""

from __future__ import annotations

import inspect

import pytest

from cluster.raft.errors import RaftError
from datastore.errors import DatastoreError
from tests.raft import remedies
from tests.raft.remedies import REMEDIES, Remedy

ROWS = range(1, 34)
SUITES = (remedies.matches, remedies.elects, remedies.durable, remedies.snaps, remedies.engines)


@pytest.mark.parametrize("remedy", REMEDIES, ids=lambda remedy: remedy.name)
def test_without_the_remedy_the_hazard_shows(remedy: Remedy, monkeypatch: pytest.MonkeyPatch) -> None:
    remedy.take_out(monkeypatch)
    # A broken check of the test, or an invariant of ours that is broken on the way: nothing else counts as showing.
    with pytest.raises((AssertionError, RaftError, DatastoreError, pytest.fail.Exception)):
        remedy.test()


def test_every_hazard_has_a_remedy_that_is_missed() -> None:
    assert sorted({remedy.row for remedy in REMEDIES}) == list(ROWS)
    for remedy in REMEDIES:
        assert remedy.test.__name__.startswith(f"test_hazard_{remedy.row:02d}_")


def test_every_hazard_has_a_test_of_its_name() -> None:
    names = {name for suite in SUITES for name, _ in inspect.getmembers(suite, inspect.isfunction)}
    for row in ROWS:
        assert any(name.startswith(f"test_hazard_{row:02d}_") for name in names), row
