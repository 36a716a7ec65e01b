"""A sealed file: header, then chunks in a STREAM construction (Hoang, Reyhanitabar, Rogaway, Vizár 2015).

Each chunk of 64 KiB (the last may be shorter) is AES-256-GCM under a key of the file's own, HKDF of the data key with
the header's salt; the nonce is the chunk's number and a flag for the last one, the associated data the whole header.
Cutting, reordering, splicing or swapping chunks between files is Damaged. Memory is constant both ways.
"""

import contextlib
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from datastore.errors import Damaged, DatastoreError
from datastore.files import Files
from datastore.header import Header, Identity, StoredHeader, check_header, new_header, open_data_key, read_header
from datastore.wrapping import TAG_BYTES, DataKey, KeyRing, Random, derive

__all__ = ["CHUNK_BYTES", "Identity", "SealedReader", "SealedWriter"]

CHUNK_BYTES = 64 * 1024
SEALED_CHUNK_BYTES = CHUNK_BYTES + TAG_BYTES


def _cipher(stored: StoredHeader, key: DataKey) -> AESGCM:
    return AESGCM(derive(key.key, stored.header.salt, b"watchword/sealed/1"))


def _nonce(number: int, last: bool) -> bytes:
    return number.to_bytes(11, "big") + (b"\1" if last else b"\0")


class SealedWriter:
    """Makes a sealed file at `path`, which must not exist. It is whole, and on disk, after `finish` only."""

    def __init__(
        self,
        files: Files,
        path: str,
        identity: Identity,
        kind: str,
        schema: int,
        keys: KeyRing,
        random: Random,
        attributes: bytes = b"",
    ) -> None:
        stored = new_header(identity, kind, schema, keys, random, attributes)
        self._raw_header = stored.raw
        self._encrypt = _cipher(stored, keys.active).encrypt
        self._buffer = bytearray()
        self._number = 0
        self._files, self._path = files, path
        self._file = files.create(path)
        try:
            self._file.append(stored.raw)
        except DatastoreError:
            self.abandon()
            raise

    def write(self, data: bytes) -> None:
        """Adds to the contents; full chunks go to the file."""
        self._buffer += data
        # The last chunk is sealed as such, so one byte at least stays back.
        whole = (len(self._buffer) - 1) // CHUNK_BYTES
        if whole <= 0:
            return
        view = memoryview(self._buffer)
        self._file.append(
            b"".join(self._seal(view[at : at + CHUNK_BYTES]) for at in range(0, whole * CHUNK_BYTES, CHUNK_BYTES))
        )
        view.release()
        del self._buffer[: whole * CHUNK_BYTES]

    def finish(self) -> None:
        """Seals the last chunk, syncs, closes. The directory's entry is the caller's to sync."""
        self._file.append(self._seal(self._buffer, last=True))
        self._file.sync()
        self._file.close()

    def abandon(self) -> None:
        """Closes and removes an unfinished file, as far as the disk lets us; nobody could read it."""
        self._file.close()
        with contextlib.suppress(DatastoreError):
            self._files.remove(self._path)

    def _seal(self, chunk: bytearray | memoryview, last: bool = False) -> bytes:
        nonce = _nonce(self._number, last)
        self._number += 1
        return self._encrypt(nonce, chunk, self._raw_header)


class SealedReader:
    """Opens a sealed file: the header is checked and its key unwrapped at once, chunks as they are asked for.

    Raises NotFound, InsecurePermissions, Damaged, NewerFormat, ForeignFile (kind, cluster, incarnation) or WrongKey.
    """

    def __init__(
        self,
        files: Files,
        path: str,
        keys: KeyRing,
        expected_identity: Identity | None,
        kind: str,
        schema_max: int = 1,
    ) -> None:
        self.path = path
        self._file = files.open(path, writable=False)
        try:
            self._stored = read_header(path, self._file)
            check_header(path, self._stored.header, kind, schema_max, expected_identity)
            self.data_key = open_data_key(path, self._stored.header, keys)
            self._size = self._file.size()
        except DatastoreError:
            self._file.close()
            raise

    @property
    def header(self) -> Header:
        return self._stored.header

    def chunks(self) -> Iterator[bytes]:
        """The contents, a chunk of at most 64 KiB at a time; Damaged at the first that is not what was written."""
        decrypt = _cipher(self._stored, self.data_key).decrypt
        raw_header, offset, number = self._stored.raw, len(self._stored.raw), 0
        last = False
        while not last:
            sealed = self._file.read_at(offset, SEALED_CHUNK_BYTES)
            last = offset + SEALED_CHUNK_BYTES >= self._size
            if len(sealed) < TAG_BYTES or (last and number and len(sealed) == TAG_BYTES):
                raise Damaged(self.path, offset, f"the file is cut: it ends before its last chunk, at chunk {number}")
            try:
                yield decrypt(_nonce(number, last), sealed, raw_header)
            except InvalidTag as error:
                raise Damaged(
                    self.path, offset, self._why(decrypt_as=not last, number=number, sealed=sealed)
                ) from error
            offset, number = offset + len(sealed), number + 1

    def _why(self, decrypt_as: bool, number: int, sealed: bytes) -> str:
        """Tells a file that was cut or grew at a chunk's edge from one whose bytes were changed."""
        try:
            _cipher(self._stored, self.data_key).decrypt(_nonce(number, decrypt_as), sealed, self._stored.raw)
        except InvalidTag:
            return f"chunk {number} does not verify"
        return "something follows the last chunk" if decrypt_as else f"the file is cut after chunk {number}"

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
