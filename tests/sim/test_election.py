"""The election under trouble, by seed; calm starts; and mistakes that the checkers must find."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from tests.sim.election import (
    INTERVAL_MS_MAX,
    MakeElection,
    Violation,
    World,
    live,
    make_election,
)
from zkstore.proto.quorum import Notification, Role
from zkstore.zab import election
from zkstore.zab.election import Election, Vote
from zkstore.zab.membership import Membership

SEEDS = range(120)
MUTANT_SEEDS = range(60)


@pytest.mark.parametrize("first", SEEDS[::20])
def test_lives(first: int) -> None:
    for seed in range(first, first + 20):
        try:
            live(seed)
        except Violation as violation:
            raise AssertionError(f"seed {seed}: {violation}") from violation


def check_calm_start(seed: int, make: MakeElection = make_election) -> None:
    """Who begin within 100 ms, with messages of at most 30 ms, elect the best at once.

    Raises: Violation.
    """
    world = World(seed, make)
    best = max(
        (node.epoch, node.zxid, node.sid)
        for node in world.nodes.values()
        if node.sid in world.membership.voters and world.membership.weight(node.sid)
    )
    for node in world.nodes.values():
        world.start(node)
        world.run(min(world.random.choice((0, 10, 50)), 100 - world.now_ms))
    settled = world.run(3000, world.settled)
    votes = {node.sid: node.election.vote for node in world.nodes.values()}
    as_expected = all((v.leader, v.election_epoch) == (best[2], 1) for v in votes.values())
    if not settled or not as_expected or world.elections != 1:
        raise Violation(f"Calm: {votes} after {world.now_ms} ms; the best was {best}")


@pytest.mark.parametrize("seed", range(60))
def test_a_calm_start_elects_the_best(seed: int) -> None:
    check_calm_start(seed)


class Silent(Election):
    """Tells its vote once."""

    def tick(self, elapsed_ms: float) -> None:
        self._resend_ms = 1e9
        super().tick(elapsed_ms)


class Hasty(Election):
    """Does not wait for a better vote."""

    def _count(self) -> None:
        super()._count()
        if self._finalize_ms is not None:
            self._finalize_ms = 0.0


class Mute(Election):
    """Does not answer who looks when it has stopped looking."""

    def receive(self, sid: int, notification: Notification) -> None:
        if self.role is Role.LOOKING:
            super().receive(sid, notification)


class Gullible(Election):
    """Joins a leader that others tell of."""

    def _is_led(self, votes: dict[int, election._Heard], heard: election._Heard) -> bool:
        return self._membership.is_quorum([s for s, o in votes.items() if heard.agrees(o)])


class HalfIsEnough(Election):
    """Takes half of the voters for a quorum."""

    def __init__(self, sid: int, membership: Membership, **intervals: int) -> None:
        super().__init__(sid, membership, **intervals)
        self._membership = _Halves(membership)


class _Halves(Membership):
    def __init__(self, of: Membership) -> None:
        super().__init__(of.members.values())
        self._weight = of.weight

    def weight(self, sid: int) -> int:
        return self._weight(sid)

    def is_quorum(self, sids: Iterable[int]) -> bool:
        return 2 * len(self.voters.intersection(sids)) >= len(self.voters)


class Fickle(Election):
    """Takes any other vote."""

    def _beats(self, vote: Vote, other: Vote) -> bool:
        return vote != other and self._membership.weight(vote.leader) > 0


class Stale(Election):
    """Takes votes of older rounds."""

    def receive(self, sid: int, notification: Notification) -> None:
        if notification.state == Role.LOOKING and self.role is Role.LOOKING:
            notification = notification._replace(
                election_epoch=max(notification.election_epoch, self.round)
            )
        super().receive(sid, notification)


class Unmoved(Election):
    """Does not tell the epoch of its leader."""

    def establish(self, epoch: int) -> None:
        if self.role is Role.LEADING:
            super().establish(epoch)


class Shameless(Election):
    """Votes for itself although it has lost data."""

    def look(self, zxid: int, epoch: int, *, whole: bool = True) -> None:
        super().look(zxid, epoch)


class Weightless(Election):
    """Takes everybody for a possible leader."""

    def __init__(self, sid: int, membership: Membership, **intervals: int) -> None:
        super().__init__(sid, membership, **intervals)
        self._membership = _Heavy(membership)


class _Heavy(Membership):
    def __init__(self, of: Membership) -> None:
        super().__init__(of.members.values())
        self._of = of

    def weight(self, sid: int) -> int:
        return 1

    def is_quorum(self, sids: Iterable[int]) -> bool:
        return self._of.is_quorum(list(sids))


class SameRound(Election):
    """Begins again in the round that has failed."""

    def look(self, zxid: int, epoch: int, *, whole: bool = True) -> None:
        self.round = max(0, self.round - 1)
        super().look(zxid, epoch, whole=whole)


class Deaf(Election):
    """Does not follow others to a later round."""

    def receive(self, sid: int, notification: Notification) -> None:
        if notification.election_epoch <= self.round or notification.state != Role.LOOKING:
            super().receive(sid, notification)


class OldEpochs(Election):
    """Compares zxids before epochs."""

    def _beats(self, vote: Vote, other: Vote) -> bool:
        return (vote.zxid & 0xFFFFFFFF, vote.leader) > (other.zxid & 0xFFFFFFFF, other.leader)


MUTANTS = [
    *(Silent, Mute, Gullible, HalfIsEnough, Fickle, Stale, Unmoved, Shameless, Weightless),
    *(SameRound, Deaf, OldEpochs),
]


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_mistake_is_found(mutant: type[Election]) -> None:
    def make(sid: int, membership: Membership) -> Election:
        return mutant(sid, membership, interval_ms_max=INTERVAL_MS_MAX)

    with pytest.raises(Violation):
        for seed in MUTANT_SEEDS:
            live(seed, make)


def test_haste_is_found() -> None:
    with pytest.raises(Violation, match="Calm"):
        for seed in MUTANT_SEEDS:
            check_calm_start(seed, Hasty)
