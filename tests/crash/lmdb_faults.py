"""Run by test_lmdb_faults.py with lmdb_shim.c preloaded: LMDB's n-th own write or flush fails.

usage: python -m tests.crash.lmdb_faults FOLDER ERRNO FOR_GOOD HALF

One process tries every n, each on a directory of its own: the fault, then a restart without it.
Prints "<n> episodes, <refused> refused, <stopped> stopped" and ends with 0, or raises.
"""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

from tests.crash.story import BATCHES, OPERATIONS_MAX, Story
from zkstore.errors import CorruptionError, StorageFailed, StorageFull
from zkstore.storage.disk import Disk


def main(argv: list[str]) -> int:
    folder = Path(argv[0])
    error, for_good, half = (int(argument) for argument in argv[1:])
    shim = ctypes.CDLL(None)
    refused = stopped = 0
    for operation in range(1, OPERATIONS_MAX):
        root = folder / str(operation)
        root.mkdir(parents=True)
        story = Story(seed=operation)
        shim.shim_arm(operation, error, for_good, half)
        try:
            story.tell(root, Disk(), BATCHES)
        except (StorageFailed, StorageFull):
            assert shim.shim_failures() > 0
            stopped += 1
        failures = shim.shim_failures()
        shim.shim_arm(0, 0, 0, 0)
        refused += story.refused
        if not failures:
            assert story.acknowledged == BATCHES, story.acknowledged
            print(f"{operation} episodes, {refused} refused, {stopped} stopped")
            return 0
        try:
            story.tell(root, Disk(), 2)
        except CorruptionError as damage:
            raise AssertionError(f"operation {operation}: {damage}") from damage
    raise AssertionError("the story has no end")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
