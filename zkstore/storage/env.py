"""Opens and closes a replica's data directory: lock, format, recovery, reserve.

Owns:   the directory's lock, the LMDB environment, journal and checkpointer of the process that
        writes; the lock and the environment of a process that only reads.
Invariants:
  1. Alone: whoever has the environment open holds the lock, shared; recovery holds it exclusively,
     so nobody is attached while LMDB's lock file and meta pages are replaced.
  2. OnePath: every stop, of the process or of the machine, is recovered the same way: meta pages of
     the checkpoint back, journal replayed (nothing after a clean stop). What LMDB wrote after the
     checkpoint is never trusted.
  3. NothingForgotten: a directory without a checkpoint is made anew only if nothing was ever stored
     in it. The file `format` is written last; where it is, a checkpoint must be.
Design: one unnamed database of LMDB, never a writable map (a sparse map on a full disk is a
  SIGBUS), no read-ahead (a tree larger than memory is read at random; read-ahead would evict what
  is in use), no flush of its own: the checkpointer does it. A tree that came in as a whole takes
  the old one's place with a checkpoint that names it: a name anywhere else would be one more state
  that a crash can leave.
Not here: replaying (the writer does), key layout (schema.py).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import lmdb

from zkstore.errors import (
    CorruptionError,
    StorageFailed,
    StorageFull,
    ZkstoreError,
)
from zkstore.storage import checkpoint, format_version, journal
from zkstore.storage.checkpoint import Checkpoint, Checkpointer
from zkstore.storage.disk import Disk
from zkstore.storage.format_version import FORMAT
from zkstore.storage.journal import Journal, JournalPosition
from zkstore.storage.lock import DirectoryLock

FIRST_GENERATION: Final = 1
# Workers hold one slot each, tools and checkpoints a few; a slot is 64 bytes.
READERS_MAX: Final = 512
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")  # LMDB's page size in a file made here
FULL_BYTES: Final = 1 << 20  # free on a disk that is as good as full
# Begins a file that a helper keeps to itself: it has a name only until it is open.
FROZEN_NAME: Final = "frozen."
SUSPECT_NAME: Final = "suspect"  # a file: the data is checked before it is served again
_SUBDIRECTORY: Final = "zkstore"
_FORMAT_NAME: Final = "format"
_DATA_NAME: Final = re.compile(r"data\.(\d+)\.mdb")


def storage_dir(data_dir: Path) -> Path:
    """Where zkstore keeps its files under a dataDir or dataLogDir of the configuration."""
    return data_dir / _SUBDIRECTORY


def data_path(directory: Path, generation: int) -> Path:
    return directory / f"data.{generation}.mdb"


def building_path(path: Path) -> Path:
    """What a data file is called until it takes its place."""
    return path.with_name(path.name + ".new")


def _remove_foreign(directory: Path, disk: Disk, generation: int) -> None:
    """Remove the data files of other generations, and what helpers that were killed have left."""
    kept = data_path(directory, generation).name
    for name in disk.listdir(directory):
        found = _DATA_NAME.match(name)
        if name.startswith(FROZEN_NAME) or (found is not None and found[0] != kept):
            disk.unlink(directory / name)


@dataclass(slots=True)
class Replica:
    """An open data directory, for the one process that writes it."""

    env: lmdb.Environment
    journal: Journal
    checkpointer: Checkpointer
    replay: list[bytes]  # journal payloads from the checkpoint on; skip what is <= applied
    reflected: int  # of so many of them the tree has the truncations already
    position: JournalPosition  # of the first of them
    # Acknowledged records are lost (`journal.damage` says where): do not vote; a lone server does
    # not serve. No checkpoint can be taken before `accept_damage`.
    journal_damaged: bool
    generation: int
    applied: int  # of the checkpoint that LMDB stands at now
    accepted_epoch: int
    current_epoch: int
    whole: bool  # as zab/ready.py's HardState
    fresh: bool  # made just now
    clean: bool  # the last stop was clean
    path: Path  # of the data file
    locks: list[DirectoryLock]
    disk: Disk
    map_size_bytes: int
    # Payloads behind the journal's damage: what they promise counts, what they append does not.
    behind_damage: list[bytes]
    # Called with the path of the data file that has taken the old one's place.
    on_moved: list[Callable[[Path], None]] = field(default_factory=list)

    def close(
        self,
        *,
        applied: int,
        accepted_epoch: int,
        current_epoch: int,
        whole: bool = True,
        position: JournalPosition | None = None,
        reflected: int = 0,
    ) -> None:
        """Clean stop: a last checkpoint, marked clean, then close everything.

        `position`: of the first record that is still needed; None: of none.

        While `journal_damaged` is set there is none: it would hide the damage from the next start.
        Raises: StorageFull, StorageFailed: closed all the same; the next start replays.
        """
        if self.journal_damaged:
            self.abandon()
            return
        try:
            self.checkpointer.wait()
            self.checkpointer.take(
                applied=applied,
                accepted_epoch=accepted_epoch,
                current_epoch=current_epoch,
                position=position or self.journal.end,
                clean=True,
                whole=whole,
                reflected=reflected,
            )
        finally:
            self.abandon()

    def move(
        self, generation: int, *, applied: int, accepted_epoch: int, current_epoch: int, whole: bool
    ) -> None:
        """Go on in `data.<generation>.mdb.new`, which is whole and flushed.

        The checkpoint that names it is the one step that a crash finds done or not: before it the
        old file and the journal count, after it the new file, and nothing that is in the journal.
        Order:  no view of this process is open.
        Raises: StorageFull: nothing has changed; StorageFailed: stop.
        """
        try:
            self.checkpointer.wait()
        except StorageFull:
            pass  # the one under way is not needed any more
        disk, old = self.disk, self.path
        path = data_path(old.parent, generation)
        disk.rename(building_path(path), path)
        disk.fsync_dir(path.parent)
        env = _open_env(path, self.map_size_bytes)
        checkpointer = Checkpointer(env, path, disk, generation=generation)
        try:
            checkpointer.take(
                applied=applied,
                accepted_epoch=accepted_epoch,
                current_epoch=current_epoch,
                position=self.journal.end,
                whole=whole,
                reflected=self.journal.end.sequence,
            )
        except StorageFull:
            checkpointer.close()
            env.close()
            raise
        checkpointer.on_done = self.checkpointer.on_done
        self.checkpointer.close()
        self.env.close()
        self.env, self.checkpointer, self.path = env, checkpointer, path
        self.generation, self.applied, self.whole = generation, applied, whole
        self.accept_damage()
        _remove_foreign(path.parent, disk, generation)
        if (path.parent / SUSPECT_NAME).exists():
            disk.unlink(path.parent / SUSPECT_NAME)
        self.journal.recycle(self.journal.end)
        for told in self.on_moved:
            told(path)

    def free_bytes(self) -> int:
        """Free on the file system of the data file."""
        return Disk().free_bytes(self.path)

    def end_bytes(self) -> int:
        """Where the last page of the data file ends."""
        last: int = self.env.info()["last_pgno"]
        page: int = self.env.stat()["psize"]
        return (last + 1) * page

    def newest_id(self) -> int:
        """LMDB's id of the last commit."""
        newest: int = self.env.info()["last_txnid"]
        return newest

    def open_views(self) -> Iterator[tuple[int, int]]:
        """(pid, LMDB's transaction id) of every open view, dead readers cleared first."""
        self.env.reader_check()
        for line in self.env.readers().splitlines():
            fields = line.split()
            if len(fields) == 3 and fields[0].isdigit() and fields[2].isdigit():
                yield int(fields[0]), int(fields[2])

    def accept_damage(self) -> None:
        """The lost records came back from a peer, or whoever owns the data says to go on without.

        The next checkpoint puts the journal's damage behind it.
        """
        self.journal_damaged = False
        self.checkpointer.damage = ""

    def abandon(self) -> None:
        """Close everything as it is; the next start recovers."""
        self.checkpointer.close()
        self.journal.close()
        self.env.close()
        for lock in self.locks:
            lock.release()


