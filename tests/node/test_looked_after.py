"""A lone node's pages and trail while all is well, while the trail can't be written, and after a failure."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from cluster.node.metrics.port import Sources, healthz, readings, readyz
from cluster.node.metrics.responder import Page
from cluster.node.observation import Observation
from cluster.node.proposer import Cause, Unavailable
from cluster.services.gate import Gate
from cluster.state.results import Code, Reason, Result
from datastore.errors import StorageFailed
from datastore.files import RealFiles
from tests.node.test_consensus import BARRIER, Lone
from tests.node.test_links import until
from tests.node.test_opening import make_cluster
from tests.node.trails import CLUSTER_ID, events_in, lines_in, quiet_log


@pytest.fixture
async def lone(tmp_path: Path) -> AsyncIterator[Lone]:
    lone = Lone(make_cluster(tmp_path, nodes=1)[0])
    yield lone
    await lone.consensus.close()


def sources(lone: Lone) -> Sources:
    gate = Gate(cluster_id=CLUSTER_ID, roles_of=lambda _: frozenset(), is_revoked=lambda _: False, log=quiet_log())
    chain = (lone.directory / "node.pem").read_bytes()
    return Sources(lone.consensus, lone.views, gate, chain_pem=lambda: chain)


def told(page: Page) -> tuple[HTTPStatus, dict[str, Any]]:
    return page.status, json.loads(page.body)


async def test_health_says_that_it_lives_and_readiness_whether_it_serves(lone: Lone) -> None:
    await until(lone.views.is_ready)
    assert told(healthz(sources(lone))) == (HTTPStatus.OK, {"status": "ok", "events": "ok"})
    status, document = told(readyz(sources(lone)))
    assert (status, document["reason"]) == (HTTPStatus.SERVICE_UNAVAILABLE, "starting or stopping")
    lone.views.serving = True
    assert told(readyz(sources(lone))) == (HTTPStatus.OK, {"status": "serving", "reason": ""})


async def test_after_a_failure_both_say_no(lone: Lone) -> None:
    await until(lone.views.is_ready)
    lone.consensus.fail(StorageFailed("journal", "sync"))
    assert told(healthz(sources(lone)))[0] is HTTPStatus.SERVICE_UNAVAILABLE
    assert told(readyz(sources(lone))) == (
        HTTPStatus.SERVICE_UNAVAILABLE,
        {"status": "not serving", "reason": "stopped"},
    )


async def test_readings_are_those_of_the_node(lone: Lone) -> None:
    await until(lone.views.is_ready)
    await lone.proposing.propose(BARRIER, 5.0)
    now = readings(sources(lone))
    assert (now.role, now.quorum, now.members, now.failure_tolerance, now.term) == ("leader", True, 1, 0, 1)
    assert now.applied_index == lone.consensus.state.position.index
    assert now.certificate_days_left > 30
    measures = lone.consensus.observation.measures
    assert (measures.leader_changes, measures.elections) == (1, 1)
    assert sum(measures.sync_seconds.counts) > 0
    assert sum(measures.commit_seconds.counts) == 1


async def test_a_trail_that_cannot_be_written_holds_data_files_back_and_is_seen(lone: Lone) -> None:
    await until(lone.views.is_ready)
    await lone.proposing.propose(BARRIER, 5.0)
    lone.events.trouble = "cannot write: no space"
    assert told(healthz(sources(lone))) == (HTTPStatus.OK, {"status": "ok", "events": "not written"})
    assert readings(sources(lone)).events_failing
    assert lone.views.cluster_view().node.events_failing
    assert not lone.consensus.write_data_file()
    lone.events.trouble = ""
    assert lone.consensus.write_data_file()
    await lone.consensus.written_out()
    assert lone.consensus.data_files.written_count == 1


async def test_a_data_file_is_published_when_the_trail_is_durable_up_to_it(lone: Lone) -> None:
    await until(lone.views.is_ready)
    await lone.proposing.propose(BARRIER, 5.0)
    index = lone.consensus.state.position.index
    assert lone.consensus.write_data_file()
    await lone.consensus.written_out()
    assert lone.consensus.data_files.current.position.index == index
    assert lone.events.durable_index >= index
    files, directory = RealFiles(), str(lone.directory / "events")
    assert ("position", index) in [(line.kind, line.index) for line in lines_in(files, directory)]
    assert events_in(files, directory) == []


async def test_answers_are_counted_by_what_they_are(lone: Lone) -> None:
    observation: Observation = lone.consensus.observation
    observation.answered(Result(Code.OK, Reason.WRONG), 0.01)
    observation.answered(Result(Code.OK), 0.01)
    observation.answered(Unavailable(Cause.DEADLINE), 1.0)
    assert observation.measures.decisions == {"WRONG": 1}
    assert observation.measures.unanswered == {"deadline": 1}
    assert sum(observation.measures.commit_seconds.counts) == 2
    observation.raft_event("digests_differ")
    observation.raft_event("snapshot_installed")
    assert observation.measures.digest_mismatches == 1
    observation.saw_term(9, own_vote=True)
    observation.saw_term(9, own_vote=True)
    observation.saw_term(10, own_vote=False)
    assert observation.measures.elections >= 1


def test_a_page_can_be_parsed_by_prometheus() -> None:
    from tests.test_metrics_documents import page

    families = {family.name: family for family in text_string_to_metric_families(page().decode())}
    assert families["watchword_sync_seconds"].type == "histogram"
    assert families["watchword_decisions"].type == "counter"
