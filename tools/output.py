"""What the command line prints, and what it exits with.

Answers go to standard output, errors to standard error.  With --json both are one JSON object; without it an answer
is text (tables and colour on a terminal, tab-separated lines elsewhere) and an error is one line that says what to do
next.
"""

import json
import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum
from typing import Any, TextIO

from watchword import errors


class ExitCode(IntEnum):
    """`verify` exits 1 for a rejection and for nothing else; other commands where the cluster's answer is no."""

    OK = 0
    REJECTED = 1
    WRONG_USE = 2
    NO_ANSWER = 3
    UNEXPECTED = 4
    INTERRUPTED = 130


def exit_code_of(error: BaseException) -> ExitCode:
    match error:
        case errors.NotFound() | errors.AlreadyExists() | errors.FailedPrecondition():
            return ExitCode.REJECTED
        case errors.ProfileError() | errors.NotAllowed() | errors.InvalidArgument():
            return ExitCode.WRONG_USE
        case errors.Unavailable():
            return ExitCode.NO_ANSWER
    return ExitCode.UNEXPECTED


@dataclass(frozen=True, slots=True)
class Output:
    """How one command speaks: `as_json`, and with `verbose` also where an error comes from."""

    as_json: bool = False
    verbose: bool = False

    def answer(self, document: Mapping[str, Any], *lines: str) -> None:
        """The document with --json, the lines otherwise."""
        if self.as_json:
            print(_json(document, sys.stdout))
        else:
            for line in lines:
                print(line)

    def note(self, line: str) -> None:
        """Something beside the answer, for a person."""
        if not self.as_json:
            _to_standard_error(line)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Rows of text under their columns."""
        if not is_terminal():
            for row in (columns, *rows):
                print("\t".join(errors.one_line(cell) for cell in row))
            return
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(*columns, box=None, header_style="bold", pad_edge=False)
        for row in rows:
            table.add_row(*(Text(errors.one_line(cell), no_wrap=True) for cell in row))
        console = Console(highlight=False)
        # A narrow terminal breaks lines; nothing is cut off, since an address that is cut off is of no use.
        console.width = max(console.width, console.measure(table, options=console.options.update(width=1_000)).maximum)
        console.print(table)

    def error(self, error: BaseException) -> ExitCode:
        """Says it, and returns the exit code that goes with it."""
        code = exit_code_of(error)
        if isinstance(error, errors.WatchwordError):
            document = {"error": error.reason, "message": error.message, "advice": error.advice}
            if isinstance(error, errors.InvalidArgument) and error.field:
                document["field"] = error.field
            line = str(error)
        else:
            # Its own text could quote what somebody typed, so that only its kind is said.
            line = f"unexpected {type(error).__name__}: repeat with -v for the trace, and report it"
            document = {"error": "UNEXPECTED", "message": line, "advice": ""}
        if self.verbose:
            _to_standard_error("".join(traceback.format_exception(error)).rstrip())
        self.say_error({**document, "exit_code": int(code)}, line)
        return code

    def wrong_use(self, message: str, advice: str) -> ExitCode:
        code = ExitCode.WRONG_USE
        document = {"error": "WRONG_USE", "message": message, "advice": advice, "exit_code": int(code)}
        self.say_error(document, f"{message}: {advice}")
        return code

    def say_error(self, document: Mapping[str, Any], line: str) -> None:
        _to_standard_error(_json(document, sys.stderr) if self.as_json else f"watchword: {errors.one_line(line)}")


def _json(document: Mapping[str, Any], stream: TextIO | None) -> str:
    """For a stream that can't hold every name, in characters that any stream can: it stays JSON."""
    encoding = (getattr(stream, "encoding", None) or "utf-8").lower()
    return json.dumps(document, ensure_ascii=encoding not in {"utf-8", "utf8"})


def _to_standard_error(text: str) -> None:
    """Where nobody can be told (closed, full, a reader that is gone), the exit code still says what happened."""
    if sys.stderr is None:
        return  # print would choose standard output
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        # Nothing may try again at the end of the process: that would change the exit code.
        sys.stderr = None  # as Python itself does where it was closed


def is_terminal() -> bool:
    """Whether a person looks at standard output, and not a file or a program."""
    return sys.stdout.isatty()


def moment(at_ms: int) -> str:
    """Milliseconds since 1970, for a person; empty for 0, which is never."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ") if at_ms else ""
