"""What the workers of one replica tell each other: a row of numbers each, in shared memory.

Owns:   this worker's row of the memory that the supervisor made.
Invariants:
  1. Each row has one writer; the supervisor clears the row of a worker that died.
Design: limits of the whole replica are kept without a word between processes. A number is as old as
        its worker's last turn, so a limit may be passed by what the others take in meanwhile: one
        turn's requests. Shares handed out by the commit process would be older, and would leave a
        busy worker short while the others have some to spare.
Not here: what the limits are and who waits for them (frontend/worker.py, frontend/line.py).
"""

from __future__ import annotations

import mmap
from typing import Final

# The columns of a row, each 8 bytes.
CLIENTS: Final = 0  # connections
LOAD: Final = 1  # requests that are not answered << 32 | those of them in process
LARGE: Final = 2  # bytes of large requests that are not answered
WAITING: Final = 3  # whether requests wait to be taken into process: 0 or 1
YIELDS: Final = 4  # listening sockets that it leaves to the others for a moment
COLUMNS: Final = 5

ROW_BYTES: Final = 8 * COLUMNS
_YIELDING_MORE: Final = 4  # connections; more, and a burst of clients would go to one worker
_LOW: Final = (1 << 32) - 1


class Board:
    """The rows of all workers, of which this one writes its own."""

    def __init__(self, memory: mmap.mmap, row: int) -> None:
        rows = memoryview(memory).cast("Q")
        self.rows = len(rows) // COLUMNS
        self._columns = [rows[column::COLUMNS] for column in range(COLUMNS)]
        self._loads = self._columns[LOAD]
        self._row = row

    @classmethod
    def of_one(cls) -> Board:
        """For a worker that shares its replica with no other."""
        return cls(mmap.mmap(-1, ROW_BYTES), 0)

    def put(self, column: int, number: int) -> None:
        """Publish one of this worker's numbers."""
        self._columns[column][self._row] = number

    def exchange_load(self, outstanding: int, in_process: int) -> tuple[int, int]:
        """Publish this worker's requests; returns those of all others, (outstanding, in process).

        Order:  called in every turn, hence one number for the two.
        """
        loads = self._loads
        loads[self._row] = load = outstanding << 32 | in_process
        elsewhere = sum(loads) - load
        return elsewhere >> 32, elsewhere & _LOW

    def elsewhere(self, column: int) -> int:
        """The sum of all others' numbers."""
        numbers = self._columns[column]
        return sum(numbers) - numbers[self._row]

    def clients(self) -> tuple[int, int]:
        """(this worker's connections, those of the worker that has the fewest).

        One that yields counts for more than it has: two that yield to each other leave all waiting.
        """
        counts = self._columns[CLIENTS]
        pairs = zip(counts, self._columns[YIELDS], strict=True)
        return counts[self._row], min(n + _YIELDING_MORE if yields else n for n, yields in pairs)

    def yields(self, more: int) -> None:
        """Publish that this worker leaves so many more listening sockets to the others."""
        self._columns[YIELDS][self._row] += more
