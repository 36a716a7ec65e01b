"""`watchword serve`: one node, in the foreground, until SIGTERM."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from pathlib import Path
from typing import NoReturn

from cluster.node.configuration import load_configuration
from cluster.node.errors import (
    EXIT_CONFIGURATION,
    EXIT_DATA_REFUSED,
    EXIT_REMOVED,
    EXIT_STOPPED,
    EXIT_STORAGE_FAILED,
    EXIT_UNEXPECTED,
    NodeError,
)
from cluster.node.logs import make_logger, open_log, take_standard_logs
from cluster.node.node import prepare, run
from datastore.errors import DatastoreError, InsecurePermissions, StorageFailed, UnusableKey
from tools.output import Output

REASONS = {
    EXIT_STORAGE_FAILED: "storage failed",
    EXIT_CONFIGURATION: "another process speaks as this node; stop one of them, a copy of a node must never run",
    EXIT_REMOVED: "it was removed from the cluster; to take part again it joins anew, in an empty directory",
}


def exit_code_of(error: NodeError | DatastoreError) -> int:
    """See docs/configuration.md."""
    match error:
        case NodeError():
            return error.exit_code
        case InsecurePermissions() | UnusableKey():
            return EXIT_CONFIGURATION
        case StorageFailed():
            return EXIT_STORAGE_FAILED
        case _:
            return EXIT_DATA_REFUSED


def say(error: NodeError | DatastoreError, output: Output, code: int | None = None) -> int:
    """Says why nothing was started, and returns the exit code, which is that of docs/configuration.md or `code`."""
    code = exit_code_of(error) if code is None else code
    message, _, advice = str(error).partition("; ")
    word = re.sub(r"(?<!^)(?=[A-Z])", "_", type(error).__name__.removesuffix("Error")).upper()
    output.say_error({"error": word, "message": message, "advice": advice, "exit_code": code}, str(error))
    return code


def serve_command(config: Path, *, output: Output, accept_clock: bool = False) -> int:
    """Run a node; the exit codes are those of docs/configuration.md."""
    try:
        configuration = load_configuration(config)
        log_file = open_log(str(configuration.log_file)) if configuration.log_file else None
        log = make_logger(log_file or sys.stderr, configuration.options.log.level, node=configuration.options.name)
        take_standard_logs(log)
        prepared = prepare(configuration, accept_clock=accept_clock)
        code = run(prepared, log)
    except (NodeError, DatastoreError) as error:
        return say(error, output)
    if code == EXIT_STOPPED:
        return code
    reason = REASONS.get(code, "a defect stopped it")
    where = configuration.log_file or "the lines above"
    output.say_error(
        {"error": "STOPPED", "message": reason, "advice": f"see {where}", "exit_code": code},
        f"the node stopped: {reason}; the last line of its log says what ({where})",
    )
    return _end_now(code)


def _end_now(code: int) -> NoReturn:
    """Without waiting for threads: a write on a failed disk may never return."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, AttributeError):  # a full disk, or closed
            stream.flush()
    os._exit(code if code else EXIT_UNEXPECTED)
