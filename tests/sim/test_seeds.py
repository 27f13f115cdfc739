"""The ensemble under every kind of fault: a fixed set of seeds; `python -m tests.sim` has more."""

from __future__ import annotations

from typing import Final

import pytest

from tests.sim.world import World, run_seed

SEEDS: Final = 100
SHARE: Final = 10  # seeds of one test


@pytest.mark.parametrize("first", range(0, SEEDS, SHARE))
def test_seeds(first: int) -> None:
    for seed in range(first, first + SHARE):
        run_seed(seed)


def test_the_same_seed_is_the_same_run() -> None:
    tales = []
    for _ in range(2):
        world = World(4)
        world.run()
        tales.append(world.tale())
    assert tales[0] == tales[1]


def test_the_seeds_visit_what_they_are_for() -> None:
    """Leaders change, trees are sent, tails are dropped, and clients get on all the while."""
    leaders = snapshots = truncations = acknowledged = 0
    for seed in range(12):
        world = World(seed, faults=("_behead", "_crash", "_damage"))
        world.run()
        leaders += len(world.checkers.one_leader.leaders)
        snapshots += world.checkers.snapshots
        truncations += world.truncations
        acknowledged += len(world.checkers.linearizable.acknowledged)
    assert leaders > 24
    assert snapshots > 5
    assert truncations > 0
    assert acknowledged > 1000


@pytest.mark.parametrize(
    ("fault", "met"),
    [
        ("_fill_leader", "refusals"),
        ("_restore", "old_copies"),
        ("_spoil_truncation", "failed_truncations"),
        ("_interrupt_tree", "interrupted_trees"),
        ("_crash", "trees_for_size"),
    ],
)
def test_the_seeds_visit_disks_that_fail(fault: str, met: str) -> None:
    def meets(seed: int) -> bool:
        world = World(seed, faults=(fault,))
        world.run()
        return bool(getattr(world, met))

    assert any(meets(seed) for seed in range(SEEDS))
