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
    leaders = snapshots = for_size = truncations = acknowledged = 0
    for seed in range(12):
        world = World(seed, faults=("_behead", "_crash", "_damage"))
        world.run()
        leaders += len(world.checkers.one_leader.leaders)
        snapshots += world.checkers.snapshots
        for_size += world.trees_for_size
        truncations += world.truncations
        acknowledged += len(world.checkers.linearizable.acknowledged)
    assert leaders > 24
    assert snapshots > 5
    assert for_size > 0
    assert truncations > 0
    assert acknowledged > 1000


def test_the_seeds_visit_disks_that_fail() -> None:
    """Full ones, old copies, TRUNCs that cannot be done, trees that do not arrive."""
    refusals = old_copies = failed_truncations = interrupted_trees = 0
    disks = ("_fill_leader", "_restore", "_interrupt_tree")
    for seed, faults in enumerate((disks,) * 5 + (("_spoil_truncation",),) * 3):
        world = World(seed, faults=faults)
        world.run()
        refusals += world.refusals
        old_copies += world.old_copies
        failed_truncations += world.failed_truncations
        interrupted_trees += world.interrupted_trees
    assert refusals > 10
    assert old_copies > 0
    assert failed_truncations > 0
    assert interrupted_trees > 10
