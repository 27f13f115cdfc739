"""The journal: what makes a batch durable, with one flush.

Owns:   the files `journal.<number>` of one directory and the thread that prepares the next one.
Invariants:
  1. Acknowledged: when `append` returns, or `finish`, the record and all before it are on the
     device.
  2. OneAtATime: record n+1 is written only after n is flushed. So at most the last record is not
     whole after a crash, and it was never acknowledged; a whole record behind one that is not whole
     means that acknowledged bytes were damaged.
  3. NeverOld: content of a segment's earlier life is never read as new. Its records bear a tag
     made of the segment's number, which a file gets but once, and a secret of the journal, and each
     has the next sequence number. A client cannot forge a record inside its data: it has no tag.
  4. InPlace: in the hot path a record only overwrites blocks that are allocated and zero-filled (or
     were written before), so its flush changes no metadata of the file system and cannot find the
     disk full. Only a record larger than a segment grows its file.
  5. Named: a segment's name and header are flushed before a record in it is acknowledged.
Design: segments are made ready ahead by a thread, out of retired ones (renamed) or zero-filled
  anew. Recovery reads on from a checkpoint's position: the record with the expected sequence
  number, here or at the start of the next segment; the first that is not whole ends it. What it
  recovered may sit in the page cache only, and a page whose write-back failed once is clean there:
  the segment with the last record is therefore copied to a fresh file (fresh pages, same offsets),
  flushed, and takes the old one's name.
  Rejected: flushing that segment again (flushes nothing that is marked clean); fallocate without
  zero-filling (each first write changes the extent tree, so each flush commits metadata as well).
Not here: what a payload means (the writer), from where on it is needed (checkpoint.py).
"""

from __future__ import annotations

import hashlib
import os
import re
import struct
import threading
import zlib
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from zkstore.errors import StorageFailed, StorageFull
from zkstore.storage.disk import Disk
from zkstore.storage.format_version import FORMAT, check_number

# magic, format, the journal's secret, number of the segment, crc32 of the fields before it
_HEADER: Final = struct.Struct(">8sI16sQI")
_HEADER_MAGIC: Final = b"ZKSJRNL\n"
# tag, crc32 (of length, sequence, payload), then length and sequence
_RECORD: Final = struct.Struct(">4sIIQ")
_CHECKED: Final = struct.Struct(">IQ")
_NAME: Final = re.compile(r"journal\.(\d+)")

HEADER_BYTES: Final = _HEADER.size
RECORD_OVERHEAD_BYTES: Final = _RECORD.size
SEGMENT_BYTES_MIN: Final = 4096
# A fresh directory starts with a small segment: zero-filling 16 MB would take all of its 50 ms.
FIRST_SEGMENT_BYTES: Final = 1 << 20
# Retired segments kept for reuse; between two checkpoints three or four are in use.
SPARE_SEGMENTS_MAX: Final = 4
_SECRET_BYTES: Final = 16
_FILL_BYTES: Final = 1 << 16  # larger writes make larger folios, and those slower flushes
# Behind damage the numbering goes on with this distance, past anything the damaged part can hold.
_SEQUENCE_GAP: Final = 1 << 32


class JournalPosition(NamedTuple):
    """Where a record starts. Ordered; `sequence` rises by one with each record."""

    segment: int
    offset: int
    sequence: int


@dataclass(frozen=True, slots=True)
class _Segment:
    """One life of one file, open for writing."""

    number: int
    fd: int
    size: int
    tag: bytes  # of its records


class _Record(NamedTuple):
    sequence: int
    payload: bytes
    end: int


class _Image(NamedTuple):
    """A segment's content in memory."""

    number: int
    content: bytes
    tag: bytes

    def record_at(self, offset: int) -> _Record | None:
        """The record that starts at `offset`, or None if there is no whole one of this life."""
        start = offset + _RECORD.size
        if start > len(self.content):
            return None
        tag, crc, length, sequence = _RECORD.unpack_from(self.content, offset)
        end = start + length
        if tag != self.tag or end > len(self.content):
            return None
        payload = self.content[start:end]
        if crc != _crc(length, sequence, payload):
            return None
        return _Record(sequence, payload, end)

    def has_record_after(self, offset: int, sequence: int) -> bool:
        """Whether a whole record with a greater sequence number starts anywhere behind `offset`."""
        at = self.content.find(self.tag, offset)
        while at >= 0:
            record = self.record_at(at)
            if record is not None and record.sequence > sequence:
                return True
            at = self.content.find(self.tag, at + 1)
        return False


