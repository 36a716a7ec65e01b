"""A node's own certificate while it runs: renewed in time, replaced by an operator, refused where it is wrong."""

from __future__ import annotations

import os
from collections.abc import Callable, MutableMapping
from pathlib import Path
from typing import Any

import pytest
import structlog
from cryptography import x509

from cluster.node.bootstrap import NewNode, configuration_text
from cluster.node.certificates import DAY_MS, NODE_DAYS, Credential, validity
from cluster.node.clock import system_wall_ms
from cluster.node.configuration import Address, load_configuration
from cluster.node.identity import TlsFiles, load_tls_files
from cluster.node.own_certificate import RETRY_MS, Contexts, OwnCertificate, is_due, replace_file
from cluster.state.records import IssuingKey
from datastore.files import RealFiles
from tests.node.credentials import TestCluster

CLUSTER_ID, MEMBER_ID = "c" * 32, "a" * 32
NOW_MS = system_wall_ms() // 1000 * 1000
CLUSTER = TestCluster.make(CLUSTER_ID, NOW_MS - 500 * DAY_MS)
NODE = NewNode("node-1", Address("127.0.0.1", 1), Address("127.0.0.1", 2))


class Stage:
    """A node's directory, a clock, and what was taken into use."""

    def __init__(self, directory: Path, credential: Credential) -> None:
        self.directory = directory
        self.now_ms = NOW_MS
        self.is_trusted = True
        self.used: list[TlsFiles] = []
        self.refuse_use = False
        self.log: list[MutableMapping[str, Any]] = []
        self.issuing = IssuingKey(CLUSTER.issuing.key_pem, CLUSTER.issuing.chain_pem, CLUSTER.root.chain_pem)
        self.put(credential)
        (directory / "ca.pem").write_bytes(CLUSTER.root.chain_pem)
        (directory / "watchword.toml").write_text(configuration_text(NODE, "file:kek"))
        configuration = load_configuration(directory / "watchword.toml")
        self.certificate = OwnCertificate(
            configuration,
            load_tls_files(configuration.ca_file, configuration.certificate_file, configuration.key_file),
            cluster_id=CLUSTER_ID,
            member_id=MEMBER_ID,
            files=RealFiles(),
            clock=self,
            issuing=lambda: self.issuing,
            use=self._use,
            elsewhere=at_once,
            log=structlog.wrap_logger(None, processors=[self._keep]),
        )

    def wall_ms(self) -> int:
        return self.now_ms

    def trusted(self) -> bool:
        return self.is_trusted

    async def _use(self, tls: TlsFiles, _contexts: Contexts) -> None:
        if self.refuse_use:
            raise RuntimeError("no port")
        self.used.append(tls)

    def _keep(self, _logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        self.log.append(dict(event))
        raise structlog.DropEvent

    @property
    def events(self) -> list[str]:
        return [line["event"] for line in self.log]

    def put(self, credential: Credential, *, certificate: bool = True, key: bool = True) -> None:
        if certificate:
            (self.directory / "node.pem").write_bytes(credential.chain_pem)
        if key:
            (self.directory / "node.key").write_bytes(credential.key_pem)
            (self.directory / "node.key").chmod(0o600)

    async def looks(self, count: int = 3) -> None:
        for _ in range(count):
            await self.certificate.look()

    def on_disk(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate((self.directory / "node.pem").read_bytes())


def at_once(work: Callable[[], Any], then: Callable[[Any], None], failed: Callable[[Exception], None]) -> None:
    try:
        result = work()
    except Exception as error:  # noqa: BLE001 - as the worker does
        failed(error)
    else:
        then(result)


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path, CLUSTER.node(MEMBER_ID, NOW_MS))


async def test_a_new_certificate_is_left_alone(stage: Stage) -> None:
    before = sorted(path.name for path in stage.directory.iterdir())
    await stage.looks()
    assert (stage.used, stage.log) == ([], [])
    assert sorted(path.name for path in stage.directory.iterdir()) == before


def test_a_certificate_is_due_when_two_thirds_are_over() -> None:
    chain = CLUSTER.node(MEMBER_ID, NOW_MS).chain_pem
    assert not is_due(chain, NOW_MS + 264 * DAY_MS)
    assert is_due(chain, NOW_MS + 265 * DAY_MS)


async def test_it_is_renewed_with_its_key_and_addresses(stage: Stage) -> None:
    old = stage.on_disk()
    stage.now_ms = NOW_MS + 270 * DAY_MS
    await stage.looks()
    assert stage.events == ["certificate_renewed", "certificate_in_use"]
    assert stage.log[1]["certificate_days_left"] == NODE_DAYS
    new = stage.on_disk()
    assert new.serial_number != old.serial_number
    assert new.public_key() == old.public_key()
    assert new.subject == old.subject
    for extension in (x509.SubjectAlternativeName, x509.ExtendedKeyUsage):
        assert new.extensions.get_extension_for_class(extension) == old.extensions.get_extension_for_class(extension)
    (used,) = stage.used
    assert used.chain_pem == (stage.directory / "node.pem").read_bytes()
    assert used.chain_pem.endswith(CLUSTER.issuing.chain_pem)
    assert (stage.directory / "node.pem").stat().st_mode & 0o777 == 0o600
    assert not (stage.directory / "node.pem.new").exists()
    await stage.looks()
    assert len(stage.used) == 1


async def test_nothing_is_renewed_by_a_clock_that_is_not_believed(stage: Stage) -> None:
    stage.now_ms, stage.is_trusted = NOW_MS + 270 * DAY_MS, False
    await stage.looks()
    assert stage.used == []
    stage.now_ms, stage.is_trusted = stage.now_ms + RETRY_MS, True
    await stage.looks()
    assert len(stage.used) == 1


async def test_what_can_not_be_written_is_said_once_an_hour(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    before = (stage.directory / "node.pem").read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr("cluster.node.own_certificate.replace_file", full)
        stage.now_ms = NOW_MS + 270 * DAY_MS
        await stage.looks(5)
        assert stage.events == ["certificate_not_renewed"]
        assert (stage.directory / "node.pem").read_bytes() == before
    stage.now_ms += RETRY_MS
    await stage.looks()
    assert stage.events[1:] == ["certificate_renewed", "certificate_in_use"]


async def test_an_authority_that_the_root_in_use_does_not_know_renews_nothing(stage: Stage) -> None:
    other = TestCluster.make(CLUSTER_ID, NOW_MS)
    stage.issuing = IssuingKey(other.issuing.key_pem, other.issuing.chain_pem, other.root.chain_pem)
    stage.now_ms = NOW_MS + 270 * DAY_MS
    await stage.looks()
    assert stage.events == ["certificate_not_renewed"]
    assert "the root in use" in stage.log[0]["reason"]


async def test_no_certificate_outlives_its_authority(stage: Stage) -> None:
    authority_ends_ms = validity(CLUSTER.issuing.chain_pem).until_ms
    stage.now_ms = authority_ends_ms - 100 * DAY_MS
    stage.put(CLUSTER.node(MEMBER_ID, stage.now_ms - 300 * DAY_MS))
    await stage.looks(4)
    assert stage.used[-1].chain_pem == (stage.directory / "node.pem").read_bytes()
    assert validity(stage.used[-1].chain_pem).until_ms == authority_ends_ms
    stage.now_ms = authority_ends_ms - DAY_MS
    await stage.looks(2)
    assert stage.events[-1] == "certificate_not_renewed"
    assert "authority ends" in stage.log[-1]["reason"]


async def test_files_that_an_operator_replaces_are_taken_into_use(stage: Stage) -> None:
    await stage.looks()
    other = CLUSTER.node(MEMBER_ID, NOW_MS)
    stage.put(other, key=False)
    await stage.looks(1)
    assert stage.log == [], "it may be in the midst of it"
    stage.put(other, certificate=False)
    await stage.looks()
    assert stage.events == ["certificate_in_use"]
    assert stage.used == [TlsFiles(CLUSTER.root.chain_pem, other.chain_pem, other.key_pem)]
    assert stage.certificate.tls == stage.used[0]


def another_cluster() -> Credential:
    return TestCluster.make("e" * 32).node(MEMBER_ID)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (another_cluster, "stands for watchword://eeee"),
        (lambda: CLUSTER.node("b" * 32, NOW_MS), "stands for watchword://"),
        (lambda: TestCluster.make(CLUSTER_ID, NOW_MS).node(MEMBER_ID, NOW_MS), "does not lead to"),
        (lambda: CLUSTER.node(MEMBER_ID, NOW_MS - 398 * DAY_MS), "expired"),
        (lambda: CLUSTER.node(MEMBER_ID, NOW_MS + DAY_MS), "not valid before"),
        (lambda: Credential(b"nothing", b"nothing"), "not a certificate and key"),
    ],
)
async def test_files_that_are_wrong_are_refused_and_what_was_in_use_stays(
    stage: Stage, wrong: Callable[[], Credential], says: str
) -> None:
    before = stage.certificate.tls
    await stage.looks()
    stage.put(wrong())
    await stage.looks(5)
    assert stage.events == ["certificate_refused"], "once, not at every look"
    assert says in stage.log[0]["reason"]
    assert "PRIVATE" not in str(stage.log)
    assert stage.used == []
    assert stage.certificate.tls == before
    good = CLUSTER.node(MEMBER_ID, NOW_MS)
    stage.put(good)
    await stage.looks()
    assert [tls.chain_pem for tls in stage.used] == [good.chain_pem]


