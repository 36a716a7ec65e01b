"""Secrets and passcodes that are not on the command line: from a terminal without echo, or from standard input."""

import getpass
import sys

from watchword.errors import InvalidArgument

LINE_CHARACTERS_MAX = 64 * 1024
STANDARD_INPUT = "-"


def is_terminal() -> bool:
    """Whether there is a person to ask."""
    return sys.stdin is not None and sys.stdin.isatty()


def read_secret(what: str) -> str:
    """One line, without its end: asked for on a terminal, otherwise the next line of standard input."""
    if is_terminal():
        line = getpass.getpass(f"{what}: ", stream=sys.stderr)
    else:
        # Closed standard input is None, and gives as little as an empty one.
        line = sys.stdin.readline(LINE_CHARACTERS_MAX + 1).rstrip("\r\n") if sys.stdin is not None else ""
    if not line:
        raise InvalidArgument(
            f"no {what} was given", field=what, advice=f"write the {what} to standard input, in one line"
        )
    if len(line) > LINE_CHARACTERS_MAX:
        raise InvalidArgument(f"the {what} is longer than {LINE_CHARACTERS_MAX} characters", field=what)
    return line


def secret_argument(given: str | None, what: str) -> str:
    """An argument that may be secret: itself, or read where it is absent or `-`."""
    return read_secret(what) if given is None or given == STANDARD_INPUT else given


def confirmed(question: str, yes: bool) -> bool:
    """Whether to go on: asked on a terminal; elsewhere only --yes says so."""
    if yes:
        return True
    if not is_terminal():
        raise InvalidArgument("nobody can be asked here", advice="repeat with --yes if it is meant")
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in {"y", "yes"}
