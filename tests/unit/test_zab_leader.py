"""zab/leader.py: rule by rule, what a leader says to whom, and what it counts."""

from __future__ import annotations

import pytest

from tests.unit.zab_bench import (
    JAVA,
    LEADER,
    OBSERVER,
    SECOND,
    STRANGER,
    THIRD,
    TICK_MS,
    TIMING,
    Bench,
    log,
)
from zkstore.constants import OUTSTANDING_PROPOSALS_MAX
from zkstore.errors import Code, ZooKeeperError
from zkstore.proto import quorum as q
from zkstore.proto.quorum import Packet, Role
from zkstore.zab import leader as leader_module
from zkstore.zab.ready import HardState, Proposal

E1 = 1 << 32


def elected(**how: object) -> Bench:
    bench = Bench(LEADER, **how)  # type: ignore[arg-type]
    bench.elect(LEADER)
    assert bench.peer.role is Role.LEADING
    bench.take()
    return bench


def established(**how: object) -> Bench:
    """With SECOND on link 1."""
    bench = elected(**how)
    bench.join(1, SECOND, bench.history.last)
    assert bench.peer.leading
    bench.take()
    return bench


def propose(bench: Bench, count: int = 1) -> list[int]:
    made = []
    for _ in range(count):
        made.append(bench.peer.next_zxid())
        bench.peer.propose(Proposal(made[-1], b"txn"))
    return made


# Discovery


def test_the_epoch_is_the_next_after_all_that_a_quorum_accepted() -> None:
    bench = elected(hard=HardState(4, 2))
    bench.learner(1, SECOND, accepted=6)
    (ready,) = [one for one in bench.done if one.hard_state is not None]
    assert ready.hard_state == HardState(7, 2)
    # LEADERINFO must not be there before the leader's own promise is.
    assert [(link, p.type, p.zxid) for link, p in ready.send_after_sync] == [
        (1, q.LEADERINFO, 7 << 32)
    ]
    assert not any(p.type == q.LEADERINFO for one in bench.done for _, p in one.send)


def test_observers_and_strangers_do_not_make_a_quorum() -> None:
    bench = elected()
    bench.learner(1, OBSERVER, kind=q.OBSERVERINFO)
    bench.learner(2, STRANGER)
    assert bench.take() == []
    bench.learner(3, SECOND)
    assert {link for link, p in bench.take() if p.type == q.LEADERINFO} == {1, 2, 3}
    bench.promise(1)
    bench.promise(2)
    assert bench.peer.hard_state.current_epoch == 0
    bench.promise(3)
    assert bench.peer.hard_state.current_epoch == 1
    for link in (1, 2):
        bench.hear(link, q.ACK, E1)
    assert not bench.peer.leading
    bench.hear(3, q.ACK, E1)
    assert bench.peer.leading


def test_a_promise_that_does_not_count() -> None:
    bench = elected()
    bench.learner(1, SECOND)
    bench.promise(1, current=-1)
    assert bench.peer.hard_state.current_epoch == 0
    bench.learner(2, THIRD)
    bench.promise(2)
    assert bench.peer.hard_state.current_epoch == 1
    assert (q.NEWLEADER, E1) in bench.said(1)


@pytest.mark.parametrize(("current", "zxid"), [(2, 0), (1, E1 | 6)])
def test_a_follower_that_is_ahead_is_refused_until_the_leader_is_established(
    current: int, zxid: int
) -> None:
    bench = elected(applied=log(1, 5))
    bench.learner(1, SECOND)
    bench.promise(1, zxid, current=current)
    assert "is ahead of us" in bench.hung_up()[1]
    bench.join(2, THIRD, E1 | 5)
    assert bench.peer.leading
    bench.take()
    bench.learner(3, SECOND)
    bench.promise(3, E1 | 6, current=current)
    assert bench.said(3) == [(q.LEADERINFO, 2 << 32), (q.TRUNC, E1 | 5), (q.NEWLEADER, 2 << 32)]


