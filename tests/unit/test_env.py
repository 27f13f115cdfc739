"""storage/env.py: who may open a data directory, and what becomes of it then."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from zkstore.errors import (
    CorruptionError,
    DirectoryInUse,
    FormatError,
    StorageFailed,
    StorageFull,
)
from zkstore.storage import checkpoint, format_version
from zkstore.storage.disk import Disk, FlushableMap
from zkstore.storage.env import Replica, Reserve, open_reader, open_replica, storage_dir
from zkstore.storage.format_version import FORMAT

MAP_BYTES: Final = 1 << 40
SEGMENT_BYTES: Final = 1 << 20
EPOCHS: Final[dict[str, Any]] = {"accepted_epoch": 4, "current_epoch": 3}


def open_at(data_dir: Path, log_dir: Path | None = None, disk: Disk | None = None) -> Replica:
    return open_replica(
        data_dir,
        log_dir or data_dir,
        disk=disk or Disk(),
        map_size_bytes=MAP_BYTES,
        journal_segment_bytes=SEGMENT_BYTES,
    )


def put(replica: Replica, key: bytes, value: bytes = b"x") -> None:
    with replica.env.begin(write=True) as txn:
        txn.put(key, value)


def keys(replica: Replica) -> list[bytes]:
    with replica.env.begin() as view, view.cursor() as cursor:
        return list(cursor.iternext(keys=True, values=False))


# ---- creating, stopping, recovering


def test_a_fresh_directory(tmp_path: Path) -> None:
    replica = open_at(tmp_path / "deep" / "data")
    directory = tmp_path / "deep" / "data" / "zkstore"
    assert (replica.fresh, replica.replay, replica.applied) == (True, [], 0)
    assert (replica.accepted_epoch, replica.current_epoch, replica.generation) == (0, 0, 1)
    assert replica.path == directory / "data.1.mdb"
    assert (directory / "format").read_text() == f"zkstore data format {FORMAT}\n"
    assert {"format", "data.1.mdb", "checkpoint", "lock", "journal.1"} <= set(os.listdir(directory))
    assert replica.path.stat().st_size < 1 << 20
    replica.abandon()


def test_a_fresh_directory_is_made_at_once(tmp_path: Path) -> None:
    """Little is written, in few steps that wait for the device; how fast that is, is its affair."""
    waits: list[str] = []

    class Counting(Disk):
        def flush(self, fd: int) -> None:
            waits.append(self.path_of(fd))
            super().flush(fd)

        def fsync(self, fd: int) -> None:
            waits.append(self.path_of(fd))
            super().fsync(fd)

        def fsync_dir(self, path: Path) -> None:
            waits.append(str(path))
            super().fsync_dir(path)

        def flush_map(self, env: FlushableMap, path: Path) -> None:
            waits.append(str(path))
            super().flush_map(env, path)

    open_at(tmp_path, disk=Counting()).abandon()
    directory = storage_dir(tmp_path)
    assert sum(path.stat().st_size for path in directory.iterdir()) < 2 << 20
    assert 0 < len(waits) <= 16, waits


def test_a_clean_stop_needs_no_replay(tmp_path: Path) -> None:
    replica = open_at(tmp_path)
    replica.journal.append(b"record")
    put(replica, b"a")
    replica.close(applied=7, **EPOCHS)
    again = open_at(tmp_path)
    assert (again.fresh, again.clean, again.replay, again.applied) == (False, True, [], 7)
    assert (again.accepted_epoch, again.current_epoch) == (4, 3)
    assert keys(again) == [b"a"]
    again.abandon()


def test_after_any_other_stop_it_stands_at_the_checkpoint_with_the_journal_since(
    tmp_path: Path,
) -> None:
    replica = open_at(tmp_path)
    put(replica, b"before")
    replica.checkpointer.take(applied=1, position=replica.journal.end, **EPOCHS)
    replica.journal.append(b"since")
    put(replica, b"after")
    replica.abandon()
    for _ in range(2):
        again = open_at(tmp_path)
        assert (again.clean, again.replay, again.applied) == (False, [b"since"], 1)
        assert keys(again) == [b"before"]
        again.abandon()


def test_the_recovered_state_is_pinned_until_the_first_checkpoint(tmp_path: Path) -> None:
    """Replaying frees pages of the checkpoint that is still the only one on the disk."""
    replica = open_at(tmp_path)
    for n in range(50):
        put(replica, b"%d" % n, bytes(500))
    replica.checkpointer.take(applied=1, position=replica.journal.end, **EPOCHS)
    replica.abandon()
    for _ in range(3):
        again = open_at(tmp_path)
        assert len(keys(again)) == 50
        for n in range(300):  # a replay that never ends with a checkpoint
            put(again, b"%d" % (n % 50), os.urandom(500))
        again.abandon()
    again = open_at(tmp_path)
    with again.env.begin() as view:
        assert all(value == bytes(500) for _, value in view.cursor())
    again.abandon()


def test_the_journal_may_be_in_a_directory_of_its_own(tmp_path: Path) -> None:
    data_dir, log_dir = tmp_path / "data", tmp_path / "log"
    replica = open_at(data_dir, log_dir)
    replica.journal.append(b"record")
    replica.abandon()
    assert (log_dir / "zkstore" / "journal.1").exists()
    assert not (data_dir / "zkstore" / "journal.1").exists()
    again = open_at(data_dir, log_dir)
    assert again.replay == [b"record"]
    again.abandon()


def test_a_damaged_journal_is_said_and_stays_said(tmp_path: Path) -> None:
    replica = open_at(tmp_path)
    at = replica.journal.append(b"damaged")
    replica.journal.append(b"whole")
    replica.abandon()
    path = tmp_path / "zkstore" / "journal.1"
    content = bytearray(path.read_bytes())
    content[at.offset + 21] ^= 1
    path.write_bytes(content)
    for _ in range(2):
        again = open_at(tmp_path)
        assert again.journal_damaged
        assert str(path) in again.journal.damage
        with pytest.raises(CorruptionError, match=str(path)):
            again.checkpointer.take(applied=0, position=again.journal.end, **EPOCHS)
        again.close(applied=0, **EPOCHS)  # takes no checkpoint
    again = open_at(tmp_path)
    again.accept_damage()
    again.close(applied=9, **EPOCHS)
    again = open_at(tmp_path)
    assert (again.journal_damaged, again.applied) == (False, 9)
    again.abandon()


def test_a_lost_log_directory_is_damage(tmp_path: Path) -> None:
    replica = open_at(tmp_path / "data", tmp_path / "log")
    replica.close(applied=1, **EPOCHS)
    again = open_at(tmp_path / "data", tmp_path / "other")
    assert again.journal_damaged
    assert "missing" in again.journal.damage
    again.abandon()


# ---- what is refused


def test_a_second_opener_is_refused_and_told_by_whom(tmp_path: Path) -> None:
    replica = open_at(tmp_path)
    with pytest.raises(DirectoryInUse, match=f"process {os.getpid()}"):
        open_at(tmp_path)
    put(replica, b"a")
    replica.close(applied=1, **EPOCHS)
    open_at(tmp_path).abandon()


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    replica = open_at(tmp_path)
    program = (
        "import sys; from pathlib import Path; from tests.unit.test_env import open_at\n"
        "open_at(Path(sys.argv[1]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert f"DirectoryInUse: {tmp_path}" in done.stderr
    assert str(os.getpid()) in done.stderr
    replica.abandon()


def test_two_replicas_cannot_share_a_log_directory(tmp_path: Path) -> None:
    replica = open_at(tmp_path / "a", tmp_path / "log")
    with pytest.raises(DirectoryInUse):
        open_at(tmp_path / "b", tmp_path / "log")
    replica.abandon()
    with pytest.raises(DirectoryInUse, match="log"):
        again = open_at(tmp_path / "a", tmp_path / "log")
        try:
            open_at(tmp_path / "b", tmp_path / "log")
        finally:
            again.abandon()


def test_a_journal_of_another_replica_is_not_overwritten(tmp_path: Path) -> None:
    replica = open_at(tmp_path / "a", tmp_path / "log")
    replica.journal.append(b"record")
    replica.abandon()
    with pytest.raises(CorruptionError, match="journal records that belong to no checkpoint"):
        open_at(tmp_path / "b", tmp_path / "log")


def test_a_reader_is_refused_during_recovery_and_recovery_while_one_reads(tmp_path: Path) -> None:
    open_at(tmp_path).close(applied=1, **EPOCHS)
    refused = []

    class Recovering(Disk):
        def pwrite(self, fd: int, data: bytes | bytearray | memoryview, offset: int) -> None:
            try:
                open_reader(tmp_path)
            except DirectoryInUse as error:
                refused.append(error)
            super().pwrite(fd, data, offset)

    open_at(tmp_path, disk=Recovering()).abandon()
    assert refused
    reader = open_reader(tmp_path)
    with pytest.raises(DirectoryInUse):
        open_at(tmp_path)
    assert reader.generation == 1
    reader.close()
    open_at(tmp_path).abandon()


def test_a_reader_in_another_process_sees_what_is_committed(tmp_path: Path) -> None:
    replica = open_at(tmp_path)
    put(replica, b"a", b"1")
    program = (
        "import sys; from pathlib import Path; from zkstore.storage.env import open_reader\n"
        "reader = open_reader(Path(sys.argv[1]))\n"
        "for _ in sys.stdin:\n"
        "    with reader.env.begin() as view: print(view.get(b'a').decode(), flush=True)\n"
        "reader.close()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        for value in (b"1", b"2", os.urandom(8).hex().encode()):
            put(replica, b"a", value)
            process.stdin.write("\n")
            process.stdin.flush()
            assert process.stdout.readline().strip() == value.decode()
        process.stdin.close()
        assert process.wait(60) == 0
    replica.abandon()


def test_there_is_nothing_to_read_in_an_empty_directory(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="holds no data"):
        open_reader(tmp_path)
    assert os.listdir(tmp_path) == []


def test_a_newer_format_is_refused_and_nothing_is_changed(tmp_path: Path) -> None:
    open_at(tmp_path).close(applied=1, **EPOCHS)
    path = tmp_path / "zkstore" / "format"
    path.write_text(f"zkstore data format {FORMAT + 1}\n")
    before = {each: each.read_bytes() for each in path.parent.iterdir() if each.name != "lock"}
    for opener in (open_at, open_reader):
        with pytest.raises(FormatError, match=f"format {FORMAT + 1}, this program reads up to"):
            opener(tmp_path)
    after = {each: each.read_bytes() for each in path.parent.iterdir() if each.name != "lock"}
    assert before == after


@pytest.mark.parametrize("content", [b"", b"nonsense", b"zkstore data format x", b"\xff\xfe"])
def test_a_format_file_that_is_none_is_corruption(tmp_path: Path, content: bytes) -> None:
    open_at(tmp_path).close(applied=1, **EPOCHS)
    path = tmp_path / "zkstore" / "format"
    path.write_bytes(content)
    with pytest.raises(CorruptionError, match=str(path)):
        open_at(tmp_path)
    with pytest.raises(CorruptionError):
        format_version.check_number(0, "it")


def test_a_lost_checkpoint_is_never_taken_for_a_fresh_directory(tmp_path: Path) -> None:
    replica = open_at(tmp_path)
    put(replica, b"a")
    replica.close(applied=1, **EPOCHS)
    directory = tmp_path / "zkstore"
    (directory / "checkpoint").unlink()
    with pytest.raises(CorruptionError, match="checkpoint: missing"):
        open_at(tmp_path)
    (directory / "format").unlink()
    with pytest.raises(CorruptionError, match=r"data\.1\.mdb holds data"):
        open_at(tmp_path)


def test_a_creation_that_was_interrupted_is_begun_anew(tmp_path: Path) -> None:
    open_at(tmp_path).abandon()
    directory = tmp_path / "zkstore"
    (directory / "format").unlink()
    open_at(tmp_path).abandon()
    assert (directory / "format").exists()
    (directory / "format").unlink()
    (directory / "checkpoint").unlink()
    (directory / "data.1.mdb").write_bytes(b"torn" * 1000)
    replica = open_at(tmp_path)
    assert replica.fresh
    replica.abandon()


def test_a_data_file_that_is_missing_or_too_short_is_named(tmp_path: Path) -> None:
    replica = open_at(tmp_path)
    for n in range(100):
        put(replica, b"%d" % n, bytes(1000))
    replica.close(applied=1, **EPOCHS)
    path = tmp_path / "zkstore" / "data.1.mdb"
    size = path.stat().st_size
    os.truncate(path, size - 1)
    with pytest.raises(CorruptionError, match=f"{path}: offset {size - 1}"):
        open_at(tmp_path)
    path.unlink()
    with pytest.raises(CorruptionError, match=f"{path}: missing"):
        open_at(tmp_path)


def test_after_a_refusal_the_lock_is_free(tmp_path: Path) -> None:
    class Failing(Disk):
        def pread(self, fd: int, size: int, offset: int) -> bytes:
            raise StorageFailed("read")

    open_at(tmp_path).close(applied=1, **EPOCHS)
    with pytest.raises(StorageFailed):
        open_at(tmp_path, disk=Failing())
    open_at(tmp_path).abandon()


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    def descriptors() -> set[tuple[str, str]]:
        """With what they are of: what others leave behind may be closed at any time."""
        found = set()
        for fd in os.listdir("/proc/self/fd"):
            try:
                found.add((fd, os.readlink(f"/proc/self/fd/{fd}")))
            except FileNotFoundError:
                pass  # that of the listing itself
        return found

    open_at(tmp_path).abandon()
    gc.collect()
    before = descriptors()
    replica = open_at(tmp_path)
    replica.journal.append(bytes(2 * SEGMENT_BYTES))
    replica.checkpointer.take(applied=1, position=replica.journal.end, **EPOCHS)
    replica.close(applied=1, **EPOCHS)
    open_at(tmp_path).abandon()
    open_reader(tmp_path).close()
    with pytest.raises(DirectoryInUse):
        holder = open_at(tmp_path)
        try:
            open_at(tmp_path)
        finally:
            holder.abandon()
    assert descriptors() <= before


# ---- the reserve


class SmallDisk(Disk):
    """Says how much is free; can refuse to allocate."""

    def __init__(self, free: int, *, supported: bool = True) -> None:
        super().__init__()
        self.free = free
        self.supported = supported
        self.asked = 0

    def free_bytes(self, path: Path) -> int:
        self.asked += 1
        return self.free

    def allocate(self, fd: int, offset: int, size: int) -> bool:
        if not self.supported:
            return False
        if size > self.free:
            raise StorageFull("no room")
        os.ftruncate(fd, max(os.fstat(fd).st_size, offset + size))
        return True

    def allocated(self, fd: int) -> int:
        return os.fstat(fd).st_size


@pytest.fixture
def data_file(tmp_path: Path) -> Path:
    path = tmp_path / "data.1.mdb"
    path.write_bytes(bytes(8192))
    return path


def test_the_reserve_stays_allocated_past_the_last_page(data_file: Path) -> None:
    disk = SmallDisk(free=1 << 30)
    reserve = Reserve(data_file, disk, 100_000)
    assert reserve.ensure(8192)
    assert data_file.stat().st_size >= 108_192
    asked = disk.asked
    for end in range(8192, 30_000, 4096):  # cheap while the file has not outgrown it
        assert reserve.ensure(end)
    assert disk.asked == asked
    assert reserve.ensure(200_000)
    assert data_file.stat().st_size >= 300_000
    reserve.close()


def test_without_room_the_reserve_is_refused_until_there_is_some(data_file: Path) -> None:
    disk = SmallDisk(free=1 << 30)
    reserve = Reserve(data_file, disk, 100_000)
    assert reserve.ensure(8192)
    disk.free = 0
    assert reserve.ensure(8192)  # it is there
    assert not reserve.ensure(100_000)  # part of it is used up
    disk.free = 1 << 30
    assert reserve.ensure(100_000)
    reserve.close()


def test_a_reserve_of_an_earlier_run_counts_on_a_full_disk(data_file: Path) -> None:
    disk = SmallDisk(free=1 << 30)
    first = Reserve(data_file, disk, 100_000)
    assert first.ensure(8192)
    first.close()
    disk.free = 0
    second = Reserve(data_file, disk, 100_000)
    assert second.ensure(8192)
    assert not second.ensure(1 << 20)
    second.close()


def test_where_nothing_can_be_allocated_free_space_counts(data_file: Path) -> None:
    disk = SmallDisk(free=1 << 30, supported=False)
    reserve = Reserve(data_file, disk, 100_000)
    assert reserve.ensure(8192)
    assert data_file.stat().st_size == 8192
    disk.free = 1000
    assert not reserve.ensure(8192)
    reserve.close()


def test_no_reserve_is_always_there(data_file: Path) -> None:
    reserve = Reserve(data_file, Disk(), 0)
    assert reserve.ensure(8192)
    assert reserve.ensure(1 << 20)
    reserve.close()


def test_the_real_reserve_costs_no_time_and_lmdb_uses_it(tmp_path: Path) -> None:
    class Unwritten(Disk):
        """Space is asked for, not written and not waited for."""

        def pwrite(self, fd: int, data: bytes | bytearray | memoryview, offset: int) -> None:
            raise AssertionError("written")

        def flush(self, fd: int) -> None:
            raise AssertionError("flushed")

        fsync = flush

    replica = open_at(tmp_path)
    reserve = Reserve(replica.path, Unwritten(), 64 << 20)
    assert reserve.ensure(8192)
    size = replica.path.stat().st_size
    for n in range(100):
        put(replica, b"%d" % n, bytes(4000))
    # On tmpfs nothing is allocated, and the file grows as LMDB writes.
    assert replica.path.stat().st_size == size or size < 64 << 20
    replica.close(applied=1, **EPOCHS)
    reserve.close()
    again = open_at(tmp_path)
    assert len(keys(again)) == 100
    again.abandon()


def test_a_full_disk_at_the_clean_stop_closes_all_the_same(tmp_path: Path) -> None:
    class Full(Disk):
        full = False

        def pwrite(self, fd: int, data: bytes | bytearray | memoryview, offset: int) -> None:
            if self.full:
                raise StorageFull("no room")
            super().pwrite(fd, data, offset)

    disk = Full()
    replica = open_at(tmp_path, disk=disk)
    replica.journal.append(b"record")
    disk.full = True
    with pytest.raises(StorageFull):
        replica.close(applied=1, **EPOCHS)
    again = open_at(tmp_path)
    assert again.replay == [b"record"]
    again.abandon()


def test_the_checkpoint_names_the_meta_pages_that_lmdb_opens(tmp_path: Path) -> None:
    replica = open_at(tmp_path)
    put(replica, b"a")
    replica.close(applied=1, **EPOCHS)
    directory = storage_dir(tmp_path)
    cp = checkpoint.read(directory, Disk())
    assert cp is not None
    assert (directory / "data.1.mdb").read_bytes()[: len(cp.meta_pages)] == cp.meta_pages
    assert checkpoint.newest_meta(cp.meta_pages, "it").map_size == MAP_BYTES
