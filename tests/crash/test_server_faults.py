"""The n-th write or flush of a whole server fails, once or for good; then power is lost as well.

What was acknowledged is there, what was refused is not, and the server goes on or says why it does
not. LMDB's own writes are the subject of test_lmdb_faults.py.
"""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

import zkstore
from tests.crash.authors import Author
from tests.crash.faultdisk import ERRORS, FaultDisk
from tests.crash.server_powerloss import AUTHORS, SIZES, check, settings_of
from zkstore.errors import StorageFailed, StorageFull

SEEDS = 20
LIVES = 3


async def write(port: int, authors: list[Author], rng: random.Random) -> int:
    """All write; returns how many writes were refused."""
    address = ("127.0.0.1", port)
    writing = (author.write_while_some_fail(address, rng.randint(5, 60)) for author in authors)
    return sum(await asyncio.gather(*writing))


def live(disk: FaultDisk, root: Path, authors: list[Author], rng: random.Random) -> None:
    """One life of the server: it serves to its end, or ends for what failed."""
    server = zkstore.Server(root, disk=disk, settings=settings_of(root, ""))
    try:
        server.start()
        refused = asyncio.run(write(server.port, authors, rng))
        rng.choice((server.kill, server.stop))()
    except (StorageFull, StorageFailed):
        assert disk.failed
    else:
        assert disk.failed or not refused


@pytest.mark.parametrize("since", range(0, SEEDS, 5))
def test_nothing_acknowledged_is_lost_by_a_disk_that_fails(tmp_path: Path, since: int) -> None:
    for seed in range(since, since + 5):
        rng = random.Random(seed)
        authors = [Author(number, random.Random(rng.random()), SIZES) for number in range(AUTHORS)]
        root = tmp_path / str(seed)
        root.mkdir()
        for number in range(LIVES):
            operation = rng.randint(1, rng.choice((30, 300, 1500)))
            disk = FaultDisk(root, operation, rng.choice(ERRORS), for_good=rng.random() < 0.5)
            live(disk, root, authors, rng)
            disk.heal()
            survivor = tmp_path / f"{seed}.{number}"
            disk.lose_power(rng, survivor)
            root = survivor
            check(root, authors, "")
