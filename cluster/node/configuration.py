"""A node's configuration: one TOML file, every option with its meaning, unit and range.

It says how this process runs on this machine. What the cluster has in common (members, roles, settings) is replicated
state and never stands here; in particular no peers are listed. docs/configuration.md is generated from these
definitions.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Meta, Struct

from cluster.node.errors import ConfigurationError

MANUAL = "docs/configuration.md"


class Address(NamedTuple):
    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class CertificateFiles(Struct, frozen=True, forbid_unknown_fields=True):
    """[certificates] PEM files, relative to the configuration file."""

    ca_file: Annotated[str, Meta(description="The cluster's root certificate.")] = "ca.pem"
    certificate_file: Annotated[
        str, Meta(description="This node's certificate, followed by the issuing authority's.")
    ] = "node.pem"
    key_file: Annotated[str, Meta(description="This node's private key; readable by its owner only.")] = "node.key"


class LogOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """[log] One JSON object a line."""

    level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="The least level that is written.")
    ] = "info"
    file: Annotated[
        str, Meta(description="Appended to; relative to the configuration file. Empty: standard error.")
    ] = ""


class RaftOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """[raft] The same on all nodes. The defaults suit one site; raise all three together for slow links."""

    heartbeat_ms: Annotated[int, Meta(ge=20, le=5_000, description="Milliseconds between a leader's heartbeats.")] = 100
    election_timeout_min_ms: Annotated[
        int,
        Meta(
            ge=100,
            le=30_000,
            description="Milliseconds without a leader before an election, at least; more than 3 heartbeats.",
        ),
    ] = 750
    election_timeout_max_ms: Annotated[
        int, Meta(ge=150, le=60_000, description="The same, at most; above the least, so that candidates differ.")
    ] = 1_500
    tick_ms: Annotated[int, Meta(ge=5, le=100, description="Milliseconds between two looks at the timers.")] = 15


class SnapshotOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """[snapshots] When the whole state is written to a new data file, and what is kept."""

    journal_bytes: Annotated[
        int,
        Meta(ge=1 << 16, le=1 << 34, description="Bytes of journal since the last data file that call for a new one."),
    ] = 16 << 20
    age_s: Annotated[
        int, Meta(ge=10, le=7 * 86_400, description="Seconds after which any change calls for a new one.")
    ] = 3_600
    tail_bytes: Annotated[
        int,
        Meta(ge=1 << 16, le=1 << 34, description="Bytes of journal kept in memory for nodes that lag."),
    ] = 64 << 20
    generations: Annotated[int, Meta(ge=1, le=100, description="Data files kept, the current one included.")] = 3


class LimitOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """[limits] What this process holds at most, and for how long it waits."""

    unauthenticated_peers: Annotated[
        int, Meta(ge=4, le=4_096, description="Connections to the peer address that have not yet shown who they are.")
    ] = 64
    peer_send_bytes: Annotated[
        int,
        Meta(ge=1 << 20, le=1 << 30, description="Bytes that wait for one peer; beyond, its connection is dropped."),
    ] = 32 << 20
    drain_s: Annotated[
        int, Meta(ge=0, le=300, description="Seconds that requests under way have to finish after SIGTERM.")
    ] = 10


class EventOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """[events] The audit trail, in `events/` of the data directory; see docs/events.md."""

    file_bytes: Annotated[
        int, Meta(ge=1 << 16, le=1 << 30, description="Bytes after which a file is finished and the next one begun.")
    ] = 16 << 20
    file_age_s: Annotated[int, Meta(ge=60, le=31 * 86_400, description="Seconds after which it is, too.")] = 86_400
    keep_files: Annotated[
        int, Meta(ge=0, le=100_000, description="Files kept; the oldest are removed. 0: all, and you archive them.")
    ] = 0


class NodeConfiguration(Struct, frozen=True, forbid_unknown_fields=True):
    """The options at the top of the file."""

    name: Annotated[
        str,
        Meta(
            pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,63}$",
            description="The node's name, as `watchword status` shows it.",
        ),
    ]
    client_address: Annotated[str, Meta(description="`HOST:PORT` to listen on for clients (gRPC, mutual TLS).")]
    peer_address: Annotated[str, Meta(description="`HOST:PORT` to listen on for the other nodes.")]
    kek: Annotated[
        str,
        Meta(
            description="Where the key-encryption key comes from: `file:PATH` (relative to the configuration file), "
            "`environment:NAME` or `credential:NAME` (systemd)."
        ),
    ]
    directory: Annotated[
        str, Meta(description="The node's data directory (mode 0700); relative to the configuration file.")
    ] = "."
    metrics_address: Annotated[
        str,
        Meta(
            description="`HOST:PORT` to listen on for metrics and health checks (plain HTTP; see docs/metrics.md). "
            "Empty: none."
        ),
    ] = ""
    certificates: CertificateFiles = msgspec.field(default_factory=CertificateFiles)
    log: LogOptions = msgspec.field(default_factory=LogOptions)
    raft: RaftOptions = msgspec.field(default_factory=RaftOptions)
    snapshots: SnapshotOptions = msgspec.field(default_factory=SnapshotOptions)
    limits: LimitOptions = msgspec.field(default_factory=LimitOptions)
    events: EventOptions = msgspec.field(default_factory=EventOptions)


class LoadedConfiguration(NamedTuple):
    """What the file says, with its paths made absolute and its addresses taken apart."""

    options: NodeConfiguration
    path: Path
    directory: Path
    client: Address
    peer: Address
    metrics: Address | None
    ca_file: Path
    certificate_file: Path
    key_file: Path
    log_file: Path | None
    kek: str


def load_configuration(path: Path) -> LoadedConfiguration:
    """Read and check a configuration file.

    Raises:
        ConfigurationError: what is wrong, with the line it stands in and the way out.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ConfigurationError(
            f"{path}: no such file; `watchword up` makes one, or name it with --config FILE"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: can't be read as UTF-8 text; check its permissions and contents") from error
    return parse_configuration(text, path)


def parse_configuration(text: str, path: Path) -> LoadedConfiguration:
    """The pure part of `load_configuration`; `path` is for messages and for what is relative to it."""
    try:
        options = msgspec.convert(tomllib.loads(text), NodeConfiguration, strict=True)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path}: not TOML: {error}; mend that line") from error
    except msgspec.ValidationError as error:
        raise _located(str(error), text, path) from error
    return _resolve(options, text, path)