@dataclass(slots=True)
class Reader:
    """An open data directory, for a process that only reads."""

    env: lmdb.Environment
    generation: int
    path: Path
    lock: DirectoryLock

    def reopen(self) -> lmdb.Environment:
        """Go on with the data file that the checkpoint names now; no view is open.

        Raises: CorruptionError.
        """
        directory = self.path.parent
        cp = checkpoint.read(directory, Disk())
        if cp is None:
            raise CorruptionError(f"{directory / checkpoint.NAME}: missing")
        self.env.close()
        self.generation, self.path = cp.generation, data_path(directory, cp.generation)
        self.env = _open_env(self.path, 0, readonly=True)
        return self.env

    def close(self) -> None:
        self.env.close()
        self.lock.release()


def open_replica(
    data_dir: Path,
    log_dir: Path,
    *,
    disk: Disk,
    map_size_bytes: int,
    journal_segment_bytes: int,
    flush: bool = True,
) -> Replica:
    """Open `<data_dir>/zkstore` (journal in `<log_dir>/zkstore`), making or recovering it.

    Order:  the caller replays `replay`, then serves; all of it is on the device.
    Raises: DirectoryInUse, FormatError, CorruptionError, StorageFull, StorageFailed.
    """
    directory, log_directory = storage_dir(data_dir), storage_dir(log_dir)
    for each in {directory, log_directory}:
        disk.mkdir(each)
    with ExitStack() as undo:
        locks = []
        for each in sorted({directory.resolve(), log_directory.resolve()}):
            lock = DirectoryLock(each)
            undo.callback(lock.release)
            lock.take(exclusive=True)
            locks.append(lock)
        check_format(directory, disk)
        cp = checkpoint.read(directory, disk)
        fresh = cp is None
        if cp is None:
            _refuse_used(directory, log_directory, disk)
            cp = _create(directory, log_directory, disk, map_size_bytes, journal_segment_bytes)
        replica = _recover(
            directory, log_directory, disk, cp, map_size_bytes, journal_segment_bytes
        )
        undo.callback(replica.abandon)
        write_format(directory, disk)
        for lock in locks:
            lock.take(exclusive=False)
        undo.pop_all()
    replica.fresh = fresh
    replica.journal.flush = flush
    replica.locks.extend(locks)
    return replica


