"""A short life of a replica that passes every kind of operation, for tests that let the n-th fail.

Owns:   the model across restarts, what was acknowledged, how often something found no room.
Invariants:
  1. A refused append (StorageFull) is forgotten: it must not come back.
  2. A commit that LMDB has no room for stays waiting, is tried again, and is never skipped.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Final

import lmdb

from tests.crash.toy import Batch, Toy, random_batch
from zkstore.errors import StorageFailed, StorageFull
from zkstore.storage.disk import Disk
from zkstore.storage.env import storage_error
from zkstore.storage.journal import SEGMENT_BYTES_MIN

SEGMENT_BYTES: Final = SEGMENT_BYTES_MIN
BATCHES: Final = 12
OPERATIONS_MAX: Final = 500


class Story:
    """See the module."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)
        self.history: list[Batch] = []
        self.acknowledged = 0
        self.refused = 0

    def tell(self, root: Path, disk: Disk, batches: int) -> None:
        """Open, check, work, stop. Raises: StorageFailed, StorageFull when it cannot open."""
        toy = self._open(root, disk)
        try:
            self._checkpoint(toy)
            for number in range(batches):
                self._append(toy)
                if number % 4 == 3:
                    self._apply(toy)
                    self._checkpoint(toy)
            self._apply(toy)
        except StorageFailed:
            toy.replica.abandon()
            raise
        if toy.waiting:
            toy.replica.abandon()
            return
        try:
            toy.close()
        except StorageFull:
            self.refused += 1

    def recover(self, root: Path, disk: Disk) -> None:
        """Open and check only: what was recovered is as good as acknowledged from then on."""
        self._open(root, disk).replica.abandon()

    def _open(self, root: Path, disk: Disk) -> Toy:
        toy = Toy(root, root, disk, self.history, segment_bytes=SEGMENT_BYTES)
        try:
            toy.replay()
        except lmdb.Error as error:
            toy.replica.abandon()
            raise storage_error(error, str(root)) from error
        toy.check(self.acknowledged)
        self.acknowledged = toy.applied
        return toy

    def _append(self, toy: Toy) -> None:
        size = self._rng.choice((100, 700, 2000, 3 * SEGMENT_BYTES))
        batch = random_batch(self._rng, sizes=(size,), updates=1)
        try:
            toy.append(batch)
        except StorageFull:
            self.refused += 1
            self.history.pop()
        else:
            self.acknowledged = len(self.history)

    def _apply(self, toy: Toy) -> None:
        """Apply what waits; what LMDB has no room for goes on waiting."""
        try:
            toy.apply(len(toy.waiting))
        except lmdb.Error as error:
            meaning = storage_error(error, "commit")
            if not isinstance(meaning, StorageFull):
                raise meaning from error
            self.refused += 1

    def _checkpoint(self, toy: Toy) -> None:
        try:
            toy.begin_checkpoint()
            toy.finish_checkpoint()
        except StorageFull:
            self.refused += 1
