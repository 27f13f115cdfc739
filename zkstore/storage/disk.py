"""Every file operation of the storage, behind one object that is passed in.

So that tests can lose, tear and fail any of them (tests/crash/simdisk.py); LMDB's own writes are
the only ones that do not pass here, its flush does (`flush_map`).

Owns:   the file descriptors it opened; it remembers the path of each for its messages.
Invariants:
  1. Close-on-exec: no child process inherits a descriptor (os.open does so by itself).
  2. Whole: `pwrite` writes all of its bytes or raises.
  3. A flush that fails is `StorageFailed`, whatever the error number: the kernel marks the pages of
     a failed write-back clean, so neither the page cache nor a second flush can be trusted after
     it.
Design: ENOSPC and EDQUOT are `StorageFull` where the operation itself was refused and nothing that
  was flushed before is touched (open, write, rename, allocate). All else is `StorageFailed`. Only
  FileNotFoundError of `open` and `unlink` passes as it is, as absence is an answer there.
  Rejected: flushing with RWF_DSYNC instead of fdatasync; it gained nothing (within 5 % for 200 B to
  64 KB), and would make a full disk in the write indistinguishable from one in the flush.
Not here: what the files mean (journal.py, checkpoint.py, env.py).
Source: sync_file_range(2), fallocate(2), statfs(2); "fsyncgate" for 3.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Protocol

from zkstore.errors import StorageFailed, StorageFull, ZkstoreError

_FULL: Final = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))
_NOT_SUPPORTED: Final = frozenset((errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.ESPIPE))
# SYNC_FILE_RANGE_WAIT_BEFORE | _WRITE | _WAIT_AFTER: awaited, so that it is paced by the device.
_SYNC_RANGE_AWAITED: Final = 1 | 2 | 4
_SYNC_RANGE_BEGUN: Final = 2  # SYNC_FILE_RANGE_WRITE alone
_TMPFS_MAGIC: Final = 0x01021994
_STATFS_BYTES: Final = 512  # more than any libc's struct statfs; f_type is its first word


class FlushableMap(Protocol):
    """What `flush_map` needs of an LMDB environment."""

    def sync(self, force: bool = ..., /) -> None: ...


_libc = ctypes.CDLL(None, use_errno=True)
_sync_file_range = getattr(_libc, "sync_file_range", None)
_fallocate = getattr(_libc, "fallocate", None)
_fstatfs = getattr(_libc, "fstatfs", None)
for _call, _types in (
    (_sync_file_range, (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)),
    (_fallocate, (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)),
    (_fstatfs, (ctypes.c_int, ctypes.c_char_p)),
):
    if _call is not None:
        _call.argtypes = _types
        _call.restype = ctypes.c_int


def failure(what: str, path: object, error: OSError, *, flushing: bool) -> ZkstoreError:
    """What an error of the operating system means (invariant 3, Design)."""
    kind = StorageFull if error.errno in _FULL and not flushing else StorageFailed
    return kind(f"{what} {path}: {error.strerror}")


@contextmanager
def _translated(
    what: str, path: object, *, flushing: bool = False, may_be_absent: bool = False
) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if may_be_absent and isinstance(error, FileNotFoundError):
            raise
        raise failure(what, path, error, flushing=flushing) from error


class Disk:
    """The real disk. Offsets and sizes are bytes."""

    def __init__(self) -> None:
        self._paths: dict[int, str] = {}

    def path_of(self, fd: int) -> str:
        return self._paths.get(fd, f"descriptor {fd}")

    def open(self, path: Path, flags: int, mode: int = 0o644) -> int:
        """Open a file. Raises: FileNotFoundError; StorageFull where creating it needs room."""
        with _translated("open", path, may_be_absent=not flags & os.O_CREAT):
            fd = os.open(path, flags | os.O_CLOEXEC, mode)
        self._paths[fd] = str(path)
        return fd

    def close(self, fd: int) -> None:
        self._paths.pop(fd, None)
        os.close(fd)

    def pwrite(self, fd: int, data: bytes | bytearray | memoryview, offset: int) -> None:
        """Write all of `data`.

        Raises: StorageFull if there is no room (a part may have been written, nothing is flushed).
        """
        try:
            written = os.pwrite(fd, data, offset)
            if written == len(data):
                return
            view = memoryview(data)
            while written < len(data):
                more = os.pwrite(fd, view[written:], offset + written)
                if more == 0:
                    raise OSError(errno.EIO, "nothing was written")
                written += more
        except OSError as error:
            raise failure("write", self.path_of(fd), error, flushing=False) from error

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        """Read `size` bytes, fewer only at the end of the file."""
        pieces = []
        with _translated("read", self.path_of(fd)):
            while size > 0 and (piece := os.pread(fd, size, offset)):
                pieces.append(piece)
                size -= len(piece)
                offset += len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def flush(self, fd: int) -> None:
        """Content (and size) on the device when it returns. Raises: StorageFailed."""
        try:
            os.fdatasync(fd)
        except OSError as error:
            raise failure("flush", self.path_of(fd), error, flushing=True) from error

    def fsync(self, fd: int) -> None:
        """Content and all metadata of the file on the device. Raises: StorageFailed."""
        with _translated("flush", self.path_of(fd), flushing=True):
            os.fsync(fd)

    def sync_range(self, fd: int, offset: int, size: int) -> None:
        """Have a range written out and wait: it paces the flush that follows, it is none."""
        self._sync_range(fd, offset, size, _SYNC_RANGE_AWAITED)

    def start_writing(self, fd: int, offset: int, size: int) -> None:
        """Have the device begin to write a range: the flush that follows waits for less."""
        self._sync_range(fd, offset, size, _SYNC_RANGE_BEGUN)

    def _sync_range(self, fd: int, offset: int, size: int, flags: int) -> None:
        if _sync_file_range is None or _sync_file_range(fd, offset, size, flags) == 0:
            return
        number = ctypes.get_errno()
        if number not in _NOT_SUPPORTED:
            error = OSError(number, os.strerror(number))
            raise failure("flush", self.path_of(fd), error, flushing=True) from error

    def flush_map(self, env: FlushableMap, path: Path) -> None:
        """Flush all that LMDB has written to `path`. Raises: StorageFailed."""
        # lmdb.Error is no OSError, and only env.py and checkpoint.py know lmdb; the caller
        # translates it, so that this module stays free of it.
        env.sync(True)

    def allocate(self, fd: int, offset: int, size: int) -> bool:
        """Give the range blocks of its own, growing the file; False where that is not cheap.

        Raises: StorageFull. On tmpfs allocated space is memory, zeroed at once: 83 ms for 256 MB.
        """
        if _fallocate is None or self._is_tmpfs(fd):
            return False
        if _fallocate(fd, 0, offset, size) == 0:
            return True
        number = ctypes.get_errno()
        if number in _NOT_SUPPORTED:
            return False
        error = OSError(number, os.strerror(number))
        raise failure("allocate", self.path_of(fd), error, flushing=False) from error

    def _is_tmpfs(self, fd: int) -> bool:
        buffer = ctypes.create_string_buffer(_STATFS_BYTES)
        if _fstatfs is None or _fstatfs(fd, buffer) != 0:
            return False
        return ctypes.c_long.from_buffer(buffer).value == _TMPFS_MAGIC

    def rename(self, source: Path, target: Path) -> None:
        with _translated("rename", source):
            os.rename(source, target)

    def unlink(self, path: Path) -> None:
        with _translated("remove", path, may_be_absent=True):
            os.unlink(path)

    def mkdir(self, path: Path) -> None:
        """Make a directory and its parents, durably; one that is there is fine."""
        missing = [each for each in (path, *path.parents) if not each.exists()]
        for each in reversed(missing):
            with _translated("make", each):
                os.makedirs(each, exist_ok=True)
            self.fsync_dir(each.parent)

    def fsync_dir(self, path: Path) -> None:
        """What was created, renamed and removed in a directory is on the device afterwards."""
        fd = self.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            self.fsync(fd)
        finally:
            self.close(fd)

    def truncate(self, fd: int, size: int) -> None:
        with _translated("resize", self.path_of(fd)):
            os.ftruncate(fd, size)

    def size(self, fd: int) -> int:
        with _translated("read", self.path_of(fd)):
            return os.fstat(fd).st_size

    def allocated(self, fd: int) -> int:
        """Bytes that have blocks of their own; less than the size where the file has holes."""
        with _translated("read", self.path_of(fd)):
            return os.fstat(fd).st_blocks * 512

    def listdir(self, path: Path) -> list[str]:
        with _translated("list", path):
            return sorted(os.listdir(path))

    def free_bytes(self, path: Path) -> int:
        """Room that an ordinary user has on the file system of `path`."""
        with _translated("read", path):
            stat = os.statvfs(path)
        return stat.f_bavail * stat.f_frsize
