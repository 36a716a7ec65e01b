"""Looks at a node's surroundings before it starts: configuration, permissions, keys, certificates, disk, ports.

Nothing is changed: a scratch file in the data directory, which the disk is measured with, is gone afterwards. Each
check says one line, and what can't be looked at because of an earlier failure is left out.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from cluster.node.certificate_checks import check_own, leads_to
from cluster.node.certificates import days_left, identity_of
from cluster.node.configuration import Address, LoadedConfiguration, load_configuration
from cluster.node.directory import DATA_FILE, holder_of, journal_directory
from cluster.node.errors import CertificateError, NodeError
from cluster.node.identity import TlsFiles, load_tls_files, peer_contexts
from datastore.datafile import DataFileReader, read_data_file
from datastore.errors import DatastoreError, JournalLost, NotFound
from datastore.files import Files
from datastore.keys import KeyRing, load_kek

DAYS_LOW: Final = 30
FREE_BYTES_FAIL: Final = 128 << 20
FREE_BYTES_WARN: Final = 2 << 30
SYNCS: Final = 64
SYNCS_S_MAX: Final = 5.0
SYNC_BYTES: Final = 512
SYNC_P50_MS_WARN: Final = 20.0
SYNC_P99_MS_WARN: Final = 250.0
CLOCK_MS_WARN: Final = 500
CLOCK_MS_FAIL: Final = 2_000  # a leader waits for clocks to agree within it
SCRATCH: Final = ".sync-time"


class Verdict(StrEnum):
    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the diagnosis; `text` says what is so, and with warn and fail what to do."""

    name: str
    verdict: Verdict
    text: str


def exit_code(checks: list[Check]) -> int:
    """0: all is well; 1: something is to be looked at; 2: the node would not start, or not serve."""
    worst = {check.verdict for check in checks}
    return 2 if Verdict.FAIL in worst else 1 if Verdict.WARN in worst else 0


def check_files(
    path: Path, files: Files, now_ms: int, environment: Mapping[str, str]
) -> tuple[LoadedConfiguration | None, list[Check]]:
    """Configuration, permissions, key, certificates; what it found, and the configuration where it can be used."""
    try:
        configuration = load_configuration(path)
    except NodeError as error:
        return None, [Check("configuration", Verdict.FAIL, str(error))]
    reader, keys = _check_keys(configuration, files, environment)
    cluster_id = reader.identity.cluster_id if reader else None
    checks = [
        Check("configuration", Verdict.OK, f"{configuration.options.name}, {configuration.directory}"),
        _check_permissions(configuration, files),
        *keys,
        *_check_certificates(configuration, cluster_id, now_ms),
    ]
    return configuration, checks


def check_machine(configuration: LoadedConfiguration, clock: Callable[[], float] = time.perf_counter) -> list[Check]:
    """Disk and ports of this machine."""
    running = holder_of(configuration.directory) is not None
    ports = [
        check_port(option, address, running=running)
        for option, address in (
            ("client_address", configuration.client),
            ("peer_address", configuration.peer),
            ("metrics_address", configuration.metrics),
        )
        if address is not None
    ]
    return [*check_disk(configuration.directory, clock), *ports]


def _check_permissions(configuration: LoadedConfiguration, files: Files) -> Check:
    name, directory = "permissions", configuration.directory
    try:
        files.check_directory(str(directory))
        owner = directory.stat().st_uid
    except (DatastoreError, OSError) as error:
        return Check(name, Verdict.FAIL, str(error))
    if owner != os.geteuid():
        what = f"{directory} belongs to user {owner}, and this is user {os.geteuid()}; run it as the user of the node"
        return Check(name, Verdict.WARN, what)
    mode = stat.S_IMODE(configuration.path.stat().st_mode)
    if mode & 0o022:
        return Check(name, Verdict.WARN, f"{configuration.path}: mode {mode:04o} lets others change it; run chmod go-w")
    return Check(name, Verdict.OK, f"{directory} is for its owner only")


def _check_keys(
    configuration: LoadedConfiguration, files: Files, environment: Mapping[str, str]
) -> tuple[DataFileReader | None, list[Check]]:
    """The key-encryption key, and whether the data file is sealed under it."""
    try:
        kek = load_kek(configuration.kek, files, environment)
    except DatastoreError as error:
        return None, [Check("key", Verdict.FAIL, str(error))]
    source = Path(configuration.kek.removeprefix("file:"))
    beside = configuration.kek.startswith("file:") and source.resolve().is_relative_to(
        configuration.directory.resolve()
    )
    key = Check("key", Verdict.OK, f"key-encryption key {kek.id} from {configuration.kek}")
    if beside:
        what = f"{source} lies in the data directory: a copy of one is a copy of both; keep it elsewhere"
        key = Check("key", Verdict.WARN, what)
    path = str(configuration.directory / DATA_FILE)
    try:
        with read_data_file(files, path, KeyRing.generate(kek, os.urandom), None) as reader:
            at = f"opens under this key; it stands at entry {reader.position.index}"
            return reader, [key, Check("data file", Verdict.OK, f"{path} {at}"), *_check_journal(configuration, files)]
    except DatastoreError as error:
        return None, [key, Check("data file", Verdict.FAIL, str(error)), *_check_journal(configuration, files)]


