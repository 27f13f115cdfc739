"""Power loss by simulation, on real LMDB and the durable layer, with a workload that can be
  checked.

One run is a seed: some lives of one data directory, each ended by a power loss at a random
operation (disk operation or LMDB commit) and begun by recovering what it left.

Owns:   the toy workload: batches of random updates, one journal record and one LMDB commit each,
        some of them journaled well before they are applied, as a follower does; its model.
Invariants (what a run checks after each power loss):
  1. Durable: every batch whose append returned is there.
  2. Whole: the tree equals the model after exactly `applied` batches; nothing is half applied.
  3. Undamaged: a power loss alone never looks like a damaged journal.
Design: `python -m tests.crash.powerloss --seeds N --without pin` takes a guard away; then runs must
  fail, which proves that the simulation can. They run in a process of their own, as a corrupt
  LMDB file may well crash its reader.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from unittest import mock

import lmdb
import msgpack

from tests.crash.simdisk import SimDisk
from zkstore.errors import ZkstoreError
from zkstore.storage.checkpoint import Checkpointer
from zkstore.storage.env import Replica, open_replica
from zkstore.storage.journal import JournalPosition

LIVES: Final = 4
KEYS: Final = 150
SEGMENT_BYTES: Final = 16 << 10
MAP_BYTES: Final = 64 << 20
# What `--without` can take away: the pin, the flush of each journal record, the flush of the name
# `checkpoint`, the flush of the map.
GUARDS: Final = ("pin", "journal-flush", "directory-flush", "map-flush")
_APPLIED: Final = b"applied"

Batch = dict[bytes, bytes]  # an empty value: the key is deleted


class Broken(AssertionError):
    """An invariant of the module did not hold."""


class Life:
    """One life: recover, work until power is lost."""

    def __init__(self, root: Path, rng: random.Random, history: list[Batch], without: str) -> None:
        """`root` holds the folder `data`, and `log` if the journal is to be apart."""
        self._rng = rng
        self._history = history  # every batch ever journaled, in order; number n is at n - 1
        self._without = without
        self.disk = SimDisk(root)
        self._data_dir = root / "data"
        self._log_dir = root / "log" if (root / "log").exists() else self._data_dir
        self._flushing = threading.Event()
        self._released = threading.Event()
        self._released.set()
        self.disk.on_map_flush = self._in_map_flush
        self._replica: Replica
        self._applied = 0
        self._waiting: list[tuple[int, Batch, JournalPosition]] = []  # journaled, not applied

    def _in_map_flush(self) -> None:
        self._flushing.set()
        self._released.wait()

    def recover(self) -> None:
        """Open what the last power loss left, replay, and check it."""
        self._replica = open_replica(
            self._data_dir,
            self._log_dir,
            disk=self.disk,
            map_size_bytes=MAP_BYTES,
            journal_segment_bytes=SEGMENT_BYTES,
            flush=self._without != "journal-flush",
        )
        if self._without == "directory-flush":
            self.disk.lying = lambda path: path == self._replica.path.parent
        elif self._without == "map-flush":
            self.disk.lying = lambda path: path == self._replica.path
        if self._replica.journal_damaged:
            raise Broken(f"the journal looks damaged: {self._replica.journal.damage}")
        self._applied = self._replica.applied
        for payload in self._replica.replay:
            number, batch = msgpack.unpackb(payload)
            if number > self._applied:
                self._apply(number, batch)

    def check(self, acknowledged: int) -> None:
        """Compare with the model; what was journaled but did not survive is forgotten."""
        if self._applied < acknowledged:
            raise Broken(f"{acknowledged} were acknowledged, {self._applied} are there")
        if self._applied > len(self._history):
            raise Broken(f"{self._applied} are there, {len(self._history)} were made")
        del self._history[self._applied :]
        model: Batch = {}
        for batch in self._history:
            model.update(batch)
        wanted = {key: value for key, value in model.items() if value}
        if self._history:
            wanted[_APPLIED] = str(self._applied).encode()
        with self._replica.env.begin() as view:
            found = dict(view.cursor())
        if found != wanted:
            wrong = sorted(k for k in found.keys() | wanted if found.get(k) != wanted.get(k))
            raise Broken(f"after {self._applied} batches {len(wrong)} keys differ: {wrong[:5]}")

    def work(self, steps: int) -> int:
        """Random steps until power is lost; returns how many batches were acknowledged by then."""
        acknowledged = self._applied
        self._checkpoint_and_wait()
        actions = (self._append, self._append, self._apply_some, self._checkpoint, self._finish)
        for _ in range(steps):
            if self.disk.lost:
                break
            self._rng.choice(actions)()
            self._settle_threads()
            if not self.disk.lost:
                acknowledged = len(self._history)
        return acknowledged

    def end(self) -> None:
        """Close the zombie that went on after the power loss."""
        self._released.set()
        self._replica.abandon()

    def _append(self) -> None:
        number = len(self._history) + 1
        batch: Batch = {}
        for _ in range(self._rng.choice((1, 1, 3, 16))):
            key = b"key%d" % self._rng.randrange(KEYS)
            size = self._rng.choice((0, 20, 100, 1000, 6000))
            batch[key] = self._rng.randbytes(size)
        if self._rng.random() < 0.02:
            batch[b"large"] = self._rng.randbytes(3 * SEGMENT_BYTES)
        self._history.append(batch)
        position = self._replica.journal.append(msgpack.packb((number, batch)))
        self._waiting.append((number, batch, position))
        if self._rng.random() < 0.7:
            self._apply_some()

    def _apply_some(self) -> None:
        for _ in range(self._rng.randint(0, len(self._waiting))):
            number, batch, _ = self._waiting.pop(0)
            self._apply(number, batch)

    def _apply(self, number: int, batch: Batch) -> None:
        with self._replica.env.begin(write=True) as txn:
            for key, value in batch.items():
                if value:
                    txn.put(key, value)
                else:
                    txn.delete(key)
            txn.put(_APPLIED, str(number).encode())
        self._applied = number
        self.disk.tick()

    def _mark(self) -> dict[str, Any]:
        position = self._waiting[0][2] if self._waiting else self._replica.journal.end
        return {
            "applied": self._applied,
            "accepted_epoch": 1,
            "current_epoch": 1,
            "position": position,
        }

    def _checkpoint(self) -> None:
        """Begin a checkpoint, and stop in the middle of its flush."""
        if self._replica.checkpointer.busy:
            return
        self._flushing.clear()
        self._released.clear()
        self._replica.checkpointer.begin(**self._mark())
        self._flushing.wait()

    def _finish(self) -> None:
        self._released.set()
        done = self._replica.checkpointer.wait()
        if done is not None:
            self._replica.journal.recycle(done.position)

    def _checkpoint_and_wait(self) -> None:
        self._checkpoint()
        self._finish()

    @staticmethod
    def _settle_threads() -> None:
        """Let the journal's thread finish, so that a seed always tells the same story."""
        for thread in threading.enumerate():
            if thread.name == "journal-prepare":
                thread.join()


