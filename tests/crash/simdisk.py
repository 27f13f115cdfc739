"""A disk that can lose power: real files, of which it knows what the device would hold.

Owns:   for each file under its root the content that is certain to be on the device, and for each
        directory the names that are; both lag behind the real files until they are flushed.
Invariants:
  1. Harsh: a page that differs from the device is kept, lost or torn (sector by sector) at random;
     a name that was created, renamed or removed and not flushed with its directory likewise; sizes
     too.
  2. Fair: what a completed flush covered at its start survives, unless the file says otherwise
     later.
Design: at the start of a flush the content is copied, and only when the flush returns the copy is
  what the device holds: a page written during the flush is in neither. LMDB writes its pages past
  this object, so its file is compared with the device's content as a whole. Nothing is truly
  flushed, which makes it fast. When power is lost the program is not told: what survives is written
  to another directory at that moment, and whatever the program does after it has no effect there.
Source: Pebble's CrashClone, SQLite's test6.c.
"""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from zkstore.storage.disk import Disk, FlushableMap

PAGE_BYTES: Final = 4096
SECTOR_BYTES: Final = 512
# How much of what was not flushed survives; drawn anew for each power loss, the extremes often.
_KEEP_CHANCES: Final = (0.0, 0.05, 0.5, 0.95, 1.0)
_TORN_CHANCE: Final = 0.2


class _File:
    """One inode: where it is now, and what of it is on the device."""

    def __init__(self, path: str, device: bytes = b"") -> None:
        self.path = path
        self.device = bytearray(device)
        self.dirty: list[tuple[int, int]] = []  # offset and length of writes since the last flush
        self.whole = False  # written in ways that `dirty` does not tell
        self.last_content: bytes | None = None  # once it has no name any more

    def content(self) -> bytes:
        return self.last_content if self.last_content is not None else Path(self.path).read_bytes()

    def capture(self) -> tuple[int, list[tuple[int, bytes]]]:
        """The size, and all that a flush starting now covers."""
        ranges = self.dirty
        if self.whole or self.last_content is not None:
            content = self.content()
            size, covered = len(content), [(0, content)]
        else:  # read no more than was written: a journal's segment is large
            size = os.path.getsize(self.path)
            with open(self.path, "rb", buffering=0) as file:
                covered = [(at, os.pread(file.fileno(), length, at)) for at, length in ranges]
        self.dirty, self.whole = [], False
        return size, covered

    def settle(self, size: int, covered: list[tuple[int, bytes]]) -> None:
        """The flush that captured this is done."""
        _resize(self.device, size)
        for at, piece in covered:
            self.device[at : at + len(piece)] = piece

    def survivor(self, rng: random.Random, keep: float) -> bytes:
        """What a power loss leaves of the content."""
        content = self.content()
        survivor = bytearray(self.device)
        _resize(survivor, len(content) if rng.random() < keep else len(self.device))
        for start in range(0, len(survivor), PAGE_BYTES):
            page = content[start : start + PAGE_BYTES]
            if page == survivor[start : start + len(page)]:
                continue
            torn = rng.random() < _TORN_CHANCE
            unit = SECTOR_BYTES if torn else PAGE_BYTES
            for at in range(start, min(start + len(page), len(survivor)), unit):
                if rng.random() < (0.5 if torn else keep):
                    end = min(at + unit, len(survivor), len(content))
                    survivor[at:end] = content[at:end]
        return bytes(survivor)


def _resize(content: bytearray, size: int) -> None:
    if size < len(content):
        del content[size:]
    else:
        content.extend(bytes(size - len(content)))


class _Names:
    """The names of all files, now and on the device, and what lies between the two."""

    def __init__(self) -> None:
        self.now: dict[str, _File] = {}
        self.device: dict[str, _File] = {}
        # In order: the name it had (None: it is new), the name it got (None: it is gone), the file.
        self.pending: list[tuple[str | None, str | None, _File]] = []

    def change(self, source: str | None, target: str | None, file: _File) -> None:
        self._apply(self.now, source, target, file)
        self.pending.append((source, target, file))

    def flushed(self, directory: str, count: int) -> None:
        """The first `count` changes are on the device, as far as they are in `directory`."""
        kept = []
        for change in self.pending[:count]:
            if any(name and os.path.dirname(name) == directory for name in change[:2]):
                self._apply(self.device, *change)
            else:
                kept.append(change)
        self.pending[:count] = kept

    def survivors(self, rng: random.Random, keep: float) -> dict[str, _File]:
        names = dict(self.device)
        for change in self.pending:
            if rng.random() < keep:
                self._apply(names, *change)
        return names

    @staticmethod
    def _apply(
        names: dict[str, _File], source: str | None, target: str | None, file: _File
    ) -> None:
        if source is not None and names.get(source) is file:
            del names[source]
        if target is not None:
            names[target] = file


