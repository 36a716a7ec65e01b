"""A disk in memory that loses what a disk may lose. Deterministic: chance comes from the injected generator only.

What a power cut (`crash`) does:

| what was not synced              | becomes                                                                          |
|----------------------------------|----------------------------------------------------------------------------------|
| appended bytes                   | kept, lost, cut at any byte, or zero from a 512-byte boundary on                 |
| a truncation                     | kept, or undone (and then what was appended after it is lost)                    |
| a creation, rename or removal    | each kept or undone on its own, or all after some point undone                   |

A failed sync loses the bytes it was for, in the same ways and at once: the kernel drops the pages.
The end of a process (`kill`) loses nothing but open files. After either, open files of before are dead.
"""

import errno
import os
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from datastore.errors import AlreadyExists, InUse, NotFound, StorageFailed

SECTOR_BYTES = 512


@dataclass(slots=True)
class _Inode:
    """Durable is data[:stable_size] + stable_tail: what a truncation took away stays there until a sync."""

    data: bytearray = field(default_factory=bytearray)
    stable_size: int = 0
    stable_tail: bytes = b""

    def lose_unsynced(self, chance: random.Random) -> None:
        if self.stable_tail and chance.random() < 0.5:
            self.data = self.data[: self.stable_size] + self.stable_tail
        else:
            self.data = self._torn(chance)
        self.stable_size, self.stable_tail = len(self.data), b""

    def _torn(self, chance: random.Random) -> bytearray:
        size, stable = len(self.data), self.stable_size
        if size == stable:
            return self.data
        outcome = chance.random()
        if outcome < 0.2:
            return self.data
        if outcome < 0.4:
            return self.data[:stable]
        cut = chance.randrange(stable, size)
        if outcome < 0.8:
            return self.data[:cut]
        boundary = max(stable, cut - cut % SECTOR_BYTES)
        return self.data[:boundary] + bytes(size - boundary)


@dataclass(slots=True)
class _Directory:
    """`entries` is what processes see; `changes` lead there from `stable`, each a (removed name, added name, inode)."""

    entries: dict[str, _Inode] = field(default_factory=dict)
    stable: dict[str, _Inode] = field(default_factory=dict)
    changes: list[tuple[str | None, str | None, _Inode | None]] = field(default_factory=list)

    def change(self, removed: str | None, added: str | None, inode: _Inode | None) -> None:
        self.changes.append((removed, added, inode))
        _apply(self.entries, (removed, added, inode))

    def after_power_cut(self, chance: random.Random) -> dict[str, _Inode]:
        entries = dict(self.stable)
        if chance.random() < 0.5:
            survivors = self.changes[: chance.randint(0, len(self.changes))]
        else:
            survivors = [change for change in self.changes if chance.random() < 0.5]
        for change in survivors:
            _apply(entries, change)
        return entries


def _apply(entries: dict[str, _Inode], change: tuple[str | None, str | None, _Inode | None]) -> None:
    removed, added, inode = change
    if removed is not None:
        entries.pop(removed, None)
    if added is not None and inode is not None:
        entries[added] = inode


class MemoryFile:
    """An open file of `MemoryFiles`."""

    __slots__ = ("_files", "_inode", "_life", "_path")

    def __init__(self, files: "MemoryFiles", path: str, inode: _Inode) -> None:
        self._files, self._path, self._inode, self._life = files, path, inode, files.life

    def append(self, data: bytes) -> None:
        self._enter("append")
        fits = self._files.take_space(len(data))
        self._inode.data += data[:fits]
        if fits < len(data):
            raise StorageFailed(self._path, "write", OSError(errno.ENOSPC, "full"))

    def read_at(self, offset: int, length: int) -> bytes:
        self._enter("read")
        return bytes(memoryview(self._inode.data)[offset : offset + length])

    def size(self) -> int:
        return len(self._inode.data)

    def truncate(self, size: int) -> None:
        self._enter("truncate")
        inode = self._inode
        assert size <= len(inode.data), "a file is cut, never stretched"
        if size < inode.stable_size:
            inode.stable_tail = bytes(inode.data[size : inode.stable_size]) + inode.stable_tail
            inode.stable_size = size
        del inode.data[size:]

    def sync(self) -> None:
        self._enter("sync")
        inode = self._inode
        if self._files.sync_fails():
            inode.lose_unsynced(self._files.chance)
            raise StorageFailed(self._path, "sync", OSError(errno.EIO, "injected"))
        inode.stable_size, inode.stable_tail = len(inode.data), b""

    def close(self) -> None:
        self._life = -1

    def _enter(self, operation: str) -> None:
        assert self._life == self._files.life, f"{operation} of {self._path}, closed or of an earlier life"
        self._files.enter(operation, self._path)


class MemoryLock:
    """A lock that the process holds: a second one in the same life is refused."""

    __slots__ = ("_directory", "_held", "_life")

    def __init__(self, held: dict[str, int], directory: str, life: int) -> None:
        self._held, self._directory, self._life = held, directory, life

    def release(self) -> None:
        if self._held.get(self._directory) == self._life:
            del self._held[self._directory]


