"""zab/learner.py and zab/peer.py: rule by rule, what a learner promises, keeps and says."""

from __future__ import annotations

import pytest

from tests.unit.zab_bench import (
    LEADER,
    OBSERVER,
    SECOND,
    THIRD,
    TICK_MS,
    TIMING,
    Bench,
    log,
    members,
)
from zkstore.jute.codec import pack_int
from zkstore.proto import quorum as q
from zkstore.proto.quorum import NOBODY, LearnerInfo, Packet, Role
from zkstore.zab.absence import ELECTION_MS
from zkstore.zab.peer import WAITING_LINKS_MAX
from zkstore.zab.ready import HardState, Proposal, Ready

E1, E2 = 1 << 32, 2 << 32
LINK = -1  # the first that a member dials


def following(sid: int = SECOND, **how: object) -> Bench:
    """Connected to LEADER, FOLLOWERINFO sent; it is not new: it has been in epoch 1."""
    how.setdefault("hard", HardState(1, 1))
    bench = Bench(sid, **how)  # type: ignore[arg-type]
    bench.elect(LEADER)
    assert [ready.dial for ready in bench.done if ready.dial] == [[(LINK, LEADER)]]
    bench.peer.opened(LINK)
    bench.perform()
    return bench


def promised(sid: int = SECOND, *, epoch: int = 2, zkstore: bool = True, **how: object) -> Bench:
    """ACKEPOCH sent."""
    bench = following(sid, **how)
    version = q.ZKSTORE_PROTOCOL if zkstore else q.JAVA_PROTOCOL
    bench.hear(LINK, q.LEADERINFO, epoch << 32, pack_int(version))
    bench.take()
    return bench


def live(sid: int = SECOND, *, zkstore: bool = True, **how: object) -> Bench:
    """Serving in epoch 2, by an empty DIFF."""
    bench = promised(sid, zkstore=zkstore, **how)
    for kind, zxid in ((q.DIFF, bench.history.last), (q.NEWLEADER, E2), (q.UPTODATE, -1)):
        bench.hear(LINK, kind, zxid)
    assert bench.peer.serving
    bench.take()
    return bench


def appended(bench: Bench) -> list[int]:
    return [proposal.zxid for ready in bench.done for proposal in ready.append]


def committed(bench: Bench) -> list[int]:
    return [proposal.zxid for ready in bench.done for proposal in ready.committed]


def left(bench: Bench) -> str:
    """Why it has left its leader."""
    assert bench.peer.role is Role.LOOKING
    return bench.peer.why


# Discovery


def test_it_says_who_it_is_and_what_it_promised() -> None:
    bench = following(hard=HardState(5, 4))
    ((link, packet),) = bench.take()
    assert (link, packet.type, packet.zxid) == (LINK, q.FOLLOWERINFO, 5 << 32)
    assert LearnerInfo.decode(packet.data) == (SECOND, q.ZKSTORE_PROTOCOL, 0)
    observer = following(OBSERVER)
    assert observer.said(LINK) == [(q.OBSERVERINFO, E1)]


def test_the_promise_is_durable_before_it_is_given() -> None:
    bench = following(applied=log(1, 3), hard=HardState(1, 1))
    bench.take()
    bench.hear(LINK, q.LEADERINFO, 7 << 32, pack_int(q.JAVA_PROTOCOL))
    (ready,) = bench.done
    assert ready.hard_state == HardState(7, 1)
    assert ready.send == []
    assert ready.send_after_sync == [(LINK, Packet(q.ACKEPOCH, E1 | 3, pack_int(1)))]


def test_an_epoch_that_was_promised_before_does_not_count_again() -> None:
    bench = following(hard=HardState(7, 4))
    bench.take()
    bench.hear(LINK, q.LEADERINFO, 7 << 32, pack_int(q.JAVA_PROTOCOL))
    assert [p.data for _, p in bench.take()] == [pack_int(-1)]


def test_an_epoch_below_the_promise_is_refused() -> None:
    bench = following(hard=HardState(7, 4))
    bench.hear(LINK, q.LEADERINFO, 6 << 32, pack_int(q.JAVA_PROTOCOL))
    assert "7 was promised" in left(bench)
    assert bench.peer.hard_state == HardState(7, 4)


