"""This node's own certificate, while it runs: renewed long before its end, and read again when its files change.

The files are looked at once a second rather than watched: a few calls of stat cost next to nothing, and see as well
what a watch does not, such as a file on a network file system or a link that points elsewhere now. What is wrong is
refused by a line in the log; what was in use stays in use.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol, TypeVar

from structlog.typing import FilteringBoundLogger

from cluster.node.bootstrap import write_file
from cluster.node.certificate_checks import leads_to
from cluster.node.certificates import DAY_MS, Credential, days_left, renew_node, validity
from cluster.node.configuration import LoadedConfiguration, load_configuration
from cluster.node.errors import CertificateError, NodeError
from cluster.node.identity import TlsFiles, check_tls_files, load_tls_files, peer_contexts
from cluster.node.offload import Offload
from cluster.state.records import IssuingKey
from datastore.errors import DatastoreError
from datastore.files import Files

T = TypeVar("T")

INTERVAL_S = 1.0
RETRY_MS = 3_600_000
# A certificate is renewed when so much of its time is over.
RENEWED_AFTER = (2, 3)

Contexts = tuple[ssl.SSLContext, ssl.SSLContext]
Stamp = tuple[tuple[int, ...] | None, ...]


class Clock(Protocol):
    def wall_ms(self) -> int: ...
    def trusted(self) -> bool: ...


class OwnCertificate:
    """`use(tls, contexts)` makes a checked certificate the one that is shown; it may raise RuntimeError.

    `issuing` gives the issuing key of the state as it is.
    """

    def __init__(
        self,
        configuration: LoadedConfiguration,
        tls: TlsFiles,
        *,
        cluster_id: str,
        member_id: str,
        files: Files,
        clock: Clock,
        issuing: Callable[[], IssuingKey],
        use: Callable[[TlsFiles, Contexts], Awaitable[None]],
        elsewhere: Offload,
        log: FilteringBoundLogger,
    ) -> None:
        self.tls = tls
        self._configuration = configuration
        self._cluster_id = cluster_id
        self._member_id = member_id
        self._files = files
        self._clock = clock
        self._issuing = issuing
        self._use = use
        self._elsewhere = elsewhere
        self._log = log
        self._paths = (configuration.ca_file, configuration.certificate_file, configuration.key_file)
        self._stamps: dict[str, Stamp] = {}
        self._judged: dict[str, Stamp] = {}
        self._refused = False  # the files are not those that are in use
        self._not_before_ms = 0  # of the next attempt to renew

    async def watch(self) -> None:
        """For as long as the node runs."""
        while True:
            await self.look()
            await asyncio.sleep(INTERVAL_S)

    async def look(self) -> None:
        """One look at the files and the time."""
        if await self._changed("certificates", self._paths):
            await self._read_again()
        if await self._changed("configuration", (self._configuration.path,)):
            await self._check_configuration()
        now_ms = self._clock.wall_ms()
        # Nothing is written over what somebody puts there just now, or over what was refused.
        at_rest = self._stamps["certificates"] == self._judged.get("certificates") and not self._refused
        if at_rest and now_ms >= self._not_before_ms and is_due(self.tls.chain_pem, now_ms):
            self._not_before_ms = now_ms + RETRY_MS
            if self._clock.trusted():
                await self._renew(now_ms)

    async def _changed(self, what: str, paths: tuple[Path, ...]) -> bool:
        """Whether the files are others than at the last time, and have stopped changing."""
        stamp = await self._away(lambda: tuple(_stamp(path) for path in paths))
        still = stamp == self._stamps.get(what)
        self._stamps[what] = stamp
        if not still or stamp == self._judged.get(what):
            return False
        self._judged[what] = stamp
        return True

    async def _read_again(self) -> None:
        """Take the files into use, if they are others and good."""
        now_ms = self._clock.wall_ms()
        try:
            read = await self._away(lambda: self._read(now_ms))
            if read is not None:
                await self._use(*read)
        except CertificateError as error:
            self._refused = True
            self._log.error(
                "certificate_refused", reason=str(error), way_out="mend the files; what was in use stays so"
            )
            return
        except RuntimeError:
            self._refused = True
            self._log.error("certificate_refused", reason="gRPC can't listen a second time", way_out="restart the node")
            return
        self._refused = False
        if read is None:
            return
        self.tls, _ = read
        self._not_before_ms = 0
        self._log.info("certificate_in_use", certificate_days_left=days_left(self.tls.chain_pem, now_ms))

    def _read(self, now_ms: int) -> tuple[TlsFiles, Contexts] | None:
        """The files, checked; None where they are those in use. Raises CertificateError."""
        configuration = self._configuration
        tls = load_tls_files(*self._paths)
        if tls == self.tls:
            return None
        check_tls_files(tls, self._cluster_id, self._member_id, now_ms, configuration.certificate_file)
        if not leads_to(tls.chain_pem, tls.root_pem, now_ms):
            raise CertificateError(
                f"{configuration.certificate_file}: does not lead to {configuration.ca_file};"
                " put the root there that it leads to"
            )
        return tls, peer_contexts(*self._paths)

    async def _renew(self, now_ms: int) -> None:
        """Sign this node's certificate anew, and write it in the place of the old one."""
        key = self._issuing()
        renewed = renew_node(
            Credential(key.certificate, key.private_key), Credential(self.tls.chain_pem, self.tls.key_pem), now_ms
        )
        if not leads_to(renewed.chain_pem, self.tls.root_pem, now_ms):
            self._log.warning(
                "certificate_not_renewed", reason="the root in use is not that of the cluster's authority"
            )
            return
        if validity(renewed.chain_pem).until_ms < validity(self.tls.chain_pem).until_ms + DAY_MS:
            self._log.warning("certificate_not_renewed", reason="the cluster's authority ends with it")
            return
        try:
            await self._away(lambda: replace_file(self._files, self._configuration.certificate_file, renewed.chain_pem))
        except (OSError, DatastoreError) as error:
            reason = str(error) if isinstance(error, DatastoreError) else error.strerror
            self._log.error("certificate_not_renewed", reason=reason, way_out="let the node write its certificate file")
            return
        self._log.info("certificate_renewed")
        await self._read_again()

    async def _check_configuration(self) -> None:
        """It is read at the start only; say now whether that would go well."""
        try:
            configuration = await self._away(lambda: load_configuration(self._configuration.path))
        except NodeError as error:
            self._log.error("configuration_refused", reason=str(error))
            return
        if configuration != self._configuration:
            self._log.warning("configuration_changed", way_out="it counts from the next start of this node")

    async def _away(self, work: Callable[[], T]) -> T:
        """The result of work that may wait for a disk."""
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()

        def then(result: T) -> None:
            if not done.done():
                done.set_result(result)

        def failed(error: Exception) -> None:
            if not done.done():
                done.set_exception(error)

        self._elsewhere(work, then, failed)
        return await done


def is_due(chain_pem: bytes, now_ms: int) -> bool:
    """Whether the certificate is to be renewed."""
    from_ms, until_ms = validity(chain_pem)
    numerator, denominator = RENEWED_AFTER
    return now_ms >= from_ms + (until_ms - from_ms) * numerator // denominator


def replace_file(files: Files, path: Path, contents: bytes) -> None:
    """In one step, and durable: whoever reads the file, also after a crash, has the old contents or the new."""
    beside = path.with_name(f"{path.name}.new")
    if files.exists(str(beside)):
        files.remove(str(beside))
    write_file(files, beside, contents)
    files.replace(str(beside), str(path))
    files.sync_directory(str(path.parent))


def _stamp(path: Path) -> tuple[int, ...] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_mode
