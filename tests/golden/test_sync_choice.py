"""DIFF, TRUNC or SNAP: the rules one by one, and what Apache's leaders chose in the captures."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

import pytest

from tests.golden.quorum_captures import CAPTURES, directions, packets
from zkstore.proto import quorum as q
from zkstore.proto.quorum import Packet
from zkstore.zab.sync import DIFF_BYTES_MIN, Plan, choose

E1, E2, E3 = (epoch << 32 for epoch in (1, 2, 3))


class Kept:
    """A leader's log."""

    def __init__(self, zxids: list[int], *, first: int = 1, tree_bytes: int = 1 << 30) -> None:
        self.zxids = zxids
        self.first = first
        self.applied = zxids[-1] if zxids else 0
        self.tree_bytes = tree_bytes
        self.txn_bytes = 100

    def holds(self, zxid: int) -> bool:
        return zxid in self.zxids

    def last_before(self, zxid: int) -> int:
        return max((one for one in self.zxids if one < zxid), default=0)

    def bytes_after(self, zxid: int) -> int:
        return self.txn_bytes * sum(one > zxid for one in self.zxids)


def plan(peer: int, kept: Kept, *, zkstore: bool = True, factor: float = 0.33) -> Plan:
    last = kept.zxids[-1] if kept.zxids else 0
    return choose(peer, last, kept, zkstore=zkstore, factor=factor)


def log(*lengths: int) -> list[int]:
    """The zxids of so many txns in each epoch."""
    return [
        epoch << 32 | counter
        for epoch, length in enumerate(lengths, 1)
        for counter in range(1, length + 1)
    ]


TWO_EPOCHS: Final = log(5, 3)


@pytest.mark.parametrize("zkstore", [True, False])
def test_rules_that_are_the_same_for_all_learners(*, zkstore: bool) -> None:
    kept = Kept(TWO_EPOCHS)
    last = E2 | 3
    for peer, expected in {
        last: Plan(q.DIFF, last, last),
        E2 | 2: Plan(q.DIFF, last, E2 | 2),
        E1 | 5: Plan(q.DIFF, last, E1 | 5),
        E1 | 1: Plan(q.DIFF, last, E1 | 1),
        E2: Plan(q.DIFF, last, E2),  # the beginning of an epoch is no txn, but a place in the log
        E2 | 4: Plan(q.TRUNC, last, last),
        E3 | 1: Plan(q.TRUNC, last, last),
        E3: Plan(q.SNAP, last, last),  # a tree that a SNAP brought there: nothing to drop
        0: Plan(q.SNAP, last, last),
    }.items():
        assert plan(peer, kept, zkstore=zkstore) == expected, hex(peer)


def test_a_txn_that_only_the_learner_has_is_dropped() -> None:
    kept = Kept(TWO_EPOCHS)
    assert plan(E1 | 6, kept) == Plan(q.TRUNC, E1 | 5, E1 | 5)
    # Apache's would do it too, but by a rule of its own wants the tree.
    assert plan(E1 | 6, kept, zkstore=False).mode == q.SNAP


def test_what_our_tree_has_not_reached_is_never_replaced_by_it() -> None:
    """A tree older than the learner's log would take acknowledged txns from it."""
    kept = Kept(TWO_EPOCHS)
    kept.applied = E1 | 5
    assert plan(E1 | 6, kept, zkstore=False) == Plan(q.TRUNC, E1 | 5, E1 | 5)
    kept.txn_bytes, kept.tree_bytes = DIFF_BYTES_MIN, 1
    assert plan(E1 | 5, kept) == Plan(q.DIFF, E2 | 3, E1 | 5)
    assert plan(E1 | 4, kept).mode == q.SNAP


