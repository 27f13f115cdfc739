"""The O(1) checkpoint: makes everything that is in LMDB at one moment durable, while commits go on.

Owns:   the file `checkpoint`, its spare `checkpoint.tmp`, the flush thread, and the pins: read
        transactions that keep LMDB from overwriting the pages a checkpoint needs.
Invariants:
  1. Pinned: from the moment a checkpoint is on the device until the next one is, a read transaction
     at its state is in LMDB's reader table. So each page reachable from its root stays as it was
     flushed.
  2. FlushFirst: the file `checkpoint` names a state only when all of that state's pages are
     flushed.
  3. PositionAfter: what comes before a checkpoint's journal position may be recycled once `poll`
     has returned that checkpoint, not earlier.
Design: LMDB's two first pages (the meta pages) are all that is needed to go back to a state whose
  other pages are intact, so they are kept in the checkpoint itself. The file is
  replaced by rename, not written in turns into two slots: a slot damaged later would let recovery
  fall back silently to the older state, whose pages and journal are gone. The spare's blocks are
  allocated ahead, so that a full disk does not keep checkpoints from being taken (deletes go on
  then).
  Rejected: a checkpoint by copying the tree: O(tree) every few seconds.
Not here: when to take one (the writer), going back to one (env.py).
Source: LMDB 0.9 mdb.c (MDB_meta, mdb_find_oldest, mdb_env_pick_meta).
"""

from __future__ import annotations

import os
import struct
import threading
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import lmdb

from zkstore.errors import CorruptionError, StorageFailed, StorageFull
from zkstore.storage.disk import Disk
from zkstore.storage.format_version import FORMAT, check_number
from zkstore.storage.journal import JournalPosition

NAME: Final = "checkpoint"
_SPARE_NAME: Final = "checkpoint.tmp"
_MAGIC: Final = b"ZKSCKPT\n"
# magic, format, generation, applied, accepted and current epoch, journal segment, offset, sequence,
# clean, whole, reflected, length of the meta pages that follow; behind them the crc32 of all before
_HEAD: Final = struct.Struct(">8sIIqqqQQQ??QI")
_CRC: Final = struct.Struct(">I")
# Native: LMDB writes its own structures in the machine's byte order. In each meta page, after the
# 16 bytes of page header: magic, version, address, map size, 96 bytes of roots, last page, txnid.
_META: Final = struct.Struct("=16xIIQQ96xQQ")
_META_MAGIC: Final = 0xBEEFC0DE
# Flushed in awaited pieces first, which keeps the journal's own flushes short: p99 of a
# lone write 887 -> 604 us, at 64 connections 5.1 -> 3.9 ms. A piece is larger where there would be
# too many.
_PIECE_BYTES_MIN: Final = 1 << 20
_PIECES_MAX: Final = 4096


class Meta(NamedTuple):
    """What zkstore reads of LMDB's newest meta page."""

    map_size: int
    last_page: int
    txnid: int
    page_size: int

    @property
    def end_bytes(self) -> int:
        """Where the last page ends: the file may not be shorter."""
        return (self.last_page + 1) * self.page_size


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One durable state of the replica."""

    format: int
    generation: int
    applied: int
    accepted_epoch: int
    current_epoch: int
    position: JournalPosition  # of the first record that still holds a proposal beyond `applied`
    clean: bool  # taken by a clean stop: there was nothing to replay
    meta_pages: bytes
    whole: bool = True  # the third of zab/ready.py's HardState
    # The sequence number of the first record whose truncation the tree does not reflect.
    reflected: int = 0


def newest_meta(meta_pages: bytes, name: str) -> Meta:
    """Decode LMDB's two meta pages, as LMDB does it. Raises: CorruptionError."""
    page_size = len(meta_pages) // 2
    found: list[Meta] = []
    for start in (0, page_size):
        if start + _META.size <= len(meta_pages):
            magic, _, _, map_size, last_page, txnid = _META.unpack_from(meta_pages, start)
            if magic == _META_MAGIC:
                found.append(Meta(map_size, last_page, txnid, page_size))
    if len(found) != 2:
        raise CorruptionError(f"{name}: LMDB's meta pages are not whole")
    return max(found, key=lambda meta: meta.txnid)


