"""The `watchword` command: its words, and how an error ends it.

What a command does is imported when it runs, so that `verify` and `--help` start at once.
"""

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from typer.exceptions import TyperException

from tools import clients, codes, diagnose, events, nodes, settings, status, tokens, users, verify
from tools.output import ExitCode, Output
from tools.session import Session, command, group
from watchword.version import __version__

HELP = """Watchword, a multi-factor authentication server that survives the loss of a machine.

A development cluster on this machine, and a first sign-in:

    watchword up                                  (in one terminal)

    watchword user add alice                      (in another)

    watchword token add alice --type totp         (scan the code)

    watchword verify alice                        (type what the phone shows)

Every command takes --profile, --json and -v, before or after its name; every secret or passcode takes - for standard
input.  Exit codes: 0 done, or accepted; 1 rejected, or the cluster's answer is no; 2 wrong use, or not allowed; 3 no
answer (no quorum, no connection, deadline); 4 anything unexpected.
"""


DIRECTORY = Path(".watchword")
PORT = 7400
NODES_MAX = 6  # three ports each, in a block of 20


def application() -> typer.Typer:
    """All commands, in the order in which --help lists them."""
    app = group("watchword", HELP, outermost=True)
    command(app, "up")(up)
    command(app, "serve")(serve)
    nodes.register(app)
    status.register(app)
    users.register(app)
    tokens.register(app)
    codes.register(app)
    clients.register(app)
    verify.register(app)
    settings.register(app)
    events.register(app)
    diagnose.register(app)
    command(app, "version")(version)
    return app


def up(
    session: Session,
    directory: Annotated[Path, typer.Option("--dir", help="Where everything is kept.", metavar="DIR")] = DIRECTORY,
    nodes: Annotated[
        int | None,
        typer.Option(help="How many nodes (at first 3).", metavar="N", min=1, max=NODES_MAX, show_default=False),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            help=f"The first of 20 ports (at first {PORT}).", metavar="PORT", min=1, max=65_516, show_default=False
        ),
    ] = None,
) -> int:
    """Run a development cluster on loopback, in the foreground: real processes, real certificates, real files.

    Ctrl-C or SIGTERM stops it; a second `up` goes on with the same data. A node that dies is not restarted: `up` prints
    the command that does it.
    """
    from tools.development import up_command

    return up_command(directory, nodes=nodes, port=port, output=session.output)


def serve(
    session: Session,
    config: Annotated[
        Path, typer.Option("--config", help="The node's configuration, in TOML.", metavar="FILE", show_default=False)
    ],
    accept_clock: Annotated[
        bool,
        typer.Option("--accept-clock", help="Start although this machine's clock contradicts the data: it is right."),
    ] = False,
) -> int:
    """Run one node, in the foreground, until SIGTERM.

    SIGTERM drains: the node says that it does not serve, finishes what is under way, hands leadership over, and writes
    its state. Exits 0 then; 2 where the configuration, a certificate, a port or the clock is wrong; 4 for anything
    unexpected; 5 where the data or its key was refused; 6 where storage failed. `watchword diagnose` looks before.

    For example: watchword serve --config /var/lib/watchword/watchword.toml
    """
    from tools.serve import serve_command

    return serve_command(config, output=session.output, accept_clock=accept_clock)


def version(session: Session) -> int:
    """Print the version.  --json answers {"version"}."""
    session.output.answer({"version": __version__}, __version__)
    return ExitCode.OK


def without_arguments(message: str) -> str:
    """What is wrong with a command line, without repeating arguments: a passcode may be among them."""
    if "unexpected extra argument" in message:
        return "there are more arguments than the command takes (a passcode with spaces needs quotes)"
    if match := re.match(r"No such option: (\S*)", message):
        option = match[1].rstrip(".")
        known_shape = re.fullmatch(r"--[a-z][a-z-]*", option)
        return f"there is no option {option}" if known_shape else "an argument that begins with - needs -- before it"
    message = message.replace("Value error, ", "").replace(". Did you mean", "; did you mean")
    return message.rstrip(".?")


def run(arguments: Sequence[str]) -> int:
    """Run one command line, and return its exit code; whatever goes wrong is said in one line."""
    words = arguments[: arguments.index("--")] if "--" in arguments else arguments
    output = Output(as_json="--json" in words, verbose="-v" in words or "--verbose" in words)
    if not output.verbose:
        # The transport's own words would stand beside the one line that says what to do.
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    try:
        return int(application()(args=list(arguments), prog_name="watchword", standalone_mode=False) or 0)
    except typer.Abort:
        output.note("stopped")
        return ExitCode.INTERRUPTED
    except TyperException as error:
        return output.wrong_use(without_arguments(error.format_message()), "--help shows how the command is written")
    except Exception as error:  # noqa: BLE001  # the outermost frame: one line and a code, never a bare trace
        return output.error(error)


def main() -> NoReturn:
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
