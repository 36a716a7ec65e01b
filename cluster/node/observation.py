"""What consensus tells while it works: events for the audit trail, counts for the metrics."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from structlog.typing import FilteringBoundLogger

from cluster.node.configuration import EventOptions
from cluster.node.events.trail import DIRECTORY, Owner, Trail, TrailLimits
from cluster.node.events.writer import EventWriter
from cluster.node.metrics.instruments import Measures
from cluster.node.opening import OpenedNode
from cluster.node.proposer import Unavailable
from cluster.state.apply import client_prefix
from cluster.state.results import Reason, Result
from datastore.files import Files

DIGEST_EVENTS = frozenset({"digests_differ", "state_diverged"})


class Observation:
    """Called in the loop, for every entry and every answer, so that nothing here takes long."""

    def __init__(self, events: EventWriter, measures: Measures) -> None:
        self.events = events
        self.measures = measures
        self._term = 0
        self._leader: str | None = None

    def applied(self, index: int, stamp_ms: int, results: Sequence[Sequence[Result]]) -> None:
        """An entry was applied, with these results by group.

        Raises:
            StorageFailed: no more events can be kept, and none written.
        """
        if not results:
            return
        self.measures.groups_per_entry.observe(len(results))
        for group in results:
            self.measures.commands_per_group.observe(len(group))
        events = [event for group in results for result in group for event in result.events]
        if events:
            self.events.applied(index, stamp_ms, events)

    def answered(self, outcome: Result | Unavailable, seconds: float) -> None:
        """A command of this node has its answer, so long after it was proposed."""
        if isinstance(outcome, Unavailable):
            self.measures.unanswered[outcome.cause] += 1
            return
        self.measures.commit_seconds.observe(seconds)
        if outcome.reason is not Reason.NONE:
            self.measures.decisions[outcome.reason.name] += 1

    def saw_term(self, term: int, *, own_vote: bool) -> None:
        """The term as it is; `own_vote`: this node voted for itself in it, so it began that election."""
        if term != self._term:
            self._term = term
            self.measures.elections += own_vote

    def leader_changed(self, leader: str | None) -> None:
        if leader is not None and leader != self._leader:
            self._leader = leader
            self.measures.leader_changes += 1

    def raft_event(self, event: str) -> None:
        if event in DIGEST_EVENTS:
            self.measures.digest_mismatches += 1


def event_writer(
    files: Files,
    opened: OpenedNode,
    options: EventOptions,
    *,
    wall_ms: Callable[[], int],
    log: FilteringBoundLogger,
    on_defect: Callable[[Exception], None],
) -> EventWriter:
    """The writer of this node's trail, which is opened; not started.

    Raises:
        DatastoreError: the trail can't be read or written.
    """
    identity = opened.identity
    owner = Owner(opened.member_id, identity.cluster_id, identity.incarnation_id)
    limits = TrailLimits(options.file_bytes, options.file_age_s * 1000, options.keep_files)
    directory = str(opened.directory / DIRECTORY)
    writer = EventWriter(
        lambda index: Trail.open(files, directory, owner, index, wall_ms, limits),
        opened.data_file.position.index,
        pseudonym=opened.state.pseudonyms.of,
        prefix=client_prefix(identity.cluster_id),
        log=log,
        on_defect=on_defect,
    )
    if writer.trouble_at_start:
        log.error("events_damaged", reason=writer.trouble_at_start)
    return writer