def _encode(cp: Checkpoint) -> bytes:
    head = _HEAD.pack(
        _MAGIC,
        cp.format,
        cp.generation,
        cp.applied,
        cp.accepted_epoch,
        cp.current_epoch,
        *cp.position,
        cp.clean,
        cp.whole,
        cp.reflected,
        len(cp.meta_pages),
    )
    body = head + cp.meta_pages
    return body + _CRC.pack(zlib.crc32(body))


def read(data_dir: Path, disk: Disk) -> Checkpoint | None:
    """The checkpoint in `data_dir`, or None if there is none.

    Raises: CorruptionError, FormatError.
    """
    path = data_dir / NAME
    try:
        fd = disk.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        content = disk.pread(fd, disk.size(fd), 0)
    finally:
        disk.close(fd)
    if len(content) < _HEAD.size or content[:8] != _MAGIC:
        raise CorruptionError(f"{path}: offset 0: not a checkpoint of zkstore")
    (
        _,
        format_number,
        generation,
        applied,
        accepted,
        current,
        segment,
        offset,
        sequence,
        clean,
        whole,
        reflected,
        size,
    ) = _HEAD.unpack_from(content)
    check_number(format_number, str(path))
    end = _HEAD.size + size
    if len(content) < end + _CRC.size or _CRC.unpack_from(content, end)[0] != zlib.crc32(
        content[:end]
    ):
        raise CorruptionError(f"{path}: offset {end}: the checksum does not match")
    position = JournalPosition(segment, offset, sequence)
    meta_pages = content[_HEAD.size : end]
    return Checkpoint(
        format_number, generation, applied, accepted, current, position, clean, meta_pages, whole,
        reflected,
    )  # fmt: skip


def write(data_dir: Path, disk: Disk, cp: Checkpoint) -> None:
    """Replace the checkpoint; durable when it returns.

    Raises: StorageFull: the old one stands. StorageFailed: either may stand.
    """
    content = _encode(cp)
    spare = data_dir / _SPARE_NAME
    fd = disk.open(spare, os.O_RDWR | os.O_CREAT)
    try:
        disk.pwrite(fd, content, 0)
        disk.truncate(fd, len(content))
        disk.fsync(fd)
    finally:
        disk.close(fd)
    disk.rename(spare, data_dir / NAME)
    disk.fsync_dir(data_dir)
    _allocate_spare(spare, disk, len(content))


def _allocate_spare(spare: Path, disk: Disk, size: int) -> None:
    """Take the blocks that the old checkpoint has just given back, for the next one."""
    try:
        fd = disk.open(spare, os.O_RDWR | os.O_CREAT)
        try:
            disk.allocate(fd, 0, size)
        finally:
            disk.close(fd)
    except StorageFull:
        return  # the next write asks again, and says so


