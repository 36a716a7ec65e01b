"""Every way in which bytes at rest can fail us, each with the sentence that names the way out.

A message is one line. It never holds contents, keys or names of people: paths, offsets and ids only.
"""

import errno
import os

_WAYS_OUT: dict[int | None, str] = {
    errno.ENOSPC: "free space on that disk",
    errno.EDQUOT: "raise the quota or free space",
    errno.EACCES: "give the service's user the right to it",
    errno.EPERM: "give the service's user the right to it",
    errno.EROFS: "mount it writable",
    errno.EMFILE: "raise the limit of open files",
}


class DatastoreError(Exception):
    """The root of the tree: nothing else is raised by this room for a failure that is not a programming error."""


class StorageFailed(DatastoreError):
    """The disk said no: full, read-only, I/O error. Fail-stop; a failed sync is never tried again."""

    def __init__(self, path: str, action: str, error: Exception | None = None) -> None:
        self.path, self.action = path, action
        self.errno = error.errno if isinstance(error, OSError) else None
        reason = os.strerror(self.errno) if self.errno is not None else str(error or "an earlier write failed")
        way_out = _WAYS_OUT.get(self.errno, "repair or replace the disk")
        super().__init__(f"cannot {action} {path}: {reason}; {way_out}, then start this node again")


class NotFound(DatastoreError):
    """A file or directory that must be there is not."""

    def __init__(self, path: str, way_out: str = "check the path, or restore the file") -> None:
        self.path = path
        super().__init__(f"{path} does not exist; {way_out}")


class JournalLost(NotFound):
    """No journal where one must be: this node lost its log and its vote."""

    def __init__(self, path: str) -> None:
        super().__init__(
            path,
            "this node lost its journal and with it its vote: "
            "remove the member from the cluster and let the node join as a new one",
        )


class AlreadyExists(DatastoreError):
    """Something stands where a new file was to be made."""

    def __init__(self, path: str) -> None:
        self.path = path
        super().__init__(f"{path} exists already; move it away or choose another place")


class InUse(DatastoreError):
    """Another process holds the directory."""

    def __init__(self, path: str) -> None:
        self.path = path
        super().__init__(f"{path} is in use by another process; stop that node first")


class InsecurePermissions(DatastoreError):
    """Others than the owner may read or write; `wanted` is the mode (0600 or 0700) that is expected."""

    def __init__(self, path: str, mode: int, wanted: int) -> None:
        self.path, self.mode, self.wanted = path, mode, wanted
        super().__init__(f"{path} has mode {mode:04o}, wider than {wanted:04o}; run: chmod {wanted:04o} {path}")


class Damaged(DatastoreError):
    """The bytes at `offset` of `path` are not what was written; `what` says which part."""

    def __init__(self, path: str, offset: int, what: str) -> None:
        self.path, self.offset, self.what = path, offset, what
        super().__init__(
            f"{path} is damaged at byte {offset}: {what}; "
            "nothing was changed: restore the file from a good copy, or let this node join as a new member"
        )


class WrongKey(DatastoreError):
    """The file's data key is wrapped by a key-encryption key that we do not hold."""

    def __init__(self, path: str, needed: tuple[str, ...], held: tuple[str, ...]) -> None:
        self.path, self.needed, self.held = path, needed, held
        super().__init__(
            f"{path} was sealed under key-encryption key {' or '.join(needed)}, this node holds "
            f"{' and '.join(held)}; configure the key that the file was sealed under"
        )


class NewerFormat(DatastoreError):
    """Written by a newer release: format (or schema) `found`, of which this one knows up to `known`."""

    def __init__(self, path: str, found: int, known: int, what: str = "format") -> None:
        self.path, self.found, self.known = path, found, known
        super().__init__(
            f"{path} has {what} version {found}, this release reads up to {known}; install a newer release"
        )


class ForeignFile(DatastoreError):
    """Of another cluster, another incarnation, another member, or of another kind than the place asks for."""

    def __init__(self, path: str, what: str, found: str, expected: str) -> None:
        self.path, self.what, self.found, self.expected = path, what, found, expected
        super().__init__(
            f"{path} belongs to another {what}: {found}, expected {expected}; put back this node's own file"
        )


class OlderThanCurrent(DatastoreError):
    """A data file that stands before the current one may not take its place."""

    def __init__(self, path: str, index: int, current_index: int) -> None:
        self.path, self.index, self.current_index = path, index, current_index
        super().__init__(
            f"{path} stands at index {index}, the current data file at {current_index}; "
            "it was left where it is: remove it, or restore it as a backup"
        )


class UnusableKey(DatastoreError):
    """A key-encryption key could not be loaded; `source` names where from, never what."""

    def __init__(self, source: str, what: str) -> None:
        self.source, self.what = source, what
        super().__init__(f"no usable key-encryption key from {source}: {what}")