def test_a_voter_that_promised_more_makes_the_leader_give_up() -> None:
    """It could follow nobody below its promise, and would stay away for ever."""
    bench = established()
    bench.learner(2, THIRD, accepted=9)
    assert bench.peer.role is Role.LOOKING
    assert "promised epoch 9" in bench.peer.why


def test_a_stranger_that_promised_more_does_not() -> None:
    bench = established()
    bench.learner(2, STRANGER, accepted=9)
    assert bench.peer.leading


@pytest.mark.parametrize(
    ("sid", "accepted", "protocol"),
    [(LEADER, 0, JAVA), (THIRD, 0, 1), (THIRD, 0x7FFFFFFE, JAVA), (THIRD, -1, JAVA)],
)
def test_learners_that_are_refused(sid: int, accepted: int, protocol: int) -> None:
    bench = established()
    bench.learner(2, sid, accepted=accepted, protocol=protocol)
    assert 2 in bench.hung_up()
    assert bench.peer.leading


def test_a_learner_with_a_later_membership_is_refused() -> None:
    bench = established()
    bench.peer.opened(2)
    bench.hear(2, q.FOLLOWERINFO, 0, q.LearnerInfo(THIRD, JAVA, 1).encode())
    assert "later membership" in bench.hung_up()[2]


def test_a_newer_link_of_a_server_replaces_the_older() -> None:
    bench = established()
    bench.learner(2, SECOND)
    assert bench.hung_up() == {}, "anybody can say that name"
    bench.promise(2, E1 | 4, current=1)
    assert "anew" in bench.hung_up()[1]
    assert [one.sid for one in bench.peer.learners.values()] == [SECOND]


def test_learners_that_come_before_the_election_is_over_wait() -> None:
    bench = Bench(LEADER)
    bench.learner(1, SECOND)
    assert bench.take() == []
    bench.elect(LEADER)
    assert (q.LEADERINFO, E1) in bench.said(1)


# Synchronisation


def test_own_tail_counts_and_is_applied_when_a_quorum_has_it() -> None:
    tail = log(1, 7)[5:]
    bench = elected(applied=log(1, 5), tail=tail)
    bench.learner(1, SECOND)
    bench.promise(1, E1 | 4, current=1)
    expected = [(q.LEADERINFO, 2 << 32), (q.DIFF, E1 | 7)]
    for zxid in (E1 | 5, E1 | 6, E1 | 7):
        expected += [(q.PROPOSAL, zxid), (q.COMMIT, zxid)]
    assert bench.said(1) == [*expected, (q.NEWLEADER, 2 << 32)]
    assert bench.peer.last_committed == E1 | 5
    bench.hear(1, q.ACK, 2 << 32)
    assert [one.committed for one in bench.done if one.committed] == [tail]
    assert bench.said(1) == [(q.UPTODATE, -1)]
    assert bench.peer.next_zxid() == 2 << 32 | 1


def test_after_a_tree_comes_what_it_lacks() -> None:
    bench = elected(applied=log(1, 5), tail=log(1, 7)[5:])
    bench.learner(1, SECOND)
    bench.promise(1, 0)
    assert [one.send_snapshot for one in bench.done if one.send_snapshot] == [[1]]
    assert bench.said(1) == [(q.LEADERINFO, 2 << 32)]
    bench.pass_ms(TIMING.init_ms * 3)
    assert bench.said(1) == []
    bench.peer.snapshot_sent(1, E1 | 5)
    assert bench.said(1) == [
        *[(q.PROPOSAL, E1 | 6), (q.COMMIT, E1 | 6), (q.PROPOSAL, E1 | 7), (q.COMMIT, E1 | 7)],
        (q.NEWLEADER, 2 << 32),
    ]


