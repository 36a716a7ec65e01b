"""Why a node refuses to start or stops, each with the exit code that `watchword serve` ends with.

| code | meaning |
|---|---|
| 0 | stopped as asked |
| 2 | the configuration or its surroundings are wrong: an option, a port in use, a directory, certificates, the clock |
| 4 | anything unexpected: a defect |
| 5 | the data or its key was refused: wrong KEK, damage, a foreign or newer file; nothing was changed |
| 6 | storage failed while running (full disk, failed sync): the node stopped rather than go on unsure |
| 7 | the node was removed from the cluster: starting it again is of no use |
"""

from __future__ import annotations

from cluster.raft.errors import AnotherProcess, RemovedFromCluster
from datastore.errors import DatastoreError

EXIT_STOPPED = 0
EXIT_CONFIGURATION = 2
EXIT_UNEXPECTED = 4
EXIT_DATA_REFUSED = 5
EXIT_STORAGE_FAILED = 6
EXIT_REMOVED = 7


def exit_code_of_failure(error: Exception) -> int:
    """Of a node that stops while it runs."""
    match error:
        case DatastoreError():
            return EXIT_STORAGE_FAILED
        case RemovedFromCluster():
            return EXIT_REMOVED
        case AnotherProcess():
            return EXIT_CONFIGURATION
        case _:
            return EXIT_UNEXPECTED


class NodeError(Exception):
    """The root of what a node says before it ends; the message is one line that names the way out."""

    exit_code = EXIT_CONFIGURATION


class ConfigurationError(NodeError):
    """An option is unknown, missing or wrong; the message begins with the file and the line."""


class AddressError(NodeError):
    """An address can't be listened on: in use, or not this machine's."""


class DirectoryError(NodeError):
    """The node's directory is in use by another process, can't be written, or isn't there."""


class CertificateError(NodeError):
    """A certificate or key is missing, expired, of another cluster, or not the node's own."""


class ClockError(NodeError):
    """The wall clock contradicts the data: see `--accept-clock`."""


class DataRefusedError(NodeError):
    """The node's files can't be used as they are; nothing was changed."""

    exit_code = EXIT_DATA_REFUSED


class NodeStoppedError(NodeError):
    """Storage failed while the node ran."""

    exit_code = EXIT_STORAGE_FAILED
