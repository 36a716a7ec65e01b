"""The files of a new node: of a new cluster's first one, and of one that joins a cluster.

Everything is made beside the directory and renamed as the last step, so that either there is a whole node, or none. A
node that joins keeps its key in the place where it is made: an interrupted join can be repeated, by the same node.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from cluster.node import bootstrap
from cluster.node.certificates import identity_of, node_identity
from cluster.node.clock import system_wall_ms
from cluster.node.configuration import Address, parse_address
from cluster.node.errors import NodeError
from cluster.state.apply import State
from cluster.state.genesis import unfilled
from cluster.state.records import ClusterIdentity, Member, Role
from datastore.datafile import Identity
from datastore.errors import DatastoreError
from datastore.files import RealFiles
from datastore.keys import KeyEncryptionKey, KeyRing, key_text, load_kek, new_kek, parse_kek, write_kek_file
from tools.client_files import key_pem, profile_text, request_of
from tools.output import ExitCode, Output
from tools.serve import exit_code_of, say
from watchword import join_token
from watchword.client import Client
from watchword.errors import InvalidArgument, Unexpected
from watchword.profile import Profile
from watchword.v1.members_pb2 import JoinResponse

KEK_FILE = "kek.key"
ROOT_KEY_FILE = "root.key"
PROFILE_FILE = "client.toml"
OPERATOR = "operator"
WAIT_S = 30.0
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")
_PATH = re.compile(r'[^"\\\n]+')
_EVERYWHERE = frozenset({"0.0.0.0", "::", "0:0:0:0:0:0:0:0"})  # noqa: S104 - refused, not listened on


@dataclass(frozen=True, slots=True)
class Options:
    """What `init` and `join` are told of the new node; `directory` is absolute."""

    directory: Path
    node: bootstrap.NewNode


def options_of(directory: Path, address: str, name: str | None, peer: str | None, metrics: str | None) -> Options:
    """Raises InvalidArgument for what no node can be made of."""
    client = _address("address", address)
    if client.port > 65_533 and (peer is None or metrics is None):
        raise InvalidArgument(
            "the port leaves no room for those of peers and metrics",
            field="address",
            advice="give --peer-address and --metrics-address, or a lower port",
        )
    chosen = str(client) if name is None else name
    if _NAME.fullmatch(chosen) is None:
        raise InvalidArgument(
            "a node's name is 1 to 64 letters, digits or any of . _ : -, the first a letter or a digit",
            field="name",
            advice="choose one with --name NAME",
        )
    node = bootstrap.NewNode(
        chosen,
        client,
        _address("peer-address", peer) if peer else Address(client.host, client.port + 1),
        _address("metrics-address", metrics) if metrics else Address(client.host, client.port + 2),
    )
    if len({node.client, node.peer, node.metrics}) < 3:
        raise InvalidArgument(
            "clients, peers and metrics need an address each", field="address", advice="choose different ports"
        )
    return Options(directory.absolute(), node)


def _address(option: str, text: str) -> Address:
    try:
        address = parse_address(text)
    except ValueError:
        raise InvalidArgument(
            f"--{option} is HOST:PORT, or [ADDRESS]:PORT for IPv6", field=option, advice="such as 192.0.2.1:7400"
        ) from None
    if address.host in _EVERYWHERE:
        raise InvalidArgument(
            f"--{option} is where others reach this node, and {address.host} is every machine",
            field=option,
            advice="give the address or name of this machine in your network",
        )
    return address


def check_free(directory: Path) -> None:
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise InvalidArgument(
            f"{directory} is there and not empty", field="dir", advice="name a new directory with --dir NODE_DIR"
        )
    if not directory.parent.is_dir():
        raise InvalidArgument(f"{directory.parent} is no directory", field="dir", advice="make it first")


# The first node


def init_command(options: Options, kek_file: Path | None, output: Output) -> int:
    """Returns the exit code."""
    check_free(options.directory)
    try:
        return _init(options, kek_file, output)
    except (NodeError, DatastoreError) as error:
        return _say(error, output)


def _init(options: Options, kek_file: Path | None, output: Output) -> int:
    files, directory, now_ms = RealFiles(), options.directory, system_wall_ms()
    kek, kek_spec = _given_kek(kek_file) if kek_file else (new_kek(os.urandom), f"file:{KEK_FILE}")
    cluster = bootstrap.new_cluster([options.node], {OPERATOR: (Role.OPERATOR, Role.FRONTEND)}, os.urandom, now_ms)
    (member_id,) = cluster.members
    making = directory.with_name(f".{directory.name}.making-{os.getpid()}")
    try:
        keys = KeyRing.generate(kek, os.urandom)
        bootstrap.write_first_files(files, making, cluster, member_id, keys, os.urandom, now_ms)
        bootstrap.write_file(files, making / ROOT_KEY_FILE, cluster.root.key_pem)
        bootstrap.write_client_files(files, making, cluster, OPERATOR, now_ms)
        profile = profile_text([str(options.node.client)], OPERATOR)
        bootstrap.write_file(files, making / PROFILE_FILE, profile.encode())
        _finish(files, making, options, None if kek_file else kek, kek_spec)
    finally:
        shutil.rmtree(making, ignore_errors=True)
    document = {
        "name": options.node.name,
        "member_id": member_id,
        "cluster_id": cluster.identity.cluster_id,
        "config": str(directory / bootstrap.CONFIGURATION_FILE),
        "profile": str(directory / PROFILE_FILE),
        "root_key": str(directory / ROOT_KEY_FILE),
        "kek": str(kek_file.absolute() if kek_file else directory / KEK_FILE),
    }
    output.answer(document, *_first_words(document))
    if not kek_file:
        output.note(_beside_the_data(directory / KEK_FILE))
    return ExitCode.OK


def _first_words(made: dict[str, str]) -> list[str]:
    return [
        f"{made['name']} is the first node of cluster {made['cluster_id']}.",
        "",
        "Start it:",
        f"    watchword serve --config {made['config']}",
        "Ask how it is doing, and whatever an operator may (the certificate is operator and front end at once):",
        f"    watchword status --profile {made['profile']}",
        "Take away the root's key, to a place that is not on the network; nothing here needs it again but a new",
        "issuing authority:",
        f"    {made['root_key']}",
        "",
        "For a second machine, once this one runs:",
        f"    watchword node invite --profile {made['profile']}        (here: prints a token)",
        "    watchword node join --token - --dir NODE_DIR --address HOST:PORT        (there: give it the token)",
        "Three nodes survive the loss of one; two survive none.",
    ]


# One that joins


async def join_command(token_text: str, options: Options, kek_file: Path | None, output: Output) -> ExitCode:
    token = join_token.decode(token_text)
    check_free(options.directory)
    try:
        return await _join(token, options, kek_file, output)
    except (NodeError, DatastoreError) as error:
        return _say(error, output)


async def _join(token: join_token.JoinToken, options: Options, kek_file: Path | None, output: Output) -> ExitCode:
    kek, kek_spec = _given_kek(kek_file) if kek_file else (None, f"file:{KEK_FILE}")
    if kek is not None and kek.id != token.kek_id:
        raise InvalidArgument(
            f"{kek_file} is key {kek.id}, the cluster's is {token.kek_id}",
            field="kek",
            advice="give the cluster's key file; nothing was asked yet",
        )
    making = options.directory.with_name(f".{options.directory.name}.joining")
    _begin(making)
    answer = await _ask(token, options, request_of(making / bootstrap.KEY_FILE), wants_kek=kek is None)
    _check(answer, token)
    kek = kek or parse_kek("the key that the cluster sent", answer.kek.encode())
    write_joined(making, answer, options, kek, None if kek_file else kek, kek_spec)
    _say_joined(answer, options, kek_file, output)
    return ExitCode.OK


def _say_joined(answer: JoinResponse, options: Options, kek_file: Path | None, output: Output) -> None:
    document = {
        "name": options.node.name,
        "member_id": answer.member_id,
        "cluster_id": answer.cluster_id,
        "config": str(options.directory / bootstrap.CONFIGURATION_FILE),
        "kek": str(kek_file.absolute() if kek_file else options.directory / KEK_FILE),
    }
    others = len(answer.members) - 1
    output.answer(
        document,
        f"{options.node.name} has joined cluster {answer.cluster_id}. Start it:",
        f"    watchword serve --config {document['config']}",
        "It is filled first, and votes once it has caught up: watchword node list",
        f"Add {options.node.client} to the endpoints of the clients' profiles.",
    )
    if others == 1:
        output.note("a cluster of two nodes can lose none of them: let a third one join")
    if not kek_file:
        output.note(_beside_the_data(options.directory / KEK_FILE))


def _begin(making: Path) -> None:
    """The place with the node's key: made, or left by a join that was interrupted."""
    making.mkdir(mode=0o700, exist_ok=True)
    for left in making.iterdir():
        if left.name != bootstrap.KEY_FILE:
            shutil.rmtree(left) if left.is_dir() else left.unlink()
    key_file = making / bootstrap.KEY_FILE
    if key_file.exists():
        try:
            serialization.load_pem_private_key(key_file.read_bytes(), password=None)
        except ValueError:  # the machine went down while it was written: nobody knows it yet
            key_file.unlink()
    if not key_file.exists():
        bootstrap.write_file(RealFiles(), key_file, key_pem(ec.generate_private_key(ec.SECP256R1())))
        RealFiles().sync_directory(str(making))


