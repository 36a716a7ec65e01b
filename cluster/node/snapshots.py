"""A node's data files while it runs: writing new ones, giving them to peers, taking in those of peers.

Everything that touches the disk runs in a worker thread, one piece after another; the state is copied in the loop,
which takes milliseconds, and packed and sealed elsewhere in small slices. DESIGN.md tells what a crash leaves.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from structlog.typing import FilteringBoundLogger

from cluster.node.directory import received_path
from cluster.node.errors import DataRefusedError
from cluster.node.offload import Offload
from cluster.node.opening import DataFile, OpenedNode, load_data_file, size_of
from cluster.raft.membership import Configuration
from cluster.raft.snapshot_transfer import SnapshotMeta
from cluster.state import reads
from cluster.state.apply import Record, Snapshot, State
from cluster.state.records import SCHEMA_VERSION
from datastore import datafile
from datastore.errors import DatastoreError, StorageFailed
from datastore.files import File, Files

CHUNK_NAME_BYTES = 8
# Records packed between two pauses, and the pause: the loop gets the interpreter at once, and writing 100,000 users
# takes a second or two instead of half a one.
RECORDS_A_SLICE = 200
PAUSE_S = 0.001


@dataclass(slots=True)
class _Receiving:
    meta: SnapshotMeta
    path: str
    file: File
    stored: int = 0


@dataclass(frozen=True, slots=True)
class _Published:
    data_file: DataFile
    oldest_index: int


@dataclass(frozen=True, slots=True)
class Verified:
    """A received snapshot: verified, decoded, and durable under `received_path`; not yet the current data file."""

    owner: DataFiles
    state: State
    data_file: DataFile

    @property
    def configuration(self) -> Configuration:
        return Configuration(*reads.configuration(self.state))

    def commit(self) -> None:
        self.owner.take_over(self)


class DataFiles:
    """What the engine asks of snapshots (`cluster.raft.snapshot_transfer.Snapshots`), and the node's own writing.

    `written` is the journal's counter of changes. `take_state` makes the node stand on a peer's state. `on_published`
    is called with the oldest kept generation's index after each new current data file. `may_publish` is asked in the
    worker, and may wait there, before a data file at an index becomes the one to start from: what lies before it is
    then never applied here again. A storage error goes to `on_failure`, and nothing else happens.
    """

    def __init__(
        self,
        *,
        files: Files,
        opened: OpenedNode,
        worker: Offload,
        written: Callable[[], int],
        random: Callable[[int], bytes],
        wall_ms: Callable[[], int],
        take_state: Callable[[State], None],
        on_published: Callable[[int], None],
        on_failure: Callable[[Exception], None],
        log: FilteringBoundLogger,
        pause: Callable[[float], None] = time.sleep,
        may_publish: Callable[[int], bool] = lambda _index: True,
    ) -> None:
        self._files = files
        self._generations = opened.generations
        self._directory = opened.directory
        self._identity = opened.identity
        self._keys = opened.keys
        self._worker = worker
        self._written = written
        self._random = random
        self._wall_ms = wall_ms
        self._take_state = take_state
        self._on_published = on_published
        self._on_failure = on_failure
        self._log = log
        self._pause = pause
        self._may_publish = may_publish
        self._receiving: _Receiving | None = None
        self._committed: Verified | None = None  # the journal that begins with it is not on disk yet
        self._publish_at = 0  # ... but is once this many of its changes are
        self.busy = False  # writing, or installing
        self.written_count = 0
        self.current = opened.data_file
        self._file, self._meta = self._open_current(opened.data_file)
        self._previous: tuple[File, SnapshotMeta] | None = None

    # Writing

    def write(self, snapshot: Snapshot) -> bool:
        """Write the state out as the new current data file. False: not now, another one is under way."""
        if self.busy or self._committed is not None or snapshot.position.index < self.current.position.index:
            return False
        self.busy = True
        path = self._generations.temporary_path(self._new_name())
        created_ms = self._wall_ms()

        def work() -> _Published | None:
            return self._write(snapshot, path, created_ms)

        def written(published: _Published | None) -> None:
            if published is None:
                self.busy = False
                self._log.warning("data_file_withheld", reason="the audit trail is behind it")
            else:
                self.written_count += 1
                self._published(published)

        self._worker(work, written, self._on_failure)
        return True

    def _write(self, snapshot: Snapshot, path: str, created_ms: int) -> _Published | None:
        at = snapshot.position
        written = datafile.write_data_file(
            self._files,
            path,
            self._identity,
            self._keys,
            self._random,
            SCHEMA_VERSION,
            datafile.Position(at.index, at.term, at.stamp_ms, at.running_digest),
            created_ms,
            self._paced(snapshot.records()),
        )
        # Only what has been read back counts: a generation that can't be opened is none.
        with datafile.read_data_file(self._files, path, self._keys, self._identity) as reader:
            for _ in self._paced(reader.records()):
                pass
            assert reader.summary == written, "what was read back is not what was written"
        size = size_of(self._files, path)
        if not self._may_publish(at.index):
            self._remove(path)
            return None
        self._generations.publish(path)
        return _Published(DataFile(at, created_ms, size), self._generations.oldest_index())

    def hurry(self) -> None:
        """Nobody waits for the loop any more: write without pauses from now on."""
        self._pause = lambda _: None

    def _paced(self, records: Iterable[Record]) -> Iterator[Record]:
        for count, record in enumerate(records):
            if count % RECORDS_A_SLICE == 0:
                self._pause(PAUSE_S)
            yield record

    def _published(self, published: _Published) -> None:
        data_file = published.data_file
        self.busy = False
        self.current = data_file
        if self._previous is not None:
            # In the worker's turn: parts of it that peers asked for may still wait there.
            self._worker(self._previous[0].close, lambda _: None, self._on_failure)
        self._previous = self._file, self._meta
        self._file, self._meta = self._open_current(data_file)
        self._log.info("data_file_written", index=data_file.position.index, size_bytes=data_file.size_bytes)
        self._on_published(published.oldest_index)

    # For peers that lag

    def latest(self) -> SnapshotMeta | None:
        return self._meta

    def read(self, meta: SnapshotMeta, offset: int, length: int, done: Callable[[bytes | None], None]) -> None:
        """A part of the current data file, or of the one before it."""
        file = self._file if meta.name == self._meta.name else None
        if file is None and self._previous is not None and meta.name == self._previous[1].name:
            file = self._previous[0]
        if file is None:
            done(None)
            return
        self._worker(lambda: file.read_at(offset, length), done, self._on_failure)

    # From peers, where this node lags

    def receive(self, meta: SnapshotMeta, offset: int, chunk: bytes, done: Callable[[bool], None]) -> None:
        """Store a part; offset 0 starts anew."""
        if self._committed is not None:
            done(False)
            return
        receiving = self._receiving
        if offset and (receiving is None or receiving.meta != meta or receiving.stored != offset):
            done(False)
            return

        def work() -> _Receiving:
            return self._store(meta, offset, chunk)

        def stored(now: _Receiving) -> None:
            self._receiving = now
            done(True)

        self._worker(work, stored, self._on_failure)

    def _store(self, meta: SnapshotMeta, offset: int, chunk: bytes) -> _Receiving:
        if offset == 0:
            if self._receiving is not None:
                self._receiving.file.close()
                self._remove(self._receiving.path)
            path = self._generations.temporary_path(self._new_name())
            receiving = _Receiving(meta, path, self._files.create(path))
        else:
            assert self._receiving is not None, "checked before the work was given"
            receiving = self._receiving
        receiving.file.append(chunk)
        receiving.stored += len(chunk)
        return receiving

    def install(self, meta: SnapshotMeta, done: Callable[[Verified | None], None]) -> None:
        """Verify the whole received file, and make it durable beside the current one."""
        receiving, self._receiving = self._receiving, None
        if receiving is None or receiving.meta != meta or self._committed is not None:
            done(None)
            return

        def settle(verified: Verified | None) -> None:
            done(verified)
            self._publish_at = self._written()
            if verified is not None and self._committed is not verified:
                self._log.info("snapshot_not_needed", index=meta.index)
                self._worker(lambda: self._remove(received_path(self._directory)), lambda _: None, self._on_failure)

        self._worker(lambda: self._verify(receiving), settle, self._on_failure)

    def _verify(self, receiving: _Receiving) -> Verified | None:
        receiving.file.sync()
        receiving.file.close()
        meta = receiving.meta
        try:
            state, data_file, _ = load_data_file(self._files, receiving.path, self._keys, self._identity)
        except StorageFailed:
            raise
        except (DatastoreError, DataRefusedError) as error:
            self._log.warning("snapshot_refused", reason=type(error).__name__)
            self._remove(receiving.path)
            return None
        at = state.position
        if (at.index, at.term, at.running_digest) != (meta.index, meta.term, meta.running_digest):
            self._log.warning("snapshot_refused", reason="it stands elsewhere than it was announced")
            self._remove(receiving.path)
            return None
        self._files.replace(receiving.path, received_path(self._directory))
        self._files.sync_directory(str(self._directory))
        return Verified(self, state, data_file)

    def take_over(self, verified: Verified) -> None:
        """The engine installs it now: memory only. `journal_synced` makes it the current data file."""
        self._committed = verified
        self._take_state(verified.state)

    def journal_synced(self, synced: int) -> None:
        """`synced` of the journal's changes are on disk: an installed snapshot may become the current data file."""
        verified = self._committed
        if verified is None or self.busy or synced < self._publish_at:
            return
        self.busy = True

        def work() -> _Published:
            # Wait, and go on in any case: the journal begins after this snapshot already. See `gap` in the trail.
            self._may_publish(verified.data_file.position.index)
            self._generations.publish(received_path(self._directory))
            return _Published(verified.data_file, self._generations.oldest_index())

        def published(current: _Published) -> None:
            self._committed = None
            self._published(current)

        self._worker(work, published, self._on_failure)

    def _open_current(self, data_file: DataFile) -> tuple[File, SnapshotMeta]:
        at = data_file.position
        meta = SnapshotMeta(at.index, at.term, at.stamp_ms, at.running_digest, data_file.size_bytes, self._new_name())
        return self._files.open(self._generations.path, writable=False), meta

    def _new_name(self) -> str:
        return self._random(CHUNK_NAME_BYTES).hex()

    def _remove(self, path: str) -> None:
        if self._files.exists(path):
            self._files.remove(path)

    def close(self) -> None:
        self._file.close()
        if self._previous is not None:
            self._previous[0].close()
        if self._receiving is not None:
            self._receiving.file.close()
