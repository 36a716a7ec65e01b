"""`watchword events …`: the audit trail, asked of a node, and its files verified without one."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tools.output import ExitCode
from tools.session import Session, command, group
from watchword.errors import InvalidArgument, one_line

if TYPE_CHECKING:
    from watchword.v1 import events_pb2

LINES = 20
LIMIT = 100
LIMIT_MAX = 10_000
COLUMNS = ("TIME", "INDEX", "KIND", "DECISION", "REASON", "USER", "SUBJECT", "TOKEN", "BY", "APPLICATION")

trail = group("events", "The audit trail: every sign-in and every change, with who made it.")


class DecisionName(StrEnum):
    ACCEPT = "ACCEPT"
    REJECT = "REJECT"


UserOption = Annotated[str, typer.Option("--user", metavar="USER", help="Whom it concerns.", show_default=False)]
EndpointOption = Annotated[
    str | None, typer.Option("--endpoint", metavar="HOST:PORT", help="Ask this node.", show_default=False)
]


def register(app: typer.Typer) -> None:
    app.add_typer(trail)


@command(trail, "tail")
async def tail(
    session: Session,
    lines: Annotated[int, typer.Option("--lines", "-n", metavar="N", min=0, max=LIMIT_MAX)] = LINES,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes, until Ctrl-C.")] = False,
    endpoint: EndpointOption = None,
) -> ExitCode:
    """Show the last events of a node's audit trail.

    Each line is one event.  Names are those of the users that there are now; who is none is shown by the pseudonym in
    the trail (~ and its first digits).  --json prints one JSON object a line.
    """
    from watchword.v1 import events_pb2

    request = events_pb2.ReadEventsRequest(limit=lines, follow=follow, only_new=lines == 0)
    async with session.client(endpoint=endpoint) as client:
        async for document in documents(client.read_events(request)):
            print(json.dumps(document, ensure_ascii=False) if session.output.as_json else line_of(document), flush=True)
    return ExitCode.OK


@command(trail, "search")
async def search(
    session: Session,
    user: UserOption = "",
    pseudonym: Annotated[str, typer.Option(metavar="HEX", help="Whom, as the trail's lines have it.")] = "",
    kind: Annotated[
        list[str] | None, typer.Option("--kind", metavar="KIND", help="verify, user_added, …; may be repeated.")
    ] = None,
    decision: Annotated[DecisionName | None, typer.Option(show_default=False)] = None,
    reason: Annotated[str, typer.Option(metavar="REASON", help="WRONG, LOCKED, …")] = "",
    token: Annotated[str, typer.Option(metavar="TOKEN_ID")] = "",
    client: Annotated[str, typer.Option(metavar="NAME", help="Who asked for it: a client's name.")] = "",
    application: Annotated[str, typer.Option(metavar="TEXT")] = "",
    request_id: Annotated[str, typer.Option(metavar="ID")] = "",
    subject: Annotated[str, typer.Option(metavar="TEXT", help="A setting, a client, a member.")] = "",
    since: Annotated[str, typer.Option(metavar="TIME", help="ISO 8601, such as 2026-11-24T08:00Z.")] = "",
    until: Annotated[str, typer.Option(metavar="TIME", help="The same; not included.")] = "",
    limit: Annotated[int, typer.Option(metavar="N", min=1, max=LIMIT_MAX)] = LIMIT,
    endpoint: EndpointOption = None,
) -> ExitCode:
    """Find events in a node's audit trail: the last ones that fit all that is given, oldest first.

    A time without a zone is UTC.  --json answers {"events": [...], "gaps": [...]}; gaps are entries of the log that
    this node has no events of, because it was away: ask another one.
    """
    from watchword.v1 import authentication_pb2, events_pb2

    request = events_pb2.ReadEventsRequest(
        limit=limit,
        user_id=user,
        pseudonym=pseudonym,
        kinds=kind or [],
        decision=authentication_pb2.Decision.Value(f"DECISION_{decision.value if decision else 'UNSPECIFIED'}"),
        reason=reason_value(reason),
        token_id=token,
        client=client,
        application=application,
        by_request_id=request_id,
        subject=subject,
        since_ms=moment_ms("since", since),
        until_ms=moment_ms("until", until),
    )
    async with session.client(endpoint=endpoint) as asked:
        found = [document async for document in documents(asked.read_events(request))]
    events = [document for document in found if document["kind"] != "gap"]
    gaps = [document for document in found if document["kind"] == "gap"]
    if session.output.as_json:
        session.output.answer({"events": events, "gaps": gaps})
        return ExitCode.OK
    session.output.table(COLUMNS, [row(document) for document in events])
    for gap in gaps:
        session.output.note(line_of(gap))
    return ExitCode.OK


@command(trail, "verify")
def verify(
    session: Session,
    paths: Annotated[
        list[Path], typer.Argument(metavar="FILE…", help="Files of a trail, or directories.", show_default=False)
    ],
) -> ExitCode:
    """Verify files of an audit trail, without a node and without keys: exits 1 and says where, if one was changed.

    Each line is chained to the one before it, and each file to the one before it; of several files a missing one is
    named.  What was cut off the end of the last file can't be seen in it: compare with another node's trail.
    --json answers {"intact", "files", "lines", "first_file", "last_index", "findings": [{"file", "line", "what"}]}.
    """
    from cluster.node.events import verification

    try:
        files = verification.files_of(paths)
        result = verification.verify(files, whole=any(path.is_dir() for path in paths))
    except OSError as error:
        raise InvalidArgument(
            f"{error.filename} can't be read: {error.strerror}", field="FILE", advice="name files that you may read"
        ) from error
    if not files:
        raise InvalidArgument("there is no file of a trail", field="FILE", advice="name files, or an events directory")
    document = {
        "intact": result.intact,
        "files": result.files,
        "lines": result.lines,
        "first_file": result.first_file,
        "last_index": result.last_index,
        "findings": [{"file": each.file, "line": each.line, "what": each.what} for each in result.findings],
    }
    lines = [
        f"{each.file}, line {each.line} {each.what}" if each.line else f"{each.file}: {each.what}"
        for each in result.findings
    ]
    if result.intact:
        lines = [f"intact: {result.lines} lines in {result.files} files, up to entry {result.last_index}"]
        if result.first_file > 1:
            lines.append(f"the trail begins with file {result.first_file}: earlier ones are not among these")
    session.output.answer(document, *lines)
    return ExitCode.OK if result.intact else ExitCode.REJECTED


async def documents(
    responses: "AsyncIterator[events_pb2.ReadEventsResponse]",
) -> AsyncIterator[dict[str, Any]]:
    """Each event, and each gap, as --json has it."""
    async for response in responses:
        for gap in response.gaps:
            yield {"kind": "gap", "from_index": gap.from_index, "to_index": gap.to_index}
        for event in response.events:
            yield document_of(event)


def document_of(event: "events_pb2.AuditEvent") -> dict[str, Any]:
    from watchword.v1.authentication_pb2 import Decision, Reason
    from watchword.verification import name_of

    return {
        "index": event.index,
        "number": event.number,
        "at_ms": event.at_ms,
        "kind": event.kind,
        "decision": name_of(Decision, event.decision, "DECISION_") if event.decision else None,
        "reason": name_of(Reason, event.reason, "REASON_") if event.reason else None,
        "user_id": event.user_id or None,
        "pseudonym": event.pseudonym or None,
        "subject": event.subject or None,
        "token_id": event.token_id or None,
        "client": event.client or None,
        "application": event.application or None,
        "request_id": event.request_id or None,
    }


def row(document: dict[str, Any]) -> tuple[str, ...]:
    whom = document["user_id"] or (f"~{document['pseudonym'][:12]}" if document["pseudonym"] else "")
    texts = (document[name] or "" for name in ("subject", "token_id", "client", "application"))
    return (
        f"{datetime.fromtimestamp(document['at_ms'] / 1000, UTC):%Y-%m-%d %H:%M:%S}Z",
        str(document["index"]),
        document["kind"],
        document["decision"] or "",
        document["reason"] or "",
        whom,
        *texts,
    )


def line_of(document: dict[str, Any]) -> str:
    """One line for a person."""
    if document["kind"] == "gap":
        return f"entries {document['from_index']} to {document['to_index']} are not in this node's trail"
    time, index, *cells, token, client, application = row(document)
    parts = [time, index, *(cell for cell in cells if cell)]
    for name, cell in (("token", token), ("by", client), ("for", application)):
        if cell:
            parts += [name, cell]
    return one_line(" ".join(parts))


def reason_value(name: str) -> Any:
    from watchword.v1.authentication_pb2 import Reason

    if not name:
        return Reason.Value("REASON_UNSPECIFIED")
    known = [each.removeprefix("REASON_") for each in Reason.keys() if each != "REASON_UNSPECIFIED"]  # noqa: SIM118
    if name.upper() not in known:
        raise InvalidArgument("there is no such reason", field="reason", advice=f"one of {', '.join(known)}")
    return Reason.Value(f"REASON_{name.upper()}")


def moment_ms(option: str, text: str) -> int:
    """Milliseconds since 1970; 0 where nothing is given."""
    if not text:
        return 0
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidArgument(
            f"--{option} is no time", field=option, advice="write it as 2026-11-24 or 2026-11-24T08:00Z"
        ) from None
    return max(0, round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000))