def test_a_long_diff_goes_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leader_module, "PIECE_BYTES", 6)  # two txns
    bench = established(applied=log(1, 5))
    bench.learner(2, THIRD)
    bench.promise(2, E1 | 1, current=1)
    pieces = [bench.said(2)]
    for _ in range(2):
        bench.peer.writable(2)
        pieces.append(bench.said(2))
    zxids = [[zxid for kind, zxid in piece if kind == q.PROPOSAL] for piece in pieces]
    assert zxids == [[E1 | 2, E1 | 3], [E1 | 4, E1 | 5], []]
    assert [kind for kind, _ in pieces[1] + pieces[2]].count(q.NEWLEADER) == 1


def test_outstanding_proposals_go_to_followers_before_newleader_not_to_observers() -> None:
    bench = established()
    (zxid,) = propose(bench)
    bench.take()
    bench.learner(2, THIRD)
    bench.promise(2)
    assert bench.said(2)[1:] == [(q.DIFF, 0), (q.PROPOSAL, zxid), (q.NEWLEADER, E1)]
    bench.learner(3, OBSERVER, kind=q.OBSERVERINFO)
    bench.promise(3)
    assert bench.said(3)[1:] == [(q.DIFF, 0), (q.NEWLEADER, E1)]
    bench.hear(1, q.ACK, zxid)
    sent = bench.take()
    assert [(link, p.type) for link, p in sent] == [(1, q.COMMIT), (2, q.COMMIT), (3, q.INFORM)]
    assert sent[2][1].data == b"txn"


def test_what_is_proposed_while_a_link_goes_live_is_sent_once() -> None:
    bench = established()
    bench.learner(2, THIRD)
    bench.take()
    zxids = propose(bench, 2)
    bench.promise(2)
    assert [zxid for kind, zxid in bench.said(2) if kind == q.PROPOSAL] == zxids


# Broadcast


def test_a_proposal_leaves_with_its_own_append_and_needs_both_journals() -> None:
    bench = established()
    (zxid,) = propose(bench)
    ready = bench.peer.ready()
    assert ready is not None
    assert ready.append == [Proposal(zxid, b"txn")]
    assert ready.send == [(1, Packet(q.PROPOSAL, zxid, b"txn"))]
    bench.peer.packet(1, Packet(q.ACK, zxid))
    assert bench.peer.ready() is None
    assert bench.peer.last_committed < zxid
    bench.finish(ready)
    assert bench.said(1)[-1] == (q.COMMIT, zxid)
    assert bench.peer.last_committed == zxid


def test_one_ack_stands_for_all_before_it() -> None:
    bench = established()
    zxids = propose(bench, 3)
    bench.take()
    bench.hear(1, q.ACK, zxids[1])
    assert bench.said(1) == [(q.COMMIT, zxids[0]), (q.COMMIT, zxids[1])]
    assert bench.peer.outstanding == 1


def test_acks_count_from_the_ack_of_newleader_on_and_die_with_their_link() -> None:
    bench = established()
    zxids = propose(bench, 2)
    bench.take()
    bench.learner(2, THIRD)
    bench.promise(2)
    bench.hear(2, q.ACK, zxids[0])
    assert bench.peer.last_committed == 0
    bench.hear(2, q.ACK, E1)
    assert bench.peer.last_committed == zxids[0]
    bench.peer.closed(1)
    bench.peer.closed(2)
    bench.join(3, THIRD, zxids[0])
    assert bench.peer.last_committed == zxids[0]


@pytest.mark.parametrize("sid", [OBSERVER, STRANGER])
def test_others_acks_do_not_count(sid: int) -> None:
    bench = established()
    bench.join(2, sid)
    (zxid,) = propose(bench)
    bench.hear(2, q.ACK, zxid)
    assert bench.peer.last_committed == 0


def test_an_ack_of_what_was_never_proposed_ends_the_link() -> None:
    bench = established()
    bench.hear(1, q.ACK, E1 | 1)
    assert "not proposed" in bench.hung_up()[1]


@pytest.mark.parametrize("kind", [q.PING, q.REQUEST, q.ACKEPOCH, q.FOLLOWERINFO, 77])
def test_before_uptodate_only_acks_are_heard(kind: int) -> None:
    bench = established()
    bench.learner(2, THIRD)
    bench.promise(2)
    bench.hear(2, kind, 0)
    assert 2 in bench.hung_up()


