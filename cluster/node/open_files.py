"""How many files this process may have open, and how many of them its callers may take.

A connection is an open file, and anybody who reaches the port can make one, before TLS has asked for a certificate. If
they took all, the next data file or journal segment could not be opened, and a node that can't write stops.
"""

from __future__ import annotations

import resource
from typing import Final

from cluster.services import limits

# More is of no use to a node.
OPEN_FILES_MAX: Final = 65_536
# For the journal, data files, the trail, the other nodes and the metrics port, all of which are bounded.
RESERVED: Final = 384
CONNECTIONS_MIN: Final = 64
# For a while after its certificate changed a node has two servers (cluster.node.front_door).
SERVERS: Final = 2


def raise_limit() -> int:
    """Raise this process's limit as far as it may by itself; returns what it is then."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES_MAX if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES_MAX)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return wanted
    return OPEN_FILES_MAX if soft == resource.RLIM_INFINITY else soft


def connections_max(open_files: int) -> int:
    """How many connections of clients one server may have, so that the node itself never lacks a file."""
    return max(CONNECTIONS_MIN, min(limits.CONNECTIONS_MAX, (open_files - RESERVED) // SERVERS))
