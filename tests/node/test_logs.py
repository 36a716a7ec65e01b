"""What a line of the log holds, and what it never does."""

from __future__ import annotations

import errno
import io
import json
import logging
import os
import stat
from pathlib import Path

import pytest

from cluster.node.errors import DirectoryError
from cluster.node.logs import StandardLogs, make_logger, open_log


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_one_object_a_line_with_time_level_and_what_is_bound() -> None:
    stream = io.StringIO()
    make_logger(stream, "info", node="node-1").info("started", index=3)
    (line,) = lines(stream)
    assert (line["event"], line["level"], line["node"], line["index"]) == ("started", "info", "node-1", 3)
    assert str(line["time"]).endswith("Z")


def test_lower_levels_are_left_out() -> None:
    stream = io.StringIO()
    log = make_logger(stream, "warning")
    log.info("little")
    log.warning("more")
    assert [line["event"] for line in lines(stream)] == ["more"]


@pytest.mark.parametrize("key", ["passcode", "secret", "user", "user_id", "pin", "code", "payload", "kek"])
def test_sensitive_values_are_withheld_at_any_depth(key: str) -> None:
    stream = io.StringIO()
    make_logger(stream, "info").info("event", **{key: "alice"}, inner={key: "alice"}, data=b"alice")
    assert "alice" not in stream.getvalue()


def test_an_exception_is_its_type_and_place_not_its_words() -> None:
    stream = io.StringIO()
    with pytest.raises(ValueError, match="alice") as raised:
        int("alice typed 123456")
    make_logger(stream, "info").error("failed", exc_info=raised.value)
    (line,) = lines(stream)
    assert line["error"] == "ValueError"
    assert "test_logs.py" in str(line["where"])
    assert "123456" not in stream.getvalue()


def test_libraries_are_heard_without_their_arguments() -> None:
    stream = io.StringIO()
    handler = StandardLogs(make_logger(stream, "info"))
    handler.emit(logging.LogRecord("grpc", logging.ERROR, "file.py", 1, "unexpected %s", ("alice",), None))
    (line,) = lines(stream)
    assert (line["source"], line["message"], line["level"]) == ("grpc", "unexpected %s", "error")


def test_the_file_is_private_and_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "log"
    for _ in range(2):
        with open_log(str(path)) as stream:
            make_logger(stream, "info").info("event")
    assert len(path.read_text().splitlines()) == 2
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_log_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(DirectoryError, match="can't write the log"):
        open_log(str(tmp_path / "nowhere" / "log"))


def test_a_full_disk_under_the_log_is_nobodys_error_and_with_room_there_are_lines_again() -> None:
    stream = FullAtFirst()
    log = make_logger(stream, "info")
    log.info("lost")
    StandardLogs(log).handle(logging.LogRecord("asyncio", logging.WARNING, "file", 1, "lost too", (), None))
    stream.full = False
    log.info("kept")
    assert [line["event"] for line in lines(stream)] == ["kept"]


def test_a_node_logs_to_a_full_file_without_an_error() -> None:
    with open_log("/dev/full") as stream:
        log = make_logger(stream, "info")
        for number in range(3_000):  # more than any buffer holds
            log.info("event", number=number)
        # What is still in the buffer has nowhere to go, and closing would say so.
        os.dup2(os.open("/dev/null", os.O_WRONLY), stream.fileno())


class FullAtFirst(io.StringIO):
    full = True

    def write(self, text: str) -> int:
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(text)