async def _ask(token: join_token.JoinToken, options: Options, csr: bytes, *, wants_kek: bool) -> JoinResponse:
    nowhere = Path(os.devnull)
    profile = Profile(token.endpoints, nowhere, nowhere, nowhere)
    async with Client(profile, timeout_s=WAIT_S, credentials=token.credentials) as client:
        return await client.join(
            secret=token.secret,
            name=options.node.name,
            client_address=str(options.node.client),
            peer_address=str(options.node.peer),
            csr=csr,
            wants_kek=wants_kek,
        )


def _check(answer: JoinResponse, token: join_token.JoinToken) -> None:
    """What came fits the token and itself."""
    expected = node_identity(token.cluster_id, answer.member_id)
    good = answer.cluster_id == token.cluster_id and identity_of(answer.certificate_chain) == expected
    if not good or answer.root_certificate.strip() != token.ca.strip():
        raise Unexpected("the cluster's answer does not fit the token", advice="see the log of that node")


def write_joined(
    making: Path,
    answer: JoinResponse,
    options: Options,
    kek: KeyEncryptionKey,
    kek_to_write: KeyEncryptionKey | None,
    kek_spec: str,
) -> None:
    """All files but the key, which is there, in `making`; then that becomes the node's directory."""
    files, now_ms = RealFiles(), system_wall_ms()
    bootstrap.write_file(files, making / bootstrap.CA_FILE, answer.root_certificate)
    bootstrap.write_file(files, making / bootstrap.CERTIFICATE_FILE, answer.certificate_chain)
    identity = Identity(answer.cluster_id, answer.incarnation_counter, answer.incarnation_id)
    keys = KeyRing.generate(kek, os.urandom)
    bootstrap.write_state(files, making, identity, joined_state(answer), answer.member_id, keys, os.urandom, now_ms)
    _finish(files, making, options, kek_to_write, kek_spec)