async def test_a_key_of_others_or_none_is_refused(stage: Stage) -> None:
    await stage.looks()
    (stage.directory / "node.key").chmod(0o644)
    await stage.looks()
    (stage.directory / "node.key").unlink()
    await stage.looks()
    assert stage.events == ["certificate_refused"] * 2
    assert "chmod 600" in stage.log[0]["reason"]
    assert "can't be read" in stage.log[1]["reason"]


async def test_nothing_is_written_over_files_that_were_refused(stage: Stage) -> None:
    await stage.looks()
    stage.put(CLUSTER.node("b" * 32, NOW_MS))
    wrong = (stage.directory / "node.pem").read_bytes()
    await stage.looks()
    stage.now_ms = NOW_MS + 270 * DAY_MS
    await stage.looks()
    assert (stage.directory / "node.pem").read_bytes() == wrong


async def test_a_port_that_can_not_change_leaves_what_was_in_use(stage: Stage) -> None:
    await stage.looks()
    before = stage.certificate.tls
    stage.refuse_use = True
    stage.put(CLUSTER.node(MEMBER_ID, NOW_MS))
    await stage.looks()
    assert stage.events == ["certificate_refused"]
    assert stage.certificate.tls == before


async def test_a_link_that_points_elsewhere_is_noticed(tmp_path: Path) -> None:
    """As secrets of some schedulers are put in place."""
    first, second = CLUSTER.node(MEMBER_ID, NOW_MS), CLUSTER.node(MEMBER_ID, NOW_MS)
    stage = Stage(tmp_path, first)
    for number, credential in enumerate((first, second)):
        (tmp_path / f"{number}.pem").write_bytes(credential.chain_pem)
        (tmp_path / f"{number}.key").write_bytes(credential.key_pem)
        (tmp_path / f"{number}.key").chmod(0o600)
    for name in ("node.pem", "node.key"):
        (tmp_path / name).unlink()
        os.symlink(f"0{Path(name).suffix}", tmp_path / name)
    await stage.looks()
    assert stage.used == []
    for name in ("node.pem", "node.key"):
        os.symlink(f"1{Path(name).suffix}", tmp_path / "link")
        os.replace(tmp_path / "link", tmp_path / name)
    await stage.looks()
    assert [tls.chain_pem for tls in stage.used] == [second.chain_pem]


async def test_a_configuration_that_changes_is_looked_at(stage: Stage) -> None:
    await stage.looks()
    file = stage.directory / "watchword.toml"
    good = file.read_text()
    file.write_text(good + "\n[limits]\ndrain_s = 3\n")
    await stage.looks()
    file.write_text(good + "\nnonsense = 1\n")
    await stage.looks()
    assert stage.events == ["configuration_changed", "configuration_refused"]
    assert "unknown option nonsense" in stage.log[1]["reason"]
    file.write_text(good)
    await stage.looks()
    assert len(stage.log) == 2


def test_a_file_is_replaced_also_where_an_attempt_was_interrupted(tmp_path: Path) -> None:
    path = tmp_path / "node.pem"
    path.write_bytes(b"old")
    (tmp_path / "node.pem.new").write_bytes(b"half")
    replace_file(RealFiles(), path, b"new")
    assert path.read_bytes() == b"new"
    assert [each.name for each in tmp_path.iterdir()] == ["node.pem"]
