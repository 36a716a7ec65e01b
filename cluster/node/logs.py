"""Structured logs: one JSON object a line, with time, level and event.

What must never be readable is withheld by name here, as the second line of defence; the first is not to log it at all.
Exceptions are logged by type and place only, because their messages may carry what a user typed.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import traceback
from collections.abc import MutableMapping
from types import TracebackType
from typing import TextIO, cast

import structlog
from structlog.typing import EventDict, FilteringBoundLogger

from cluster.node.errors import DirectoryError

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
WITHHELD = "[withheld]"
SENSITIVE_KEYS = frozenset(
    {
        "code",
        "codes",
        "contents",
        "key",
        "kek",
        "passcode",
        "password",
        "passphrase",
        "payload",
        "phone",
        "pin",
        "secret",
        "token",
        "uri",
        "user",
        "user_id",
        "user_name",
        "username",
    }
)
FRAMES_MAX = 30
TEMPLATE_MAX = 200


def open_log(path: str) -> TextIO:
    """For appending, readable by the owner only; a line is written at once.

    Raises:
        DirectoryError: it can't be opened.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise DirectoryError(f"{path}: can't write the log ({error.strerror}); make its directory writable") from error
    return os.fdopen(descriptor, "w", buffering=1, encoding="utf-8")


class Lossy:
    """A stream whose failure is nobody's error: a full disk under the log must not stop what was only logging.

    Connections, elections and answers go on without their lines; with room again, so do the lines.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.flush()


def make_logger(stream: TextIO, level: str, **bound: str) -> FilteringBoundLogger:
    """A logger on `stream`; `bound` stands on every line (the node's name)."""
    logger: FilteringBoundLogger = structlog.wrap_logger(
        structlog.WriteLogger(cast("TextIO", Lossy(stream))),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
            withhold_sensitive,
            describe_exception,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        context_class=dict,
        cache_logger_on_first_use=True,
    ).bind(**bound)
    return logger


def withhold_sensitive(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Replace the values of sensitive keys, at any depth of mappings."""
    for key, value in event.items():
        if key in SENSITIVE_KEYS:
            event[key] = WITHHELD
        elif isinstance(value, MutableMapping):
            event[key] = withhold_sensitive(_logger, _method, dict(value))
        elif isinstance(value, bytes | bytearray | memoryview):
            event[key] = f"[{len(value)} bytes]"
    return event


def describe_exception(_logger: object, _method: str, event: EventDict) -> EventDict:
    """`exc_info` becomes the exception's type and where it was raised; never its message."""
    raised = event.pop("exc_info", None)
    if raised is True:
        raised = sys.exc_info()[1]
    if isinstance(raised, tuple):
        raised = raised[1]
    if isinstance(raised, BaseException):
        event["error"] = type(raised).__qualname__
        event["where"] = where_raised(raised.__traceback__)
    return event


def where_raised(trace: TracebackType | None) -> list[str]:
    """`module.py:line function`, outermost first."""
    frames = traceback.extract_tb(trace)[-FRAMES_MAX:]
    return [f"{'/'.join(frame.filename.split('/')[-2:])}:{frame.lineno} {frame.name}" for frame in frames]


class StandardLogs(logging.Handler):
    """What libraries and our rooms say through `logging`, as lines of the same log.

    A message's template is the program's own text and its arguments may be anybody's, so only the template is kept.
    """

    def __init__(self, logger: FilteringBoundLogger) -> None:
        super().__init__(logging.WARNING)
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        say = self._logger.error if record.levelno >= logging.ERROR else self._logger.warning
        say("library", source=record.name, message=str(record.msg)[:TEMPLATE_MAX], exc_info=record.exc_info)


def take_standard_logs(logger: FilteringBoundLogger) -> None:
    """From now on all of this process's `logging` goes to `logger`."""
    root = logging.getLogger()
    root.handlers[:] = [StandardLogs(logger)]
    root.setLevel(logging.WARNING)