def test_the_tail_counts_in_the_promise_but_what_is_lost_does_not() -> None:
    bench = following(applied=log(1, 3), tail=log(1, 5)[3:])
    bench.take()
    bench.hear(LINK, q.LEADERINFO, E2, pack_int(q.JAVA_PROTOCOL))
    assert bench.said(LINK) == [(q.ACKEPOCH, E1 | 5)]
    lost = promised(applied=log(1, 3), hard=HardState(1, 1, whole=False))
    lost.hear(LINK, q.DIFF, E1 | 3)
    assert "lacks what it had" in left(lost)


# Synchronisation


def test_history_then_epoch_then_the_acknowledgement() -> None:
    bench = promised(applied=log(1, 3))
    bench.hear(LINK, q.DIFF, E1 | 4)
    bench.peer.packet(LINK, Packet(q.PROPOSAL, E1 | 4, b"four"))
    bench.peer.packet(LINK, Packet(q.COMMIT, E1 | 4))
    bench.peer.packet(LINK, Packet(q.NEWLEADER, E2))
    bench.done.clear()
    (ready,) = bench.perform()
    assert ready.append == [Proposal(E1 | 4, b"four")]
    assert ready.hard_state == HardState(2, 2)
    assert ready.send_after_sync == [(LINK, Packet(q.ACK, E2))]
    assert ready.committed == []
    assert not bench.peer.serving
    bench.hear(LINK, q.UPTODATE, -1)
    assert committed(bench) == [E1 | 4]
    assert (bench.done[-1].role, bench.done[-1].serving) == (Role.FOLLOWING, True)


def test_what_it_kept_is_committed_at_uptodate_and_what_is_outstanding_is_not() -> None:
    bench = promised(applied=log(1, 2), tail=log(1, 3)[2:], zkstore=False)
    bench.hear(LINK, q.DIFF, E1 | 3)
    for zxid in (E2 | 1, E2 | 2):
        bench.hear(LINK, q.PROPOSAL, zxid, b"txn")
    bench.hear(LINK, q.NEWLEADER, E2)
    bench.hear(LINK, q.COMMIT, E2 | 1)
    bench.hear(LINK, q.PING, 0)
    assert bench.said(LINK) == [(q.ACK, E2)]
    bench.hear(LINK, q.UPTODATE, -1)
    assert committed(bench) == [E1 | 3, E2 | 1]
    assert bench.said(LINK) == [(q.ACK, E2), (q.ACK, E2 | 1), (q.ACK, E2 | 2)]
    bench.hear(LINK, q.COMMIT, E2 | 2)
    assert committed(bench) == [E2 | 2]


def test_trunc_drops_the_tail_and_what_was_applied() -> None:
    bench = promised(applied=log(1, 3), tail=log(1, 5)[3:])
    bench.hear(LINK, q.TRUNC, E1 | 4)
    bench.hear(LINK, q.PROPOSAL, E2 | 1, b"txn")
    assert [ready.truncate_after for ready in bench.done] == [E1 | 4, None]
    assert (bench.peer.last_committed, bench.peer.last_logged) == (E1 | 3, E2 | 1)
    deeper = promised(applied=log(1, 3))
    deeper.hear(LINK, q.TRUNC, E1 | 2)
    assert (deeper.peer.last_committed, deeper.peer.last_logged) == (E1 | 2, E1 | 2)


@pytest.mark.parametrize("zxid", [E1 | 9, E2 | 1])
def test_trunc_to_what_is_not_here_is_refused(zxid: int) -> None:
    bench = promised(applied=[*log(1, 3), *log(3, 1)], epoch=4)
    bench.hear(LINK, q.TRUNC, zxid)
    assert "not here" in left(bench)


def test_a_trunc_that_cannot_be_done_makes_it_not_whole() -> None:
    bench = promised(applied=log(1, 3)[1:], tail=log(1, 5)[3:])  # trimmed
    bench.peer.packet(LINK, Packet(q.TRUNC, E1 | 1))
    ready = bench.peer.ready()
    assert ready is not None
    assert ready.truncate_after == E1 | 1
    bench.peer.not_whole("the log was trimmed")
    assert "trimmed" in left(bench)
    bench.perform()
    assert bench.done[-2].hard_state == HardState(2, 1, whole=False)
    (votes,) = [one.notifications for one in bench.done if one.notifications]
    assert {vote.leader for _, vote in votes} == {NOBODY}