def open_reader(data_dir: Path, *, map_size_bytes: int = 0) -> Reader:
    """Open `<data_dir>/zkstore` for reading, beside the process that writes it or without one.

    `map_size_bytes`: as the writer's; 0: as stored in the file.
    Raises: DirectoryInUse while it is recovered, FileNotFoundError if there is nothing,
            FormatError, CorruptionError.
    """
    directory, disk = storage_dir(data_dir), Disk()
    if not (directory / checkpoint.NAME).exists():
        raise FileNotFoundError(f"{directory} holds no data of zkstore")
    with ExitStack() as undo:
        lock = DirectoryLock(directory)
        undo.callback(lock.release)
        lock.take(exclusive=False)
        check_format(directory, disk)
        cp = checkpoint.read(directory, disk)
        if cp is None:
            raise CorruptionError(f"{directory / checkpoint.NAME}: missing")
        path = data_path(directory, cp.generation)
        env = _open_env(path, map_size_bytes, readonly=True)
        undo.pop_all()
    return Reader(env, cp.generation, path, lock)


_DAMAGED: Final = (
    lmdb.InvalidError,
    lmdb.CorruptedError,
    lmdb.PageNotFoundError,
    lmdb.VersionMismatchError,
)


def storage_error(error: lmdb.Error, what: str, free_bytes: int = FULL_BYTES + 1) -> ZkstoreError:
    """What an error of LMDB means: no room, damage, or a disk that is not to be trusted.

    LMDB tells a write that was cut short as EIO; where nothing is free that is a full disk. A
    commit is never flushed, so there is nothing that could have been lost.
    """
    cut_short = free_bytes <= FULL_BYTES and not isinstance(error, (*_DAMAGED, lmdb.PanicError))
    if cut_short or isinstance(error, (lmdb.DiskError, lmdb.MapFullError)):
        return StorageFull(f"{what}: {error}")
    if isinstance(error, _DAMAGED):
        return CorruptionError(f"{what}: {error}")
    return StorageFailed(f"{what}: {error}")


