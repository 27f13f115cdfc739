"""storage/checkpoint.py: the file, and what a checkpoint pins while commits go on."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import lmdb
import pytest

from zkstore.errors import CorruptionError, FormatError, StorageFailed, StorageFull
from zkstore.storage import checkpoint
from zkstore.storage.checkpoint import Checkpoint, Checkpointer
from zkstore.storage.disk import Disk, FlushableMap
from zkstore.storage.format_version import FORMAT
from zkstore.storage.journal import JournalPosition

POSITION: Final = JournalPosition(3, 4096, 77)
MARK: Final[dict[str, Any]] = {
    "applied": 5,
    "accepted_epoch": 2,
    "current_epoch": 1,
    "position": POSITION,
}


class GatedDisk(Disk):
    """Holds the flush of the map until `gate` is set, and fails on demand."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.gate.set()
        self.flush_fails = False
        self.full = False
        self.calls: list[str] = []

    def flush_map(self, env: FlushableMap, path: Path) -> None:
        self.gate.wait()
        self.calls.append("flush map")
        if self.flush_fails:
            raise StorageFailed("flush")
        super().flush_map(env, path)

    def fsync(self, fd: int) -> None:
        self.calls.append(f"flush {os.path.basename(self.path_of(fd))}")
        super().fsync(fd)

    def pwrite(self, fd: int, data: bytes | bytearray | memoryview, offset: int) -> None:
        if self.full:
            raise StorageFull("no room")
        super().pwrite(fd, data, offset)

    def rename(self, source: Path, target: Path) -> None:
        self.calls.append(f"rename {target.name}")
        super().rename(source, target)


class Setting:
    """A tree and its checkpointer."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "data.1.mdb"
        self.disk = GatedDisk()
        self.env = lmdb.open(
            str(self.path), subdir=False, max_dbs=0, map_size=1 << 26, sync=False, mode=0o644
        )
        self.checkpointer = Checkpointer(self.env, self.path, self.disk, generation=1)

    def put(self, key: bytes, size: int = 100) -> None:
        with self.env.begin(write=True) as txn:
            txn.put(key, os.urandom(size))

    def pinned(self) -> list[int]:
        """The txnids in LMDB's reader table, rising."""
        rows = [line.split() for line in self.env.readers().splitlines()]
        return sorted(int(row[-1]) for row in rows if row and row[-1].isdecimal())


@pytest.fixture
def setting(tmp_path: Path) -> Iterator[Setting]:
    made = Setting(tmp_path)
    yield made
    made.disk.gate.set()
    made.checkpointer.close()
    made.env.close()


def example() -> Checkpoint:
    return Checkpoint(FORMAT, 1, 5, 2, 1, POSITION, True, bytes(range(256)) * 32)


# ---- the file


def test_written_and_read_back(tmp_path: Path) -> None:
    assert checkpoint.read(tmp_path, Disk()) is None
    for applied in (1, -1, (1 << 63) - 1):
        written = replace(example(), applied=applied, clean=applied > 0)
        checkpoint.write(tmp_path, Disk(), written)
        assert checkpoint.read(tmp_path, Disk()) == written


