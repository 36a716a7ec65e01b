"""The first files of a new cluster: its identity, its authority, and for each node what it starts from.

Makes everything beside the directory that it is for, and renames it there as the last step, so that an interrupted
bootstrap leaves nothing that looks like a cluster.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cluster.node.certificates import (
    Credential,
    client_identity,
    issue_client,
    issue_node,
    make_issuing,
    make_root,
    node_identity,
)
from cluster.node.configuration import Address
from cluster.node.directory import DATA_FILE, journal_directory
from cluster.state.apply import State
from cluster.state.commands import VERSION
from cluster.state.genesis import genesis
from cluster.state.records import (
    REQUEST_KEY_BYTES,
    SCHEMA_VERSION,
    ClusterIdentity,
    IssuingKey,
    Member,
    Role,
)
from datastore.datafile import Identity, Position, write_data_file
from datastore.files import Files
from datastore.journal import Journal
from datastore.keys import KeyRing

Random = Callable[[int], bytes]
ID_BYTES = 16

CONFIGURATION_FILE = "watchword.toml"
CA_FILE = "ca.pem"
CERTIFICATE_FILE = "node.pem"
KEY_FILE = "node.key"


@dataclass(frozen=True, slots=True)
class NewNode:
    """A node to be: its name, where it listens, and further names it is reached by (for its certificate)."""

    name: str
    client: Address
    peer: Address
    metrics: Address | None = None
    further_hosts: tuple[str, ...] = ()

    @property
    def hosts(self) -> tuple[str, ...]:
        return (self.client.host, self.peer.host, *self.further_hosts)


@dataclass(frozen=True, slots=True)
class NewCluster:
    """What a cluster begins with; members by id, in the order of the nodes."""

    identity: Identity
    root: Credential
    issuing: Credential
    members: dict[str, NewNode]
    state: State


def new_cluster(
    nodes: Sequence[NewNode], clients: dict[str, Sequence[Role]], random: Random, now_ms: int
) -> NewCluster:
    """The first state of a cluster whose members are `nodes`; `clients` are names of certificates, with their roles."""
    cluster_id = random(ID_BYTES).hex()
    identity = Identity(cluster_id, 1, random(ID_BYTES).hex())
    root = make_root(cluster_id, now_ms)
    issuing = make_issuing(root, cluster_id, now_ms)
    members = {random(ID_BYTES).hex(): node for node in nodes}
    state = genesis(
        cluster=ClusterIdentity(cluster_id, identity.incarnation_counter, identity.incarnation_id, now_ms, VERSION),
        members={member_id: Member(node.name, str(node.peer), str(node.client)) for member_id, node in members.items()},
        roles={client_identity(cluster_id, name).uri: roles for name, roles in clients.items()},
        issuing_key=IssuingKey(issuing.key_pem, issuing.chain_pem, root.chain_pem),
        digest_key=random(REQUEST_KEY_BYTES),
    )
    return NewCluster(identity, root, issuing, members, state)


def write_first_files(
    files: Files,
    directory: Path,
    cluster: NewCluster,
    member_id: str,
    keys: KeyRing,
    random: Random,
    now_ms: int,
) -> None:
    """A node's certificate, data file and journal, in a new directory; all durable on return."""
    node = cluster.members[member_id]
    files.make_directory(str(directory))
    credential = issue_node(cluster.issuing, node_identity(cluster.identity.cluster_id, member_id), node.hosts, now_ms)
    write_file(files, directory / CA_FILE, cluster.root.chain_pem)
    write_file(files, directory / CERTIFICATE_FILE, credential.chain_pem)
    write_file(files, directory / KEY_FILE, credential.key_pem)
    write_state(files, directory, cluster.identity, cluster.state, member_id, keys, random, now_ms)


def write_state(
    files: Files,
    directory: Path,
    identity: Identity,
    state: State,
    member_id: str,
    keys: KeyRing,
    random: Random,
    now_ms: int,
) -> None:
    """A member's first data file, and the journal that goes on from it; durable on return."""
    at = state.position
    write_data_file(
        files,
        str(directory / DATA_FILE),
        identity,
        keys,
        random,
        SCHEMA_VERSION,
        Position(at.index, at.term, at.stamp_ms, at.running_digest),
        now_ms,
        state.records(),
    )
    Journal.create(files, journal_directory(directory), identity, member_id, keys, random, at.index, at.term).close()
    files.sync_directory(str(directory))


def write_client_files(files: Files, directory: Path, cluster: NewCluster, name: str, now_ms: int) -> tuple[str, str]:
    """A client's certificate and key, `NAME.pem` and `NAME.key`; returns the files' names."""
    credential = issue_client(cluster.issuing, client_identity(cluster.identity.cluster_id, name), now_ms)
    write_file(files, directory / f"{name}.pem", credential.chain_pem)
    write_file(files, directory / f"{name}.key", credential.key_pem)
    return f"{name}.pem", f"{name}.key"


def configuration_text(node: NewNode, kek: str, **tables: dict[str, str | int]) -> str:
    """A node's `watchword.toml`; see docs/configuration.md. `tables` are further options by table."""
    lines = [
        "# All options: docs/configuration.md",
        f"name = {_quoted(node.name)}",
        f"client_address = {_quoted(str(node.client))}",
        f"peer_address = {_quoted(str(node.peer))}",
        f"kek = {_quoted(kek)}",
    ]
    if node.metrics is not None:
        lines.append(f"metrics_address = {_quoted(str(node.metrics))}")
    for table, options in tables.items():
        lines += ["", f"[{table}]"]
        lines += [f"{key} = {value if isinstance(value, int) else _quoted(value)}" for key, value in options.items()]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    assert not set(text) & {'"', "\\", "\n"}, "no option that is written needs escapes"
    return f'"{text}"'


def write_file(files: Files, path: Path, contents: bytes) -> None:
    """A new file, durable but for its directory's entry."""
    file = files.create(str(path))
    try:
        file.append(contents)
        file.sync()
    finally:
        file.close()


def rename_into_place(files: Files, made: Path, directory: Path) -> None:
    """The last step: what was made as a whole gets its name."""
    files.sync_directory(str(made))
    files.replace(str(made), str(directory))
    files.sync_directory(os.path.dirname(directory))
