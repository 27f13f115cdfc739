"""kill -9 of the writing process at random moments: what it acknowledged is there, nothing half."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.crash.toy import Batch
from tests.crash.toy_process import batch_of, open_toy

REPOSITORY = Path(__file__).parents[2]
KILLS: Final = 25
SEED: Final = 1


@pytest.mark.timeout(300)  # some thousand flushes
def test_nothing_acknowledged_is_lost_by_kill_9(tmp_path: Path) -> None:
    rng = random.Random(SEED)
    history: list[Batch] = []
    for _ in range(KILLS):
        acknowledged = _work_and_die(tmp_path, rng)
        while len(history) <= acknowledged:  # the last one may have been written and not said
            history.append(batch_of(SEED, len(history) + 1))
        toy = open_toy(tmp_path, history)
        toy.check(acknowledged)
        toy.replica.abandon()
    assert len(history) > KILLS


def _work_and_die(folder: Path, rng: random.Random) -> int:
    """Run the process, kill it after some batches; returns the last that it acknowledged."""
    command = [sys.executable, "-m", "tests.crash.toy_process", str(folder), str(SEED)]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(rng.randint(1, 150))]
        process.kill()
        lines += process.stdout.readlines()
    assert lines[0], "the process did not start"
    return int([line for line in lines if line.endswith(b"\n")][-1])