class MemoryFiles:
    """Implements `datastore.files.Files`. One disk of one node.

    `before(operation, path)`, if set, is called before every operation and may raise: operations are append, read,
    truncate, sync, create, open, replace, remove, sync_directory. `space_bytes` limits what may still be appended.
    `failing_syncs`: the next so many syncs fail with EIO. `operations` counts all operations.
    """

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self._directories: dict[str, _Directory] = {}
        self._locks: dict[str, int] = {}
        self.life = 0
        self.operations = 0
        self.syncs = 0
        self.space_bytes: int | None = None
        self.failing_syncs = 0
        self.before: Callable[[str, str], None] | None = None

    # Files

    def create(self, path: str) -> MemoryFile:
        self.enter("create", path)
        directory, name = self._at(path)
        if name in directory.entries:
            raise AlreadyExists(path)
        if self.take_space(1) == 0:
            raise StorageFailed(path, "create", OSError(errno.ENOSPC, "full"))
        inode = _Inode()
        directory.change(None, name, inode)
        return MemoryFile(self, path, inode)

    def open(self, path: str, *, writable: bool = True) -> MemoryFile:
        self.enter("open", path)
        return MemoryFile(self, path, self._inode(path))

    def exists(self, path: str) -> bool:
        if path in self._directories:
            return True
        parent, name = os.path.split(path)
        return parent in self._directories and name in self._directories[parent].entries

    def list(self, directory: str) -> list[str]:
        if directory not in self._directories:
            raise NotFound(directory)
        inside = [os.path.basename(path) for path in self._directories if os.path.dirname(path) == directory != path]
        return sorted([*self._directories[directory].entries, *inside])

    def make_directory(self, path: str) -> None:
        while path not in self._directories:
            self._directories[path] = _Directory()
            path = os.path.dirname(path)

    def check_directory(self, path: str) -> None:
        if path not in self._directories:
            raise NotFound(path)

    def replace(self, source: str, target: str) -> None:
        self.enter("replace", target)
        directory, name = self._at(source)
        inode = self._inode(source)
        assert os.path.dirname(source) == os.path.dirname(target), "renames stay in their directory"
        directory.change(name, os.path.basename(target), inode)

    def remove(self, path: str) -> None:
        self.enter("remove", path)
        directory, name = self._at(path)
        self._inode(path)
        directory.change(name, None, None)

    def sync_directory(self, path: str) -> None:
        self.enter("sync_directory", path)
        self.check_directory(path)
        if self.sync_fails():
            raise StorageFailed(path, "sync", OSError(errno.EIO, "injected"))
        directory = self._directories[path]
        directory.stable = dict(directory.entries)
        directory.changes.clear()

    def lock(self, directory: str) -> MemoryLock:
        self.check_directory(directory)
        if self._locks.get(directory) == self.life:
            raise InUse(directory)
        self._locks[directory] = self.life
        return MemoryLock(self._locks, directory, self.life)

    # what happens to the disk

    def crash(self) -> None:
        """A power cut: what was not synced is at chance's mercy; faults that were injected are gone."""
        for path in sorted(self._directories):
            entries = self._directories[path].after_power_cut(self.chance)
            for name in sorted(entries):
                entries[name].lose_unsynced(self.chance)
            self._directories[path] = _Directory(entries, dict(entries))
        self.kill()

    def kill(self) -> None:
        """The process ends: open files are dead, the cache of the kernel lives. Injected faults are gone."""
        self.life += 1
        self.space_bytes, self.failing_syncs, self.before = None, 0, None

    # looking and damaging, for tests

    def contents(self, path: str) -> bytes:
        return bytes(self._inode(path).data)

    def overwrite(self, path: str, data: bytes) -> None:
        """Puts other bytes in a file's place, durably: damage, or a copy from elsewhere."""
        inode = _Inode(bytearray(data), len(data))
        directory, name = self._at(path)
        directory.entries[name] = directory.stable[name] = inode

    def snapshot(self) -> dict[str, bytes]:
        """Every path and its contents, as processes see them."""
        return {
            os.path.join(path, name): bytes(inode.data)
            for path, directory in self._directories.items()
            for name, inode in directory.entries.items()
        }

    def restore(self, snapshot: dict[str, bytes]) -> None:
        """Back to an earlier `snapshot`, durably: a disk from a backup."""
        self._directories = {path: _Directory() for path in self._directories}
        for path, data in snapshot.items():
            self.overwrite(path, data)

    # for MemoryFile

    def enter(self, operation: str, path: str) -> None:
        self.operations += 1
        if self.before is not None:
            self.before(operation, path)

    def sync_fails(self) -> bool:
        self.syncs += 1
        if self.failing_syncs:
            self.failing_syncs -= 1
            return True
        return False

    def take_space(self, size: int) -> int:
        if self.space_bytes is None:
            return size
        taken = min(size, self.space_bytes)
        self.space_bytes -= taken
        return taken

    def _at(self, path: str) -> tuple[_Directory, str]:
        parent, name = os.path.split(path)
        if parent not in self._directories:
            raise NotFound(path)
        return self._directories[parent], name

    def _inode(self, path: str) -> _Inode:
        directory, name = self._at(path)
        if name not in directory.entries:
            raise NotFound(path)
        return directory.entries[name]
