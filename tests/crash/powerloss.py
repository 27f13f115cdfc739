"""Power loss by simulation, on real LMDB and the durable layer, with the workload of toy.py.

One run is a seed: some lives of one data directory, each ended by a power loss at a random
operation (of the disk, or a commit of LMDB) and begun by recovering what it left.

Invariants (checked by toy.py after each power loss): Durable, Whole, Undamaged.
Design: `python -m tests.crash.powerloss --seeds N --without pin` takes a guard away; then runs must
  fail, which proves that the simulation can. They run in a process of their own, as a corrupt LMDB
  file may well crash its reader.
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

from tests.crash.simdisk import SimDisk
from tests.crash.toy import Batch, Broken, Toy, random_batch
from zkstore.errors import ZkstoreError
from zkstore.storage.checkpoint import Checkpointer

LIVES: Final = 4
SEGMENT_BYTES: Final = 16 << 10
# What `--without` can take away: the pin, the flush of each journal record, the flush of the name
# `checkpoint`, the flush of the map.
GUARDS: Final = ("pin", "journal-flush", "directory-flush", "map-flush")
_VALUE_SIZES: Final = (0, 20, 100, 1000, 6000)


class Life:
    """One life: recover, work until power is lost."""

    def __init__(self, root: Path, rng: random.Random, history: list[Batch], without: str) -> None:
        """`root` holds the folder `data`, and `log` if the journal is to be apart."""
        self._rng = rng
        self._root = root
        self._history = history
        self._without = without
        self.disk = SimDisk(root)
        self.disk.on_map_flush = self._in_map_flush
        self._flushing = threading.Event()
        self._released = threading.Event()
        self._released.set()
        self._toy: Toy

    def _in_map_flush(self) -> None:
        self._flushing.set()
        self._released.wait()

    def recover(self, acknowledged: int) -> None:
        """Open what the last power loss left, replay, and check it."""
        data_dir, log_dir = self._root / "data", self._root / "log"
        self._toy = Toy(
            data_dir,
            log_dir if log_dir.exists() else data_dir,
            self.disk,
            self._history,
            segment_bytes=SEGMENT_BYTES,
            flush=self._without != "journal-flush",
        )
        path = self._toy.replica.path
        if self._without == "directory-flush":
            self.disk.lying = lambda flushed: flushed == path.parent
        elif self._without == "map-flush":
            self.disk.lying = lambda flushed: flushed == path
        self._toy.on_commit = self.disk.tick
        self._toy.replay()
        self._toy.check(acknowledged)

    def work(self, steps: int) -> int:
        """Random steps until power is lost; returns how many batches were acknowledged by then."""
        acknowledged = self._toy.applied
        self._begin_checkpoint()
        self._finish_checkpoint()
        actions = (
            self._append,
            self._append,
            self._apply,
            self._begin_checkpoint,
            self._finish_checkpoint,
        )
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
        self._toy.replica.abandon()

    def _append(self) -> None:
        batch = random_batch(self._rng, sizes=_VALUE_SIZES, updates=self._rng.choice((1, 1, 3, 16)))
        if self._rng.random() < 0.02:
            batch[b"large"] = self._rng.randbytes(3 * SEGMENT_BYTES)
        self._toy.append(batch)
        if self._rng.random() < 0.7:
            self._apply()

    def _apply(self) -> None:
        self._toy.apply(self._rng.randint(0, len(self._toy.waiting)))

    def _begin_checkpoint(self) -> None:
        """Begin a checkpoint, and stop in the middle of its flush."""
        if not self._toy.replica.checkpointer.busy:
            self._flushing.clear()
            self._released.clear()
            self._toy.begin_checkpoint()
            self._flushing.wait()

    def _finish_checkpoint(self) -> None:
        self._released.set()
        self._toy.finish_checkpoint()

    @staticmethod
    def _settle_threads() -> None:
        """Let the journal's thread finish, so that a seed always tells the same story."""
        for thread in threading.enumerate():
            if thread.name == "journal-prepare":
                thread.join()


@contextmanager
def _unpinned(without: str) -> Iterator[None]:
    """Take the pins away, if that is what is to be without."""
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
        for number in range(lives):
            life = Life(root, rng, history, without)
            survivor = folder / f"life{number + 1}"
            # Early ones hit recovery itself, the replay, and the first checkpoint.
            life.disk.lose_power_at(rng.randint(1, rng.choice((10, 60, 1000))), rng, survivor)
            # If power goes in the middle of it, what it recovers must be right all the same.
            life.recover(acknowledged)
            if not life.disk.lost:
                acknowledged = life.work(rng.randint(1, 200))
            if not life.disk.lost:
                life.disk.lose_power(rng, survivor)
            life.end()
            shutil.rmtree(root)
            root = survivor
        life = Life(root, rng, history, without)
        life.recover(acknowledged)
        life.end()
    return len(history)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.crash.powerloss",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
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