def _crc(length: int, sequence: int, payload: bytes) -> int:
    return zlib.crc32(payload, zlib.crc32(_CHECKED.pack(length, sequence)))


def segment_path(directory: Path, number: int) -> Path:
    return directory / f"journal.{number}"


def _header(number: int, secret: bytes) -> bytes:
    checked = _HEADER.pack(_HEADER_MAGIC, FORMAT, secret, number, 0)[:-4]
    return checked + struct.pack(">I", zlib.crc32(checked))


def _tag(secret: bytes, number: int) -> bytes:
    """What marks the records of segment `number`; no byte of it is zero, so zeros never hold it."""
    digest = hashlib.blake2b(number.to_bytes(8, "big"), key=secret, digest_size=4).digest()
    return bytes(1 + byte % 255 for byte in digest)


def segment_numbers(directory: Path, disk: Disk) -> list[int]:
    """The numbers of the segments that are in `directory`, rising."""
    names = (_NAME.fullmatch(name) for name in disk.listdir(directory))
    return sorted(int(name[1]) for name in names if name is not None)


def holds_records(directory: Path, disk: Disk) -> bool:
    """Whether any segment starts with a whole record: it has been in use."""
    for number in segment_numbers(directory, disk):
        content = _load(directory, disk, number)
        secret = _secret(content, segment_path(directory, number))
        if secret and _Image(number, content, _tag(secret, number)).record_at(_HEADER.size):
            return True
    return False


def _load(directory: Path, disk: Disk, number: int) -> bytes:
    fd = disk.open(segment_path(directory, number), os.O_RDONLY)
    try:
        return disk.pread(fd, disk.size(fd), 0)
    finally:
        disk.close(fd)


def _secret(content: bytes, path: Path) -> bytes:
    """The journal's secret out of a segment's header; empty if the header is not whole.

    Raises: FormatError if a newer program wrote it.
    """
    if len(content) < _HEADER.size:
        return b""
    magic, format_number, secret, _, crc = _HEADER.unpack_from(content)
    if magic != _HEADER_MAGIC or crc != zlib.crc32(content[: _HEADER.size - 4]):
        return b""
    check_number(format_number, str(path))
    return bytes(secret)


@dataclass(slots=True)
class _Reading:
    """What one pass over the journal found."""

    payloads: list[bytes]
    end: JournalPosition
    image: _Image | None  # of the segment that `end` is in
    secret: bytes  # empty: it could not be read
    damage: str  # empty: none


def _read(directory: Path, disk: Disk, position: JournalPosition) -> _Reading:
    """Read every whole record from `position` on, and look whether one is missing before others."""
    numbers = [n for n in segment_numbers(directory, disk) if n >= position.segment]
    payloads: list[bytes] = []
    if not numbers or numbers[0] != position.segment:
        missing = f"{segment_path(directory, position.segment)}: missing"
        return _Reading(payloads, position, None, b"", missing)
    path = segment_path(directory, position.segment)
    content = _load(directory, disk, position.segment)
    secret = _secret(content, path)
    if not secret or position.offset > len(content):
        return _Reading(payloads, position, None, secret, f"{path}: the segment is not whole")
    image = _Image(position.segment, content, _tag(secret, position.segment))
    _, offset, sequence = position
    while True:
        record = image.record_at(offset)
        if record is not None and record.sequence == sequence:
            payloads.append(record.payload)
            offset, sequence = record.end, sequence + 1
            continue
        following = image.number + 1
        if following not in numbers:
            break
        content = _load(directory, disk, following)
        next_image = _Image(following, content, _tag(secret, following))
        record = next_image.record_at(_HEADER.size)
        if record is None or record.sequence != sequence:
            break
        image, offset = next_image, _HEADER.size
    end = JournalPosition(image.number, offset, sequence)
    reading = _Reading(payloads, end, image, secret, "")
    reading.damage = _damage(directory, disk, numbers, image, reading)
    return reading


def read_back(directory: Path, disk: Disk, position: JournalPosition) -> tuple[list[bytes], str]:
    """What recovery would replay, and where records are lost (empty: nowhere); writes nothing."""
    reading = _read(directory, disk, position)
    return reading.payloads, reading.damage


