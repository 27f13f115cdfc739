"""Sorting more records than fit in memory: runs in a temporary file, merged when they are read.

Owns:   the temporary file; it has no name and goes with the process.
Invariants:
  1. Bounded: at most one run is in memory while records come, a block of each run while they go.
Design: LMDB takes records in the order of their keys at several times the speed of any other
  order, and fills its pages. A run is written in blocks by `marshal`: the fastest way there is to
  write tuples of bytes and read them back; nobody but this process reads it.
"""

from __future__ import annotations

import heapq
import marshal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

Item = tuple[bytes, bytes]

_RUN_BYTES: Final = 32 << 20
_ITEM_BYTES: Final = 150  # what Python adds to a record in memory, about
_BLOCK_ITEMS: Final = 500


class Sorter:
    """Takes (key, value) in any order, gives them back in the order of the keys; once."""

    def __init__(self, directory: Path) -> None:
        """`directory`: where the temporary file may grow as large as all records."""
        self._directory = directory
        self._run: list[Item] = []
        self._room = _RUN_BYTES
        self._runs: list[tuple[int, int]] = []  # (offset, end) in the file
        self._file = tempfile.TemporaryFile(dir=directory)  # noqa: SIM115 - closed by `close`

    def add(self, key: bytes, value: bytes) -> None:
        self._run.append((key, value))
        self._room -= len(key) + len(value) + _ITEM_BYTES
        if self._room < 0:
            self._spill()

    def _spill(self) -> None:
        run = self._run
        run.sort()
        start = self._file.tell()
        for at in range(0, len(run), _BLOCK_ITEMS):
            marshal.dump(run[at : at + _BLOCK_ITEMS], self._file)
        self._runs.append((start, self._file.tell()))
        self._run = []
        self._room = _RUN_BYTES

    def items(self) -> Iterator[Item]:
        """All records; records of one key stand next to each other."""
        self._run.sort()
        if not self._runs:
            yield from self._run
        else:
            yield from heapq.merge(*(self._read(*run) for run in self._runs), self._run)
        self._file.close()

    def _read(self, at: int, end: int) -> Iterator[Item]:
        while at < end:
            self._file.seek(at)
            block: list[Item] = marshal.load(self._file)
            at = self._file.tell()
            yield from block

    def close(self) -> None:
        self._file.close()
