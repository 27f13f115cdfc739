"""Power loss of a member of an ensemble, by simulation: forty seeds, and controls that must fail.

More seeds: python -m tests.crash.member_powerloss --seeds 10000
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.crash import member_powerloss

REPOSITORY = Path(__file__).parents[2]
SEEDS = 40
SEEDS_OF_A_CONTROL = 12


@pytest.mark.parametrize("since", range(0, SEEDS, 10))
def test_step_by_step_after_power_loss(tmp_path: Path, since: int) -> None:
    survived = [
        member_powerloss.run(seed, tmp_path / str(seed)) for seed in range(since, since + 10)
    ]
    assert sum(survived) > 0


@pytest.mark.parametrize("without", member_powerloss.GUARDS)
def test_control_without_a_guard_the_simulation_fails(without: str) -> None:
    # In a process of its own: what is read from a corrupt map may crash LMDB.
    command = [sys.executable, "-m", "tests.crash.member_powerloss", "--without", without]
    done = subprocess.run(
        [*command, "--seeds", str(SEEDS_OF_A_CONTROL)],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode != 0, done.stdout
    if done.returncode == 1:
        # Failed by its own checks, not by a mistake of the test.
        assert "seed " in done.stdout, done.stderr