def whole_behind_damage(directory: Path, disk: Disk, position: JournalPosition) -> list[bytes]:
    """The payloads of whole records behind the one that recovery ends at; none if nothing is lost.

    Order:  as they were appended.
    """
    reading = _read(directory, disk, position)
    found: dict[int, bytes] = {}
    if reading.damage and reading.secret:
        for number in segment_numbers(directory, disk):
            if number < reading.end.segment:
                continue
            content = _load(directory, disk, number)
            image = _Image(number, content, _tag(reading.secret, number))
            at = content.find(image.tag)
            while at >= 0:
                record = image.record_at(at)
                if record is not None and record.sequence >= reading.end.sequence:
                    found[record.sequence] = record.payload
                at = content.find(image.tag, at + 1)
    return [found[sequence] for sequence in sorted(found)]


def _damage(
    directory: Path, disk: Disk, numbers: list[int], image: _Image, reading: _Reading
) -> str:
    """Name the place where a record was lost that others follow; empty if the journal just ends."""
    end = reading.end
    place = f"{segment_path(directory, end.segment)}: record {end.sequence} at offset {end.offset}"
    if image.has_record_after(end.offset, end.sequence):
        return f"{place} is damaged, later ones are whole"
    for number in numbers:
        if number <= image.number:
            continue
        later = _Image(number, _load(directory, disk, number), _tag(reading.secret, number))
        if later.has_record_after(0, end.sequence):
            return f"{place} is damaged, {segment_path(directory, number)} holds later ones"
    return ""


