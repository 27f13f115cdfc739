"""A stopped replica's LMDB file, read at its checkpoint's state without writing a byte.

Owns:   an LMDB environment over a map that is put together here; the directory's lock, shared.
Invariants:
  1. ReadOnly: neither the data file nor LMDB's lock file nor a meta page is written; a directory
     that cannot be written to can be read.
  2. What is read is the checkpoint's state, as recovery would restore it, whatever LMDB has written
     since.
Design: LMDB finds its state through the two meta pages at the front of the file. They come from the
  checkpoint, in a file in memory; over the rest of LMDB's map lies the data file. Pages of the map
  that were read count as this process's memory, so a long walk gives them back (`drop_pages`).
  Rejected: a copy of the file (takes as long as it is large); restoring the meta pages in it, as
  recovery does (a reader must not write).
Not here: the journal's tail (storage/offline.py); a live server's file (storage/hotcopy.py).
Source: LMDB 0.9 mdb.c (mdb_env_read_header, mdb_env_map); mmap(2), memfd_create(2).
"""

from __future__ import annotations

import ctypes
import fcntl
import itertools
import mmap
import os
from pathlib import Path
from typing import Final

import lmdb

from zkstore.errors import CorruptionError, DirectoryInUse
from zkstore.storage import checkpoint
from zkstore.storage.disk import Disk
from zkstore.storage.env import check_format, data_path, storage_error

_MAP_FIXED: Final = 0x10
_MADV_DONTNEED: Final = 4
_PAGE: Final = mmap.PAGESIZE

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (
    ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int64,
)  # fmt: skip
_libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
_serial = itertools.count()


def lock_shared(directory: Path) -> int:
    """Keep everyone from writing a stopped directory; returns the lock's descriptor, -1: none.

    Raises: DirectoryInUse if a server (or a tool that writes) has it.
    """
    try:
        fd = os.open(directory / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return -1  # never opened by a server: a copy
    try:
        # Exclusively first: a server's lock is shared as well.
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError as e:
        os.close(fd)
        raise DirectoryInUse(f"{directory} is in use by another process") from e
    return fd


class Still:
    """An environment that stands still; close it."""

    def __init__(self, directory: Path, *, locked: bool = False) -> None:
        """`locked`: the caller has the directory's lock.

        Raises: FileNotFoundError if there is nothing, DirectoryInUse, FormatError,
                CorruptionError.
        """
        disk = Disk()
        if not (directory / checkpoint.NAME).exists():
            raise FileNotFoundError(f"{directory} holds no data of zkstore")
        self._lock = -1 if locked else lock_shared(directory)
        try:
            check_format(directory, disk)
            found = checkpoint.read(directory, disk)
            assert found is not None, directory
            self.checkpoint = found
            self.path = data_path(directory, found.generation)
            meta = checkpoint.newest_meta(found.meta_pages, str(directory / checkpoint.NAME))
            self.end_bytes = meta.end_bytes
            self.env = self._open(found.meta_pages)
        except BaseException:
            self._unlock()
            raise

    def _open(self, meta_pages: bytes) -> lmdb.Environment:
        try:
            file = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise CorruptionError(f"{self.path}: missing, the checkpoint names it") from None
        name = f"zkstore-{next(_serial)}"
        memory = os.memfd_create(name)
        try:
            size = os.fstat(file).st_size
            if size < self.end_bytes:
                raise CorruptionError(
                    f"{self.path}: offset {size}: ends before its last page, {self.end_bytes}"
                )
            os.write(memory, meta_pages)
            os.ftruncate(memory, self.end_bytes)
            env = lmdb.open(
                f"/proc/self/fd/{memory}", subdir=False, readonly=True, lock=False,
                readahead=False, map_size=0,
            )  # fmt: skip
            self._front = len(meta_pages)
            found = _map_of(f"memfd:{name} (deleted)")
            assert found is not None, name
            self._address = found[0]
            self._lay_over(file)
        except lmdb.Error as e:
            raise storage_error(e, str(self.path)) from e
        finally:
            os.close(memory)
            os.close(file)
        return env

    def _lay_over(self, file: int) -> None:
        """Map the data file behind the meta pages."""
        self._length = -(-self.end_bytes // _PAGE) * _PAGE - self._front
        if self._length <= 0:
            return
        wanted = self._address + self._front
        got = _libc.mmap(
            wanted, self._length, mmap.PROT_READ, mmap.MAP_SHARED | _MAP_FIXED, file, self._front
        )
        if got != wanted:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(self.path))

    def drop_pages(self) -> None:
        """Give back the memory of what was read; it is read again when it is needed."""
        if self._length > 0:
            _drop(self._address + self._front, self._length)

    def close(self) -> None:
        self.env.close()
        self._unlock()

    def _unlock(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def drop_pages_of(path: Path) -> None:
    """Give back the memory of what was read of a data file that is open in this process."""
    found = _map_of(f" {path.resolve()}")
    if found is not None:
        _drop(*found)


def _drop(address: int, length: int) -> None:
    _libc.madvise(address, length, _MADV_DONTNEED)


def _map_of(name: str) -> tuple[int, int] | None:
    """(address, length) of the map whose file is named so."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        if line.endswith(name):  # LMDB's lock file is mapped as well, and named almost alike
            start, _, end = line.partition(" ")[0].partition("-")
            return int(start, 16), int(end, 16) - int(start, 16)
    return None
