"""Bugs put in on purpose: each is found within its number of seeds, so the checkers can fail."""

from __future__ import annotations

import pytest

from tests.sim.bugs import PLANTED, planted
from tests.sim.world import World


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_bug_is_found(name: str) -> None:
    bug = PLANTED[name]
    with planted(bug):
        for seed in range(bug.seeds):
            try:
                World(seed, bug.driver, bug.faults).run()
            except AssertionError:
                return
    pytest.fail(f"not found in {bug.seeds} seeds")
