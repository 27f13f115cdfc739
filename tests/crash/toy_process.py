"""Run by test_kill.py: works until it is killed, and says what it has acknowledged.

usage: python -m tests.crash.toy_process FOLDER SEED

Prints the number of each batch once its append has returned. Batch n is the same whoever makes it.
"""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path
from typing import Final

from tests.crash.toy import Batch, Toy, random_batch
from zkstore.storage.disk import Disk

SEGMENT_BYTES: Final = 32 << 10
_CHECKPOINT_BATCHES: Final = 20


def batch_of(seed: int, number: int) -> Batch:
    rng = random.Random(seed * 1_000_003 + number)
    return random_batch(rng, sizes=(0, 20, 300, 5000), updates=rng.randint(1, 4))


def open_toy(folder: Path, history: list[Batch]) -> Toy:
    toy = Toy(folder, folder, Disk(), history, segment_bytes=SEGMENT_BYTES)
    toy.replay()
    return toy


def main(argv: list[str]) -> int:
    folder, seed = Path(argv[0]), int(argv[1])
    toy = open_toy(folder, [])
    toy.history.extend(batch_of(seed, n + 1) for n in range(toy.applied))
    toy.begin_checkpoint()
    toy.finish_checkpoint()
    while True:
        number = len(toy.history) + 1
        toy.append(batch_of(seed, number))
        os.write(sys.stdout.fileno(), b"%d\n" % number)
        toy.apply(len(toy.waiting) if number % 3 else 0)
        checkpointer = toy.replica.checkpointer
        if not checkpointer.busy:
            if number % _CHECKPOINT_BATCHES == 0:
                toy.begin_checkpoint()
        elif (done := checkpointer.poll()) is not None:
            toy.replica.journal.recycle(done.position)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
