"""The page that Prometheus reads: what was counted, and how things stand at this moment (docs/metrics.md)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector

from cluster.node.metrics.instruments import Histogram, Measures
from cluster.state.results import Decision, Reason, decision_of

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4
ROLES: Final = ("leader", "follower", "candidate", "non-voter")


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerReading:
    """A peer, by its name. None: not known to this node now."""

    name: str
    connected: bool
    lag: int | None
    clock_offset_ms: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Readings:
    """How things stand, taken in the loop. Times in milliseconds; None: not known."""

    version: str
    serving: bool
    quorum: bool
    failure_tolerance: int
    members: int
    role: str
    term: int
    commit_index: int
    applied_index: int
    last_index: int
    synced_index: int
    digest_disputed: bool
    clock_offset_ms: int | None
    clock_trusted: bool
    peers: Sequence[PeerReading]
    commands_unanswered: int
    groups_in_flight: int
    calls_in_flight: dict[str, int]  # by service
    journal_tail_bytes: int
    data_file_bytes: int
    data_file_age_ms: int
    data_file_index: int
    users: int
    tokens: int
    request_ids: int
    request_ids_max: int
    certificate_days_left: int
    snapshots_written: int
    events_written: int
    events_waiting: int
    events_failing: bool
    events_index: int


def gauge(name: str, value: float, about: str) -> Metric:
    return GaugeMetricFamily(f"watchword_{name}", about, value=float(value))


def counter(name: str, value: float, about: str) -> Metric:
    return CounterMetricFamily(f"watchword_{name}", about, value=float(value))


def counters(name: str, about: str, labels: Sequence[str], values: Iterable[tuple[Sequence[str], float]]) -> Metric:
    family = CounterMetricFamily(f"watchword_{name}", about, labels=labels)
    for own, value in values:
        family.add_metric(own, value)
    return family


def gauges(name: str, about: str, labels: Sequence[str], values: Iterable[tuple[Sequence[str], float]]) -> Metric:
    family = GaugeMetricFamily(f"watchword_{name}", about, labels=labels)
    for own, value in values:
        family.add_metric(own, value)
    return family


def histogram(name: str, about: str, measured: Histogram) -> Metric:
    return HistogramMetricFamily(f"watchword_{name}", about, buckets=measured.buckets(), sum_value=measured.total)


class Exposition(Collector):
    """Makes the page; `readings` is asked once for each."""

    def __init__(self, measures: Measures, readings: Callable[[], Readings]) -> None:
        self._measures = measures
        self._readings = readings
        # Not the library's own registry: what other code in this process registers is not ours to tell.
        self._registry = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=self._registry)
        self._registry.register(self)

    def page(self) -> bytes:
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        yield from self._counted()
        yield from standing(self._readings())

    def _counted(self) -> Iterator[Metric]:
        measures = self._measures
        yield counters(
            "decisions",
            "Sign-ins that this node answered, by decision and reason.",
            ("decision", "reason"),
            [
                ((decision_of(reason).name, reason.name), measures.decisions[reason.name])
                for reason in Reason
                if decision_of(reason) is not Decision.NONE
            ],
        )
        yield counters(
            "unanswered",
            "Commands that this node could give no answer to, by cause.",
            ("cause",),
            [((cause,), measures.unanswered[cause]) for cause in ("deadline", "stopped")],
        )
        yield histogram(
            "commit_seconds", "From a command's proposal at this node to its own apply.", measures.commit_seconds
        )
        calls = HistogramMetricFamily(
            "watchword_call_seconds", "From a call's arrival to its answer.", labels=["method"]
        )
        for method, seconds in sorted(measures.call_seconds.items()):
            calls.add_metric([method], seconds.buckets(), seconds.total)
        yield calls
        yield counters(
            "calls",
            "Calls that this node answered, by method and status.",
            ("method", "status"),
            measures.calls.items(),
        )
        yield histogram("groups_per_entry", "Groups in one entry of the log.", measures.groups_per_entry)
        yield histogram("commands_per_group", "Commands in one group.", measures.commands_per_group)
        yield histogram("sync_seconds", "Duration of one sync of the journal.", measures.sync_seconds)
        yield counter("leader_changes", measures.leader_changes, "Changes of the leader that this node saw.")
        yield counter("elections", measures.elections, "Elections that this node began.")
        yield counter(
            "digest_mismatches", measures.digest_mismatches, "Digests of peers that differed from this node's."
        )
        yield counter("snapshots_installed", measures.snapshots_installed, "Snapshots that this node took from a peer.")
        yield counter("scrapes_refused", measures.scrapes_refused, "Requests to the metrics port that got no page.")


def standing(now: Readings) -> Iterator[Metric]:
    """What is read at this moment."""
    yield gauges("info", "Always 1; the version of the software.", ("version",), [((now.version,), 1.0)])
    yield gauge("serving", now.serving, "1 where this node answers sign-ins.")
    yield gauge("quorum", now.quorum, "1 where a leader is known that a majority follows.")
    yield gauge("failure_tolerance", now.failure_tolerance, "How many more voters may fail.")
    yield gauge("members", now.members, "Members of the cluster.")
    yield gauges("role", "1 for the role that this node has.", ("role",), [((r,), float(r == now.role)) for r in ROLES])
    yield gauge("term", now.term, "Raft's term.")
    yield gauge("commit_index", now.commit_index, "The last entry known to be committed.")
    yield gauge("applied_index", now.applied_index, "The last entry applied.")
    yield gauge("last_index", now.last_index, "The last entry in the log.")
    yield gauge("synced_index", now.synced_index, "The last entry on this node's disk.")
    yield gauge("lag_entries", max(0, now.commit_index - now.applied_index), "Entries committed and not applied here.")
    yield gauge("digest_disputed", now.digest_disputed, "1 while a difference between nodes' digests is open.")
    yield from _clocks(now)
    known = [peer for peer in now.peers if peer.lag is not None]
    connected = [((peer.name,), float(peer.connected)) for peer in now.peers]
    yield gauges("peer_connected", "1 where frames reach that peer.", ("peer",), connected)
    lags = [((peer.name,), float(peer.lag or 0)) for peer in known]
    yield gauges("peer_lag_entries", "Entries that a peer lacks, as its leader knows.", ("peer",), lags)
    yield from _queues(now)
    yield from _storage(now)
    yield gauge("users", now.users, "Users.")
    yield gauge("tokens", now.tokens, "Tokens.")
    yield gauge("request_ids", now.request_ids, "Requests that are remembered.")
    yield gauge("request_ids_max", now.request_ids_max, "Requests that may be remembered.")
    yield gauge("certificate_days_left", now.certificate_days_left, "Whole days until this node's certificate ends.")
    yield counter("events_written", now.events_written, "Lines written to the audit trail.")
    yield gauge("events_waiting", now.events_waiting, "Events that are not durable in the audit trail yet.")
    yield gauge("events_failing", now.events_failing, "1 while the audit trail cannot be written.")
    yield gauge("events_index", now.events_index, "The entry up to which the audit trail is durable.")


def _clocks(now: Readings) -> Iterator[Metric]:
    if now.clock_offset_ms is not None:
        about = "This node's wall clock less the median of a majority's."
        yield gauge("clock_offset_seconds", now.clock_offset_ms / 1000, about)
    yield gauge("clock_trusted", now.clock_trusted, "0 after a jump of the wall clock: this node proposes nothing.")
    peers = [((peer.name,), peer.clock_offset_ms / 1000) for peer in now.peers if peer.clock_offset_ms is not None]
    yield gauges("peer_clock_offset_seconds", "A peer's wall clock less this node's.", ("peer",), peers)


def _queues(now: Readings) -> Iterator[Metric]:
    yield gauge("commands_unanswered", now.commands_unanswered, "Commands that wait for their answer at this node.")
    yield gauge("groups_in_flight", now.groups_in_flight, "Groups handed to the leader and not applied here yet.")
    in_flight = [((service,), float(count)) for service, count in sorted(now.calls_in_flight.items())]
    yield gauges("calls_in_flight", "Calls that are not answered yet.", ("service",), in_flight)


def _storage(now: Readings) -> Iterator[Metric]:
    yield gauge("journal_tail_bytes", now.journal_tail_bytes, "Entries of the journal that are held in memory.")
    yield gauge("data_file_bytes", now.data_file_bytes, "Size of the current data file.")
    yield gauge("data_file_age_seconds", now.data_file_age_ms / 1000, "Age of the current data file.")
    yield counter("snapshots_written", now.snapshots_written, "Data files that this node wrote.")
    yield gauge("data_file_index", now.data_file_index, "The entry that the current data file stands at.")