def _open_env(path: Path, map_size_bytes: int, *, readonly: bool = False) -> lmdb.Environment:
    """Open LMDB. Raises: StorageFull, StorageFailed, CorruptionError."""
    try:
        return lmdb.open(
            str(path),
            subdir=False,
            readonly=readonly,
            max_dbs=0,
            map_size=map_size_bytes,
            max_readers=READERS_MAX,
            sync=False,
            readahead=False,
            mode=0o644,
        )
    except lmdb.Error as error:
        raise storage_error(error, str(path)) from error


def _read_file(path: Path, disk: Disk) -> bytes | None:
    try:
        fd = disk.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        return disk.pread(fd, disk.size(fd), 0)
    finally:
        disk.close(fd)


def check_format(directory: Path, disk: Disk) -> None:
    """Refuse a format that is not ours, and a directory that has lost its checkpoint."""
    path = directory / _FORMAT_NAME
    content = _read_file(path, disk)
    if content is None:
        return
    format_version.check(content, str(path))
    if _read_file(directory / checkpoint.NAME, disk) is None:
        raise CorruptionError(
            f"{directory / checkpoint.NAME}: missing, and without it the data beside it cannot be"
            " trusted; restore it from a backup, or move the directory away to start from nothing"
        )


def write_format(directory: Path, disk: Disk) -> None:
    path = directory / _FORMAT_NAME
    if _read_file(path, disk) is not None:
        return
    fresh = path.with_name(path.name + ".tmp")
    fd = disk.open(fresh, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    try:
        disk.pwrite(fd, format_version.encode(), 0)
        disk.fsync(fd)
    finally:
        disk.close(fd)
    disk.rename(fresh, path)
    disk.fsync_dir(directory)


def _refuse_used(directory: Path, log_directory: Path, disk: Disk) -> None:
    """Raise CorruptionError unless all that is here is what an interrupted creation leaves.

    That is: data files of at most two pages (LMDB's meta pages, torn perhaps), empty journals.
    """
    for name in disk.listdir(directory):
        if _DATA_NAME.fullmatch(name) and len(_read_head(directory / name, disk, 3)) > 2 * _PAGE:
            raise CorruptionError(f"{directory / name} holds data, but the checkpoint is missing")
    if journal.holds_records(log_directory, disk):
        raise CorruptionError(
            f"{log_directory} holds journal records that belong to no checkpoint in {directory}"
        )


def _read_head(path: Path, disk: Disk, pages: int) -> bytes:
    fd = disk.open(path, os.O_RDONLY)
    try:
        return disk.pread(fd, pages * _PAGE, 0)
    finally:
        disk.close(fd)


def _create(
    directory: Path, log_directory: Path, disk: Disk, map_size_bytes: int, segment_bytes: int
) -> Checkpoint:
    """Make an empty journal, an empty tree, and the checkpoint that names them, in this order."""
    for number in journal.segment_numbers(log_directory, disk):
        disk.unlink(journal.segment_path(log_directory, number))
    for name in disk.listdir(directory):
        if _DATA_NAME.fullmatch(name.removesuffix("-lock")) is not None:
            disk.unlink(directory / name)
    created = Journal.create(log_directory, disk, segment_bytes=segment_bytes)
    position = created.end
    created.close()
    path = data_path(directory, FIRST_GENERATION)
    env = _open_env(path, map_size_bytes)
    try:
        disk.flush_map(env, path)
    except lmdb.Error as error:
        raise StorageFailed(f"flush {path}: {error}") from error
    finally:
        env.close()
    cp = Checkpoint(FORMAT, FIRST_GENERATION, 0, 0, 0, position, True, _read_head(path, disk, 2))
    disk.fsync_dir(directory)  # LMDB has made its file, but not its name durable
    checkpoint.write(directory, disk, cp)
    return cp


def _recover(
    directory: Path,
    log_directory: Path,
    disk: Disk,
    cp: Checkpoint,
    map_size_bytes: int,
    segment_bytes: int,
) -> Replica:
    """Go back to the checkpoint and read the journal since; under the exclusive lock."""
    path = data_path(directory, cp.generation)
    try:
        disk.unlink(path.with_name(path.name + "-lock"))
    except FileNotFoundError:
        pass  # a restored backup has none
    _remove_foreign(directory, disk, cp.generation)
    _restore_meta_pages(path, disk, cp)
    env = _open_env(path, map_size_bytes)
    with ExitStack() as undo:
        undo.callback(env.close)
        checkpointer = Checkpointer(env, path, disk, generation=cp.generation)
        undo.callback(checkpointer.close)
        recovered, payloads, damaged = Journal.recover(
            log_directory, disk, cp.position, segment_bytes=segment_bytes
        )
        checkpointer.damage = recovered.damage
        behind = journal.whole_behind_damage(log_directory, disk, cp.position) if damaged else []
        undo.pop_all()
    return Replica(
        env=env,
        journal=recovered,
        checkpointer=checkpointer,
        replay=payloads,
        reflected=max(0, cp.reflected - cp.position.sequence),
        position=cp.position,
        journal_damaged=damaged,
        generation=cp.generation,
        applied=cp.applied,
        accepted_epoch=cp.accepted_epoch,
        current_epoch=cp.current_epoch,
        whole=cp.whole,
        fresh=False,
        clean=cp.clean and not payloads,
        path=path,
        locks=[],
        disk=disk,
        map_size_bytes=map_size_bytes,
        behind_damage=behind,
    )


def _restore_meta_pages(path: Path, disk: Disk, cp: Checkpoint) -> None:
    """Make the checkpoint's state the one that LMDB opens. Raises: CorruptionError."""
    meta = checkpoint.newest_meta(cp.meta_pages, str(path.with_name(checkpoint.NAME)))
    try:
        fd = disk.open(path, os.O_RDWR)
    except FileNotFoundError:
        raise CorruptionError(f"{path}: missing, the checkpoint names it") from None
    try:
        size = disk.size(fd)
        if size < meta.end_bytes:
            raise CorruptionError(
                f"{path}: offset {size}: ends before its last page, {meta.end_bytes}"
            )
        disk.pwrite(fd, cp.meta_pages, 0)
    finally:
        disk.close(fd)


class Reserve:
    """Keeps space allocated past the last page, so that LMDB's own writes never find the disk full.

    Out of it deletes, session closes and checkpoints go on while writes that grow are refused.
    LMDB grows its file only by writing pages and never truncates it, so it simply uses this space.
    Where space cannot be allocated cheaply (tmpfs: it is memory; file systems without fallocate),
    free space is looked at instead.
    """

    def __init__(self, path: Path, disk: Disk, reserve_bytes: int) -> None:
        self._disk = disk
        self._reserve_bytes = reserve_bytes
        # Allocated in steps: one system call per quarter of the reserve that the file grows.
        self._step_bytes = reserve_bytes // 4
        self._open(path)

    def _open(self, path: Path) -> None:
        self._path = path
        self._fd = self._disk.open(path, os.O_RDWR)
        size = self._disk.size(self._fd)
        self._allocated_upto = size if self._disk.allocated(self._fd) >= size else 0
        self._can_allocate = True

    def move(self, path: Path) -> None:
        """Stand behind another file from now on."""
        self.close()
        self._open(path)

    def ensure(self, last_page_bytes: int) -> bool:
        """Whether the reserve stands beyond `last_page_bytes`, where LMDB's last page ends.

        False: refuse writes that grow. Costs a comparison while nothing has changed.
        """
        needed = last_page_bytes + self._reserve_bytes
        if needed <= self._allocated_upto:
            return True
        missing = needed + self._step_bytes - max(self._allocated_upto, last_page_bytes)
        if self._disk.free_bytes(self._path) < missing:
            # Asked first: an allocation that fails half-way keeps what it got, to the last block.
            return False
        if self._can_allocate:
            try:
                self._can_allocate = self._disk.allocate(
                    self._fd, last_page_bytes, self._reserve_bytes + self._step_bytes
                )
            except StorageFull:
                return False
        if self._can_allocate:
            self._allocated_upto = needed + self._step_bytes
        return True

    def close(self) -> None:
        self._disk.close(self._fd)