def test_behind_the_log_comes_the_tree() -> None:
    kept = Kept(log(5, 3)[2:], first=E1 | 3)
    assert plan(E1 | 3, kept) == Plan(q.DIFF, E2 | 3, E1 | 3)
    assert plan(E1 | 2, kept).mode == q.SNAP
    # A log that began with a SNAP: it stood where no txn of the log is.
    assert plan(E1 | 2, Kept(log(5, 3)[2:], first=E1 | 2)) == Plan(q.DIFF, E2 | 3, E1 | 2)
    # What only the learner has lies before all that is kept.
    assert plan(E1 | 6, Kept(log(0, 3), first=E1 | 6)).mode == q.DIFF
    assert plan(E1 | 7, Kept(log(0, 3), first=E1 | 6)).mode == q.SNAP


def test_a_diff_that_is_dearer_than_the_tree_is_not_sent() -> None:
    kept = Kept(TWO_EPOCHS)
    kept.txn_bytes = DIFF_BYTES_MIN // 2
    assert plan(E1 | 5, kept).mode == q.DIFF
    kept.tree_bytes = 3 * DIFF_BYTES_MIN
    assert plan(E1 | 5, kept).mode == q.SNAP
    assert plan(E2 | 1, kept).mode == q.DIFF
    assert plan(E1 | 5, kept, factor=-1).mode == q.DIFF
    assert plan(E1 | 5, kept, factor=2).mode == q.DIFF


def test_an_empty_ensemble() -> None:
    assert plan(0, Kept([])) == Plan(q.DIFF, 0, 0)
    assert plan(E1 | 1, Kept([])) == Plan(q.TRUNC, 0, 0)


# Apache's leaders


class Synchronisation(NamedTuple):
    name: str
    peer: int
    choice: Packet
    follow: list[int]  # zxids of the PROPOSALs before NEWLEADER


def synchronisations(capture: str) -> Iterator[Synchronisation]:
    found = {}
    for direction in directions(capture):
        if direction.port.startswith("q"):
            found[direction.name, direction.dialled] = packets(direction.content)[0]
    for (name, dialled), said in found.items():
        answers = found.get((name, False), [])
        peers = [packet.zxid for packet in said if packet.type == q.ACKEPOCH]
        kinds = [packet.type for packet in answers]
        if not dialled or not peers or q.NEWLEADER not in kinds:
            continue
        since = next(i for i, kind in enumerate(kinds) if kind in (q.DIFF, q.TRUNC, q.SNAP))
        stream = answers[since : kinds.index(q.NEWLEADER)]
        follow = [packet.zxid for packet in stream if packet.type == q.PROPOSAL]
        yield Synchronisation(name, peers[0], stream[0], follow)


# How many txns the epochs before the last one had.
ENDED: Final = {"zk393-D-failover": (0x5B, 5), "zk393-C-trunc": (0x5B,)}


@pytest.mark.parametrize("capture", CAPTURES)
def test_what_apache_chose(capture: str) -> None:
    """The same choice for the same logs, but for one: see `fresh`."""
    for name, peer, choice, follow in synchronisations(capture):
        last = choice.zxid
        epoch, counter = last >> 32, last & 0xFFFFFFFF
        ended = ENDED.get(capture, ())[: max(epoch - 1, 0)]
        kept = Kept(log(*ended, counter) if epoch else [])
        assert not kept.zxids or kept.zxids[-1] == last, name
        # Apache takes the beginning of its first epoch for something that an empty learner lacks.
        fresh = peer == 0 and counter == 0
        ours = plan(peer, kept, zkstore=False)
        if fresh:
            assert ours == Plan(q.DIFF, 0, 0), name
            continue
        assert (ours.mode, ours.zxid) == (choice.type, choice.zxid), name
        if choice.type != q.SNAP:
            assert [zxid for zxid in kept.zxids if zxid > ours.after] == follow, name


def test_the_captures_show_all_three() -> None:
    """The control of the test above: it compares something."""
    modes = [one.choice.type for name in CAPTURES for one in synchronisations(name)]
    assert set(modes) == {q.DIFF, q.TRUNC, q.SNAP}
    assert len(modes) > 20