@contextmanager
def _unpinned(without: str) -> Iterator[None]:
    """Take the pins away: begin a view, and end it at once."""
    if without != "pin":
        yield
        return

    def open_pin(self: Checkpointer) -> Any:
        env: lmdb.Environment = self._env
        return mock.Mock(id=mock.Mock(return_value=env.info()["last_txnid"]))

    with (
        mock.patch.object(Checkpointer, "_open_pin", open_pin),
        mock.patch.object(Checkpointer, "_assert_pinned", lambda self, pin: None),
    ):
        yield


def run(seed: int, folder: Path, *, without: str = "", lives: int = LIVES) -> int:
    """One seed; returns how many batches survived. Raises: Broken, or what the storage raises."""
    rng = random.Random(seed)
    history: list[Batch] = []
    acknowledged = 0
    root = folder / "life0"
    for name in ("data", "log") if rng.random() < 0.5 else ("data",):
        (root / name).mkdir(parents=True)
    with _unpinned(without):
        for number in range(lives + 1):
            life = Life(root, rng, history, without)
            survivor = folder / f"life{number + 1}"
            last = number == lives
            if not last:
                # Early ones hit recovery itself, the replay, and the first checkpoint.
                span = rng.choice((10, 60, 1000))
                life.disk.lose_power_at(rng.randint(1, span), rng, survivor)
            life.recover()
            # If power went in the middle of recovery: what it recovers must be right all the same.
            life.check(acknowledged)
            if not last:
                if not life.disk.lost:
                    acknowledged = life.work(rng.randint(1, 200))
                if not life.disk.lost:
                    life.disk.lose_power(rng, survivor)
            life.end()
            shutil.rmtree(root)
            root = survivor
    return len(history)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.crash.powerloss", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, help="how many seeds to run")
    parser.add_argument("--since", type=int, default=0, help="the first seed")
    parser.add_argument("--without", choices=GUARDS, default="", help="take a guard away")
    options = parser.parse_args(argv)
    failed = survived = 0
    for seed in range(options.since, options.since + options.seeds):
        with tempfile.TemporaryDirectory() as folder:
            try:
                survived += run(seed, Path(folder), without=options.without)
            except (Broken, ZkstoreError, lmdb.Error) as error:
                failed += 1
                print(f"seed {seed}: {type(error).__name__}: {error}", flush=True)
    print(f"{options.seeds} seeds, {failed} failed, {survived} batches survived")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