def parse_address(text: str) -> Address:
    """`HOST:PORT`, IPv6 in brackets.

    Raises:
        ValueError: it isn't one.
    """
    match = re.fullmatch(r"(?:\[(?P<v6>[0-9A-Fa-f:.%]+)\]|(?P<host>[A-Za-z0-9._-]+)):(?P<port>[0-9]{1,5})", text)
    if match is None or not 1 <= int(match["port"]) <= 65_535:
        raise ValueError("not HOST:PORT")
    return Address(match["v6"] or match["host"], int(match["port"]))


def _resolve(options: NodeConfiguration, text: str, path: Path) -> LoadedConfiguration:
    base = path.absolute().parent

    def wrong(key: str, what: str) -> ConfigurationError:
        return ConfigurationError(f"{path}, line {line_of(text, key)}: {key}: {what}; see {MANUAL}")

    def address(key: str, value: str) -> Address:
        try:
            return parse_address(value)
        except ValueError as error:
            raise wrong(key, 'expected "HOST:PORT", such as "127.0.0.1:7400"') from error

    client, peer = address("client_address", options.client_address), address("peer_address", options.peer_address)
    metrics = address("metrics_address", options.metrics_address) if options.metrics_address else None
    if len({a for a in (options.client_address, options.peer_address, options.metrics_address) if a}) < 2 + bool(
        options.metrics_address
    ):
        raise wrong("peer_address", "clients, peers and metrics need an address each; choose another port")
    kind, _, name = options.kek.partition(":")
    if kind not in {"file", "environment", "credential"} or not name:
        raise wrong("kek", 'expected "file:PATH", "environment:NAME" or "credential:NAME"')
    raft = options.raft
    if raft.election_timeout_min_ms <= 3 * raft.heartbeat_ms:
        raise wrong("raft.election_timeout_min_ms", f"expected more than 3 heartbeats, {3 * raft.heartbeat_ms}")
    if raft.election_timeout_max_ms <= raft.election_timeout_min_ms:
        raise wrong("raft.election_timeout_max_ms", f"expected more than {raft.election_timeout_min_ms}")
    return LoadedConfiguration(
        options=options,
        path=path.absolute(),
        directory=base / options.directory,
        client=client,
        peer=peer,
        metrics=metrics,
        ca_file=base / options.certificates.ca_file,
        certificate_file=base / options.certificates.certificate_file,
        key_file=base / options.certificates.key_file,
        log_file=base / options.log.file if options.log.file else None,
        kek=f"{kind}:{base / name}" if kind == "file" else options.kek,
    )


_AT = re.compile(r"^(?P<what>.*?)(?: - at `(?P<at>[^`]*)`)?$", re.DOTALL)
_FIELD = re.compile(r"field `(?P<name>[^`]*)`")


def _located(message: str, text: str, path: Path) -> ConfigurationError:
    """Turn msgspec's message into ours: file, line, option, what was expected, and what to do."""
    match = _AT.match(message)
    assert match is not None, "the pattern takes every text"
    what, table = match["what"], (match["at"] or "$").removeprefix("$").removeprefix(".")
    named = _FIELD.search(what)
    if named is None:
        return ConfigurationError(f"{path}, line {line_of(text, table)}: {table}: {_lower(what)}; see {MANUAL}")
    key = f"{table}.{named['name']}" if table else named["name"]
    if "missing" in what:
        return ConfigurationError(f"{path}, line {line_of(text, table)}: option {key} is missing; add it, see {MANUAL}")
    near = difflib.get_close_matches(named["name"], _options_of(table), n=1)
    advice = f"did you mean {near[0]}?" if near else f"remove it, or see {MANUAL}"
    return ConfigurationError(f"{path}, line {line_of(text, key)}: unknown option {key}; {advice}")


def _options_of(table: str) -> list[str]:
    struct: Any = NodeConfiguration
    if table:
        struct = {f.name: f.type for f in msgspec.structs.fields(NodeConfiguration)}.get(table)
    return [f.name for f in msgspec.structs.fields(struct)] if struct is not None else []


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


_TABLE = re.compile(r"^\s*\[+\s*(?P<name>[^\]]+?)\s*\]+\s*(?:#.*)?$")
_KEY = re.compile(r"^\s*(?P<name>[A-Za-z0-9_.\"' -]+?)\s*=")


def line_of(text: str, key: str) -> int:
    """The line (from 1) of the dotted `key`, or else of the nearest table around it; 1 where nothing of it stands."""
    table, found_table = "", 1
    for number, line in enumerate(text.splitlines(), start=1):
        if heading := _TABLE.match(line):
            table = _plain(heading["name"])
            if key == table:
                return number
            if key.startswith(f"{table}."):
                found_table = number
        elif assignment := _KEY.match(line):
            name = _plain(assignment["name"])
            here = f"{table}.{name}" if table else name
            if here == key:
                return number
            if key.startswith(f"{here}."):  # an inline table
                found_table = number
    return found_table


def _plain(name: str) -> str:
    return ".".join(part.strip().strip("\"'") for part in name.split("."))
