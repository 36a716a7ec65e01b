"""The data file: the whole state at one log index, msgpack records in a sealed file (docs/format.md, "Data file").

First the position, then the records in the order given (callers keep it sorted), last the state digest and the number
of records of each table. The digest is SHA-256 over the packed records; it is computed again by whoever reads.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self, TypeGuard

import msgpack

from datastore.errors import Damaged, DatastoreError
from datastore.files import Files
from datastore.generations import Generation, Generations
from datastore.header import KIND_DATA
from datastore.sealed import Identity, SealedReader, SealedWriter
from datastore.wrapping import DataKey, KeyRing, Random

__all__ = [
    "DataFileReader",
    "DataFileSummary",
    "Generation",
    "Generations",
    "Identity",
    "Position",
    "Record",
    "read_data_file",
    "verify_data_file",
    "write_data_file",
]

SCHEMA_MAX = 1
RECORD_BYTES_MAX = 8 * 1024 * 1024
_BATCH_BYTES = 256 * 1024

Record = tuple[str, bytes, bytes]  # table, key, packed value (opaque here)


@dataclass(frozen=True, slots=True)
class Position:
    """The log entry that the state stands at, its stamp, and the running digest (32 bytes) there."""

    index: int
    term: int
    stamp_ms: int
    running_digest: bytes


@dataclass(frozen=True, slots=True)
class DataFileSummary:
    """What a data file holds. `digest` is the state digest, `counts` the number of records a table."""

    position: Position
    counts: dict[str, int]
    digest: bytes
    created_ms: int
    schema: int
    identity: Identity


def write_data_file(
    files: Files,
    path: str,
    identity: Identity,
    keys: KeyRing,
    random: Random,
    schema: int,
    position: Position,
    created_ms: int,
    records: Iterable[Record],
) -> DataFileSummary:
    """Writes and syncs a new file at `path`; one that could not be finished is removed."""
    assert len(position.running_digest) == 32, "the running digest has 32 bytes"
    pack = msgpack.Packer(autoreset=True).pack
    place = pack((position.index, position.term))
    writer = SealedWriter(files, path, identity, KIND_DATA, schema, keys, random, place)
    try:
        writer.write(pack((position.index, position.term, position.stamp_ms, position.running_digest, created_ms)))
        digest, counts = _write_records(writer, records)
        writer.write(pack({"digest": digest, "counts": counts}))
        writer.finish()
    except BaseException:
        writer.abandon()
        raise
    return DataFileSummary(position, counts, digest, created_ms, schema, identity)


def _write_records(writer: SealedWriter, records: Iterable[Record]) -> tuple[bytes, dict[str, int]]:
    pack = msgpack.Packer(autoreset=True).pack
    sha256 = hashlib.sha256()
    counts: dict[str, int] = {}
    batch: list[bytes] = []
    batch_bytes = 0
    for record in records:
        packed = pack(record)
        assert len(packed) <= RECORD_BYTES_MAX, f"a record of {len(packed)} bytes in table {record[0]}"
        counts[record[0]] = counts.get(record[0], 0) + 1
        batch.append(packed)
        batch_bytes += len(packed)
        if batch_bytes >= _BATCH_BYTES:
            joined = b"".join(batch)
            sha256.update(joined)
            writer.write(joined)
            batch.clear()
            batch_bytes = 0
    joined = b"".join(batch)
    sha256.update(joined)
    writer.write(joined)
    return sha256.digest(), counts


class DataFileReader:
    """A data file being read: the position at once, then the records, then the summary.

    What `records` yields is authentic chunk by chunk; that it is complete and matches its digest is known at its end,
    so nothing may come of it before.
    """

    def __init__(
        self,
        files: Files,
        path: str,
        keys: KeyRing,
        expected_identity: Identity | None,
        schema_max: int = SCHEMA_MAX,
    ) -> None:
        self._sealed = SealedReader(files, path, keys, expected_identity, KIND_DATA, schema_max)
        self._objects = self._unpack()
        self._summary: DataFileSummary | None = None
        try:
            self.position, self.created_ms = self._read_position()
        except DatastoreError:
            self._sealed.close()
            raise

    @property
    def identity(self) -> Identity:
        return self._sealed.header.identity

    @property
    def schema(self) -> int:
        return self._sealed.header.schema

    @property
    def data_key(self) -> DataKey:
        """The key that the file is sealed under: a node goes on with it."""
        return self._sealed.data_key

    @property
    def summary(self) -> DataFileSummary:
        """Only after all of `records` were taken."""
        assert self._summary is not None, "the summary is known after the last record"
        return self._summary

    def records(self) -> Iterator[Record]:
        """The records in the order written; at the end the digest and counts are checked. Once."""
        pack = msgpack.Packer(autoreset=True).pack
        sha256 = hashlib.sha256()
        counts: dict[str, int] = {}
        for item in self._objects:
            if isinstance(item, dict):
                self._finish(item, sha256.digest(), counts)
                return
            if not _is_record(item):
                raise self._damaged("a record has another shape than table, key and value")
            sha256.update(pack(item))
            counts[item[0]] = counts.get(item[0], 0) + 1
            yield item
        raise self._damaged("the closing record with digest and counts is missing")

    def close(self) -> None:
        self._sealed.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _unpack(self) -> Iterator[object]:
        unpacker = msgpack.Unpacker(use_list=False, max_buffer_size=2 * RECORD_BYTES_MAX)
        try:
            for chunk in self._sealed.chunks():
                unpacker.feed(chunk)
                yield from unpacker
            if unpacker.read_bytes(1):
                raise self._damaged("it ends within a record")
        except (ValueError, TypeError, msgpack.UnpackException) as error:
            raise self._damaged("its contents are not msgpack") from error

    def _read_position(self) -> tuple[Position, int]:
        match next(self._objects, None):
            case (int(index), int(term), int(stamp_ms), bytes(digest), int(created_ms)) if len(digest) == 32:
                if self._sealed.header.attributes != msgpack.packb((index, term)):
                    raise self._damaged("header and contents name different positions")
                return Position(index, term, stamp_ms, digest), created_ms
        raise self._damaged("it does not begin with a position")

    def _finish(self, closing: dict[object, object], digest: bytes, counts: dict[str, int]) -> None:
        if next(self._objects, None) is not None:
            raise self._damaged("something follows the closing record")
        if closing.get("digest") != digest or closing.get("counts") != counts:
            raise self._damaged("the records do not add up to its digest and counts")
        self._summary = DataFileSummary(self.position, counts, digest, self.created_ms, self.schema, self.identity)
        self.close()

    def _damaged(self, what: str) -> Damaged:
        return Damaged(self._sealed.path, 0, what)


def _is_record(item: object) -> TypeGuard[Record]:
    match item:
        case (str(), bytes(), bytes()):
            return True
    return False


def read_data_file(
    files: Files, path: str, keys: KeyRing, expected_identity: Identity | None, schema_max: int = SCHEMA_MAX
) -> DataFileReader:
    """Opens a data file; see `DataFileReader`."""
    return DataFileReader(files, path, keys, expected_identity, schema_max)


def verify_data_file(
    files: Files, path: str, keys: KeyRing, expected_identity: Identity | None, schema_max: int = SCHEMA_MAX
) -> DataFileSummary:
    """Reads a data file to its end, every chunk and the digest; the summary, or the error that names what is wrong."""
    with read_data_file(files, path, keys, expected_identity, schema_max) as reader:
        for _ in reader.records():
            pass
        return reader.summary
