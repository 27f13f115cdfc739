"""Power loss under a whole server: clients write, power goes at a random operation of the disk,
the server starts again on what the device kept.

One run is a seed: some lives of one data directory. The seed decides what is written and at which
operation power is lost; how clients and checkpoints interleave is the machine's.

Invariants (checked after each power loss): those of authors.py; besides, each session that survived
  is resumed, by a client that has seen the last zxid that was acknowledged to it.
Design: only what a client has heard before the loss counts as acknowledged. The zombie serves on,
  to no effect. What survived is recovered twice, the first time only to be looked at and then left
  as by a crash; so recovery is shown to change nothing that it depends on.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import shutil
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any, Final

import zkstore
from tests.crash.authors import Author, faults
from tests.crash.simdisk import SimDisk
from tests.invariants.client import RefusedError
from zkstore.commit.process import open_writer
from zkstore.errors import ZkstoreError
from zkstore.settings import Settings
from zkstore.storage.disk import Disk

LIVES: Final = 4
AUTHORS: Final = 3
# Records larger than a segment among them.
SIZES: Final = (0, 10, 10, 200, 1000, 3000, 40_000)
# Small, so that segments, checkpoints and the log's front move often in a short life.
_SETTINGS: Final[dict[str, Any]] = {
    "journal_segment_bytes": 16 << 10,
    "checkpoint_bytes": 256 << 10,
    "checkpoint_interval_ms": 100,
    "log_retention_bytes": 100_000,
    "map_size_bytes": 64 << 20,
    "disk_reserve_bytes": 64 << 10,
    "max_session_timeout_ms": 60_000,
    "max_client_cnxns": 0,
}
_FLUSH_SECONDS: Final = 0.02  # a flush of the map lasts as long at most
_FLUSHES: Final = {"": True, "journal-flush": False}  # what `--without` takes away


class Broken(AssertionError):
    """What survived is not what it must be."""


def settings_of(root: Path, without: str) -> Settings:
    return Settings(data_dir=str(root), force_sync=_FLUSHES[without], **_SETTINGS)


def check(root: Path, authors: list[Author], without: str) -> None:
    """Recover, compare with what the authors know, and leave it as a crash would.

    Raises: Broken, ZkstoreError.
    """
    opened = open_writer(settings_of(root, without), Disk())
    try:
        with opened.writer.views.open() as view:
            found = faults(view, authors)
    finally:
        opened.reserve.close()
        opened.replica.abandon()
    if found:
        raise Broken("; ".join(found))


class Life:
    """One server, from its start on what survived to the loss of power."""

    def __init__(self, root: Path, target: Path, rng: random.Random, without: str) -> None:
        self._rng = rng
        self._target = target
        self._disk = SimDisk(root)
        self._disk.on_map_flush = self._in_map_flush
        self._acknowledged = threading.Event()
        self._server = zkstore.Server(root, disk=self._disk, settings=settings_of(root, without))

    def _in_map_flush(self) -> None:
        """Have something acknowledged, and applied, in the middle of the flush."""
        self._acknowledged.clear()
        self._acknowledged.wait(_FLUSH_SECONDS)

    def run(self, authors: list[Author]) -> None:
        # Early ones hit recovery and the first checkpoint.
        latest = self._rng.choice((20, 200, 1500))
        self._disk.lose_power_at(self._rng.randint(1, latest), self._rng, self._target)
        self._server.start()
        try:
            asyncio.run(self._write(authors))
        finally:
            self._disk.lose_power(self._rng, self._target)
            self._server.kill()

    async def _write(self, authors: list[Author]) -> None:
        address = ("127.0.0.1", self._server.port)
        for author in authors:
            await author.resume(address)
        pipelines = iter(range(self._rng.randint(1, 40 * AUTHORS)))
        await asyncio.gather(
            *(
                author.write(
                    address, ended=lambda: self._disk.lost or next(pipelines, None) is None,
                    lost=lambda: self._disk.lost, on_acknowledged=self._acknowledged.set,
                )
                for author in authors
            )
        )  # fmt: skip


def run(seed: int, folder: Path, *, without: str = "", lives: int = LIVES) -> int:
    """One seed; returns how many writes were acknowledged.

    Raises: Broken, RefusedError, or what opening the storage raises.
    """
    rng = random.Random(seed)
    authors = [Author(number, random.Random(rng.random()), SIZES) for number in range(AUTHORS)]
    root = folder / "life0"
    root.mkdir(parents=True)
    for number in range(lives):
        survivor = folder / f"life{number + 1}"
        Life(root, survivor, rng, without).run(authors)
        shutil.rmtree(root)
        root = survivor
        check(root, authors, without)
    return sum(author.written for author in authors)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.crash.server_powerloss",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seeds", type=int, default=200, help="how many seeds to run")
    parser.add_argument("--since", type=int, default=0, help="the first seed")
    parser.add_argument("--without", choices=_FLUSHES, default="", help="take a guard away")
    options = parser.parse_args(argv)
    failed = written = 0
    for seed in range(options.since, options.since + options.seeds):
        with tempfile.TemporaryDirectory() as folder:
            try:
                written += run(seed, Path(folder), without=options.without)
            except (Broken, RefusedError, ZkstoreError) as error:
                failed += 1
                print(f"seed {seed}: {type(error).__name__}: {error}", flush=True)
    print(f"{options.seeds} seeds, {failed} failed, {written} writes acknowledged")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