class Checkpointer:
    """Takes checkpoints of one environment. Its methods are called by the writing thread only."""

    # Called in the flush thread when `poll` has something to say.
    on_done: Callable[[], None] | None
    # Why none may be taken: it would hide lost records from the next start. Empty: nothing.
    damage: str

    def __init__(self, env: lmdb.Environment, path: Path, disk: Disk, *, generation: int) -> None:
        """Pins the state that `env` was opened at: it is what the checkpoint on the disk names, and
        replaying must not overwrite its pages before the next checkpoint."""
        self.on_done = None
        self.damage = ""
        self._env = env
        self._path = path
        self._data_dir = path.parent
        self._disk = disk
        self._generation = generation
        self._fd = disk.open(path, os.O_RDWR)
        self._pin = self._open_pin()
        self._next_pin: lmdb.Transaction | None = None
        self._next: Checkpoint | None = None
        self._thread: threading.Thread | None = None
        self._finished = False  # by the thread, before it calls `on_done`
        self._durable: Checkpoint | None = None
        self._failure: StorageFailed | StorageFull | None = None

    @property
    def busy(self) -> bool:
        """Whether a checkpoint has begun that `poll` has not reported."""
        return self._next is not None

    def begin(
        self,
        *,
        applied: int,
        accepted_epoch: int,
        current_epoch: int,
        position: JournalPosition,
        clean: bool = False,
        whole: bool = True,
        reflected: int = 0,
    ) -> None:
        """Start a checkpoint of what is committed now; call it between two LMDB commits.

        Raises: StorageFailed; CorruptionError while `damage` is set.
        """
        assert not self.busy, "a checkpoint is under way"
        if self.damage:
            raise CorruptionError(self.damage)
        pin = self._open_pin()
        meta_pages = self._disk.pread(self._fd, 2 * self._env.stat()["psize"], 0)
        meta = newest_meta(meta_pages, str(self._path))
        assert meta.txnid == pin.id(), (meta.txnid, pin.id())
        if self._disk.size(self._fd) < meta.end_bytes:
            # The last pages were given back before they were ever written; recovery checks the
            # size.
            self._disk.truncate(self._fd, meta.end_bytes)
        self._next_pin = pin
        self._next = Checkpoint(
            FORMAT,
            self._generation,
            applied,
            accepted_epoch,
            current_epoch,
            position,
            clean,
            meta_pages,
            whole,
            reflected,
        )
        self._durable = self._failure = None
        self._finished = False
        self._thread = threading.Thread(
            target=self._flush, args=(self._next, meta.end_bytes), name="checkpoint", daemon=True
        )
        self._thread.start()

    def poll(self) -> Checkpoint | None:
        """The checkpoint that has become durable since the last call, or None.

        The journal before its position may be recycled now.
        Raises: StorageFull: it was not taken, the one before stands. StorageFailed: stop.
        """
        thread = self._thread
        if thread is None or not self._finished:
            return None
        thread.join()  # it may be in `on_done` still
        self._thread = None
        done, self._next = self._next, None
        pin, self._next_pin = self._next_pin, None
        assert pin is not None
        if self._failure is not None:
            pin.abort()
            raise self._failure
        assert done is self._durable, "the flush thread died"
        self._assert_pinned(pin)
        self._assert_pinned(self._pin)
        self._pin.abort()
        self._pin = pin
        return done

    def take(
        self,
        *,
        applied: int,
        accepted_epoch: int,
        current_epoch: int,
        position: JournalPosition,
        clean: bool = False,
        whole: bool = True,
        reflected: int = 0,
    ) -> Checkpoint:
        """`begin`, and wait until it is durable. Raises as `poll`."""
        self.begin(
            applied=applied,
            accepted_epoch=accepted_epoch,
            current_epoch=current_epoch,
            position=position,
            clean=clean,
            whole=whole,
            reflected=reflected,
        )
        done = self.wait()
        assert done is not None
        return done

    def wait(self) -> Checkpoint | None:
        """Wait for the one under way, if any. Raises as `poll`."""
        if self._thread is not None:
            self._thread.join()
        return self.poll()

    def close(self) -> None:
        """End the pins; no page of the last checkpoint may be overwritten after this."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        for pin in (self._next_pin, self._pin):
            if pin is not None:
                pin.abort()
        self._next_pin = self._next = None
        self._disk.close(self._fd)

    def _open_pin(self) -> lmdb.Transaction:
        try:
            pin = self._env.begin()
        except lmdb.Error as error:
            # After a failed write of a meta page LMDB refuses everything until it is opened anew.
            raise StorageFailed(f"{self._path}: {error}") from error
        self._assert_pinned(pin)
        return pin

    def _assert_pinned(self, pin: lmdb.Transaction) -> None:
        """Invariant Pinned, as LMDB's own reader table has it: rows of pid, thread, txnid."""
        rows = [line.split() for line in self._env.readers().splitlines()]
        wanted = (str(os.getpid()), str(pin.id()))
        assert any((row[0], row[-1]) == wanted for row in rows if row), (wanted, rows)

    def _flush(self, cp: Checkpoint, end_bytes: int) -> None:
        """The thread: flush the map, then write the checkpoint."""
        try:
            piece = max(_PIECE_BYTES_MIN, -(-end_bytes // _PIECES_MAX))
            for offset in range(0, end_bytes, piece):
                self._disk.sync_range(self._fd, offset, piece)
            self._disk.flush_map(self._env, self._path)
            write(self._data_dir, self._disk, cp)
            self._durable = cp
        except (StorageFailed, StorageFull) as error:
            self._failure = error
        except lmdb.Error as error:
            self._failure = StorageFailed(f"flush {self._path}: {error}")
        finally:
            self._finished = True
            if self.on_done is not None:
                self.on_done()
