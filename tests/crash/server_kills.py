"""kill -9 under load, of a server as it really runs: supervisor, commit process, two workers.

One run is a seed: clients write, a process is killed at a random moment, and what is there
afterwards is compared with what the clients know; again and again over one data directory.

Invariants (checked after each kill): those of authors.py, read past the server from its own files.
  Besides: every session that survived is resumed, and the server answers a new client's write soon.
Design: which process, and after how many acknowledged writes, is the seed's; the moment within a
  write is the machine's. What is measured is the time from the kill (of the supervisor: from the
  new start) to the first answer, which is a new session: a write that was logged.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tests.crash.authors import PIPELINE_MAX, Author, faults
from tests.invariants.client import RefusedError, connect
from tests.invariants.history import History
from tests.invariants.replica import Replica, wait_for
from zkstore.storage.env import open_reader
from zkstore.storage.view import Views

AUTHORS: Final = 4
WORKERS: Final = 2
KILLS: Final = 6
VICTIMS: Final = ("worker", "commit", "workers", "all", "commit and worker")
_SETTINGS: Final = {
    "zkstore.checkpointIntervalMs": "300",
    "zkstore.checkpointBytes": str(1 << 20),
    "zkstore.logRetentionBytes": str(1 << 20),
    "zkstore.journalSegmentBytes": str(1 << 20),
}
_ANSWER_SECONDS: Final = 30.0
_LOAD_SECONDS: Final = 90.0


class Broken(AssertionError):
    """What is there after a kill is not what it must be."""


class Run:
    """One data directory, and the processes that come and go over it."""

    def __init__(self, seed: int, folder: Path) -> None:
        self._rng = random.Random(seed)
        # The supervisor gives up after a few deaths of the commit process within a minute; it
        # is killed in between, which sets the count back.
        self._commit_kills = 0
        self._authors = [Author(n, random.Random(self._rng.random())) for n in range(AUTHORS)]
        self._replica = Replica(folder, WORKERS, _SETTINGS)
        self.seconds: list[tuple[str, float]] = []  # victim, time to the first answer

    def run(self, kills: int) -> int:
        """Returns how many writes were acknowledged. Raises: Broken."""
        with self._replica:
            for _ in range(kills):
                victim = self._rng.choice(VICTIMS) if self._commit_kills < 4 else "all"
                killed = asyncio.run(self._write_until_killed(victim))
                since = self._start_again() if victim == "all" else killed
                asyncio.run(self._first_answer())
                self.seconds.append((victim, time.monotonic() - since))
                for author in self._authors:
                    asyncio.run(author.resume(self._replica.address))
                self._check()
        return sum(author.written for author in self._authors)

    async def _write_until_killed(self, victim: str) -> float:
        """Have all authors write, and kill after a random number of acknowledged writes."""
        after = self._rng.randint(1, 40 * PIPELINE_MAX)
        killed = asyncio.Event()
        moment = 0.0

        def acknowledged() -> None:
            nonlocal after, moment
            after -= 1
            if after == 0:
                self._kill(victim)
                moment = time.monotonic()
                killed.set()

        writing = [
            asyncio.create_task(
                author.write(
                    self._replica.address, ended=killed.is_set, on_acknowledged=acknowledged
                )
            )
            for author in self._authors
        ]  # fmt: skip
        await asyncio.wait_for(killed.wait(), _LOAD_SECONDS)
        await asyncio.gather(*writing)
        return moment

    def _kill(self, victim: str) -> None:
        replica = self._replica
        kill: dict[str, Callable[[], None]] = {
            "worker": lambda: replica.kill(self._rng.choice(replica.workers())),
            "workers": lambda: self._kill_each(replica.workers()),
            "commit": lambda: replica.kill(replica.commit()),
            "commit and worker": lambda: self._kill_each(replica.pids()[:2]),
            "all": replica.kill_all,
        }
        kill[victim]()
        if victim == "all":
            self._commit_kills = 0
        elif "commit" in victim:
            self._commit_kills += 1

    def _kill_each(self, pids: list[int]) -> None:
        for pid in pids:
            self._replica.kill(pid)

    def _start_again(self) -> float:
        """Start the whole server; returns when that began."""
        since = time.monotonic()
        self._replica.start()
        return since

    async def _first_answer(self) -> None:
        deadline = time.monotonic() + _ANSWER_SECONDS
        while True:
            try:
                client = await connect(self._replica.address, History().log("first"))
            except (RefusedError, OSError) as error:
                if time.monotonic() > deadline:
                    raise Broken(f"no answer in {_ANSWER_SECONDS} s") from error
                await asyncio.sleep(0.002)
            else:
                await client.close()
                return

    def _check(self) -> None:
        reader = wait_for(lambda: open_reader(self._replica.data_dir))
        try:
            with Views(reader.env).open() as view:
                found = faults(view, self._authors)
        finally:
            reader.close()
        if found:
            raise Broken("; ".join(found))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.crash.server_kills",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seeds", type=int, default=20, help="how many seeds to run")
    parser.add_argument("--since", type=int, default=0, help="the first seed")
    parser.add_argument("--kills", type=int, default=20, help="kills of each seed")
    options = parser.parse_args(argv)
    failed = written = 0
    seconds: dict[str, list[float]] = {}
    for seed in range(options.since, options.since + options.seeds):
        with tempfile.TemporaryDirectory() as folder:
            one = Run(seed, Path(folder))
            try:
                written += one.run(options.kills)
            except (AssertionError, RefusedError, OSError, TimeoutError) as error:
                failed += 1
                print(f"seed {seed}: {type(error).__name__}: {error}", flush=True)
        for victim, took in one.seconds:
            seconds.setdefault(victim, []).append(took)
    for victim, times in sorted(seconds.items()):
        print(
            f"{victim}: {len(times)} kills, first answer after {statistics.median(times):.3f} s,"
            f" at most {max(times):.3f} s"
        )
    print(f"{options.seeds} seeds, {failed} failed, {written} writes acknowledged")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
