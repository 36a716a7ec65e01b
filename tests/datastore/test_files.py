"""The real disk: private files, and errors with a way out."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from datastore.errors import AlreadyExists, InsecurePermissions, InUse, NotFound, StorageFailed
from datastore.files import Files, RealFile, RealFiles


@pytest.fixture
def open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path: str) -> int:
    return os.stat(path).st_mode & 0o7777


@pytest.mark.usefixtures("open_umask")
async def test_files_and_directories_are_private(tmp_path: Path) -> None:
    files: Files = RealFiles()
    directory = str(tmp_path / "a" / "b")
    files.make_directory(directory)
    files.make_directory(directory)
    files.create(f"{directory}/file").close()
    assert (mode(directory), mode(str(tmp_path / "a")), mode(f"{directory}/file")) == (0o700, 0o700, 0o600)
    files.check_directory(directory)


@pytest.mark.parametrize("wide", [0o640, 0o604, 0o660, 0o700, 0o666])
async def test_a_file_that_others_may_read_is_refused(wide: int, tmp_path: Path) -> None:
    path = str(tmp_path / "file")
    RealFiles().create(path).close()
    os.chmod(path, wide)
    for writable in (True, False):
        with pytest.raises(InsecurePermissions, match=f"mode {wide:04o}, wider than 0600; run: chmod 0600 {path}"):
            RealFiles().open(path, writable=writable)
    os.chmod(path, 0o400)
    RealFiles().open(path, writable=False).close()


@pytest.mark.parametrize("wide", [0o750, 0o701, 0o777, 0o1700])
async def test_a_directory_that_others_may_enter_is_refused(wide: int, tmp_path: Path) -> None:
    path = str(tmp_path / "directory")
    RealFiles().make_directory(path)
    os.chmod(path, wide)
    for check in (RealFiles().check_directory, RealFiles().make_directory):
        with pytest.raises(InsecurePermissions, match=f"run: chmod 0700 {path}"):
            check(path)


async def test_append_read_cut(tmp_path: Path) -> None:
    path = str(tmp_path / "file")
    file = RealFiles().create(path)
    file.append(b"hello ")
    file.append(b"world")
    file.sync()
    assert (file.size(), file.read_at(3, 5), file.read_at(8, 100), file.read_at(50, 5)) == (11, b"lo wo", b"rld", b"")
    file.truncate(5)
    file.append(b"!")
    file.close()
    file.close()
    file = RealFiles().open(path)
    assert file.read_at(0, 100) == b"hello!"
    file.append(b"?")
    assert file.read_at(0, 100) == b"hello!?"
    file.close()


async def test_names(tmp_path: Path) -> None:
    files = RealFiles()
    one, two = str(tmp_path / "one"), str(tmp_path / "two")
    for path in (two, one):
        files.create(path).close()
    assert files.list(str(tmp_path)) == ["one", "two"]
    with pytest.raises(AlreadyExists, match="one exists already"):
        files.create(one)
    files.replace(one, two)
    assert (files.exists(one), files.exists(two)) == (False, True)
    files.remove(two)
    files.sync_directory(str(tmp_path))


async def test_what_is_missing_is_named(tmp_path: Path) -> None:
    files, path = RealFiles(), str(tmp_path / "missing")
    for action in (files.open, files.list, files.check_directory, files.remove, files.sync_directory, files.lock):
        with pytest.raises(NotFound, match=f"{path} does not exist"):
            action(path)
    with pytest.raises(NotFound):
        files.replace(path, path)
    with pytest.raises(NotFound):
        files.create(f"{path}/file")
    (tmp_path / "file").touch(0o600)
    with pytest.raises(NotFound, match="a file stands where a directory must be"):
        files.check_directory(str(tmp_path / "file"))


async def test_a_full_disk_is_named_with_its_way_out() -> None:
    file = RealFile("/dev/full", os.open("/dev/full", os.O_RDWR))
    with pytest.raises(StorageFailed, match="cannot write /dev/full: No space left on device; free space") as caught:
        file.append(b"x")
    assert caught.value.errno == errno.ENOSPC
    file.close()


async def test_a_directory_that_cannot_be_written(tmp_path: Path) -> None:
    directory = tmp_path / "closed"
    directory.mkdir(0o500)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        with pytest.raises(StorageFailed, match="Permission denied; give the service's user the right to it"):
            RealFiles().create(str(directory / "file"))
        with pytest.raises(StorageFailed):
            RealFiles().make_directory(str(directory / "inside"))
    finally:
        os.seteuid(user)
    assert os.listdir(directory) == []


async def test_hazard_03_a_failed_sync_is_not_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def failing(descriptor: int) -> None:
        calls.append("sync")
        raise OSError(errno.EIO, "injected")

    monkeypatch.setattr(os, "fdatasync", failing)
    monkeypatch.setattr(os, "posix_fadvise", lambda *_: calls.append("drop the cache"))
    file = RealFiles().create(str(tmp_path / "file"))
    with pytest.raises(StorageFailed, match=r"cannot sync .*: Input/output error; repair or replace the disk"):
        file.sync()
    assert calls == ["sync", "drop the cache"]
    file.close()


async def test_one_lock_a_directory(tmp_path: Path) -> None:
    lock = RealFiles().lock(str(tmp_path))
    with pytest.raises(InUse):
        RealFiles().lock(str(tmp_path))
    lock.release()
    lock.release()
    RealFiles().lock(str(tmp_path)).release()
