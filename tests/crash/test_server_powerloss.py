"""Power loss under a whole server, and the control that shows that the test can fail.

More seeds: python -m tests.crash.server_powerloss --seeds 1000
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash import server_powerloss
from tests.crash.server_powerloss import Broken
from tests.invariants.client import RefusedError
from zkstore.errors import ZkstoreError

SEEDS = 20
SEEDS_OF_A_CONTROL = 10


@pytest.mark.parametrize("since", range(0, SEEDS, 5))
def test_nothing_acknowledged_is_lost_by_power_loss(tmp_path: Path, since: int) -> None:
    written = [server_powerloss.run(n, tmp_path / str(n)) for n in range(since, since + 5)]
    assert sum(written) > 0


def test_control_without_the_journal_flush_it_fails(tmp_path: Path) -> None:
    with pytest.raises((Broken, RefusedError, ZkstoreError)):
        for seed in range(SEEDS_OF_A_CONTROL):
            server_powerloss.run(seed, tmp_path / str(seed), without="journal-flush")