def test_a_flipped_bit_anywhere_is_corruption_and_named(tmp_path: Path) -> None:
    checkpoint.write(tmp_path, Disk(), example())
    path = tmp_path / "checkpoint"
    whole = path.read_bytes()
    for offset in [*range(100), *range(100, len(whole), 97), len(whole) - 1]:
        damaged = bytearray(whole)
        damaged[offset] ^= 1
        path.write_bytes(damaged)
        with pytest.raises((CorruptionError, FormatError), match=str(path)):
            checkpoint.read(tmp_path, Disk())
    for size in (0, 7, 50, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(CorruptionError, match=str(path)):
            checkpoint.read(tmp_path, Disk())


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    checkpoint.write(tmp_path, Disk(), replace(example(), format=FORMAT + 1))
    with pytest.raises(FormatError, match=f"format {FORMAT + 1}"):
        checkpoint.read(tmp_path, Disk())


def test_the_next_one_finds_its_blocks_allocated(tmp_path: Path) -> None:
    checkpoint.write(tmp_path, Disk(), example())
    spare = (tmp_path / "checkpoint.tmp").stat()
    size = (tmp_path / "checkpoint").stat().st_size
    assert (spare.st_size, spare.st_blocks * 512 >= size) in ((size, True), (0, False))
    shorter = replace(example(), meta_pages=b"short")
    checkpoint.write(tmp_path, Disk(), shorter)
    assert checkpoint.read(tmp_path, Disk()) == shorter


def test_without_room_the_old_one_stands(tmp_path: Path) -> None:
    disk = GatedDisk()
    checkpoint.write(tmp_path, disk, example())
    disk.full = True
    with pytest.raises(StorageFull):
        checkpoint.write(tmp_path, disk, replace(example(), applied=6))
    assert checkpoint.read(tmp_path, disk) == example()


# ---- taking one


def test_the_order_of_flushes(setting: Setting) -> None:
    setting.put(b"a")
    setting.checkpointer.take(**MARK)
    folder = setting.folder.name
    assert setting.disk.calls == [
        "flush map",
        "flush checkpoint.tmp",
        "rename checkpoint",
        f"flush {folder}",
    ]


def test_it_names_the_state_at_its_begin_while_commits_go_on(setting: Setting) -> None:
    setting.put(b"a")
    txnid = setting.env.info()["last_txnid"]
    setting.disk.gate.clear()
    setting.checkpointer.begin(**MARK)
    assert setting.checkpointer.busy
    for n in range(20):
        setting.put(b"b%d" % n)
    assert setting.checkpointer.poll() is None
    assert checkpoint.read(setting.folder, Disk()) is None
    setting.disk.gate.set()
    done = setting.checkpointer.wait()
    assert done == checkpoint.read(setting.folder, Disk())
    assert done is not None
    assert checkpoint.newest_meta(done.meta_pages, "it").txnid == txnid
    assert (done.applied, done.accepted_epoch, done.current_epoch) == (5, 2, 1)
    assert (done.position, done.clean, done.generation) == (POSITION, False, 1)
    assert not setting.checkpointer.busy


def test_pinned_until_the_next_one_is_durable(setting: Setting) -> None:
    """Invariant Pinned: at no moment is the state of the durable checkpoint without a reader."""
    assert setting.pinned() == [0]
    setting.put(b"a")
    setting.checkpointer.take(**MARK)
    assert setting.pinned() == [1]
    setting.put(b"b")
    setting.put(b"c")
    setting.disk.gate.clear()
    setting.checkpointer.begin(**MARK)
    setting.put(b"d")
    assert setting.pinned() == [1, 3]
    setting.disk.gate.set()
    setting.checkpointer.wait()
    assert setting.pinned() == [3]


def test_every_page_of_a_checkpoint_stays_as_it_was_while_it_is_pinned(setting: Setting) -> None:
    for n in range(200):
        setting.put(b"key%d" % n, 500)
    done = setting.checkpointer.take(**MARK)
    with setting.env.begin() as view:
        wanted = dict(view.cursor())
    for n in range(2000):
        setting.put(b"key%d" % (n % 200), 500)
    copy = setting.folder / "copy.mdb"
    content = bytearray(setting.path.read_bytes())
    content[: len(done.meta_pages)] = done.meta_pages
    copy.write_bytes(content)
    with (
        lmdb.open(str(copy), subdir=False, lock=False, readonly=True, map_size=1 << 26) as env,
        env.begin() as view,
    ):
        assert dict(view.cursor()) == wanted


def test_a_failed_flush_is_fatal_and_the_old_checkpoint_stands(setting: Setting) -> None:
    first = setting.checkpointer.take(**MARK)
    setting.put(b"a")
    setting.disk.flush_fails = True
    with pytest.raises(StorageFailed):
        setting.checkpointer.take(**MARK)
    assert checkpoint.read(setting.folder, Disk()) == first
    assert setting.pinned() == [0]


def test_a_full_disk_only_puts_it_off(setting: Setting) -> None:
    setting.put(b"a")
    setting.disk.full = True
    with pytest.raises(StorageFull):
        setting.checkpointer.take(**MARK)
    assert not setting.checkpointer.busy
    setting.disk.full = False
    assert setting.checkpointer.take(**MARK) == checkpoint.read(setting.folder, Disk())


def test_whoever_waits_is_told(setting: Setting) -> None:
    told = threading.Event()
    setting.checkpointer.on_done = told.set
    setting.checkpointer.begin(**MARK)
    assert told.wait(60)
    assert setting.checkpointer.wait() is not None
    told.clear()
    setting.disk.flush_fails = True
    setting.checkpointer.begin(**MARK)
    assert told.wait(60)
    with pytest.raises(StorageFailed):
        setting.checkpointer.wait()


def test_who_is_told_finds_it_done(setting: Setting) -> None:
    """The flush thread itself is not over when it tells; a single poll must do."""
    told, polling = threading.Event(), threading.Event()

    def tell() -> None:
        told.set()
        polling.wait(60)

    setting.checkpointer.on_done = tell
    setting.checkpointer.begin(**MARK)
    assert told.wait(60)
    threading.Timer(0.05, polling.set).start()
    assert setting.checkpointer.poll() is not None


def test_last_pages_that_were_never_written_are_made_up_for(setting: Setting) -> None:
    """Pages taken at the end and given back in one transaction count, but are not written."""
    with setting.env.begin(write=True) as txn:
        txn.put(b"a", b"x")
        txn.put(b"large", bytes(100_000))
        txn.delete(b"large")
    done = setting.checkpointer.take(**MARK)
    meta = checkpoint.newest_meta(done.meta_pages, "it")
    assert meta.end_bytes > 100_000
    assert setting.path.stat().st_size >= meta.end_bytes
