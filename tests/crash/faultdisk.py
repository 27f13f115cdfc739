"""A disk whose n-th writing operation fails, once or from then on, on top of simdisk.py.

Invariants:
  1. Partial: a write that fails has written half of its bytes.
  2. Treacherous: what a failed flush covered is not on the device, and no later flush brings it
     there, as the kernel has marked those pages clean. They can be read until power is lost.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Final

from tests.crash.simdisk import SimDisk
from zkstore.storage.disk import FlushableMap, failure

ERRORS: Final = (errno.EIO, errno.ENOSPC)


class FaultDisk(SimDisk):
    """See the module. `operation` 1 is the first; 0: none fails."""

    failed: bool  # some operation has failed

    def __init__(self, root: Path, operation: int, error: int, *, for_good: bool) -> None:
        super().__init__(root)
        self.failed = False
        self._fail_at = operation
        self._error = error
        self._for_good = for_good
        self._writes = 0

    def heal(self) -> None:
        """From now on nothing fails."""
        self._fail_at = 0

    def _fails(self) -> bool:
        with self._lock:
            self._writes += 1
            fails = self._writes == self._fail_at or (
                self._for_good and 0 < self._fail_at < self._writes
            )
            self.failed = self.failed or fails
            return fails

    def _raise(self, what: str, path: object, *, flushing: bool = False) -> None:
        error = OSError(self._error, os.strerror(self._error))
        raise failure(what, path, error, flushing=flushing) from error

    def open(self, path: Path, flags: int, mode: int = 0o644) -> int:
        if flags & os.O_CREAT and self._fails():
            self._raise("open", path)
        return super().open(path, flags, mode)

    def pwrite(self, fd: int, data: bytes | bytearray | memoryview, offset: int) -> None:
        if self._fails():
            super().pwrite(fd, memoryview(data)[: len(data) // 2], offset)
            self._raise("write", self.path_of(fd))
        super().pwrite(fd, data, offset)

    def truncate(self, fd: int, size: int) -> None:
        if self._fails():
            self._raise("resize", self.path_of(fd))
        super().truncate(fd, size)

    def allocate(self, fd: int, offset: int, size: int) -> bool:
        if self._fails():
            self._raise("allocate", self.path_of(fd))
        return super().allocate(fd, offset, size)

    def flush(self, fd: int) -> None:
        if self._fails():
            self._drop(fd)
        super().flush(fd)

    def fsync(self, fd: int) -> None:
        if self._fails():
            self._drop(fd)
        super().fsync(fd)

    def _drop(self, fd: int) -> None:
        with self._lock:
            file = self._files.get(fd)
            if file is not None:
                file.capture()
        self._raise("flush", self.path_of(fd), flushing=True)

    def flush_map(self, env: FlushableMap, path: Path) -> None:
        if self._fails():
            self._raise("flush", path, flushing=True)
        super().flush_map(env, path)

    def rename(self, source: Path, target: Path) -> None:
        if self._fails():
            self._raise("rename", source)
        super().rename(source, target)

    def unlink(self, path: Path) -> None:
        if os.path.exists(path) and self._fails():
            self._raise("remove", path)
        super().unlink(path)

    def fsync_dir(self, path: Path) -> None:
        if self._fails():
            self._raise("flush", path, flushing=True)
        super().fsync_dir(path)
