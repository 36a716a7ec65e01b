"""A node's directory: what lies where in it, and that one process uses it at a time."""

from __future__ import annotations

import errno
import fcntl
import os
from dataclasses import dataclass
from pathlib import Path

from cluster.node.errors import DirectoryError

DATA_FILE = "mfa.data"
JOURNAL = "journal"
PID_FILE = "pid"
# A snapshot from a peer, wholly verified, until the journal that begins with it is on disk (DESIGN.md).
RECEIVED = f"{DATA_FILE}.received"


def journal_directory(directory: Path) -> str:
    return str(directory / JOURNAL)


def received_path(directory: Path) -> str:
    return str(directory / RECEIVED)


@dataclass(frozen=True, slots=True)
class DirectoryLock:
    """Held for as long as the process lives; the kernel lets go of it however the process ends."""

    path: Path
    descriptor: int

    @classmethod
    def take(cls, directory: Path) -> DirectoryLock:
        """Lock the directory and write this process's id into its `pid` file.

        Raises:
            DirectoryError: another process has it, or nothing can be written there.
        """
        path = directory / PID_FILE
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError as error:
            raise DirectoryError(
                f"{directory}: no such directory; a node's files come from `watchword up`, or correct `directory`"
            ) from error
        except OSError as error:
            raise DirectoryError(
                f"{directory}: can't be written ({error.strerror}); make it writable for the user that runs the node"
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = _written_in(descriptor)
            os.close(descriptor)
            if error.errno not in {errno.EAGAIN, errno.EACCES}:
                raise DirectoryError(f"{path}: can't be locked ({error.strerror}); use a local file system") from error
            raise DirectoryError(f"{directory}: is in use by process {holder}; stop that one first") from error
        try:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        except OSError as error:
            os.close(descriptor)
            raise DirectoryError(f"{path}: can't be written ({error.strerror}); free or repair the disk") from error
        return cls(path, descriptor)

    def release(self) -> None:
        """Forget the process id, so that nobody signals a later process by it."""
        os.ftruncate(self.descriptor, 0)
        os.close(self.descriptor)


def holder_of(directory: Path) -> str | None:
    """The id of the process that has the directory, where one has; nothing is changed."""
    try:
        descriptor = os.open(directory / PID_FILE, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _written_in(descriptor)
    except OSError:
        return None  # the start says what is wrong with it
    finally:
        os.close(descriptor)
    return None


def _written_in(descriptor: int) -> str:
    return os.pread(descriptor, 20, 0).decode("ascii", "replace").strip() or "(unknown)"
