"""One picture of the cluster out of what each endpoint says.  Pure: answers in, a picture out.

A node is believed about itself; about another only where that one was not asked.  A node that was asked and did not
answer is unreachable, whatever the others say of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from watchword.client import name_of
from watchword.errors import WatchwordError
from watchword.v1 import cluster_pb2 as cluster

Answer = cluster.GetStatusResponse | WatchwordError
UNREACHABLE = "unreachable"
OPTIONAL = (
    "term",
    "commit_index",
    "applied_index",
    "last_index",
    "synced_index",
    "lag",
    "digest_index",
    "data_file_age_ms",
    "data_file_index",
    "clock_offset_ms",
    "serving",
    "events_failing",
)


@dataclass(frozen=True, slots=True)
class ClusterView:
    """`nodes` are documents as `watchword status --json` prints them, in the order of their names."""

    quorum: bool
    failure_tolerance: int
    leader: str | None
    nodes: tuple[dict[str, Any], ...]
    leases: tuple[dict[str, Any], ...] = ()  # in the order of their names
    left_out: tuple[str, ...] = ()  # endpoints whose answer belongs to an older incarnation, and is not believed

    def document(self) -> dict[str, Any]:
        return {
            "quorum": self.quorum,
            "failure_tolerance": self.failure_tolerance,
            "leader": self.leader,
            "nodes": list(self.nodes),
            "leases": list(self.leases),
        }

    def headline(self) -> str:
        """The first thing that somebody woken at night wants to know."""
        if not self.quorum:
            return "NO QUORUM: the cluster answers nobody; bring back nodes until a majority runs"
        if self.failure_tolerance == 0:
            return "the cluster can lose no node: one more, and nobody can sign in"
        nodes = "node" if self.failure_tolerance == 1 else "nodes"
        return f"the cluster can lose {self.failure_tolerance} more {nodes}"


def view_of(answers: Mapping[str, Answer]) -> ClusterView:
    """What the answers, by endpoint, add up to."""
    statuses = {endpoint: answer for endpoint, answer in answers.items() if not isinstance(answer, WatchwordError)}
    silent = [endpoint for endpoint in answers if endpoint not in statuses]
    if not statuses:
        rows = tuple(_document(cluster.NodeStatus(id=endpoint, address=endpoint), UNREACHABLE) for endpoint in silent)
        return ClusterView(quorum=False, failure_tolerance=0, leader=None, nodes=rows)

    newest = max(status.incarnation.counter for status in statuses.values())
    left_out = tuple(endpoint for endpoint, status in statuses.items() if status.incarnation.counter < newest)
    believed = [status for endpoint, status in statuses.items() if endpoint not in left_out]
    # The latest term knows best who leads; of equals, the leader itself.
    believed.sort(key=lambda status: (status.node.term, status.node.role == cluster.NODE_ROLE_LEADER), reverse=True)
    with_quorum = [status for status in believed if status.quorum]
    best = with_quorum[0] if with_quorum else None
    return ClusterView(
        quorum=best is not None,
        failure_tolerance=best.failure_tolerance if best else 0,
        leader=(best.leader or None) if best else None,
        nodes=_nodes(believed, silent),
        leases=_leases(believed),
        left_out=left_out,
    )


def _nodes(believed: list[cluster.GetStatusResponse], silent: list[str]) -> tuple[dict[str, Any], ...]:
    """One document a member: first-hand where there is one, otherwise what the best informed says."""
    found: dict[str, dict[str, Any]] = {}
    for status in believed:
        found[status.node.member_id] = _document(status.node, _role(status.node))
    for status in believed:
        for peer in status.peers:
            if peer.member_id not in found:
                found[peer.member_id] = _document(peer, UNREACHABLE if peer.address in silent else _role(peer))
    return tuple(sorted(found.values(), key=lambda node: (node["id"], node["member_id"])))


def _leases(believed: list[cluster.GetStatusResponse]) -> tuple[dict[str, Any], ...]:
    """As the node that has applied most has them."""
    best = max(believed, key=lambda status: status.node.applied_index)
    return tuple({field.name: getattr(lease, field.name) for field in lease.DESCRIPTOR.fields} for lease in best.leases)


def _role(node: cluster.NodeStatus) -> str:
    """`leader`, `follower`, `candidate`, `non-voter` or `unreachable`; what is unknown is not reached."""
    return name_of(cluster.NodeRole, node.role, "NODE_ROLE_").lower().replace("_", "-") or UNREACHABLE


def _document(node: cluster.NodeStatus, role: str) -> dict[str, Any]:
    document: dict[str, Any] = {
        "id": node.id,
        "member_id": node.member_id or None,
        "address": node.address or None,
        "peer_address": node.peer_address or None,
        "role": role,
        "voter": node.voter if node.member_id else None,
        "version": node.version or None,
        "digest": node.digest.hex() if node.HasField("digest") else None,
    }
    for name in OPTIONAL:
        document[name] = getattr(node, name) if node.HasField(name) else None  # type: ignore[arg-type]
    return document