class SimDisk(Disk):
    """See the module. Everything under `root` at the beginning is on the device."""

    lost: bool  # power was lost: what the program does now does not count
    on_map_flush: Callable[[], None] | None  # called in the middle of each flush of a map
    lying: Callable[[Path], bool]  # flushes of such files and directories do nothing: for controls

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.lost = False
        self.on_map_flush = None
        self.lying = lambda path: False
        self.operations = 0
        self._root = os.path.abspath(root)
        self._lock = threading.RLock()
        self._names = _Names()
        self._files: dict[int, _File] = {}
        self._armed: tuple[int, random.Random, Path] | None = None
        for folder, _, names in os.walk(self._root):
            for name in names:
                path = os.path.join(folder, name)
                file = _File(path, Path(path).read_bytes())
                self._names.now[path] = self._names.device[path] = file

    # What the test calls

    def lose_power_at(self, operation: int, rng: random.Random, target: Path) -> None:
        """Lose power at that operation; what survives appears in `target`, in place of the root."""
        self._armed = (operation, rng, target)

    def lose_power(self, rng: random.Random, target: Path) -> None:
        """Lose power now, unless it is lost already."""
        with self._lock:
            if self.lost:
                return
            for path in list(self._names.now):
                if not os.path.exists(path):
                    self._forget(path)
            for folder, _, _ in os.walk(self._root):
                self._adopt_all(folder)
            keep = rng.choice(_KEEP_CHANCES)
            for folder, _, _ in os.walk(self._root):
                (target / os.path.relpath(folder, self._root)).mkdir(parents=True, exist_ok=True)
            for path, file in sorted(self._names.survivors(rng, keep).items()):
                copy = target / os.path.relpath(path, self._root)
                copy.write_bytes(file.survivor(rng, keep))
            self.lost = True

    def tick(self) -> None:
        """Count one operation, and lose power if it is the one. LMDB's commits are counted so."""
        with self._lock:
            self.operations += 1
            if self._armed is not None and self.operations == self._armed[0]:
                self.lose_power(*self._armed[1:])

    # What the program calls

    def open(self, path: Path, flags: int, mode: int = 0o644) -> int:
        with self._lock:
            name = os.path.abspath(path)
            existed = os.path.exists(name)
            fd = super().open(path, flags, mode)
            if os.path.isdir(name):
                return fd
            if not existed:
                self._names.change(None, name, _File(name))
                self.tick()
            file = self._adopt(name)
            if flags & os.O_TRUNC:
                file.whole = True
            self._files[fd] = file
            return fd

    def close(self, fd: int) -> None:
        with self._lock:
            self._files.pop(fd, None)
            super().close(fd)

    def pwrite(self, fd: int, data: bytes | bytearray | memoryview, offset: int) -> None:
        with self._lock:
            super().pwrite(fd, data, offset)
            self._files[fd].dirty.append((offset, len(data)))
            self.tick()

    def truncate(self, fd: int, size: int) -> None:
        with self._lock:
            super().truncate(fd, size)
            self._files[fd].whole = True
            self.tick()

    def flush(self, fd: int) -> None:
        self._flush(self._files[fd], None)

    def fsync(self, fd: int) -> None:
        file = self._files.get(fd)
        if file is not None:  # else a directory: fsync_dir sees to it
            self._flush(file, None)

    def sync_range(self, fd: int, offset: int, size: int) -> None:
        """Makes nothing durable."""

    def flush_map(self, env: FlushableMap, path: Path) -> None:
        with self._lock:
            file = self._adopt(os.path.abspath(path))
            file.whole = True
        self._flush(file, self.on_map_flush)

    def rename(self, source: Path, target: Path) -> None:
        with self._lock:
            old, new = os.path.abspath(source), os.path.abspath(target)
            file = self._adopt(old)
            if new in self._names.now and new != old:
                self._forget(new)
            super().rename(source, target)
            file.path = new
            self._names.change(old, new, file)
            self.tick()

    def unlink(self, path: Path) -> None:
        with self._lock:
            name = os.path.abspath(path)
            if os.path.exists(name):
                file = self._adopt(name)
                self._forget(name)
                self._names.change(name, None, file)
            super().unlink(path)
            self.tick()

    def fsync_dir(self, path: Path) -> None:
        with self._lock:
            directory = os.path.abspath(path)
            self._adopt_all(directory)
            count = len(self._names.pending)
            self.tick()
            if not self.lying(path):
                self._names.flushed(directory, count)
            self.tick()

    def _flush(self, file: _File, between: Callable[[], None] | None) -> None:
        with self._lock:
            size, covered = file.capture()
            self.tick()
        if between is not None:
            between()
        with self._lock:
            if not self.lying(Path(file.path)):
                file.settle(size, covered)
            self.tick()

    def _adopt(self, name: str) -> _File:
        """The file of that name; LMDB makes its files without telling."""
        if name not in self._names.now:
            file = _File(name)
            file.whole = True
            self._names.change(None, name, file)
        return self._names.now[name]

    def _adopt_all(self, directory: str) -> None:
        if os.path.commonpath((directory, self._root)) != self._root:
            return
        for entry in os.scandir(directory):
            if entry.is_file():
                self._adopt(entry.path)

    def _forget(self, name: str) -> None:
        """Keep the content of a file that loses its name: on the device it may still have it."""
        file = self._names.now.pop(name)
        if file.last_content is None:
            file.last_content = Path(name).read_bytes() if os.path.exists(name) else b""
