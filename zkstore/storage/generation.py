"""A data file built beside the live one, and how it takes its place.

Owns:   `data.<n>.mdb.new` while it grows; its lock file.
Invariants:
  1. Nothing that a server reads changes before `install`: what is interrupted leaves only the
     `.new` file, which the next build replaces.
  2. FlushFirst: the checkpoint names the new file only when it is flushed.
Design: records come in the order of their keys and are appended: pages are filled, and no page is
  read. Each transaction is bounded, as LMDB keeps its changed pages in memory.
Not here: where the records come from (intake.py, hotcopy.py); their order (sorter.py).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import lmdb

from zkstore.errors import CorruptionError, StorageFailed
from zkstore.storage import checkpoint, journal
from zkstore.storage.checkpoint import Checkpoint
from zkstore.storage.disk import Disk
from zkstore.storage.env import (
    READERS_MAX,
    building_path,
    data_path,
    storage_error,
    write_format,
)
from zkstore.storage.format_version import FORMAT
from zkstore.storage.journal import Journal, JournalPosition
from zkstore.storage.sorter import Item
from zkstore.storage.still import drop_pages_of

_COMMIT_BYTES: Final = 8 << 20  # appended in one LMDB transaction
_BLOCK_ITEMS: Final = 2000
_PIECE_BYTES: Final = 1 << 20
_FLUSH_BYTES: Final = 8 << 20
JOURNAL_SEGMENT_BYTES: Final = 16 << 20


class Generation:
    """A data file that is being built. Use `building`."""

    def __init__(self, directory: Path, number: int, map_size_bytes: int) -> None:
        self.directory = directory
        self.number = number
        self.path = building_path(data_path(directory, number))
        self._written = 0  # up to here it was written out
        self._remove()
        try:
            self.env = lmdb.open(
                str(self.path), subdir=False, max_dbs=0, map_size=map_size_bytes, sync=False,
                max_readers=READERS_MAX, readahead=False, mode=0o644,
            )  # fmt: skip
        except lmdb.Error as e:
            raise storage_error(e, str(self.path)) from e

    def append(self, items: Iterable[Item]) -> None:
        """Write records that come in the order of their keys, behind all that is there.

        Raises: CorruptionError if a key comes twice: the source is not what it should be.
        """
        block: list[Item] = []
        size = 0
        for item in items:
            block.append(item)
            size += len(item[1])
            if size > _COMMIT_BYTES or len(block) >= _BLOCK_ITEMS * 20:
                self._append(block)
                block = []
                size = 0
        self._append(block)

    def _append(self, block: list[Item]) -> None:
        try:
            with self.env.begin(write=True) as write_txn, write_txn.cursor() as cursor:
                _, added = cursor.putmulti(block, append=True, overwrite=False)
        except lmdb.KeyExistsError:
            added = -1
        except lmdb.Error as e:
            raise storage_error(e, str(self.path)) from e
        if added != len(block):
            raise CorruptionError(f"{self.path}: a record came twice, or out of order")

    @contextmanager
    def write(self) -> Iterator[lmdb.Transaction]:
        """One LMDB transaction."""
        try:
            with self.env.begin(write=True) as write_txn:
                yield write_txn
        except lmdb.Error as e:
            raise storage_error(e, str(self.path)) from e

    def seal(
        self, disk: Disk, progress: Callable[[str, int], None] = lambda _what, _count: None
    ) -> bytes:
        """Flush and close it; returns LMDB's meta pages. Raises: StorageFailed."""
        self._flush_in_pieces(disk, progress)
        try:
            disk.flush_map(self.env, self.path)
        except lmdb.Error as e:
            raise StorageFailed(f"flush {self.path}: {e}") from e
        page_bytes = self.env.stat()["psize"]
        last_page = self.env.info()["last_pgno"]
        self.env.close()
        self.path.with_name(self.path.name + "-lock").unlink()
        fd = disk.open(self.path, os.O_RDWR)
        try:
            if disk.size(fd) < (last_page + 1) * page_bytes:
                disk.truncate(fd, (last_page + 1) * page_bytes)
            meta_pages = disk.pread(fd, 2 * page_bytes, 0)
            disk.fsync(fd)
        finally:
            disk.close(fd)
        return meta_pages

    def _flush_in_pieces(self, disk: Disk, progress: Callable[[str, int], None]) -> None:
        """Most of the flush, so that whoever waits for it sees that it goes on."""
        fd = disk.open(self.path, os.O_RDWR)
        try:
            size = disk.size(fd)
            for offset in range(0, size, _FLUSH_BYTES):
                disk.sync_range(fd, offset, _FLUSH_BYTES)
                progress("bytes flushed", offset)
        finally:
            disk.close(fd)

    def install(
        self, *, applied: int, epochs: tuple[int, int], disk: Disk, log_directory: Path
    ) -> None:
        """Make it the directory's data: flushed, then named by the checkpoint.

        Order:  the caller holds the directory's lock exclusively, or nobody knows the directory.
        """
        meta_pages = self.seal(disk)
        position, reflected, whole = _journal_end(self.directory, log_directory, disk)
        disk.rename(self.path, data_path(self.directory, self.number))
        disk.fsync_dir(self.directory)
        checkpoint.write(
            self.directory, disk,
            Checkpoint(
                FORMAT, self.number, applied, *epochs, position, True, meta_pages, whole, reflected
            ),
        )  # fmt: skip
        write_format(self.directory, disk)
        self._remove()

    def drop_pages(self) -> None:
        """Give back the memory of what was read of it."""
        drop_pages_of(self.path)

    def write_out(self) -> None:
        """Have what was appended written to the disk, and wait: so that a server beside it never
        finds the disk busy with all of it at once."""
        end = self.path.stat().st_size
        fd = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        try:
            disk = Disk()
            for start in range(self._written, end, _PIECE_BYTES):
                disk.sync_range(fd, start, _PIECE_BYTES)
        finally:
            os.close(fd)
        self._written = max(self._written, end - _PIECE_BYTES)

    def _remove(self) -> None:
        for path in (self.path, self.path.with_name(self.path.name + "-lock")):
            path.unlink(missing_ok=True)

    def discard(self) -> None:
        """Close it; what was not installed is removed."""
        self.env.close()
        self._remove()


@contextmanager
def building(directory: Path, number: int, map_size_bytes: int = 1 << 40) -> Iterator[Generation]:
    """A new generation that is gone at the end, unless it was installed."""
    generation = Generation(directory, number, map_size_bytes)
    try:
        yield generation
    finally:
        generation.discard()


def _journal_end(
    directory: Path, log_directory: Path, disk: Disk
) -> tuple[JournalPosition, int, bool]:
    """(position, reflected, whole) of the checkpoint, or the start of a journal made now."""
    found = checkpoint.read(directory, disk)
    if found is not None:
        return found.position, found.reflected, found.whole
    disk.mkdir(log_directory)
    for number in journal.segment_numbers(log_directory, disk):
        disk.unlink(journal.segment_path(log_directory, number))
    created = Journal.create(log_directory, disk, segment_bytes=JOURNAL_SEGMENT_BYTES)
    position = created.end
    created.close()
    return position, position.sequence, True
