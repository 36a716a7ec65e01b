"""What `watchword up` keeps in its directory, and how it is first made.

    DIR/development.toml   how many nodes, and the first port
    DIR/client.toml        a connection profile: operator and frontend at once
    DIR/ca.pem developer.pem developer.key   what the profile names
    DIR/kek.key            the key-encryption key; in production it never lies beside the data
    DIR/root.key           the root authority's key; in production it is taken away
    DIR/node-1/ ...        a node each: watchword.toml, certificate, data file, journal, log, pid

Ports, from PORT: clients PORT + 0 to 5, peers PORT + 6 to 11, metrics PORT + 12 to 17 (node-1 first).
"""

from __future__ import annotations

import contextlib
import os
import tomllib
from dataclasses import dataclass
from pathlib import Path

import msgspec

from cluster.node import bootstrap
from cluster.node.clock import system_wall_ms
from cluster.node.configuration import Address
from cluster.node.errors import ConfigurationError, DirectoryError
from cluster.node.listening import listen
from cluster.state.records import Role
from datastore.files import Files
from datastore.keys import KeyRing, key_text, new_kek, write_kek_file

LOOPBACK = "127.0.0.1"
NODES_MAX = 6
NODES_DEFAULT = 3
PORT_DEFAULT = 7400
PORTS = 20
LAYOUT_FILE = "development.toml"
PROFILE_FILE = "client.toml"
KEK_FILE = "kek.key"
ROOT_KEY_FILE = "root.key"
CLIENT_NAME = "developer"
LOG_FILE = "log"
OTHER_PORTS = "stop what uses it, or choose other ports with --port PORT"


class Layout(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the first start decided."""

    nodes: int
    port: int

    def node(self, number: int) -> bootstrap.NewNode:
        """Node `number`, from 1."""
        return bootstrap.NewNode(
            name=f"node-{number}",
            client=Address(LOOPBACK, self.port + number - 1),
            peer=Address(LOOPBACK, self.port + NODES_MAX + number - 1),
            metrics=Address(LOOPBACK, self.port + 2 * NODES_MAX + number - 1),
            further_hosts=("localhost", "::1"),
        )

    def all_nodes(self) -> list[bootstrap.NewNode]:
        return [self.node(number) for number in range(1, self.nodes + 1)]


@dataclass(frozen=True, slots=True)
class DevelopmentDirectory:
    """A directory that a development cluster lives in."""

    path: Path
    layout: Layout

    @property
    def profile(self) -> Path:
        return self.path / PROFILE_FILE

    def configurations(self) -> dict[str, Path]:
        """The configuration files of the nodes that there are, by name."""
        files = {node.name: self.path / node.name / bootstrap.CONFIGURATION_FILE for node in self.layout.all_nodes()}
        return {name: file for name, file in files.items() if file.exists()}


def open_or_make(files: Files, path: Path, nodes: int | None, port: int | None) -> DevelopmentDirectory:
    """The cluster in `path`, made if there is none; options that contradict what is there are refused.

    Raises:
        ConfigurationError: such an option, or one out of range.
        AddressError: a port of a cluster that is to be made is in use; nothing was made.
        DirectoryError: something else lies in the directory.
        DatastoreError: the disk said no.
    """
    path = path.absolute()
    if (path / LAYOUT_FILE).exists():
        files.check_directory(str(path))
        return DevelopmentDirectory(path, _agreed(_read_layout(path / LAYOUT_FILE), nodes, port, path))
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        raise DirectoryError(f"{path}: is no directory; name one with --dir DIR")
    if path.exists() and any(path.iterdir()):
        raise DirectoryError(
            f"{path}: is not empty and holds no development cluster; name an empty directory with --dir DIR"
        )
    layout = Layout(nodes or NODES_DEFAULT, port or PORT_DEFAULT)
    if not 1 <= layout.nodes <= NODES_MAX or not 1 <= layout.port <= 65_536 - PORTS:
        raise ConfigurationError(
            f"--nodes is 1 to {NODES_MAX}, and --port leaves room for {PORTS} ports; choose others"
        )
    for node in layout.all_nodes():
        addresses = {"client_address": node.client, "peer_address": node.peer, "metrics_address": node.metrics}
        for option, address in addresses.items():
            if address is not None:
                listen(address, option, OTHER_PORTS).close()
    _make(files, path, layout)
    return DevelopmentDirectory(path, layout)


def _read_layout(file: Path) -> Layout:
    try:
        return msgspec.convert(tomllib.loads(file.read_text("utf-8")), Layout)
    except (OSError, ValueError, msgspec.ValidationError) as error:
        raise ConfigurationError(
            f"{file}: is not what `watchword up` wrote (nodes = N, port = PORT); mend it, or choose another --dir"
        ) from error


def _agreed(layout: Layout, nodes: int | None, port: int | None, path: Path) -> Layout:
    for option, wanted, there in (("--nodes", nodes, layout.nodes), ("--port", port, layout.port)):
        if wanted is not None and wanted != there:
            raise ConfigurationError(
                f"{path} holds a cluster with {option} {there}, not {wanted}; leave the option out,"
                " or name another directory with --dir DIR"
            )
    return layout


def _make(files: Files, path: Path, layout: Layout) -> None:
    """Everything is made beside the directory and renamed: either there is a whole cluster, or none."""
    making = path.with_name(f"{path.name}.making-{os.getpid()}")
    files.make_directory(str(making))
    now_ms = system_wall_ms()
    kek = new_kek(os.urandom)
    write_kek_file(files, str(making / KEK_FILE), key_text(kek))
    cluster = bootstrap.new_cluster(
        layout.all_nodes(), {CLIENT_NAME: (Role.OPERATOR, Role.FRONTEND)}, os.urandom, now_ms
    )
    bootstrap.write_file(files, making / ROOT_KEY_FILE, cluster.root.key_pem)
    bootstrap.write_file(files, making / bootstrap.CA_FILE, cluster.root.chain_pem)
    certificate, key = bootstrap.write_client_files(files, making, cluster, CLIENT_NAME, now_ms)
    for member_id, node in cluster.members.items():
        directory = making / node.name
        keys = KeyRing.generate(kek, os.urandom)
        bootstrap.write_first_files(files, directory, cluster, member_id, keys, os.urandom, now_ms)
        text = bootstrap.configuration_text(node, f"file:../{KEK_FILE}", log={"file": LOG_FILE})
        bootstrap.write_file(files, directory / bootstrap.CONFIGURATION_FILE, text.encode())
    profile = profile_text(path, layout, certificate, key)
    bootstrap.write_file(files, making / PROFILE_FILE, profile.encode())
    bootstrap.write_file(files, making / LAYOUT_FILE, f"nodes = {layout.nodes}\nport = {layout.port}\n".encode())
    with contextlib.suppress(FileNotFoundError):
        path.rmdir()  # an empty one stood there
    bootstrap.rename_into_place(files, making, path)


def profile_text(path: Path, layout: Layout, certificate: str, key: str) -> str:
    """`client.toml`, with absolute paths, so that programs find the files from wherever they run."""
    endpoints = ", ".join(f'"{node.client}"' for node in layout.all_nodes())
    names = {
        "ca_file": bootstrap.CA_FILE,
        "certificate_file": certificate,
        "key_file": key,
        "kek_file": KEK_FILE,
    }
    lines = [f"{field} = {msgspec.json.encode(str(path / name)).decode()}" for field, name in names.items()]
    return "\n".join([f"endpoints = [{endpoints}]", *lines]) + "\n"