class Journal:
    """Appends opaque records, each durable when `append` returns. One thread calls it."""

    flush: bool  # False: forceSync=no, a record is durable when the kernel says so
    damage: str  # where acknowledged records were lost, as found by `recover`; empty: nowhere

    def __init__(
        self,
        directory: Path,
        disk: Disk,
        segment_bytes: int,
        secret: bytes,
        segment: _Segment,
        end: JournalPosition,
    ) -> None:
        self.flush = True
        self.damage = ""
        self._directory = directory
        self._disk = disk
        self._segment_bytes = segment_bytes
        self._secret = secret
        self._segment = segment
        self._offset = end.offset
        self._sequence = end.sequence
        self._prepare_beyond = segment.size // 2
        self._in_use: deque[tuple[int, int]] = deque()  # (number, size) behind the current one
        self._broken: StorageFailed | None = None
        self._unfinished = False  # a record is begun
        # Shared with the preparing thread, under the lock. Only whoever prepares (the thread, or
        # the caller while there is none) changes _last_number.
        self._lock = threading.Lock()
        self._ready: deque[_Segment] = deque()
        self._retired: deque[tuple[int, int]] = deque()
        self._last_number = segment.number
        self._thread: threading.Thread | None = None

    @classmethod
    def create(cls, directory: Path, disk: Disk, *, segment_bytes: int) -> Journal:
        """Begin a journal in a directory that has none. Raises: StorageFull, StorageFailed."""
        assert segment_bytes >= SEGMENT_BYTES_MIN, segment_bytes
        size = min(segment_bytes, FIRST_SEGMENT_BYTES)
        secret = os.urandom(_SECRET_BYTES)
        segment = _make_segment(directory, disk, secret, 1, size)
        end = JournalPosition(1, _HEADER.size, 1)
        return cls(directory, disk, segment_bytes, secret, segment, end)

    @classmethod
    def recover(
        cls, directory: Path, disk: Disk, position: JournalPosition, *, segment_bytes: int
    ) -> tuple[Journal, list[bytes], bool]:
        """Read the journal back from `position` on: (journal, payloads oldest first, damaged).

        What is returned is on the device. A damaged journal is left as it is, and goes on in a
        segment of its own: it is found damaged again until a checkpoint's position is past it.
        Raises: FormatError, StorageFull, StorageFailed.
        """
        assert segment_bytes >= SEGMENT_BYTES_MIN, segment_bytes
        for name in disk.listdir(directory):
            if name.startswith("journal.") and name.endswith(".tmp"):
                disk.unlink(directory / name)
        reading = _read(directory, disk, position)
        numbers = segment_numbers(directory, disk)
        end = reading.end
        secret = reading.secret or os.urandom(_SECRET_BYTES)
        if reading.damage or reading.image is None:
            number = max([*numbers, position.segment]) + 1
            size = min(segment_bytes, FIRST_SEGMENT_BYTES)
            segment = _make_segment(directory, disk, secret, number, size)
            end = JournalPosition(number, _HEADER.size, end.sequence + _SEQUENCE_GAP)
        else:
            for number in numbers:
                if number > end.segment:
                    disk.unlink(segment_path(directory, number))
            segment = _reopen(directory, disk, reading, segment_bytes)
        journal = cls(directory, disk, segment_bytes, secret, segment, end)
        journal.damage = reading.damage
        sizes = {n: _size(directory, disk, n) for n in numbers if n < segment.number}
        journal._in_use.extend(sorted(sizes.items()))
        return journal, reading.payloads, bool(reading.damage)

    @property
    def end(self) -> JournalPosition:
        """Where the next record goes, unless it opens the next segment: reading goes on there."""
        return JournalPosition(self._segment.number, self._offset, self._sequence)

    def append(self, payload: bytes) -> JournalPosition:
        """Write one record and flush it; returns its start.

        Raises: StorageFull: nothing was written that counts, and the journal goes on.
                StorageFailed: the record's fate is unknown; only recovery can tell.
        """
        position = self.begin(payload)
        self.finish()
        return position

    def begin(self, payload: bytes) -> JournalPosition:
        """Write one record; it counts when `finish` has returned. Until then the caller may do what
        need not wait for the device.

        Raises: as `append`.
        """
        if self._broken is not None:
            raise StorageFailed(f"the journal failed before: {self._broken}") from self._broken
        assert not self._unfinished
        length = len(payload)
        size = _RECORD.size + length
        if self._offset + size > self._segment.size:
            self._roll(size)
        segment = self._segment
        offset = self._offset
        sequence = self._sequence
        head = _RECORD.pack(segment.tag, _crc(length, sequence, payload), length, sequence)
        try:
            self._disk.pwrite(segment.fd, head + payload, offset)
            if self.flush:
                self._disk.start_writing(segment.fd, offset, size)
        except StorageFailed as error:
            self._broken = error
            raise
        self._unfinished = True
        self._offset = offset + size
        self._sequence = sequence + 1
        return JournalPosition(segment.number, offset, sequence)

    def finish(self) -> None:
        """Flush the record that was begun. Raises: StorageFailed: its fate is unknown."""
        try:
            if self.flush:
                self._disk.flush(self._segment.fd)
        except StorageFailed as error:
            self._broken = error
            raise
        self._unfinished = False
        if self._offset > self._prepare_beyond:
            self._prepare_beyond = self._segment.size
            self._prepare_ahead()

    def recycle(self, position: JournalPosition) -> None:
        """Give up the segments that end before `position`: it is in a durable checkpoint."""
        retired = False
        while self._in_use and self._in_use[0][0] < position.segment:
            with self._lock:
                self._retired.append(self._in_use.popleft())
            retired = True
        if retired:
            self._prepare_ahead()

    def close(self) -> None:
        """Close the files; every record is as durable as it was."""
        self._join()
        for segment in (self._segment, *self._ready):
            self._disk.close(segment.fd)
        self._ready.clear()
        if self._broken is None:
            self._broken = StorageFailed("closed")

    def _roll(self, size: int) -> None:
        """Go on in the next segment, with room for a record of `size` bytes."""
        segment = self._next_segment()
        if _HEADER.size + size > segment.size:
            # A segment of its own for this record: its blocks are had before it is begun, so
            # that a full disk is found here.
            grown = _HEADER.size + size
            try:
                self._disk.allocate(segment.fd, segment.size, grown - segment.size)
            except (StorageFull, StorageFailed):
                with self._lock:
                    self._ready.appendleft(segment)
                raise
            segment = _Segment(segment.number, segment.fd, grown, segment.tag)
        self._disk.close(self._segment.fd)
        self._in_use.append((self._segment.number, self._segment.size))
        self._segment = segment
        self._offset = _HEADER.size
        self._prepare_beyond = segment.size // 2

    def _next_segment(self) -> _Segment:
        """The next segment in order, made here and now if the thread has none.

        Raises: as _make_segment.
        """
        if not self._ready:
            self._join()
        if self._broken is not None:
            raise self._broken
        while not self._ready:
            self._prepare_one()
        with self._lock:
            segment = self._ready.popleft()
        assert segment.number == self._segment.number + 1, (segment.number, self._segment.number)
        return segment

    def _join(self) -> None:
        thread = self._thread
        if thread is not None:
            thread.join()

    def _prepare_ahead(self) -> None:
        """See to a next segment, in a thread; one that runs sees new work by itself."""
        with self._lock:
            if self._thread is not None:
                return
            self._thread = threading.Thread(
                target=self._prepare, name="journal-prepare", daemon=True
            )
            self._thread.start()

    def _prepare(self) -> None:
        """The thread: work until a segment is ready and none is retired."""
        while True:
            with self._lock:
                if self._broken is not None or (self._ready and not self._retired):
                    self._thread = None
                    return
            try:
                self._prepare_one()
            except StorageFull:
                # The append that needs the segment will try again, and say so.
                with self._lock:
                    self._thread = None
                return
            except StorageFailed as error:
                self._broken = error

    def _prepare_one(self) -> None:
        """Make the next segment ready, out of a retired one if there is one."""
        with self._lock:
            retired = self._retired.popleft() if self._retired else None
            enough = len(self._ready) >= SPARE_SEGMENTS_MAX
        if retired is not None and (enough or retired[1] != self._segment_bytes):
            self._disk.unlink(segment_path(self._directory, retired[0]))
            return
        number = self._last_number + 1
        if retired is not None:
            self._disk.rename(
                segment_path(self._directory, retired[0]), segment_path(self._directory, number)
            )
        segment = _make_segment(
            self._directory,
            self._disk,
            self._secret,
            number,
            self._segment_bytes,
            reuse=retired is not None,
        )
        self._last_number = number
        with self._lock:
            self._ready.append(segment)


