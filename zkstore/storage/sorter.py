"""Sorting more records than fit in memory: runs in a temporary file, merged when they are read.

Owns:   the temporary file; it has no name and goes with the process.
Invariants:
  1. Bounded: at most one run is in memory while records come, a block of each run while they go.
  2. Records of one key come out next to each other, in the order of their values.
Design: LMDB takes records in the order of their keys at several times the speed of any other
  order, and fills its pages. A run is written in blocks by `marshal`: the fastest way there is to
  write tuples of bytes and read them back; nobody but this process reads it. Runs are merged block
  by block: what is not behind any block's end is sorted together, as Python's sort merges runs that
  it finds at a tenth of what a heap costs.
"""

from __future__ import annotations

import marshal
import os
import tempfile
from bisect import bisect_right
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
        self._runs: list[list[tuple[int, int]]] = []  # (offset, size) of each block in the file
        self._file = tempfile.TemporaryFile(dir=directory)  # noqa: SIM115 - closed by `close`
        self._end = 0  # of the file

    def add(self, key: bytes, value: bytes) -> None:
        self._run.append((key, value))
        self._room -= len(key) + len(value) + _ITEM_BYTES
        if self._room < 0:
            self._spill()

    def extend(self, items: list[Item]) -> None:
        """Take many; few enough to be in memory beside a run."""
        self._run += items
        self._room -= sum(len(key) + len(value) for key, value in items) + _ITEM_BYTES * len(items)
        if self._room < 0:
            self._spill()

    def _spill(self) -> None:
        run = self._run
        run.sort()
        blocks = []
        for at in range(0, len(run), _BLOCK_ITEMS):
            block = marshal.dumps(run[at : at + _BLOCK_ITEMS])
            self._file.write(block)
            blocks.append((self._end, len(block)))
            self._end += len(block)
        self._runs.append(blocks)
        self._run = []
        self._room = _RUN_BYTES

    def items(self) -> Iterator[Item]:
        """All records."""
        last = self._run
        last.sort()
        self._file.flush()
        runs = [self._read(run) for run in self._runs]
        runs.append(last[at : at + _BLOCK_ITEMS] for at in range(0, len(last), _BLOCK_ITEMS))
        yield from _merged(runs)
        self._file.close()

    def _read(self, blocks: list[tuple[int, int]]) -> Iterator[list[Item]]:
        """The blocks of a run."""
        for at, size in blocks:
            block: list[Item] = marshal.loads(os.pread(self._file.fileno(), size, at))
            yield block

    def close(self) -> None:
        self._file.close()


def _merged(runs: list[Iterator[list[Item]]]) -> Iterator[Item]:
    """All items of runs of sorted blocks, none of which is empty."""
    started = [(block, run) for run in runs if (block := next(run, None))]
    blocks = [block for block, _ in started]
    rests = [run for _, run in started]
    while blocks:
        end = min(block[-1] for block in blocks)
        batch: list[Item] = []
        for number, block in enumerate(blocks):
            upto = bisect_right(block, end)
            batch += block[:upto]
            blocks[number] = block[upto:] or next(rests[number], [])
        batch.sort()
        yield from batch
        rests = [run for block, run in zip(blocks, rests, strict=True) if block]
        blocks = [block for block in blocks if block]
