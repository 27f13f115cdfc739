"""zab: a whole tree that is asked for although nothing is missing; learners that are refused."""

from __future__ import annotations

import pytest

from tests.unit.test_zab_learner import E1, LINK, live
from tests.unit.zab_bench import JAVA, LEADER, OBSERVER, SECOND, THIRD, Bench, log
from zkstore.jute.codec import pack_int
from zkstore.proto import quorum as q
from zkstore.proto.quorum import Packet, Role
from zkstore.zab.ready import HardState, Snapshot

AGAIN = LINK - 1


def comes_back(bench: Bench, link: int, epoch: int, *, zkstore: bool = True) -> Packet:
    """Its leader is elected again and tells an epoch; returns what it answers."""
    bench.elect(LEADER)
    bench.peer.opened(link)
    bench.take()
    version = q.ZKSTORE_PROTOCOL if zkstore else q.JAVA_PROTOCOL
    bench.hear(link, q.LEADERINFO, epoch << 32, pack_int(version))
    ((_, packet),) = bench.take()
    return packet


def leaves(bench: Bench) -> None:
    bench.peer.synchronise_anew("the trees differ")
    assert "the trees differ" in bench.hung_up()[LINK]


@pytest.mark.parametrize("zkstore", [False, True])
def test_it_takes_the_tree_and_keeps_its_vote(zkstore: bool) -> None:
    bench = live(applied=log(1, 3), zkstore=zkstore)
    leaves(bench)
    packet = comes_back(bench, AGAIN, 2, zkstore=zkstore)
    assert packet == Packet(q.ACKEPOCH, 0, pack_int(-1))
    assert bench.peer.hard_state == HardState(2, 2, whole=True)
    bench.hear(AGAIN, q.SNAP, E1 | 3)
    assert bench.done[-1].receive_snapshot == Snapshot(AGAIN, E1 | 3, whole=zkstore)
    # Should it fail now, it does not ask again.
    bench.peer.closed(AGAIN)
    assert comes_back(bench, AGAIN - 1, 2).zxid == E1 | 3


def test_a_leader_that_begins_needs_the_promise() -> None:
    """It must see from it whether it lacks what is here; and it could wait for it for ever."""
    bench = live(applied=log(1, 3))
    leaves(bench)
    assert comes_back(bench, AGAIN, 3) == Packet(q.ACKEPOCH, E1 | 3, pack_int(2))
    bench.hear(AGAIN, q.DIFF, E1 | 3)
    assert bench.peer.role is Role.FOLLOWING


def test_who_gets_no_tree_keeps_what_it_has() -> None:
    bench = live(applied=log(1, 3))
    leaves(bench)
    comes_back(bench, AGAIN, 2)
    bench.hear(AGAIN, q.TRUNC, 0)
    assert "asked for the tree" in bench.peer.why
    assert (bench.peer.role, bench.history.last) == (Role.LOOKING, E1 | 3)


def test_it_asks_when_it_reaches_the_leader_again() -> None:
    bench = live(applied=log(1, 3))
    leaves(bench)
    bench.elect(LEADER)
    bench.peer.closed(AGAIN)
    assert comes_back(bench, AGAIN - 1, 2).zxid == 0


def test_who_leads_then_has_nobody_to_ask() -> None:
    bench = live(applied=log(1, 3))
    bench.peer.synchronise_anew("the trees differ")
    bench.elect(SECOND)
    assert bench.peer.role is Role.LEADING
    assert not bench.peer._anew


def leading(why: list[str]) -> Bench:
    bench = Bench(LEADER, why_refused=lambda: why[0])
    bench.elect(LEADER)
    return bench


def test_only_learners_of_another_kind_are_refused() -> None:
    why = ["the tree is not for it"]
    bench = leading(why)
    bench.learner(1, SECOND, protocol=JAVA)
    bench.learner(2, OBSERVER, protocol=JAVA, kind=q.OBSERVERINFO)
    bench.learner(3, THIRD)
    assert bench.hung_up() == {
        1: "server 1 is refused: the tree is not for it",
        2: "server 4 is refused: the tree is not for it",
    }
    why[0] = ""
    bench.learner(4, SECOND, protocol=JAVA)
    assert set(bench.peer.learners) == {3, 4}