def test_a_live_learner_may_say_what_nobody_knows() -> None:
    bench = established()
    bench.hear(1, 77, 0)
    assert bench.hung_up() == {}
    bench.hear(1, q.REQUEST, -1, b"request")
    assert [one.inbox for one in bench.done if one.inbox] == [
        [(1, Packet(q.REQUEST, -1, b"request"))]
    ]


def test_outstanding_proposals_are_bounded() -> None:
    bench = established()
    propose(bench, OUTSTANDING_PROPOSALS_MAX)
    with pytest.raises(ZooKeeperError) as refused:
        propose(bench)
    assert refused.value.code is Code.THROTTLED_OP


def test_the_end_of_the_counters_is_the_end_of_the_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leader_module, "COUNTERS_KEPT", leader_module.COUNTER_MAX - 2)
    bench = established()
    propose(bench, 2)
    bench.take()
    assert bench.peer.leading
    propose(bench)
    bench.take()
    assert bench.peer.role is Role.LOOKING
    assert bench.peer.last_logged == E1 | 3


# Time


def test_without_a_quorum_an_elected_leader_gives_up_after_init_limit() -> None:
    bench = elected()
    bench.pass_ms(TIMING.init_ms - TICK_MS)
    assert bench.peer.role is Role.LEADING
    bench.pass_ms(2 * TICK_MS)
    assert bench.peer.role is Role.LOOKING


def test_an_established_leader_gives_up_when_its_followers_are_silent() -> None:
    bench = established()
    bench.pass_ms(TIMING.sync_ms - TICK_MS)
    assert bench.peer.leading
    bench.pass_ms(3 * TICK_MS)
    assert bench.peer.role is Role.LOOKING
    assert bench.done[-1].role is not None or any(one.role is Role.LOOKING for one in bench.done)


def test_a_full_leader_gives_way_to_followers_that_are_a_quorum_without_it() -> None:
    bench = established()
    bench.peer.set_full(True)
    bench.pass_ms(TICK_MS)
    assert bench.peer.leading, "it is needed"
    bench.join(2, THIRD)
    bench.done.clear()
    bench.pass_ms(TICK_MS)
    assert bench.peer.role is Role.LOOKING
    assert "the others can go on" in bench.peer.why
    assert not any(ready.notifications for ready in bench.done), "as if it had crashed"
    bench.peer.set_full(False)
    bench.perform()
    assert bench.done[-1].notifications, "there is room again"


def test_a_follower_that_answers_but_never_acks_is_hung_up() -> None:
    bench = established()
    bench.join(2, THIRD)
    (zxid,) = propose(bench)
    bench.hear(1, q.ACK, zxid)
    for _ in range(4 * TIMING.sync_limit):
        for link in (1, 2):
            bench.hear(link, q.PING, 0)
        bench.pass_ms(TICK_MS // 2)
    assert "no ACK" in bench.hung_up()[2]
    assert bench.peer.leading


def test_pings_go_to_all_that_are_synchronised_with_data_for_ours() -> None:
    bench = established()
    bench.join(2, THIRD, protocol=JAVA)
    bench.take()
    bench.peer.set_ping_data(b"digest")
    bench.pass_ms(TICK_MS // 2)
    pings = {link: p.data for link, p in bench.take() if p.type == q.PING}
    assert pings == {1: b"digest", 2: None}


def test_a_round_is_confirmed_by_a_quorum_that_heard_it() -> None:
    bench = established()
    bench.join(2, OBSERVER)
    bench.pass_ms(TICK_MS // 2)
    number = bench.peer.confirm()
    assert bench.peer.confirm() == number
    bench.take()
    bench.hear(2, q.PING, 0)
    bench.hear(2, q.PING, 0)
    bench.hear(1, q.PING, 0)  # the answer to the ping before
    assert bench.peer.confirmed < number
    bench.hear(1, q.PING, 0)
    assert bench.peer.confirmed >= number
