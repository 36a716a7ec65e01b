"""`watchword status`: how the cluster is doing."""

from typing import TYPE_CHECKING, Any

import typer

from tools.output import ExitCode, moment
from tools.session import Session, command
from watchword.errors import Unavailable, WatchwordError

if TYPE_CHECKING:
    from tools.cluster_view import Answer

COLUMNS = (
    "NODE",
    "ROLE",
    "TERM",
    "COMMIT",
    "APPLIED",
    "LAG",
    "DATA FILE",
    "DIGEST",
    "VERSION",
    "CLOCK",
    "ADDRESS",
)

LEASE_COLUMNS = ("LEASE", "HOLDER", "EPOCH", "UNTIL")


def register(app: typer.Typer) -> None:
    command(app, "status")(status)


async def status(session: Session) -> ExitCode:
    """Show how many nodes the cluster can still lose, and how each of them is doing.

    Asks every endpoint of the profile, so that each node tells of itself. Exits 3 without a quorum.

    Equal digests at an equal index are equal states. DATA FILE is the age of the last snapshot, CLOCK how far a node's
    clock is from the one that was asked.  --json answers {"quorum", "failure_tolerance", "leader", "nodes": [{"id",
    "member_id", "address", "role", "term", "commit_index", "applied_index", "digest", "digest_index", ...}], "leases":
    [{"name", "holder", "epoch", "acquired_ms", "until_ms", "held"}]}.
    """
    from tools.cluster_view import view_of

    async with session.client() as client:
        answers = await client.get_statuses()
    refusal = refusal_of(answers)
    if refusal is not None:
        raise refusal
    view = view_of(answers)
    if session.output.as_json:
        session.output.answer(view.document())
    else:
        session.output.answer({}, view.headline())
        session.output.table(COLUMNS, [row(node) for node in view.nodes])
        if view.leases:
            session.output.table(LEASE_COLUMNS, [lease_row(lease) for lease in view.leases])
    for node in view.nodes:
        if node.get("events_failing"):
            session.output.note(f"{node['id']} cannot write its audit trail: its log says why")
    for endpoint, answer in answers.items():
        if isinstance(answer, WatchwordError):
            session.output.note(str(answer))
        elif endpoint in view.left_out:
            session.output.note(f"{endpoint} is of an older incarnation, from before a restore: stop that node")
    return ExitCode.OK if view.quorum else ExitCode.NO_ANSWER


def refusal_of(answers: "dict[str, Answer]") -> WatchwordError | None:
    """What all nodes that answered said no with; None where one of them told its status, or none answered."""
    refusals = [
        answer
        for answer in answers.values()
        if isinstance(answer, WatchwordError) and not isinstance(answer, Unavailable)
    ]
    told = any(not isinstance(answer, WatchwordError) for answer in answers.values())
    return refusals[0] if refusals and not told else None


def row(node: dict[str, Any]) -> tuple[str, ...]:
    digest = f"{node['digest'][:8]}@{node['digest_index']}" if node["digest"] else ""
    return (
        node["id"],
        node["role"],
        text(node["term"]),
        text(node["commit_index"]),
        text(node["applied_index"]),
        text(node["lag"]),
        duration(node["data_file_age_ms"]),
        digest,
        text(node["version"]),
        "" if node["clock_offset_ms"] is None else f"{node['clock_offset_ms']:+d} ms",
        text(node["address"]),
    )


def lease_row(lease: dict[str, Any]) -> tuple[str, ...]:
    holder = lease["holder"].rpartition("/client/")[2] if lease["held"] else "(nobody)"
    return lease["name"], holder, str(lease["epoch"]), moment(lease["until_ms"])


def text(value: object) -> str:
    return "" if value is None else str(value)


def duration(milliseconds: int | None) -> str:
    """The largest unit that fits: 45 s, 12 min, 3 h, 2 d."""
    if milliseconds is None:
        return ""
    seconds = milliseconds // 1000
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
