"""The pages of the metrics port: what is counted, whether the process lives, and whether it serves.

They are for whoever may reach the port, without a certificate: they hold no names of people and no secrets.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from cluster.node.certificates import days_left
from cluster.node.consensus import Consensus
from cluster.node.metrics.exposition import CONTENT_TYPE, Exposition, PeerReading, Readings
from cluster.node.metrics.responder import HttpResponder, Page
from cluster.node.view import ClusterViews
from cluster.services import limits
from cluster.services.gate import Gate
from cluster.services.ports import ClusterView, NodeRole
from cluster.state.store import TOKENS, USERS

# A page that was made this short a time ago is given again: asking faster costs the loop nothing more.
KEPT_S: Final = 0.25
JSON: Final = "application/json"


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the readings come from. `chain_pem` is the node's certificate as it is in use now."""

    consensus: Consensus
    views: ClusterViews
    gate: Gate
    chain_pem: Callable[[], bytes]


def metrics_responder(sources: Sources, monotonic: Callable[[], float] = time.monotonic) -> HttpResponder:
    """The server of the three pages; it listens once it is started."""
    measures = sources.consensus.observation.measures
    exposition = Exposition(measures, lambda: readings(sources))
    made_at, made = float("-inf"), b""

    def metrics() -> Page:
        nonlocal made_at, made
        if monotonic() - made_at >= KEPT_S:
            made, made_at = exposition.page(), monotonic()
        return Page(HTTPStatus.OK, made, CONTENT_TYPE)

    def refused() -> None:
        measures.scrapes_refused += 1

    pages = {"/metrics": metrics, "/healthz": lambda: healthz(sources), "/readyz": lambda: readyz(sources)}
    return HttpResponder(pages, refused)


def healthz(sources: Sources) -> Page:
    """Whether the process works: it is asked in the loop, so an answer says that the loop turns."""
    consensus = sources.consensus
    alive = not consensus.failed
    trouble = consensus.observation.events.trouble
    document = {"status": "ok" if alive else "stopped", "events": "not written" if trouble else "ok"}
    return _page(document, well=alive)


def readyz(sources: Sources) -> Page:
    """Whether the node serves: as its gRPC health says."""
    serving = sources.views.serving
    document = {"status": "serving" if serving else "not serving", "reason": "" if serving else reason(sources)}
    return _page(document, well=serving)


def reason(sources: Sources) -> str:
    """Why it does not serve."""
    consensus = sources.consensus
    if consensus.failed:
        return "stopped"
    if consensus.replica.out_of_service:
        return "out of service: it met a newer command"
    status = consensus.engine.status()
    if not status.quorum:
        return "no quorum"
    return "catching up" if not status.caught_up else "starting or stopping"


def _page(document: dict[str, str], *, well: bool) -> Page:
    status = HTTPStatus.OK if well else HTTPStatus.SERVICE_UNAVAILABLE
    return Page(status, json.dumps(document).encode() + b"\n", JSON)


def readings(sources: Sources) -> Readings:
    """How things stand at this moment."""
    consensus, view = sources.consensus, sources.views.cluster_view()
    node, state, status, events = view.node, consensus.state, consensus.engine.status(), consensus.observation.events
    return Readings(
        version=node.version,
        serving=sources.views.serving,
        quorum=view.quorum,
        failure_tolerance=view.failure_tolerance,
        members=1 + len(view.peers),
        role=node.role.value,
        term=status.term,
        commit_index=status.commit_index,
        applied_index=status.applied_index,
        last_index=status.last_index,
        synced_index=status.synced_index,
        digest_disputed=status.disputed_index is not None,
        clock_offset_ms=status.clock_offset_ms,
        clock_trusted=consensus.clock.trusted(),
        peers=_peers(view),
        commands_unanswered=consensus.proposer.unanswered,
        groups_in_flight=consensus.proposer.groups_in_flight,
        calls_in_flight={service: sources.gate.in_flight(service) for service in limits.CALLS_IN_FLIGHT_MAX},
        journal_tail_bytes=consensus.journal.tail_bytes,
        data_file_bytes=consensus.data_files.current.size_bytes,
        data_file_age_ms=node.data_file_age_ms or 0,
        data_file_index=consensus.data_files.current.position.index,
        users=state.count(USERS),
        tokens=state.count(TOKENS),
        request_ids=state.requests_remembered,
        request_ids_max=state.settings.request_ids_max,
        certificate_days_left=days_left(sources.chain_pem(), consensus.clock.wall_ms()),
        snapshots_written=consensus.data_files.written_count,
        events_written=events.lines_written,
        events_waiting=events.waiting,
        events_failing=bool(events.trouble),
        events_index=events.durable_index,
    )


def _peers(view: ClusterView) -> list[PeerReading]:
    return [
        PeerReading(
            name=peer.name,
            connected=peer.role is not NodeRole.UNREACHABLE,
            lag=peer.lag,
            clock_offset_ms=peer.clock_offset_ms,
        )
        for peer in view.peers
    ]