def joined_state(answer: JoinResponse) -> State:
    return unfilled(
        cluster=ClusterIdentity(
            answer.cluster_id,
            answer.incarnation_counter,
            answer.incarnation_id,
            answer.cluster_created_ms,
            answer.command_version,
        ),
        members={
            member.member_id: Member(member.name, member.peer_address, member.client_address, member.voter)
            for member in answer.members
        },
        root_certificate=answer.root_certificate,
    )


# Common to both


def _given_kek(file: Path) -> tuple[KeyEncryptionKey, str]:
    path = str(file.absolute())
    if _PATH.fullmatch(path) is None:
        raise InvalidArgument(
            "the key file's path has characters that are not written into a configuration", field="kek"
        )
    return load_kek(f"file:{path}", RealFiles()), f"file:{path}"


def _finish(files: RealFiles, making: Path, options: Options, kek: KeyEncryptionKey | None, kek_spec: str) -> None:
    if kek is not None:
        write_kek_file(files, str(making / KEK_FILE), key_text(kek))
    text = bootstrap.configuration_text(options.node, kek_spec)
    bootstrap.write_file(files, making / bootstrap.CONFIGURATION_FILE, text.encode())
    with contextlib.suppress(FileNotFoundError):
        options.directory.rmdir()  # an empty one stood there
    bootstrap.rename_into_place(files, making, options.directory)


def _beside_the_data(kek_file: Path) -> str:
    return (
        f"{kek_file} is the key to all data, and lies beside it: whoever takes the disk has both. Move it elsewhere"
        " (another file system, a systemd credential) and change kek in watchword.toml"
    )


def _say(error: NodeError | DatastoreError, output: Output) -> ExitCode:
    code = ExitCode.WRONG_USE if exit_code_of(error) == ExitCode.WRONG_USE else ExitCode.UNEXPECTED
    say(error, output, code)
    return code
