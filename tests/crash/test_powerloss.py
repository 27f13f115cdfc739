"""Power loss by simulation: a hundred seeds, and the controls that show it can fail.

More seeds: python -m tests.crash.powerloss --seeds 10000
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.crash import powerloss
from tests.crash.simdisk import PAGE_BYTES, SimDisk

REPOSITORY = Path(__file__).parents[2]
SEEDS = 100
SEEDS_OF_A_CONTROL = 12


@pytest.mark.parametrize("since", range(0, SEEDS, 10))
def test_durable_and_whole_after_power_loss(tmp_path: Path, since: int) -> None:
    survived = [powerloss.run(seed, tmp_path / str(seed)) for seed in range(since, since + 10)]
    assert sum(survived) > 0


@pytest.mark.parametrize("without", powerloss.GUARDS)
def test_control_without_a_guard_the_simulation_fails(without: str) -> None:
    # In a process of its own: what is read from a corrupt map may crash LMDB.
    command = [sys.executable, "-m", "tests.crash.powerloss", "--without", without]
    done = subprocess.run(
        [*command, "--seeds", str(SEEDS_OF_A_CONTROL)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode != 0, done.stdout
    if done.returncode == 1:
        # Failed by its own checks, not by a mistake of the test.
        assert "seed " in done.stdout, done.stderr


def test_sim_disk_keeps_what_was_flushed_and_not_all_that_was_not(tmp_path: Path) -> None:
    """The simulation itself: both extremes and torn pages come up, flushed bytes stay."""
    seen = set()
    for seed in range(200):
        root, target = tmp_path / f"root{seed}", tmp_path / f"target{seed}"
        root.mkdir()
        disk = SimDisk(root)
        fd = disk.open(root / "file", os.O_RDWR | os.O_CREAT)
        disk.pwrite(fd, b"a" * PAGE_BYTES, 0)
        disk.flush(fd)
        disk.fsync_dir(root)
        disk.pwrite(fd, b"b" * PAGE_BYTES, 0)
        other = disk.open(root / "unnamed", os.O_RDWR | os.O_CREAT)
        disk.pwrite(other, b"c", 0)
        disk.flush(other)
        disk.lose_power(random.Random(seed), target)
        disk.close(fd)
        disk.close(other)
        content = (target / "file").read_bytes()
        assert len(content) == PAGE_BYTES
        seen.add("torn" if len(set(content)) > 1 else content[:1].decode())
        seen.add("named" if (target / "unnamed").exists() else "not named")
    assert seen == {"a", "b", "torn", "named", "not named"}
