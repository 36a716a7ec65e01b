"""From bootstrap to an opened node, and every file that must not be believed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from cluster.node import bootstrap
from cluster.node.configuration import Address
from cluster.node.directory import DirectoryLock, journal_directory, received_path
from cluster.node.errors import DataRefusedError, DirectoryError
from cluster.node.opening import OpenedNode, open_node
from cluster.raft import entries
from cluster.state.apply import State
from cluster.state.records import SCHEMA_VERSION, Role
from datastore import datafile
from datastore.errors import (
    Damaged,
    DatastoreError,
    ForeignFile,
    InsecurePermissions,
    JournalLost,
    NewerFormat,
    WrongKey,
)
from datastore.files import RealFiles
from datastore.journal import JournalEntry
from datastore.keys import KeyEncryptionKey, KeyRing, new_kek

NOW = 1_790_000_000_000
KEK = new_kek(os.urandom)
FILES = RealFiles()


def make_cluster(directory: Path, nodes: int = 3, kek: KeyEncryptionKey = KEK) -> list[Path]:
    directory.chmod(0o700)
    new = [
        bootstrap.NewNode(f"node-{n}", Address("127.0.0.1", 7400 + n), Address("127.0.0.1", 7500 + n))
        for n in range(nodes)
    ]
    cluster = bootstrap.new_cluster(new, {"op": (Role.OPERATOR,)}, os.urandom, NOW)
    for member_id, node in cluster.members.items():
        keys = KeyRing.generate(kek, os.urandom)
        bootstrap.write_first_files(FILES, directory / node.name, cluster, member_id, keys, os.urandom, NOW)
    return [directory / node.name for node in new]


@pytest.fixture
def node(tmp_path: Path) -> Path:
    return make_cluster(tmp_path)[0]


def opened(node: Path, kek: KeyEncryptionKey = KEK) -> OpenedNode:
    return open_node(FILES, node, kek, os.urandom, 3)


def close(node: OpenedNode) -> None:
    node.journal.close()


def contents(directory: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file()}


def test_each_node_of_a_new_cluster_opens_as_itself(tmp_path: Path) -> None:
    nodes = [opened(path) for path in make_cluster(tmp_path)]
    assert len({node.member_id for node in nodes}) == 3
    assert [node.members[node.member_id].name for node in nodes] == ["node-0", "node-1", "node-2"]
    assert len({node.state.running_digest for node in nodes}) == 1
    assert all(node.journal.last_index == node.data_file.position.index == 1 for node in nodes)
    assert nodes[0].identity == nodes[1].identity
    for node in nodes:
        close(node)


def test_nothing_of_a_new_node_is_readable(node: Path) -> None:
    """Neither names of members nor identities; certificates and configuration are there to be read."""
    for name, data in contents(node).items():
        if not name.endswith((".pem", ".key")):
            assert b"node-0" not in data
            assert b"watchword://" not in data


def append(node: OpenedNode, count: int, term: int = 1) -> None:
    for _ in range(count):
        data = entries.pack_groups(NOW, [])
        node.journal.append(JournalEntry(data, node.journal.last_index + 1, term))
    node.journal.set_term(term, None)
    node.journal.sync()


def advance(state: State, journal_owner: OpenedNode) -> None:
    """Apply what the journal holds, as a node would once it is committed."""
    for index in range(state.position.index + 1, journal_owner.journal.last_index + 1):
        entry = journal_owner.journal.entry(index)
        assert entry is not None
        state.apply(index, entry.term, NOW, [])


def write(node: OpenedNode, state: State, path: str) -> None:
    at = state.position
    datafile.write_data_file(
        FILES,
        path,
        node.identity,
        node.keys,
        os.urandom,
        SCHEMA_VERSION,
        datafile.Position(at.index, at.term, at.stamp_ms, at.running_digest),
        NOW,
        state.records(),
    )


def test_overlap_of_data_file_and_journal_is_normal(node: Path) -> None:
    """Hazard 18: a kill between the data file's rename and the journal's compaction."""
    first = opened(node)
    append(first, 5)
    advance(first.state, first)
    write(first, first.state, first.generations.temporary_path("x"))
    first.generations.publish(first.generations.temporary_path("x"))
    close(first)
    again = opened(node)
    assert again.data_file.position.index == 6
    assert again.journal.base_index == 1
    assert again.journal.last_index == 6
    close(again)


def test_a_journal_that_ends_before_the_data_file_is_refused(node: Path) -> None:
    first = opened(node)
    append(first, 1)
    close(first)
    saved = shutil.copytree(journal_directory(node), node.parent / "saved")
    second = opened(node)
    append(second, 5)
    advance(second.state, second)
    write(second, second.state, second.generations.temporary_path("x"))
    second.generations.publish(second.generations.temporary_path("x"))
    close(second)
    shutil.rmtree(journal_directory(node))
    shutil.copytree(saved, journal_directory(node))
    refused(node, DataRefusedError, "the journal lost entries")


def test_a_gap_between_data_file_and_journal_is_refused(node: Path) -> None:
    first = opened(node)
    first.journal.install(50, 2)
    first.journal.sync()
    close(first)
    refused(node, DataRefusedError, "entries are missing between them")


def test_a_data_file_of_another_history_is_refused(node: Path) -> None:
    first = opened(node)
    append(first, 3, term=2)
    advance(first.state, first)
    state = first.state
    append(first, 1, term=3)
    first.journal.truncate(3)
    append(first, 3, term=4)
    write(first, state, first.generations.temporary_path("x"))
    first.generations.publish(first.generations.temporary_path("x"))
    close(first)
    refused(node, DataRefusedError, "not of one history")


def refused(node: Path, error: type[Exception], words: str, kek: KeyEncryptionKey = KEK) -> str:
    before = contents(node)
    with pytest.raises(error) as raised:
        opened(node, kek)
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)
    assert contents(node) == before
    return str(raised.value)


def received(node: Path, *, journal_installed: bool) -> OpenedNode:
    """As a crash leaves it while a peer's snapshot is being installed."""
    first = opened(node)
    append(first, 5, term=2)
    advance(first.state, first)
    write(first, first.state, received_path(node))
    if journal_installed:
        first.journal.install(6, 2)
        first.journal.sync()
    close(first)
    return opened(node)


