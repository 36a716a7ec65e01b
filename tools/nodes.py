"""`watchword init` and `watchword node …`: how a cluster begins, and how its nodes come, go and lead."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tools.output import ExitCode, moment
from tools.prompt import secret_argument
from tools.session import Session, command, group

if TYPE_CHECKING:
    from tools.cluster_view import ClusterView

# Members change one at a time; whoever meets another change waits.
WAIT_S = 30.0
COLUMNS = ("NODE", "ROLE", "VOTES", "ADDRESS", "PEER ADDRESS", "MEMBER ID")

DirectoryOption = Annotated[
    Path,
    typer.Option("--dir", help="The node's directory; new, or empty.", metavar="NODE_DIR", show_default=False),
]
AddressOption = Annotated[
    str,
    typer.Option(help="Where clients reach the node, and it listens.", metavar="HOST:PORT", show_default=False),
]
NameOption = Annotated[
    str | None, typer.Option(help="The node's name (its address).", metavar="NAME", show_default=False)
]
PeerOption = Annotated[
    str | None,
    typer.Option(help="Where the other nodes reach it (port + 1).", metavar="HOST:PORT", show_default=False),
]
MetricsOption = Annotated[
    str | None,
    typer.Option(help="For metrics and health checks (port + 2).", metavar="HOST:PORT", show_default=False),
]
NodeArgument = Annotated[str, typer.Argument(metavar="ID", help="A node's name or member id.", show_default=False)]

nodes = group("node", "The cluster's nodes: let them join, list and remove them, and say which one leads.")


def register(app: typer.Typer) -> None:
    command(app, "init")(init)
    app.add_typer(nodes)


def init(
    session: Session,
    directory: DirectoryOption,
    address: AddressOption,
    name: NameOption = None,
    peer_address: PeerOption = None,
    metrics_address: MetricsOption = None,
    kek: Annotated[
        Path | None,
        typer.Option(help="A key-encryption key that there is already.", metavar="FILE", show_default=False),
    ] = None,
) -> int:
    """Make the first node of a new cluster: certificate authority, keys, configuration, and an operator's profile.

    Nothing is started. It prints what to do next: start it, take the root's key away, invite a second machine.
    --json answers {"name", "member_id", "cluster_id", "config", "profile", "root_key", "kek"}.
    """
    from tools.new_nodes import init_command, options_of

    options = options_of(directory, address, name, peer_address, metrics_address)
    return init_command(options, kek, session.output)


@command(nodes, "invite")
async def invite(
    session: Session,
    seconds: Annotated[
        int, typer.Option(help="For how long it is good.", metavar="SECONDS", min=60, max=604_800)
    ] = 3_600,
) -> ExitCode:
    """Print a token with which one new machine may join, once.

    It is as secret as a key until it is used. On the new machine: watchword node join --token - --dir NODE_DIR
    --address HOST:PORT.  --json answers {"token", "expires"} (milliseconds since 1970).
    """
    async with session.client() as client:
        invited = await client.invite(seconds)
    session.output.answer({"token": invited.token, "expires": invited.expires_ms}, invited.token)
    session.output.note(
        f"good once, until {moment(invited.expires_ms)}; on the new machine:"
        " watchword node join --token - --dir NODE_DIR --address HOST:PORT"
    )
    return ExitCode.OK


@command(nodes, "join")
async def join(
    session: Session,
    token: Annotated[
        str,
        typer.Option(help="From `watchword node invite`; - for standard input.", metavar="TOKEN", show_default=False),
    ],
    directory: DirectoryOption,
    address: AddressOption,
    name: NameOption = None,
    peer_address: PeerOption = None,
    metrics_address: MetricsOption = None,
    kek: Annotated[
        Path | None,
        typer.Option(
            help="The cluster's key-encryption key. Without it, it comes over the connection and is put into NODE_DIR.",
            metavar="FILE",
            show_default=False,
        ),
    ] = None,
) -> ExitCode:
    """Make a node of this machine's that belongs to a cluster which invited it.

    Writes what `init` writes; then start it with `watchword serve`. It is filled first and votes once it has caught up.
    An interrupted join may be repeated with the same token and the same options.
    --json answers {"name", "member_id", "cluster_id", "config", "kek"}.
    """
    from tools.new_nodes import join_command, options_of

    options = options_of(directory, address, name, peer_address, metrics_address)
    return await join_command(secret_argument(token, "token"), options, kek, session.output)


@command(nodes, "list")
async def list_nodes(session: Session) -> ExitCode:
    """List the nodes: who they are, whether they vote, and where they are reached.

    Asks the endpoints of the profile; `watchword status` says how each of them is doing.  --json answers {"nodes":
    [{"id", "member_id", "address", "peer_address", "role", "voter"}]}.
    """
    view = await _view(session)
    rows = [
        {name: node[name] for name in ("id", "member_id", "address", "peer_address", "role", "voter")}
        for node in view.nodes
    ]
    if session.output.as_json:
        session.output.answer({"nodes": rows})
    else:
        session.output.table(COLUMNS, [_row(row) for row in rows])
    return ExitCode.OK


def _row(node: dict[str, Any]) -> tuple[str, ...]:
    return (
        node["id"],
        node["role"],
        "yes" if node["voter"] else "no",
        node["address"] or "",
        node["peer_address"] or "",
        node["member_id"] or "",
    )


async def _view(session: Session) -> "ClusterView":
    from tools.cluster_view import view_of
    from tools.status import refusal_of
    from watchword.errors import Unavailable

    async with session.client() as client:
        answers = await client.get_statuses()
    refusal = refusal_of(answers)
    if refusal is not None:
        raise refusal
    silent = [answer for answer in answers.values() if isinstance(answer, Unavailable)]
    if len(silent) == len(answers):
        raise silent[0]
    return view_of(answers)


@command(nodes, "remove")
async def remove(session: Session, node: NodeArgument) -> ExitCode:
    """Remove a node for good, whether it runs or is dead; it stops by itself when it hears of it.

    Refused where too few of the others answer: without it there would be no majority.  --json answers {"member_id"}.
    """
    async with session.client(timeout_s=WAIT_S) as client:
        removed = await client.remove_member(node)
        session.output.answer({"member_id": removed.member_id}, f"removed {node}")
        statuses = [answer for answer in (await client.get_statuses()).values() if not isinstance(answer, Exception)]
    if any(status.quorum and status.failure_tolerance == 0 for status in statuses):
        session.output.note("the cluster can lose no node now: invite a replacement (watchword node invite)")
    return ExitCode.OK


@command(nodes, "transfer")
async def transfer(
    session: Session,
    node: Annotated[
        str | None,
        typer.Argument(metavar="[ID]", help="Who is to lead: a name or member id. Otherwise any other node."),
    ] = None,
) -> ExitCode:
    """Let another node lead, for instance before this one's machine is stopped. No request fails.

    --json answers {"leader", "member_id"}.
    """
    async with session.client(timeout_s=WAIT_S) as client:
        leads = await client.transfer_leadership(node or "")
    session.output.answer({"leader": leads.name, "member_id": leads.member_id}, f"{leads.name} leads")
    return ExitCode.OK