@pytest.mark.parametrize(
    ("zkstore", "before", "zxid", "whole"),
    [
        (True, HardState(1, 1), E1 | 9, True),
        (True, HardState(1, 1), E1 | 2, False),  # it may have acknowledged more
        (False, HardState(1, 1), E1 | 9, False),  # Apache's may hold parts of later txns
        (True, HardState(1, 1, whole=False), E1 | 9, False),
    ],
)
def test_a_tree_is_whole_at_once_only_if_it_lacks_nothing(
    *, zkstore: bool, before: HardState, zxid: int, whole: bool
) -> None:
    bench = promised(applied=log(1, 3), hard=before, zkstore=zkstore)
    bench.hear(LINK, q.SNAP, zxid)
    (ready,) = [one for one in bench.done if one.receive_snapshot is not None]
    assert ready.receive_snapshot == (LINK, zxid, whole)
    bench.pass_ms(3 * TIMING.init_ms)  # the helper has its own patience
    bench.history.at = zxid
    bench.peer.snapshot_received(LINK)
    assert bench.peer.last_committed == bench.peer.last_logged == zxid
    assert bench.peer.hard_state.whole is whole
    # What an Apache tree holds already comes again.
    bench.hear(LINK, q.PROPOSAL, zxid, b"txn")
    bench.hear(LINK, q.COMMIT, zxid)
    bench.hear(LINK, q.PROPOSAL, zxid + 1, b"txn")
    bench.hear(LINK, q.COMMIT, zxid + 1)
    bench.done.clear()
    bench.hear(LINK, q.NEWLEADER, E2)
    assert bench.done[0].hard_state == HardState(2, 2, whole=True)
    bench.hear(LINK, q.UPTODATE, -1)
    assert committed(bench) == [zxid + 1]


def test_one_that_lost_everything_joins_an_empty_ensemble() -> None:
    bench = promised(tail=log(1, 2), hard=HardState(1, 1, whole=False))
    bench.hear(LINK, q.DIFF, 0)
    bench.hear(LINK, q.NEWLEADER, E2)
    bench.hear(LINK, q.UPTODATE, -1)
    assert bench.peer.serving
    assert (bench.peer.last_logged, bench.peer.hard_state.whole) == (0, True)


@pytest.mark.parametrize(
    ("kind", "zxid", "why"),
    [
        (q.COMMIT, E1 | 4, "without its PROPOSAL"),
        (q.PROPOSAL, E1 | 5, "behind"),
        (q.PROPOSAL, E2 | 2, "behind"),
        (q.NEWLEADER, 3 << 32, "NEWLEADER"),
        (q.UPTODATE, -1, "UPTODATE"),
        (q.DIFF, E1 | 3, "DIFF"),
    ],
)
def test_a_stream_that_breaks_the_rules_ends_the_link(kind: int, zxid: int, why: str) -> None:
    bench = promised(applied=log(1, 3))
    bench.hear(LINK, q.DIFF, E1 | 3)
    bench.hear(LINK, kind, zxid, b"txn")
    assert why in left(bench)


def test_a_proposal_without_a_txn_ends_the_link() -> None:
    bench = live()
    bench.hear(LINK, q.PROPOSAL, E2 | 1)
    assert "without a txn" in left(bench)


def test_a_reconfig_of_an_apache_ensemble_is_a_txn_like_others() -> None:
    follower = live()
    follower.hear(LINK, q.PROPOSAL, E2 | 1, b"txn")
    follower.hear(LINK, q.COMMITANDACTIVATE, E2 | 1, bytes(8))
    assert committed(follower) == [E2 | 1]
    observer = live(OBSERVER)
    observer.hear(LINK, q.INFORMANDACTIVATE, E2 | 1, bytes(8) + b"txn")
    assert observer.done[-1].committed == [Proposal(E2 | 1, b"txn")]


