"""A workload over the durable layer whose outcome can be checked: batches of updates and their
  model.

Owns:   one open replica, the model (`history`), and the batches that are journaled but not applied.
Invariants (what `check` holds against the tree):
  1. Durable: every batch whose `append` returned is there.
  2. Whole: the tree equals the model after exactly `applied` batches; nothing is half applied.
  3. Undamaged: no crash and no failed write alone makes the journal look damaged.
Design: one journal record and one LMDB commit a batch; batch n's record names n, and so does the
  tree.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgpack

from zkstore.storage.disk import Disk
from zkstore.storage.env import Replica, open_replica
from zkstore.storage.journal import JournalPosition

KEYS: Final = 150
MAP_BYTES: Final = 64 << 20
_APPLIED: Final = b"applied"

Batch = dict[bytes, bytes]  # an empty value: the key is deleted


class Broken(AssertionError):
    """An invariant of the module did not hold."""


def random_batch(rng: random.Random, *, sizes: tuple[int, ...], updates: int) -> Batch:
    return {
        b"key%d" % rng.randrange(KEYS): rng.randbytes(rng.choice(sizes)) for _ in range(updates)
    }


class Toy:
    """See the module. `history`: every batch ever made, in order; batch n is at n - 1."""

    def __init__(
        self,
        data_dir: Path,
        log_dir: Path,
        disk: Disk,
        history: list[Batch],
        *,
        segment_bytes: int,
        flush: bool = True,
    ) -> None:
        """Open and recover; the caller checks, then checkpoints."""
        self.history = history
        self.replica: Replica = open_replica(
            data_dir,
            log_dir,
            disk=disk,
            map_size_bytes=MAP_BYTES,
            journal_segment_bytes=segment_bytes,
            flush=flush,
        )
        self.applied = self.replica.applied
        self.waiting: deque[tuple[int, Batch, JournalPosition]] = deque()
        self.on_commit: Callable[[], None] | None = None

    def replay(self) -> None:
        for payload in self.replica.replay:
            number, batch = msgpack.unpackb(payload)
            if number > self.applied:
                self._commit(number, batch)

    def check(self, acknowledged: int) -> None:
        """Compare with the model; what did not survive is forgotten. Raises: Broken."""
        if self.replica.journal_damaged:
            raise Broken(f"the journal looks damaged: {self.replica.journal.damage}")
        if self.applied < acknowledged:
            raise Broken(f"{acknowledged} were acknowledged, {self.applied} are there")
        if self.applied > len(self.history):
            raise Broken(f"{self.applied} are there, {len(self.history)} were made")
        del self.history[self.applied :]
        model: Batch = {}
        for batch in self.history:
            model.update(batch)
        wanted = {key: value for key, value in model.items() if value}
        if self.history:
            wanted[_APPLIED] = str(self.applied).encode()
        with self.replica.env.begin() as view:
            found = dict(view.cursor())
        if found != wanted:
            wrong = sorted(k for k in found.keys() | wanted if found.get(k) != wanted.get(k))
            raise Broken(f"after {self.applied} batches {len(wrong)} keys differ: {wrong[:5]}")

    def append(self, batch: Batch) -> None:
        """Journal one batch; it is acknowledged when this returns, and waits to be applied."""
        number = len(self.history) + 1
        self.history.append(batch)
        position = self.replica.journal.append(msgpack.packb((number, batch)))
        self.waiting.append((number, batch, position))

    def apply(self, count: int) -> None:
        """Commit the oldest `count` waiting batches."""
        for _ in range(count):
            number, batch, _ = self.waiting[0]
            self._commit(number, batch)
            self.waiting.popleft()

    def _commit(self, number: int, batch: Batch) -> None:
        with self.replica.env.begin(write=True) as txn:
            for key, value in batch.items():
                if value:
                    txn.put(key, value)
                else:
                    txn.delete(key)
            txn.put(_APPLIED, str(number).encode())
        self.applied = number
        if self.on_commit is not None:
            self.on_commit()

    def begin_checkpoint(self) -> None:
        self.replica.checkpointer.begin(**self.mark())

    def finish_checkpoint(self) -> None:
        """Wait for the one under way, if any, and recycle the journal behind it."""
        done = self.replica.checkpointer.wait()
        if done is not None:
            self.replica.journal.recycle(done.position)

    def mark(self) -> dict[str, Any]:
        """What a checkpoint says of the tree as it is."""
        position = self.waiting[0][2] if self.waiting else self.replica.journal.end
        return {
            "applied": self.applied,
            "accepted_epoch": 1,
            "current_epoch": 1,
            "position": position,
        }

    def close(self) -> None:
        """A clean stop."""
        self.apply(len(self.waiting))
        self.replica.close(applied=self.applied, accepted_epoch=1, current_epoch=1)
