"""storage/journal.py: what is read back after any end of the file, and how segments come and go."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Final

import pytest

from zkstore.errors import FormatError, StorageFailed, StorageFull
from zkstore.storage.disk import Disk
from zkstore.storage.format_version import FORMAT
from zkstore.storage.journal import (
    FIRST_SEGMENT_BYTES,
    HEADER_BYTES,
    RECORD_OVERHEAD_BYTES,
    SEGMENT_BYTES_MIN,
    SPARE_SEGMENTS_MAX,
    Journal,
    JournalPosition,
    segment_numbers,
    segment_path,
)

SEGMENT: Final = SEGMENT_BYTES_MIN
START: Final = JournalPosition(1, HEADER_BYTES, 1)


def create(directory: Path, disk: Disk | None = None, segment_bytes: int = SEGMENT) -> Journal:
    return Journal.create(directory, disk or Disk(), segment_bytes=segment_bytes)


def recover(
    directory: Path, position: JournalPosition = START, disk: Disk | None = None
) -> tuple[Journal, list[bytes], bool]:
    return Journal.recover(directory, disk or Disk(), position, segment_bytes=SEGMENT)


def read_back(directory: Path, position: JournalPosition = START) -> tuple[list[bytes], bool]:
    recovered, payloads, damaged = recover(directory, position)
    recovered.close()
    return payloads, damaged


def flip(path: Path, offset: int) -> None:
    content = bytearray(path.read_bytes())
    content[offset] ^= 0x40
    path.write_bytes(content)


def settle() -> None:
    """Wait for the thread that makes segments ready."""
    for thread in threading.enumerate():
        if thread.name == "journal-prepare":
            thread.join()


class CountingDisk(Disk):
    """Counts what is durable and fails on demand."""

    def __init__(self) -> None:
        super().__init__()
        self.flushes = 0
        self.full = False
        self.flush_fails = False
        self.write_limit: int | None = None  # bytes a file may have

    def pwrite(self, fd: int, data: bytes | bytearray | memoryview, offset: int) -> None:
        if self.write_limit is not None and offset + len(data) > self.write_limit:
            super().pwrite(fd, memoryview(data)[: self.write_limit - offset], offset)
            raise StorageFull("no room")
        super().pwrite(fd, data, offset)

    def open(self, path: Path, flags: int, mode: int = 0o644) -> int:
        if self.full and flags & os.O_CREAT:
            raise StorageFull("no room")
        return super().open(path, flags, mode)

    def allocate(self, fd: int, offset: int, size: int) -> bool:
        return False

    def flush(self, fd: int) -> None:
        self.flushes += 1
        if self.flush_fails:
            raise StorageFailed("flush")
        super().flush(fd)


# ---- appending and reading back


def test_records_come_back_in_order_from_any_position(tmp_path: Path) -> None:
    written = create(tmp_path)
    payloads = [b"%d" % n * 50 for n in range(300)]
    positions = [written.append(payload) for payload in payloads]
    end = written.end
    written.close()
    assert positions == sorted(positions)
    assert positions[0] == START
    assert positions[-1].segment > 5
    for first in (0, 1, 100, 299):
        assert read_back(tmp_path, positions[first]) == (payloads[first:], False)
    assert read_back(tmp_path, end) == ([], False)


def test_append_flushes_once_a_record_and_not_at_all_without_force_sync(tmp_path: Path) -> None:
    disk = CountingDisk()
    written = create(tmp_path, disk)
    before = disk.flushes
    for _ in range(5):
        written.append(b"x")
    assert disk.flushes == before + 5
    written.flush = False
    written.append(b"x")
    assert disk.flushes == before + 5
    written.close()


def test_a_record_may_be_empty(tmp_path: Path) -> None:
    written = create(tmp_path)
    written.append(b"")
    written.append(b"x")
    written.close()
    assert read_back(tmp_path) == ([b"", b"x"], False)


def test_a_record_that_fills_its_segment_to_the_last_byte(tmp_path: Path) -> None:
    written = create(tmp_path)
    exact = bytes(SEGMENT - START.offset - RECORD_OVERHEAD_BYTES)
    assert written.append(exact) == START
    assert written.end.offset == SEGMENT
    assert written.append(b"next").segment == 2
    written.close()
    assert read_back(tmp_path) == ([exact, b"next"], False)


def test_a_record_larger_than_a_segment_has_one_of_its_own(tmp_path: Path) -> None:
    written = create(tmp_path)
    payloads = [b"a", os.urandom(5 * SEGMENT), b"b", os.urandom(SEGMENT), b"c"]
    positions = [written.append(payload) for payload in payloads]
    written.close()
    assert positions[1][:2] == (2, START.offset)
    assert read_back(tmp_path) == (payloads, False)
    assert read_back(tmp_path, positions[1]) == (payloads[1:], False)


def test_recovering_twice_gives_the_same_and_appending_goes_on(tmp_path: Path) -> None:
    written = create(tmp_path)
    payloads = [b"%d" % n * 30 for n in range(100)]
    for payload in payloads:
        written.append(payload)
    written.close()
    for more in range(3):
        recovered, found, damaged = recover(tmp_path)
        assert (found, damaged) == (payloads, False)
        payloads.append(b"more %d" % more)
        assert recovered.append(payloads[-1]).sequence == len(payloads)
        recovered.close()
    assert read_back(tmp_path) == (payloads, False)


def test_recovery_leaves_nothing_that_only_the_page_cache_holds(tmp_path: Path) -> None:
    """The segment with the last record is a new file, flushed before it took the name."""
    written = create(tmp_path)
    written.append(b"x")
    written.close()
    path = segment_path(tmp_path, 1)
    inode = path.stat().st_ino
    disk = CountingDisk()
    recovered, _, _ = recover(tmp_path, disk=disk)
    assert path.stat().st_ino != inode
    assert disk.flushes == 1
    recovered.close()


def test_a_copy_that_an_earlier_recovery_left_is_removed(tmp_path: Path) -> None:
    create(tmp_path).close()
    (tmp_path / "journal.1.tmp").write_bytes(b"half")
    assert read_back(tmp_path) == ([], False)
    assert not (tmp_path / "journal.1.tmp").exists()


# ---- ends that are not whole, and damage


def test_torn_at_every_byte_the_last_record_is_not_there_and_the_others_are(
    tmp_path: Path,
) -> None:
    written = create(tmp_path)
    written.append(b"first")
    last = written.append(b"a longer last record")
    end = written.end.offset
    written.close()
    path = segment_path(tmp_path, 1)
    whole = path.read_bytes()
    for cut in range(last.offset, end):
        path.write_bytes(whole[:cut] + bytes(len(whole) - cut))
        assert read_back(tmp_path) == ([b"first"], False), cut
        path.write_bytes(whole[:cut])  # shorter than its size: a lost truncation
        assert read_back(tmp_path) == ([b"first"], False), cut
    path.write_bytes(whole)
    assert read_back(tmp_path) == ([b"first", b"a longer last record"], False)


def test_what_was_torn_is_overwritten_and_never_comes_back(tmp_path: Path) -> None:
    written = create(tmp_path)
    written.append(b"first")
    last = written.append(b"torn" * 100)
    written.close()
    flip(segment_path(tmp_path, 1), last.offset + RECORD_OVERHEAD_BYTES)
    recovered, found, damaged = recover(tmp_path)
    assert (found, damaged) == ([b"first"], False)
    assert recovered.append(b"second")[1:] == last[1:]
    recovered.close()
    assert read_back(tmp_path) == ([b"first", b"second"], False)


def test_a_record_damaged_before_whole_ones_is_damage_and_stays_so(tmp_path: Path) -> None:
    written = create(tmp_path)
    positions = [written.append(b"%d" % n * 20) for n in range(10)]
    written.close()
    flip(segment_path(tmp_path, 1), positions[4].offset + RECORD_OVERHEAD_BYTES + 3)
    for _ in range(2):
        recovered, found, damaged = recover(tmp_path)
        assert damaged
        assert len(found) == 4
        assert str(segment_path(tmp_path, 1)) in recovered.damage
        assert f"offset {positions[4].offset}" in recovered.damage
        # What is appended nevertheless does not hide it.
        recovered.append(b"later")
        recovered.close()
    recovered, _, _ = recover(tmp_path)
    beyond = recovered.end
    recovered.append(b"after the checkpoint that put it right")
    recovered.close()
    assert read_back(tmp_path, beyond) == ([b"after the checkpoint that put it right"], False)


@pytest.mark.parametrize("offset", range(RECORD_OVERHEAD_BYTES))
def test_damage_is_seen_whichever_field_of_the_record_it_hit(tmp_path: Path, offset: int) -> None:
    written = create(tmp_path)
    positions = [written.append(b"payload") for _ in range(3)]
    written.close()
    flip(segment_path(tmp_path, 1), positions[1].offset + offset)
    assert read_back(tmp_path) == ([b"payload"], True)


def test_damage_at_a_segments_end_is_seen_by_the_next_segment(tmp_path: Path) -> None:
    written = create(tmp_path)
    position = START
    last = START
    while position.segment == 1:
        last, position = position, written.append(bytes(500))
    written.close()
    flip(segment_path(tmp_path, 1), last.offset + RECORD_OVERHEAD_BYTES)
    payloads, damaged = read_back(tmp_path)
    assert damaged
    assert len(payloads) == last.sequence - 1


def test_a_missing_segment_is_damage(tmp_path: Path) -> None:
    written = create(tmp_path)
    while (position := written.append(bytes(900))).segment < 4:
        pass
    written.close()
    segment_path(tmp_path, 2).unlink()
    assert read_back(tmp_path)[1]
    segment_path(tmp_path, 1).unlink()
    assert read_back(tmp_path)[1]
    assert read_back(tmp_path, position) == ([bytes(900)], False)


def test_a_segment_whose_header_is_damaged_is_damage(tmp_path: Path) -> None:
    written = create(tmp_path)
    written.append(b"x")
    written.close()
    flip(segment_path(tmp_path, 1), 9)
    assert read_back(tmp_path) == ([], True)


@pytest.mark.parametrize("first", [0, 512])
def test_a_lost_sector_is_damage_even_at_a_later_segments_start(tmp_path: Path, first: int) -> None:
    written = create(tmp_path)
    while written.append(bytes(200)).segment < 2:
        pass
    for _ in range(8):
        written.append(bytes(200))
    written.close()
    path = segment_path(tmp_path, 2)
    content = bytearray(path.read_bytes())
    content[first : first + 512] = bytes(512)
    path.write_bytes(content)
    recovered, _, damaged = recover(tmp_path)
    assert damaged
    assert "journal.2" in recovered.damage
    recovered.close()


def test_a_newer_format_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as newer:
        newer.setattr("zkstore.storage.journal.FORMAT", FORMAT + 1)
        create(tmp_path).close()
    with pytest.raises(FormatError, match=f"format {FORMAT + 1}"):
        recover(tmp_path)


# ---- recycling


def test_recycled_segments_are_used_again_and_their_old_content_is_never_read(
    tmp_path: Path,
) -> None:
    written = create(tmp_path)
    payloads: list[bytes] = []
    position = START
    inodes = set()
    for round_number in range(40):
        for _ in range(12):
            # All of one size, so that records of different lives start at the same offsets.
            payloads.append(b"%06d" % len(payloads) * 100)
            at = written.append(payloads[-1])
            if round_number % 3 == 2:
                position, payloads = at, payloads[-1:]
                written.recycle(position)
        settle()
        inodes |= {(tmp_path / name).stat().st_ino for name in os.listdir(tmp_path)}
    written.close()
    assert read_back(tmp_path, position) == (payloads, False)
    assert written.end.segment > 50
    assert len(inodes) < 20


def test_spare_segments_are_bounded(tmp_path: Path) -> None:
    written = create(tmp_path)
    while written.append(bytes(900)).segment < 20:
        pass
    written.recycle(written.end)
    written.close()
    numbers = segment_numbers(tmp_path, Disk())
    assert 1 + 1 <= len(numbers) <= 1 + SPARE_SEGMENTS_MAX
    assert numbers[0] == 20


def test_segments_behind_the_checkpoint_are_recycled_after_a_restart(tmp_path: Path) -> None:
    written = create(tmp_path)
    while written.append(bytes(900)).segment < 8:
        pass
    end = written.end
    written.close()
    recovered, _, _ = recover(tmp_path, end)
    recovered.recycle(end)
    recovered.close()
    assert segment_numbers(tmp_path, Disk())[0] == 8


def test_a_forged_record_inside_a_payload_is_never_taken_for_one(tmp_path: Path) -> None:
    """A client may write anything into a znode, but it does not know a segment's tag."""
    other = tmp_path / "other"
    other.mkdir()
    donor = create(other)
    for n in range(20):
        donor.append(b"forged %d" % n)
    donor.close()
    forged = segment_path(other, 1).read_bytes()[START.offset : 3000]
    written = create(tmp_path)
    last = written.append(forged)
    written.close()
    flip(segment_path(tmp_path, 1), last.offset)
    assert read_back(tmp_path) == ([], False)