@pytest.mark.parametrize("kind", [q.DIFF, q.NEWLEADER, q.UPTODATE, q.PROPOSAL, q.PING, 77])
def test_what_comes_before_the_epoch_ends_the_link(kind: int) -> None:
    bench = following()
    bench.hear(LINK, kind, 0)
    assert "while REGISTERED" in left(bench)


# Broadcast


@pytest.mark.parametrize(("zkstore", "acks"), [(True, [E2 | 3]), (False, [E2 | 1, E2 | 2, E2 | 3])])
def test_acks_leave_behind_the_flush(*, zkstore: bool, acks: list[int]) -> None:
    bench = live(zkstore=zkstore)
    for zxid in (E2 | 1, E2 | 2, E2 | 3):
        bench.peer.packet(LINK, Packet(q.PROPOSAL, zxid, b"txn"))
    (ready,) = bench.perform()
    assert [proposal.zxid for proposal in ready.append] == [E2 | 1, E2 | 2, E2 | 3]
    assert ready.send == []
    assert [p.zxid for _, p in ready.send_after_sync] == acks


def test_a_commit_that_is_not_next_ends_the_link_not_the_process() -> None:
    bench = live()
    for zxid in (E2 | 1, E2 | 2):
        bench.hear(LINK, q.PROPOSAL, zxid, b"txn")
    bench.hear(LINK, q.COMMIT, E2 | 2)
    assert "is next" in left(bench)
    assert bench.peer.last_committed == 0


def test_a_commit_of_what_is_committed_is_ignored() -> None:
    bench = live()
    bench.hear(LINK, q.PROPOSAL, E2 | 1, b"txn")
    bench.hear(LINK, q.COMMIT, E2 | 1)
    bench.hear(LINK, q.COMMIT, E2 | 1)
    assert committed(bench) == [E2 | 1]
    assert bench.peer.serving


def test_an_observer_logs_and_commits_informs_and_acknowledges_nothing() -> None:
    bench = live(OBSERVER)
    bench.hear(LINK, q.INFORM, E2 | 1, b"txn")
    bench.hear(LINK, q.PROPOSAL, E2 | 2, b"txn")
    bench.hear(LINK, q.COMMIT, E2 | 2)
    assert appended(bench) == committed(bench) == [E2 | 1]
    assert bench.said(LINK) == []


def test_what_is_for_the_server_comes_behind_the_commits() -> None:
    bench = live()
    bench.hear(LINK, q.PROPOSAL, E2 | 1, b"txn")
    bench.peer.packet(LINK, Packet(q.COMMIT, E2 | 1))
    bench.peer.packet(LINK, Packet(q.SYNC, 0))
    bench.peer.packet(LINK, Packet(77, 0))
    (ready,) = bench.perform()
    assert [proposal.zxid for proposal in ready.committed] == [E2 | 1]
    assert ready.inbox == [(LINK, Packet(q.SYNC, 0))]
    bench.peer.send_up(Packet(q.REQUEST, -1, b"request"))
    assert bench.said(LINK)[-1] == (q.REQUEST, -1)


# Roles and time


@pytest.mark.parametrize("stage", [following, promised])
def test_a_silent_leader_is_left_after_init_limit(stage: object) -> None:
    bench = stage()  # type: ignore[operator]
    bench.pass_ms(TIMING.init_ms - TICK_MS)
    assert bench.peer.role is Role.FOLLOWING
    bench.pass_ms(2 * TICK_MS)
    assert "silent" in left(bench)


def test_a_silent_leader_is_left_after_sync_limit_once_it_was_heard() -> None:
    bench = live()
    bench.pass_ms(TIMING.sync_ms - TICK_MS)
    bench.hear(LINK, q.PING, 0)
    bench.pass_ms(TIMING.sync_ms - TICK_MS)
    assert bench.peer.serving
    bench.pass_ms(2 * TICK_MS)
    assert "silent" in left(bench)
    assert LINK in bench.hung_up()


def test_the_next_dial_is_another_link_and_the_old_one_is_deaf() -> None:
    bench = live()
    bench.peer.closed(LINK)
    assert "cannot be reached" in left(bench)
    bench.done.clear()
    bench.perform()
    bench.elect(LEADER)
    assert [ready.dial for ready in bench.done if ready.dial] == [[(LINK - 1, LEADER)]]
    bench.hear(LINK, q.LEADERINFO, 9 << 32, pack_int(0))
    assert bench.peer.hard_state.accepted_epoch == 2