def _check_journal(configuration: LoadedConfiguration, files: Files) -> Iterator[Check]:
    """Whether there is one; nothing of it is read, since a node that runs writes it."""
    name, directory = "journal", journal_directory(configuration.directory)
    try:
        files.check_directory(directory)
        if not any(entry.endswith(".journal") for entry in files.list(directory)):
            raise JournalLost(directory)
        yield Check(name, Verdict.OK, f"{directory} is there")
    except NotFound:
        yield Check(name, Verdict.FAIL, str(JournalLost(directory)))
    except DatastoreError as error:
        yield Check(name, Verdict.FAIL, str(error))


def _check_certificates(configuration: LoadedConfiguration, cluster_id: str | None, now_ms: int) -> Iterator[Check]:
    name, path = "certificate", configuration.certificate_file
    try:
        tls = load_tls_files(configuration.ca_file, path, configuration.key_file)
        _check_chain(configuration, tls, cluster_id, now_ms)
    except CertificateError as error:
        yield Check(name, Verdict.FAIL, str(error))
        return
    days = days_left(tls.chain_pem, now_ms)
    verdict, what = Verdict.OK, f"{path} ends in {days} days"
    if days < DAYS_LOW:
        verdict, what = (
            Verdict.WARN,
            f"{what}; a node renews it while it runs: is it down for long, or its log in trouble?",
        )
    yield Check(name, verdict, what)


def _check_chain(configuration: LoadedConfiguration, tls: TlsFiles, cluster_id: str | None, now_ms: int) -> None:
    """Raises CertificateError. The member id is left to the start, which reads the journal."""
    path = configuration.certificate_file
    try:
        identity = identity_of(tls.chain_pem)
    except ValueError as error:
        raise CertificateError(f"{path}: is not a certificate; put the node's own there") from error
    if identity is None or identity.kind != "node":
        raise CertificateError(f"{path}: is not a node's certificate; put the node's own there")
    if cluster_id is not None and identity.cluster_id != cluster_id:
        raise CertificateError(f"{path}: is of another cluster than the data file; put the node's own there")
    check_own(tls.chain_pem, tls.key_pem, identity, now_ms, str(path))
    peer_contexts(configuration.ca_file, path, configuration.key_file)
    if not leads_to(tls.chain_pem, tls.root_pem, now_ms):
        raise CertificateError(f"{path}: does not lead to {configuration.ca_file}; put the root there that it leads to")


def check_disk(directory: Path, clock: Callable[[], float]) -> Iterator[Check]:
    """Free space, and how long it takes until a small write is on the disk."""
    try:
        free = shutil.disk_usage(directory).free
        times_ms = sorted(1000 * seconds for seconds in sync_times(directory, clock))
    except OSError as error:
        yield Check("disk", Verdict.FAIL, f"{directory}: can't be written ({error.strerror}); mend or free the disk")
        return
    room = f"{free / (1 << 30):.1f} GiB free"
    if free < FREE_BYTES_WARN:
        verdict = Verdict.FAIL if free < FREE_BYTES_FAIL else Verdict.WARN
        yield Check("disk", verdict, f"{room}: make room; a node stops when nothing can be written")
    else:
        yield Check("disk", Verdict.OK, room)
    p50, p99 = times_ms[len(times_ms) // 2], times_ms[min(len(times_ms) - 1, len(times_ms) * 99 // 100)]
    measured = f"fdatasync p50 {p50:.1f} ms, p99 {p99:.1f} ms"
    if p50 > SYNC_P50_MS_WARN or p99 > SYNC_P99_MS_WARN:
        yield Check("sync", Verdict.WARN, f"{measured}: every sign-in waits for it; use a faster disk")
    else:
        yield Check("sync", Verdict.OK, measured)


def sync_times(directory: Path, clock: Callable[[], float]) -> list[float]:
    """Seconds of each of SYNCS small writes, fewer on a disk so slow that SYNCS_S_MAX is over before."""
    path = directory / f"{SCRATCH}-{os.getpid()}"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        times: list[float] = []
        while len(times) < SYNCS and sum(times) < SYNCS_S_MAX:
            before = clock()
            os.write(descriptor, bytes(SYNC_BYTES))
            os.fdatasync(descriptor)
            times.append(clock() - before)
        return times
    finally:
        os.close(descriptor)
        path.unlink()


def check_port(option: str, address: Address, *, running: bool) -> Check:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        with contextlib.closing(socket.create_server(address, family=family)):
            return Check(option, Verdict.OK, f"{address} is free")
    except OSError as error:
        why = (error.strerror or "unknown host").lower()
    if running:
        return Check(option, Verdict.OK, f"{address} is in use, and the node runs")
    return Check(option, Verdict.FAIL, f"{address}: {why}; stop what uses it, or choose another in the configuration")


def check_clock(offsets_ms: Mapping[str, int]) -> Check:
    """By endpoint, how far this machine's clock is ahead of (negative: behind) that node's."""
    if not offsets_ms:
        what = "not compared, since no node answered; is it kept by NTP (chronyc tracking)? --profile names a cluster"
        return Check("clock", Verdict.WARN, what)
    worst = max(offsets_ms.values(), key=abs)
    what = f"at most {worst:+d} ms from the nodes that answered ({len(offsets_ms)})"
    if abs(worst) < CLOCK_MS_WARN:
        return Check("clock", Verdict.OK, what)
    verdict = Verdict.FAIL if abs(worst) >= CLOCK_MS_FAIL else Verdict.WARN
    return Check("clock", verdict, f"{what}: set it right (chrony), here or there, before the node starts")
