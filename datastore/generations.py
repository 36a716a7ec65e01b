"""The current data file and the good ones before it: `mfa.data`, `mfa.data.<index>`."""

import os
import re
from typing import NamedTuple

import msgpack

from datastore.errors import Damaged, NotFound, OlderThanCurrent
from datastore.files import Files
from datastore.header import KIND_DATA, Identity, read_header

TEMPORARY_SUFFIX = ".tmp"


class Generation(NamedTuple):
    """A data file, and the log index that its header names (authentic once the file is read)."""

    path: str
    index: int  # type: ignore[assignment]  # hides tuple.index


class Generations:
    """Data files of one node in `directory`, `keep` of them in all. Call `recover` once before anything else."""

    def __init__(self, files: Files, directory: str, name: str = "mfa.data", keep: int = 3) -> None:
        assert keep >= 1, "the current data file is always kept"
        self._files, self._directory, self._name, self._keep = files, directory, name, keep
        self._previous = re.compile(re.escape(name) + r"\.(\d+)")

    @property
    def path(self) -> str:
        """Where the current data file is."""
        return os.path.join(self._directory, self._name)

    def temporary_path(self, unique: str) -> str:
        """Where the next data file may be written before `publish`; left-overs go at the next start."""
        return os.path.join(self._directory, f"{self._name}.{unique}{TEMPORARY_SUFFIX}")

    def recover(self) -> None:
        """Finishes what a crash interrupted: no current file but older ones means it was about to be replaced."""
        for name in self._files.list(self._directory):
            if name.startswith(self._name + ".") and name.endswith(TEMPORARY_SUFFIX):
                self._files.remove(os.path.join(self._directory, name))
        previous = self._list_previous()
        if not self._files.exists(self.path) and previous:
            self._files.replace(previous[0].path, self.path)
        self._files.sync_directory(self._directory)

    def kept(self) -> list[Generation]:
        """The data files there are, newest first; the first is the current one."""
        current = [Generation(self.path, self._index_of(self.path))] if self._files.exists(self.path) else []
        return current + self._list_previous()

    def older(self) -> list[Generation]:
        """Those before the current one, newest first; by their names, so that it also works where that is damaged."""
        return self._list_previous()

    def publish(self, temporary_path: str) -> None:
        """Makes a verified, synced file the current one; the one before becomes a generation, surplus ones go.

        Raises OlderThanCurrent where the file stands before the current one, and changes nothing then.
        """
        index = self._index_of(temporary_path)
        if self._files.exists(self.path):
            current_index = self._index_of(self.path)
            if index < current_index:
                raise OlderThanCurrent(temporary_path, index, current_index)
            if index > current_index:
                # The old file must keep a name at every moment: its new one is durable before the old is taken.
                self._files.replace(self.path, f"{self.path}.{current_index}")
                self._files.sync_directory(self._directory)
        self._files.replace(temporary_path, self.path)
        self._files.sync_directory(self._directory)
        for surplus in self._list_previous()[self._keep - 1 :]:
            self._files.remove(surplus.path)
        self._files.sync_directory(self._directory)

    def oldest_index(self) -> int:
        """The journal must reach back to here."""
        generations = self.kept()
        if not generations:
            raise NotFound(self.path, "this node has no data file: restore it, or let the node join as a new member")
        return min(generation.index for generation in generations)

    def _list_previous(self) -> list[Generation]:
        matches = ((name, self._previous.fullmatch(name)) for name in self._files.list(self._directory))
        found = [Generation(os.path.join(self._directory, name), int(match[1])) for name, match in matches if match]
        return sorted(found, key=lambda generation: -generation.index)

    def _index_of(self, path: str) -> int:
        return data_file_place(self._files, path)[1]


def data_file_place(files: Files, path: str) -> tuple[Identity, int]:
    """Cluster and log index as the header of a data file states them, without a key."""
    file = files.open(path, writable=False)
    try:
        header = read_header(path, file).header
    finally:
        file.close()
    try:
        index, _term = msgpack.unpackb(header.attributes)
        if header.kind == KIND_DATA and isinstance(index, int):
            return header.identity, index
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise Damaged(path, 0, "the header does not state the log index") from error
    raise Damaged(path, 0, "it is no data file")