def test_the_first_segment_is_small_and_the_next_is_made_ahead(tmp_path: Path) -> None:
    written = create(tmp_path, segment_bytes=4 * FIRST_SEGMENT_BYTES)
    assert segment_path(tmp_path, 1).stat().st_size == FIRST_SEGMENT_BYTES
    written.append(bytes(FIRST_SEGMENT_BYTES // 2))
    settle()
    ready = segment_path(tmp_path, 2).stat()
    assert ready.st_size == 4 * FIRST_SEGMENT_BYTES
    assert ready.st_blocks * 512 >= ready.st_size
    assert written.append(bytes(FIRST_SEGMENT_BYTES)).segment == 2
    assert segment_path(tmp_path, 2).stat().st_size == ready.st_size
    written.close()


# ---- a full disk, a failed flush


def test_without_room_for_the_next_segment_the_append_is_refused_and_the_journal_goes_on(
    tmp_path: Path,
) -> None:
    disk = CountingDisk()
    written = create(tmp_path, disk)
    disk.full = True
    payloads = []
    with pytest.raises(StorageFull):
        while True:
            written.append(bytes(1000))
            payloads.append(bytes(1000))
    with pytest.raises(StorageFull):
        written.append(bytes(1000))
    written.append(b"small enough for what is left")
    payloads.append(b"small enough for what is left")
    disk.full = False
    written.append(bytes(1000))
    payloads.append(bytes(1000))
    written.close()
    assert read_back(tmp_path) == (payloads, False)


def test_a_half_written_large_record_does_not_count(tmp_path: Path) -> None:
    disk = CountingDisk()
    written = create(tmp_path, disk)
    written.append(b"first")
    disk.write_limit = 2 * SEGMENT
    with pytest.raises(StorageFull):
        written.append(bytes(3 * SEGMENT))
    written.append(b"second")
    written.close()
    assert read_back(tmp_path) == ([b"first", b"second"], False)


def test_after_a_failed_flush_nothing_more_is_appended(tmp_path: Path) -> None:
    disk = CountingDisk()
    written = create(tmp_path, disk)
    written.append(b"first")
    disk.flush_fails = True
    with pytest.raises(StorageFailed):
        written.append(b"unknown")
    disk.flush_fails = False
    with pytest.raises(StorageFailed, match="failed before"):
        written.append(b"never")
    written.close()
    payloads, damaged = read_back(tmp_path)
    assert payloads in ([b"first"], [b"first", b"unknown"])
    assert not damaged


# ---- a record that is begun


def test_a_record_counts_once_it_is_finished(tmp_path: Path) -> None:
    disk = CountingDisk()
    journal = create(tmp_path, disk=disk)
    flushed = disk.flushes
    position = journal.begin(b"one")
    assert disk.flushes == flushed
    journal.finish()
    assert disk.flushes == flushed + 1
    assert journal.append(b"two") > position
    end = journal.end
    journal.close()
    again, payloads, damaged = recover(tmp_path, position)
    assert (payloads, again.end, damaged) == ([b"one", b"two"], end, False)
    again.close()


def test_there_is_one_record_begun_at_a_time(tmp_path: Path) -> None:
    journal = create(tmp_path)
    journal.begin(b"one")
    with pytest.raises(AssertionError):
        journal.begin(b"two")
    journal.finish()
    journal.close()


def test_a_record_that_could_not_be_finished_ends_the_journal(tmp_path: Path) -> None:
    disk = CountingDisk()
    journal = create(tmp_path, disk=disk)
    journal.begin(b"one")
    disk.flush_fails = True
    with pytest.raises(StorageFailed):
        journal.finish()
    disk.flush_fails = False
    with pytest.raises(StorageFailed, match="failed before"):
        journal.append(b"two")
    journal.close()
