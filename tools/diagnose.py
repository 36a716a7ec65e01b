"""`watchword config check` and `watchword diagnose`: whether a node would start, and if not, what is wrong."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tools.session import Session, command, group
from watchword.errors import ProfileError, WatchwordError

if TYPE_CHECKING:
    from cluster.node.configuration import LoadedConfiguration
    from cluster.node.diagnosis import Check

CONFIG_DEFAULT = Path("watchword.toml")
ASK_S = 3.0

config = group("config", "A node's configuration file.")


def register(app: typer.Typer) -> None:
    app.add_typer(config)
    command(app, "diagnose")(diagnose)


def show(session: Session, checks: list[Check]) -> int:
    from cluster.node.diagnosis import exit_code

    code = exit_code(checks)
    document = {
        "exit_code": code,
        "checks": [{"name": check.name, "verdict": check.verdict, "text": check.text} for check in checks],
    }
    session.output.answer(document, *(f"{check.verdict:<5}{check.name}: {check.text}" for check in checks))
    return code


def files_checked(path: Path) -> tuple[LoadedConfiguration | None, list[Check]]:
    from cluster.node.clock import system_wall_ms
    from cluster.node.diagnosis import check_files
    from datastore.files import RealFiles

    return check_files(path, RealFiles(), system_wall_ms(), os.environ)


@command(config, "check")
def check(
    session: Session,
    path: Annotated[Path, typer.Argument(metavar="FILE", help="The node's configuration.", show_default=False)],
) -> int:
    """Check a configuration and the files that it names, without starting anything.

    One line a check: ok, warn or fail. It reads the options, the permissions, the key-encryption key, the data file's
    header and the certificates. Exits 0 where all is well, 1 where something is to be looked at, 2 where the node
    would not start. --json answers {"exit_code", "checks": [{"name", "verdict", "text"}]}.

    For example: watchword config check /etc/watchword/watchword.toml
    """
    _, checks = files_checked(path)
    return show(session, checks)


async def diagnose(
    session: Session,
    path: Annotated[
        Path, typer.Option("--config", metavar="FILE", help="The node's configuration.", show_default=True)
    ] = CONFIG_DEFAULT,
) -> int:
    """Check everything that a node needs before it starts, on the machine and as the user that it runs as.

    What `config check` reads, and the disk (free space, and how long a small write takes to be safe), the ports, and
    the clock against the nodes of the profile, where one answers. A node that runs already is left alone. One line a
    check: ok, warn or fail. Exits 0 where all is well, 1 where something is to be looked at, 2 where the node would
    not start. --json answers {"exit_code", "checks": [{"name", "verdict", "text"}]}.

    For example: watchword diagnose --config /etc/watchword/watchword.toml --profile client.toml
    """
    from cluster.node.diagnosis import check_clock, check_machine

    configuration, checks = files_checked(path)
    if configuration is not None:
        checks += [*check_machine(configuration), check_clock(await clock_offsets_ms(session))]
    return show(session, checks)


async def clock_offsets_ms(session: Session) -> dict[str, int]:
    """This machine's clock less each node's, by endpoint; empty where there is no profile, or nobody answers."""
    offsets: dict[str, int] = {}
    try:
        endpoints = session.profile().endpoints
        for endpoint in endpoints:
            async with session.client(endpoint=endpoint, timeout_s=ASK_S) as client:
                await client.get_statuses()  # the handshake, which would be taken for the way there
                before_ms = time.time_ns() // 1_000_000
                (answer,) = (await client.get_statuses()).values()
                after_ms = time.time_ns() // 1_000_000
            if not isinstance(answer, WatchwordError) and answer.wall_ms:
                offsets[endpoint] = (before_ms + after_ms) // 2 - answer.wall_ms
    except ProfileError as error:
        session.output.note(f"the clock is not compared: {error}")
    return offsets