def test_an_installed_snapshot_whose_journal_is_on_disk_becomes_the_data_file(node: Path) -> None:
    again = received(node, journal_installed=True)
    assert again.data_file.position.index == again.journal.base_index == 6
    assert not Path(received_path(node)).exists()
    close(again)
    close(opened(node))


def test_a_received_snapshot_whose_journal_is_not_on_disk_is_dropped(node: Path) -> None:
    again = received(node, journal_installed=False)
    assert again.data_file.position.index == 1
    assert again.journal.last_index == 6
    assert not Path(received_path(node)).exists()
    close(again)


def test_the_wrong_key_is_named(node: Path) -> None:
    refused(node, WrongKey, "configure the key", kek=new_kek(os.urandom))


def test_hazard_26_no_data_file_is_not_an_empty_node_that_elects_itself(node: Path) -> None:
    (node / "mfa.data").unlink()
    refused(node, DataRefusedError, "no data file")


def test_hazard_28_no_journal_is_a_lost_member(node: Path) -> None:
    shutil.rmtree(journal_directory(node))
    refused(node, JournalLost, "lost its journal and with it its vote")


def test_another_members_journal_is_noticed_by_its_own_member_id(tmp_path: Path) -> None:
    """Copied whole, it is that other member; the certificate then does not fit (see test_certificates)."""
    one, two, _ = make_cluster(tmp_path)
    shutil.rmtree(journal_directory(one))
    shutil.copytree(journal_directory(two), journal_directory(one))
    node = opened(one)
    assert node.members[node.member_id].name == "node-1"
    close(node)


def other_cluster(node: Path) -> Path:
    directory = node.parent / "other"
    directory.mkdir(mode=0o700)
    return make_cluster(directory)[0]


def test_another_clusters_data_file_is_refused(node: Path) -> None:
    shutil.copy(other_cluster(node) / "mfa.data", node / "mfa.data")
    refused(node, ForeignFile, "belongs to another cluster")


def test_another_clusters_journal_is_refused(node: Path) -> None:
    other = other_cluster(node)
    shutil.rmtree(journal_directory(node))
    shutil.copytree(journal_directory(other), journal_directory(node))
    refused(node, ForeignFile, "belongs to another cluster")


def flip(at: Callable[[int], int]) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        offset = at(len(data))
        return data[:offset] + bytes([data[offset] ^ 1]) + data[offset + 1 :]

    return change


@pytest.mark.parametrize("name", ["mfa.data", "journal"])
@pytest.mark.parametrize(
    "change",
    [
        flip(lambda size: 0),
        flip(lambda size: 9),
        flip(lambda size: 40),
        flip(lambda size: size // 2),
        flip(lambda size: size - 1),
        lambda data: data[: len(data) // 4],
        lambda data: data[:3],
        lambda data: b"",
        lambda data: b"\0" * len(data),
    ],
    ids=["magic", "version", "header", "middle", "last", "quarter", "3-bytes", "empty", "zeros"],
)
def test_damage_is_noticed_before_use(node: Path, name: str, change: Callable[[bytes], bytes]) -> None:
    path = node / name if name == "mfa.data" else next(iter(sorted(Path(journal_directory(node)).iterdir())))
    path.write_bytes(change(path.read_bytes()))
    before = contents(node)
    with pytest.raises((Damaged, NewerFormat, ForeignFile, JournalLost)) as raised:
        opened(node)
    assert "\n" not in str(raised.value)
    assert contents(node) == before


@pytest.mark.parametrize("damage", [lambda data: data[:-20], lambda data: b"X" + data[1:], lambda data: b""])
def test_damage_names_the_last_known_good_copies_and_they_open(node: Path, damage: Callable[[bytes], bytes]) -> None:
    first = opened(node)
    append(first, 5)
    advance(first.state, first)
    write(first, first.state, first.generations.temporary_path("x"))
    first.generations.publish(first.generations.temporary_path("x"))
    close(first)
    path = node / "mfa.data"
    path.write_bytes(damage(path.read_bytes()))
    message = refused(node, DataRefusedError, "Last known good")
    assert str(node / "mfa.data.1") in message
    path.rename(node / "damaged")
    (node / "mfa.data.1").rename(path)
    again = opened(node)
    assert (again.data_file.position.index, again.journal.last_index) == (1, 6)
    close(again)


@pytest.mark.parametrize("name", ["mfa.data", "."])
def test_wider_permissions_are_refused(node: Path, name: str) -> None:
    (node / name).chmod(0o755)
    with pytest.raises(InsecurePermissions, match="chmod"):
        opened(node)


def test_a_directory_has_one_process(node: Path) -> None:
    lock = DirectoryLock.take(node)
    assert (node / "pid").read_text() == f"{os.getpid()}\n"
    with pytest.raises(DirectoryError, match=f"in use by process {os.getpid()}"):
        DirectoryLock.take(node)
    lock.release()
    assert (node / "pid").read_text() == ""
    DirectoryLock.take(node).release()


def test_a_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DirectoryError, match="no such directory"):
        DirectoryLock.take(tmp_path / "nowhere")
    with pytest.raises(DatastoreError):
        open_node(FILES, tmp_path / "nowhere", KEK, os.urandom, 3)