def _size(directory: Path, disk: Disk, number: int) -> int:
    fd = disk.open(segment_path(directory, number), os.O_RDONLY)
    try:
        return disk.size(fd)
    finally:
        disk.close(fd)


def _fill(disk: Disk, fd: int, offset: int, size: int) -> None:
    """Write zeros up to `size`, piece by piece, so that the device is shared meanwhile."""
    disk.allocate(fd, 0, size)
    zeros = bytes(min(_FILL_BYTES, size))
    while offset < size:
        piece = zeros[: size - offset]
        disk.pwrite(fd, piece, offset)
        disk.sync_range(fd, offset, len(piece))
        offset += len(piece)


def _make_segment(
    directory: Path, disk: Disk, secret: bytes, number: int, size: int, *, reuse: bool = False
) -> _Segment:
    """Begin a life of segment `number`: file, header and name are on the device when it returns.

    `reuse`: the file is there, with the blocks and the content of an earlier life.
    Raises: StorageFull, StorageFailed; no new file is left behind then.
    """
    path = segment_path(directory, number)
    fd = disk.open(path, os.O_RDWR if reuse else os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    try:
        if not reuse:
            _fill(disk, fd, 0, size)
        disk.pwrite(fd, _header(number, secret), 0)
        disk.flush(fd)
        disk.fsync_dir(directory)
    except (StorageFull, StorageFailed):
        disk.close(fd)
        disk.unlink(path)
        raise
    return _Segment(number, fd, size, _tag(secret, number))


def _reopen(directory: Path, disk: Disk, reading: _Reading, segment_bytes: int) -> _Segment:
    """Open the last segment for appending; with records in it, as a fresh and flushed copy."""
    image = reading.image
    assert image is not None and image.number == reading.end.segment, reading.end
    path = segment_path(directory, image.number)
    if not reading.payloads:
        return _Segment(image.number, disk.open(path, os.O_RDWR), len(image.content), image.tag)
    used = reading.end.offset
    size = max(used, min(segment_bytes, used + FIRST_SEGMENT_BYTES))
    copy = path.with_name(path.name + ".tmp")
    fd = disk.open(copy, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    try:
        disk.pwrite(fd, image.content[:used], 0)
        _fill(disk, fd, used, size)
        disk.flush(fd)
        disk.rename(copy, path)
        disk.fsync_dir(directory)
    except (StorageFull, StorageFailed):
        disk.close(fd)
        raise
    return _Segment(image.number, fd, size, image.tag)
