"""A member without room keeps nobody from writing: the others go on within seconds, each time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tests.sim.bugs import around
from tests.sim.node import Node
from tests.sim.world import SECOND, World
from zkstore.zab.absence import Absence

FULL_AT: Final = 3 * SECOND
FULL_UNTIL: Final = 9 * SECOND
GONE_SECONDS: Final = 3  # at most, until writes are acknowledged again
REFUSALS_MAX: Final = 8  # of its journal, by then: it does not try all the time
SEEDS: Final = 6
SEEDS_OF_A_CONTROL: Final = 20  # it ends with the first that fails


def ensembles(count: int = SEEDS) -> Iterator[World]:
    """Ensembles without any other fault, where the others are a quorum without the leader."""
    for seed in range(count):
        world = World(seed)
        world.run_until(SECOND // 2)
        world.faults.end()
        world.run_until(FULL_AT)
        voters = set(world.membership.voters)
        if any(world.is_quorum(voters - {n.sid}) and n.peer.leading for n in world.nodes.values()):
            yield world


def leader(world: World) -> Node:
    (found,) = [node for node in world.nodes.values() if node.peer.leading]
    return found


def gone_on(world: World) -> bool:
    """Whether writes are acknowledged in each second from the third on, and it let them."""
    world.run_until(FULL_AT + GONE_SECONDS * SECOND)
    for end in range(world.now + SECOND, FULL_UNTIL, SECOND):
        done = len(world.checkers.linearizable.acknowledged)
        world.run_until(end)
        if len(world.checkers.linearizable.acknowledged) == done:
            return False
    world.checkers.compare()
    return world.refusals <= REFUSALS_MAX


def a_leader_is_full(world: World) -> bool:
    """As it says; the journal has no room, or there is only no reserve left. Another leads then."""
    node = leader(world)
    node.disk.short = world.looks_at_disks
    node.disk.full = not node.disk.short
    return gone_on(world) and leader(world) is not node


def the_longest_log_is_full(world: World) -> bool:
    """The leader has a txn that nobody else has got; it fails, comes back, and has no room."""
    node = leader(world)
    while not node.disk.log or node.disk.log[-1].zxid <= node.peer.last_committed:
        world.run_until(world.now + 500)
        assert world.now < FULL_AT + SECOND
    world.network.forget(node)
    node.crash()
    node.disk.full = True
    node.start()
    return gone_on(world)


def test_others_go_on_without_a_full_leader() -> None:
    results = [a_leader_is_full(world) for world in ensembles()]
    assert len(results) >= SEEDS // 2
    assert all(results)


def test_others_go_on_without_the_longest_log() -> None:
    results = [the_longest_log_is_full(world) for world in ensembles()]
    assert all(results)


def test_control_one_that_never_stays_away_is_found() -> None:
    with around(Absence, "begin", lambda original, self: None):
        worlds = ensembles(SEEDS_OF_A_CONTROL)
        assert not all(the_longest_log_is_full(world) for world in worlds)


def test_control_a_leader_that_never_gives_way_is_found() -> None:
    with around(Absence, "gives_way", lambda original, self, elapsed_ms: False):
        worlds = ensembles(SEEDS_OF_A_CONTROL)
        assert not all(a_leader_is_full(world) for world in worlds)
