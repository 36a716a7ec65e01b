"""What one `fdatasync` costs where the data lies: appends of 4 KiB, as a journal makes them."""

from __future__ import annotations

import os
import time
from pathlib import Path

from bench.figures import Spread

APPENDS = 400
BYTES = 4096


def measure(directory: Path) -> Spread:
    """The sync alone, without the write before it."""
    path = directory / "fdatasync"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
    durations = []
    try:
        for _ in range(APPENDS):
            os.write(descriptor, os.urandom(BYTES))
            before = time.perf_counter()
            os.fdatasync(descriptor)
            durations.append(time.perf_counter() - before)
    finally:
        os.close(descriptor)
        path.unlink()
    return Spread.of(durations)
