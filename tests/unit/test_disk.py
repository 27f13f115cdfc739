"""storage/disk.py: what an error of the operating system means, and the calls that libc makes."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from zkstore.errors import StorageFailed, StorageFull
from zkstore.storage.disk import Disk

CREATE = os.O_RDWR | os.O_CREAT


def failing(number: int) -> Callable[..., int]:
    def call(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    return call


@pytest.mark.parametrize(
    ("number", "meaning"),
    [
        (errno.ENOSPC, StorageFull),
        (errno.EDQUOT, StorageFull),
        (errno.EFBIG, StorageFull),
        (errno.EIO, StorageFailed),
        (errno.EROFS, StorageFailed),
    ],
)
def test_a_write_without_room_is_full_and_any_other_failure_is_fatal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, meaning: type[Exception]
) -> None:
    disk = Disk()
    fd = disk.open(tmp_path / "file", CREATE)
    monkeypatch.setattr(os, "pwrite", failing(number))
    with pytest.raises(meaning, match=str(tmp_path / "file")):
        disk.pwrite(fd, b"x", 0)
    disk.close(fd)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_a_failed_flush_is_fatal_even_where_it_means_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    disk = Disk()
    fd = disk.open(tmp_path / "file", CREATE)
    monkeypatch.setattr(os, "fdatasync", failing(number))
    monkeypatch.setattr(os, "fsync", failing(number))
    with pytest.raises(StorageFailed):
        disk.flush(fd)
    with pytest.raises(StorageFailed):
        disk.fsync(fd)
    with pytest.raises(StorageFailed):
        disk.fsync_dir(tmp_path)
    disk.close(fd)


def test_a_short_write_is_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: real(fd, bytes(data)[:3], at))
    disk = Disk()
    fd = disk.open(tmp_path / "file", CREATE)
    disk.pwrite(fd, b"0123456789", 2)
    assert disk.pread(fd, 100, 0) == b"\0\x000123456789"
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: 0)
    with pytest.raises(StorageFailed):
        disk.pwrite(fd, b"x", 0)
    disk.close(fd)


def test_absence_is_an_answer_only_where_a_file_is_opened_or_removed(tmp_path: Path) -> None:
    disk = Disk()
    absent = tmp_path / "absent"
    with pytest.raises(FileNotFoundError):
        disk.open(absent, os.O_RDONLY)
    with pytest.raises(FileNotFoundError):
        disk.unlink(absent)
    with pytest.raises(StorageFailed):
        disk.rename(absent, tmp_path / "b")
    with pytest.raises(StorageFailed):
        disk.open(absent / "child", CREATE)
    with pytest.raises(StorageFailed):
        disk.listdir(absent)


def test_directories_are_made_with_their_parents(tmp_path: Path) -> None:
    flushed: list[Path] = []

    class Recording(Disk):
        def fsync_dir(self, path: Path) -> None:
            flushed.append(path)
            super().fsync_dir(path)

    Recording().mkdir(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
    assert flushed == [tmp_path, tmp_path / "a"]
    Recording().mkdir(tmp_path / "a" / "b")
    assert len(flushed) == 2


def test_no_descriptor_is_inherited(tmp_path: Path) -> None:
    disk = Disk()
    fd = disk.open(tmp_path / "file", CREATE)
    assert not os.get_inheritable(fd)
    disk.close(fd)


def test_sync_range_and_allocate_really_call_the_kernel(tmp_path: Path) -> None:
    disk = Disk()
    fd = disk.open(tmp_path / "file", CREATE)
    disk.pwrite(fd, bytes(1 << 20), 0)
    disk.sync_range(fd, 0, 1 << 20)
    if disk.allocate(fd, 1 << 20, 1 << 20):  # tmpfs and some others refuse
        assert disk.size(fd) == 2 << 20
        assert disk.allocated(fd) >= 2 << 20
    disk.close(fd)
    with pytest.raises(StorageFailed, match="descriptor"):
        disk.sync_range(fd, 0, 1)
    assert disk.free_bytes(tmp_path) > 0


def test_allocated_space_on_a_memory_file_system_is_not_taken(tmp_path: Path) -> None:
    memory = Path("/dev/shm")
    folder = memory if memory.is_dir() and os.access(memory, os.W_OK) else tmp_path
    disk = Disk()
    path = folder / f"zkstore-test-{os.getpid()}"
    fd = disk.open(path, CREATE)
    try:
        took = disk.allocate(fd, 0, 1 << 20)
        assert took == (disk.size(fd) == 1 << 20)
        assert not (took and folder == memory)
    finally:
        disk.close(fd)
        path.unlink()
