"""The one door to the disk: a small interface, and the real disk behind it. Simulation puts another disk there.

Files are private (0600) and directories too (0700); what is wider is refused. Every failure of the operating
system comes out as an error of `datastore.errors`. Nothing is retried: after a failed sync the kernel may drop the
pages that it could not write, so a second sync would succeed and prove nothing.
"""

import contextlib
import fcntl
import os
import stat
from typing import Protocol

from datastore.errors import AlreadyExists, InsecurePermissions, InUse, NotFound, StorageFailed

FILE_MODE = 0o600
DIRECTORY_MODE = 0o700


class File(Protocol):
    """An open file: it grows at its end and is read anywhere."""

    def append(self, data: bytes) -> None:
        """Writes all of `data` at the end; not durable before `sync`."""

    def read_at(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes from `offset`; fewer only at the end of the file."""

    def size(self) -> int:
        """Length in bytes."""

    def truncate(self, size: int) -> None:
        """Cuts the file to `size` bytes; not durable before `sync`."""

    def sync(self) -> None:
        """Returns when all that was written is on the disk; StorageFailed is final."""

    def close(self) -> None:
        """Releases the file; syncs nothing."""


class Lock(Protocol):
    """A directory held against other processes."""

    def release(self) -> None:
        """Gives it back; the end of the process does so too."""


class Files(Protocol):
    """A file system. Creations, renames and removals are durable after `sync_directory` of their directory."""

    def create(self, path: str) -> File:
        """A new, empty file of mode 0600; AlreadyExists if there is one."""

    def open(self, path: str, *, writable: bool = True) -> File:
        """An existing file; NotFound, or InsecurePermissions where the mode is wider than 0600."""

    def exists(self, path: str) -> bool:
        """Whether there is a file or directory at `path`."""

    def list(self, directory: str) -> list[str]:
        """The names in a directory, sorted; NotFound if there is none."""

    def make_directory(self, path: str) -> None:
        """A directory of mode 0700, with missing parents, their entries synced; an existing one is checked."""

    def check_directory(self, path: str) -> None:
        """NotFound, or InsecurePermissions where the mode is wider than 0700."""

    def replace(self, source: str, target: str) -> None:
        """Renames, over an existing target."""

    def remove(self, path: str) -> None:
        """Removes a file; NotFound if there is none."""

    def sync_directory(self, path: str) -> None:
        """Makes the entries of a directory durable."""

    def lock(self, directory: str) -> Lock:
        """Holds a directory for this process alone; InUse where another holds it."""


def _failure(path: str, action: str, error: OSError) -> NotFound | AlreadyExists | StorageFailed:
    if isinstance(error, FileNotFoundError):
        return NotFound(path)
    if isinstance(error, FileExistsError):
        return AlreadyExists(path)
    return StorageFailed(path, action, error)


class RealFile:
    """A file descriptor behind the `File` interface."""

    __slots__ = ("_descriptor", "_path")

    def __init__(self, path: str, descriptor: int) -> None:
        self._path, self._descriptor = path, descriptor

    def append(self, data: bytes) -> None:
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError as error:
            raise StorageFailed(self._path, "write", error) from error

    def read_at(self, offset: int, length: int) -> bytes:
        try:
            data = os.pread(self._descriptor, length, offset)
            while len(data) < length and (more := os.pread(self._descriptor, length - len(data), offset + len(data))):
                data += more
        except OSError as error:
            raise StorageFailed(self._path, "read", error) from error
        return data

    def size(self) -> int:
        return os.fstat(self._descriptor).st_size

    def truncate(self, size: int) -> None:
        try:
            os.ftruncate(self._descriptor, size)
        except OSError as error:
            raise StorageFailed(self._path, "cut", error) from error

    def sync(self) -> None:
        try:
            os.fdatasync(self._descriptor)
        except OSError as error:
            # What failed to reach the disk stays readable in the page cache, marked clean: drop it, so that the next
            # start reads what the disk holds.
            with contextlib.suppress(OSError):
                os.posix_fadvise(self._descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            raise StorageFailed(self._path, "sync", error) from error

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class RealLock:
    """An advisory lock (flock) on a directory's descriptor."""

    __slots__ = ("_descriptor",)

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def release(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class RealFiles:
    """The disk of this machine."""

    def create(self, path: str) -> RealFile:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        try:
            return RealFile(path, os.open(path, flags, FILE_MODE))
        except OSError as error:
            raise _failure(path, "create", error) from error

    def open(self, path: str, *, writable: bool = True) -> RealFile:
        flags = (os.O_RDWR | os.O_APPEND) if writable else os.O_RDONLY
        try:
            descriptor = os.open(path, flags | os.O_CLOEXEC)
        except OSError as error:
            raise _failure(path, "open", error) from error
        mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
        if mode & ~FILE_MODE:
            os.close(descriptor)
            raise InsecurePermissions(path, mode, FILE_MODE)
        return RealFile(path, descriptor)

    def exists(self, path: str) -> bool:
        return os.path.lexists(path)

    def list(self, directory: str) -> list[str]:
        try:
            return sorted(os.listdir(directory))
        except OSError as error:
            raise _failure(directory, "list", error) from error

    def make_directory(self, path: str) -> None:
        if os.path.lexists(path):
            self.check_directory(path)
            return
        parent = os.path.dirname(os.path.abspath(path))
        if not os.path.lexists(parent):
            self.make_directory(parent)
        try:
            os.mkdir(path, DIRECTORY_MODE)
        except OSError as error:
            raise _failure(path, "create", error) from error
        self.sync_directory(parent)

    def check_directory(self, path: str) -> None:
        try:
            status = os.stat(path)
        except OSError as error:
            raise _failure(path, "open", error) from error
        if not stat.S_ISDIR(status.st_mode):
            raise NotFound(path, "a file stands where a directory must be: move it away")
        mode = stat.S_IMODE(status.st_mode)
        if mode & ~DIRECTORY_MODE:
            raise InsecurePermissions(path, mode, DIRECTORY_MODE)

    def replace(self, source: str, target: str) -> None:
        try:
            os.replace(source, target)
        except OSError as error:
            raise _failure(source, "rename", error) from error

    def remove(self, path: str) -> None:
        try:
            os.remove(path)
        except OSError as error:
            raise _failure(path, "remove", error) from error

    def sync_directory(self, path: str) -> None:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise _failure(path, "open", error) from error
        try:
            os.fsync(descriptor)
        except OSError as error:
            raise StorageFailed(path, "sync", error) from error
        finally:
            os.close(descriptor)

    def lock(self, directory: str) -> RealLock:
        try:
            descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise _failure(directory, "open", error) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            raise InUse(directory) from error
        return RealLock(descriptor)