def test_who_leaves_a_role_votes_when_all_in_hand_is_durable() -> None:
    bench = live()
    bench.peer.packet(LINK, Packet(q.PROPOSAL, E2 | 1, b"txn"))
    ready = bench.peer.ready()
    assert ready is not None
    bench.peer.packet(LINK, Packet(q.PROPOSAL, E2 | 2, b"txn"))
    bench.peer.closed(LINK)
    bench.vote(THIRD, THIRD, rounds=1)
    bench.done.clear()
    bench.finish(ready)
    bench.perform()
    first, second = bench.done[0], bench.done[1]
    assert (first.notifications, second.notifications) == ([], [])
    assert [proposal.zxid for proposal in second.append] == [E2 | 2]
    assert second.send_after_sync == []
    (votes,) = [one.notifications for one in bench.done if one.notifications]
    # The vote that came meanwhile is not lost: it is better than the own.
    assert {vote.leader for _, vote in votes} == {THIRD}
    assert bench.peer.last_logged == E2 | 2


def test_a_full_journal_takes_back_what_was_not_written() -> None:
    bench = live()
    bench.hear(LINK, q.PROPOSAL, E2 | 1, b"txn")
    bench.peer.packet(LINK, Packet(q.PROPOSAL, E2 | 2, b"txn"))
    bench.peer.packet(LINK, Packet(q.COMMIT, E2 | 1))
    ready = bench.peer.ready()
    assert isinstance(ready, Ready)
    bench.peer.refused(ready, "no room")
    assert "no room" in left(bench)
    assert (bench.peer.last_logged, bench.peer.last_committed) == (E2 | 1, 0)
    assert bench.peer.outstanding == 1


def test_a_role_that_a_full_journal_kept_from_the_driver_is_told_again() -> None:
    bench = live()
    bench.peer.packet(LINK, Packet(q.PROPOSAL, E2 | 1, b"txn"))
    bench.peer.closed(LINK)
    ready = bench.peer.ready()
    assert ready is not None
    assert (ready.role, len(ready.append)) == (Role.LOOKING, 1)
    bench.peer.refused(ready, "no room")
    bench.done.clear()
    bench.perform()
    assert [(one.role, one.serving) for one in bench.done] == [(Role.LOOKING, False)]


def test_who_lacks_data_votes_for_nobody_though_the_journal_cannot_keep_it() -> None:
    bench = live()
    bench.peer.not_whole("damaged")
    ready = bench.peer.ready()
    assert ready is not None
    assert ready.hard_state == HardState(2, 2, whole=False)
    bench.peer.refused(ready, "no room")
    bench.done.clear()
    bench.pass_ms(2 * ELECTION_MS)
    votes = [vote for one in bench.done for _, vote in one.notifications]
    assert {vote.leader for vote in votes} == {NOBODY}


def test_nobody_is_let_in_by_who_does_not_lead() -> None:
    bench = live()
    bench.peer.opened(1)
    assert bench.hung_up() == {1: "not leading"}


def test_those_who_wait_are_bounded_in_number_words_and_time() -> None:
    bench = Bench(SECOND)
    for link in range(1, WAITING_LINKS_MAX + 2):
        bench.peer.opened(link)
    assert list(bench.hung_up()) == [WAITING_LINKS_MAX + 1]
    for _ in range(2):
        bench.hear(1, q.FOLLOWERINFO, 0)
    assert 1 in bench.hung_up()
    bench.pass_ms(TIMING.init_ms + TICK_MS)
    assert len(bench.hung_up()) == WAITING_LINKS_MAX + 1


def test_one_voter_leads_itself() -> None:

    bench = Bench(SECOND, membership=members(SECOND), tail=log(1, 2), hard=HardState(1, 1))
    bench.pass_ms(300)
    assert bench.peer.leading
    assert committed(bench) == [E1 | 1, E1 | 2]
    bench.peer.propose(Proposal(E2 | 1, b"txn"))
    bench.perform()
    assert bench.peer.last_committed == E2 | 1
