"""Fast leader election, rule by rule. Source: FastLeaderElection, Vote.equals."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zkstore.proto.quorum import NOBODY, Notification, Role
from zkstore.zab.election import FINALIZE_MS, ROUND_MAX, Election, Vote
from zkstore.zab.membership import Address, Member, Membership

AT = (Address("h", 1, 2),)
# Four voters, so that three make a quorum; 5 and 6 observe.
MEMBERS = [Member(sid, AT, observer=sid > 4) for sid in range(1, 7)]
MEMBERSHIP = Membership(MEMBERS)
STRANGER = 77


def looking(sid: int = 2, *, whole: bool = True, membership: Membership = MEMBERSHIP) -> Election:
    """A member that has begun to look, with zxid 7 of epoch 1, and has told its vote."""
    election = Election(sid, membership)
    election.look(7, 1, whole=whole)
    election.drain()
    return election


def vote(
    leader: int,
    zxid: int = 7,
    election_epoch: int = 1,
    peer_epoch: int = 1,
    *,
    state: int = Role.LOOKING,
    version: int = 2,
) -> Notification:
    return Notification(state, leader, zxid, election_epoch, peer_epoch, version)


def told(election: Election) -> dict[int, tuple[int, int, int]]:
    """sid → (state, leader, round) of what is to be sent."""
    return {sid: (n.state, n.leader, n.election_epoch) for sid, n in election.drain()}


def looks(election: Election) -> bool:
    return election.role == Role.LOOKING


def elected(election: Election, leader: int = 4) -> Election:
    """The same, after all others have agreed."""
    for sid in {1, 2, 3, 4} - {election._sid}:
        election.receive(sid, vote(leader))
    election.tick(FINALIZE_MS)
    election.drain()
    return election


def test_it_begins_with_its_own_vote_to_all_voters() -> None:
    election = Election(2, MEMBERSHIP)
    election.look(7, 1)
    out = dict(election.drain())
    assert set(out) == {1, 3, 4}
    assert out[3] == Notification(Role.LOOKING, 2, 7, 1, 1, 2, MEMBERSHIP.text())
    assert election.drain() == []


def test_the_order_of_votes_is_epoch_then_zxid_then_sid() -> None:
    election = looking(2)
    for better in (vote(3, 7, 1, 1), vote(1, 8, 1, 1), vote(1, 6, 1, 2)):
        election.receive(1, better)
        assert election.vote == Vote(*better[1:5])
        assert told(election) == dict.fromkeys((1, 3, 4), (Role.LOOKING, better.leader, 1))
    for worse in (vote(4, 7, 1, 1), vote(4, 5, 1, 2), vote(1, 6, 1, 2)):
        election.receive(4, worse)
        assert election.vote.leader == 1
        assert told(election) == {}


def test_a_quorum_is_waited_upon_for_a_moment() -> None:
    election = looking(2)
    election.receive(3, vote(4))
    election.receive(4, vote(4))
    election.tick(FINALIZE_MS - 1)
    assert looks(election)
    election.receive(3, vote(4))
    election.tick(1)
    assert (election.role, election.vote) == (Role.FOLLOWING, Vote(4, 7, 1, 1))


def test_a_better_vote_in_that_moment_is_taken() -> None:
    election = looking(2)
    election.receive(3, vote(3))
    election.receive(1, vote(3))
    election.tick(FINALIZE_MS - 1)
    election.receive(4, vote(4))
    election.tick(2)
    assert looks(election) and election.vote.leader == 4
    election.receive(1, vote(4))
    election.tick(FINALIZE_MS)
    assert election.role == Role.FOLLOWING and election.vote.leader == 4


def test_two_of_four_are_no_quorum_and_observers_do_not_count() -> None:
    election = looking(2)
    election.receive(4, vote(4))
    for sid in (5, 6, STRANGER):
        election.receive(sid, vote(4))
    election.tick(10 * FINALIZE_MS)
    assert looks(election)


def test_who_is_elected_leads() -> None:
    election = looking(4)
    for sid in (1, 2):
        election.receive(sid, vote(4))
    election.tick(FINALIZE_MS)
    assert election.role == Role.LEADING


def test_a_single_voter_elects_itself() -> None:
    election = looking(9, membership=Membership([Member(9, AT)]))
    election.tick(FINALIZE_MS)
    assert (election.role, election.drain()) == (Role.LEADING, [])


def test_a_later_round_begins_anew() -> None:
    election = looking(2)
    election.receive(1, vote(4))
    election.receive(3, vote(1, 1, 5))
    assert election.round == 5
    assert election.vote == Vote(2, 7, 5, 1), "its own vote is better than that of the new round"
    assert told(election) == dict.fromkeys((1, 3, 4), (Role.LOOKING, 2, 5))
    election.receive(3, vote(4, 8, 6))
    assert election.vote == Vote(4, 8, 6, 1)
    election.receive(4, vote(4, 8, 6))
    election.tick(FINALIZE_MS)
    assert election.role == Role.FOLLOWING, "the vote of round 1 was not needed"


def test_a_vote_of_an_earlier_round_is_answered_and_not_used() -> None:
    election = looking(2)
    election.receive(1, vote(2, 7, 3))
    election.drain()
    election.receive(4, vote(4, 100, 2, 100))
    assert election.vote.leader == 2
    assert told(election) == {4: (Role.LOOKING, 2, 3)}


def test_votes_are_told_again_at_doubled_intervals() -> None:
    election = Election(2, MEMBERSHIP, interval_ms_min=100, interval_ms_max=350)
    election.look(7, 1)
    election.drain()
    at = []
    for now in range(1, 1500):
        election.tick(1)
        if election.drain():
            at.append(now)
    assert at == [100, 300, 650, 1000, 1350]
    election.look(7, 1)
    election.drain()
    election.tick(100)
    assert told(election) == dict.fromkeys((1, 3, 4), (Role.LOOKING, 2, 2))


def test_only_the_last_message_to_each_is_sent() -> None:
    election = Election(2, MEMBERSHIP)
    election.look(7, 1)
    election.receive(1, vote(3))
    election.receive(1, vote(4))
    assert told(election) == dict.fromkeys((1, 3, 4), (Role.LOOKING, 4, 1))


# When it is over


def test_who_looks_is_told_what_was_decided() -> None:
    election = elected(looking(2))
    election.receive(1, vote(1, 9, 8, 9))
    assert told(election) == {1: (Role.FOLLOWING, 4, 1)}
    election.receive(3, vote(3, state=Role.FOLLOWING))
    assert told(election) == {}
    election.establish(6)
    election.receive(1, vote(1))
    ((_, answer),) = election.drain()
    assert answer[:5] == (Role.FOLLOWING, 4, 7, 1, 6)
    election.tick(1e6)
    assert election.drain() == [] and election.vote == Vote(4, 7, 1, 6)


@pytest.mark.parametrize("sid", [5, STRANGER])
def test_who_has_no_vote_is_always_told(sid: int) -> None:
    election = looking(2)
    election.receive(sid, vote(NOBODY, NOBODY, 3, NOBODY))
    assert told(election) == {sid: (Role.LOOKING, 2, 1)}
    elected(election)
    election.receive(sid, vote(NOBODY, NOBODY, 1, NOBODY, state=Role.OBSERVING))
    assert told(election) == {sid: (Role.FOLLOWING, 4, 1)}


def test_a_running_ensemble_is_joined_on_its_leaders_word() -> None:
    election = looking(2)
    election.receive(1, vote(4, 3, 9, 5, state=Role.FOLLOWING))
    election.receive(3, vote(4, 4, 8, 5, state=Role.FOLLOWING))
    assert looks(election), "the leader itself has said nothing"
    election.receive(4, vote(4, 3, 9, 5, state=Role.LEADING))
    assert (election.role, election.vote) == (Role.FOLLOWING, Vote(4, 3, 9, 5))
    assert election.round == 9, "who asks later must hear of the same round"


def test_a_leader_of_too_few_is_not_joined() -> None:
    election = looking(2)
    election.receive(4, vote(4, 3, 9, 5, state=Role.LEADING))
    election.receive(1, vote(4, 3, 9, 5, state=Role.FOLLOWING))
    election.receive(3, vote(4, 3, 9, 4, state=Role.FOLLOWING))
    assert looks(election), "3 is of another epoch"
    election.receive(3, vote(4, 3, 9, 5, state=Role.FOLLOWING))
    assert election.role == Role.FOLLOWING


def test_in_its_own_round_the_leader_alone_is_compared() -> None:
    election = looking(2)
    election.receive(4, vote(4, 7, 1, 5, state=Role.LEADING))
    election.receive(1, vote(4, 7, 1, 1, state=Role.FOLLOWING))
    election.receive(3, vote(4, 7, 1, 5, state=Role.FOLLOWING))
    assert election.role == Role.FOLLOWING


def test_epochs_of_servers_of_3_4_are_not_compared_with_others() -> None:
    election = looking(2)
    election.receive(4, vote(4, 3, 9, 5, state=Role.LEADING))
    election.receive(1, vote(4, 3, 9, 4, state=Role.FOLLOWING, version=0))
    election.receive(3, vote(4, 3, 9, 5, state=Role.FOLLOWING))
    assert election.role == Role.FOLLOWING


def test_observers_tell_nothing_about_a_leader() -> None:
    election = looking(2)
    for sid in (1, 3, 4):
        election.receive(sid, vote(4, 3, 9, 5, state=Role.OBSERVING))
    assert looks(election) and told(election) == {}


def test_a_leader_that_was_lost_is_called_back_in_its_own_round_only() -> None:
    election = looking(4)
    for sid in (1, 2, 3):
        election.receive(sid, vote(4, 7, 2, 5, state=Role.FOLLOWING))
    assert looks(election)
    for sid in (1, 2, 3):
        election.receive(sid, vote(4, 7, 1, 5, state=Role.FOLLOWING))
    assert election.role == Role.LEADING


# Who has no voice


def test_an_observer_votes_for_nobody_and_follows() -> None:
    election = Election(5, MEMBERSHIP)
    election.look(7, 1)
    out = dict(election.drain())
    assert set(out) == {1, 2, 3, 4}
    assert out[1][:5] == (Role.LOOKING, NOBODY, NOBODY, 1, NOBODY)
    election.receive(1, vote(4))
    assert told(election) == {}, "its vote for nobody has not changed"
    elected(election)
    assert (election.role, election.vote.leader) == (Role.OBSERVING, 4)


def test_an_observer_does_not_answer_what_answers_it() -> None:
    """Voters answer an observer at once; did it do so too, the two would never stop."""
    election = looking(5)
    election.look(7, 1)  # its second round: the voters are in their first
    election.drain()
    election.receive(1, vote(4))
    assert told(election) == {}


def test_a_stranger_that_answers_answers_is_answered_once_a_tick() -> None:
    election = looking(2)
    answers = []
    for _ in range(3):
        for _ in range(5):
            election.receive(STRANGER, vote(STRANGER, election_epoch=9))
            answers += [sid for sid, _ in election.drain()]
        election.tick(1)
    answers += [sid for sid, _ in election.drain()]
    assert answers == [STRANGER] * 4
    election.receive(STRANGER, vote(STRANGER, election_epoch=9))
    elected(election)
    for _ in range(2):
        election.receive(STRANGER, vote(STRANGER, election_epoch=9))
        assert told(election) == {STRANGER: (Role.FOLLOWING, 4, 1)}


def test_an_observer_joins_a_running_ensemble() -> None:
    election = looking(5)
    for sid in (1, 2, 4):
        state = Role.LEADING if sid == 4 else Role.FOLLOWING
        election.receive(sid, vote(4, 3, 9, 5, state=state))
    assert (election.role, election.vote.leader) == (Role.OBSERVING, 4)


def test_who_has_lost_data_counts_nothing_and_follows() -> None:
    election = looking(2, whole=False)
    election.tick(200)
    assert told(election) == dict.fromkeys((1, 3, 4), (Role.LOOKING, NOBODY, 0))
    election.receive(1, vote(4))
    election.receive(4, vote(4))
    election.tick(FINALIZE_MS)
    assert looks(election), "two others, and it does not count itself"
    election.receive(3, vote(4))
    election.tick(FINALIZE_MS)
    assert (election.role, election.vote.leader) == (Role.FOLLOWING, 4)


def test_who_finds_that_it_lost_data_hears_the_round_that_it_was_in() -> None:
    election = looking(2)
    election.receive(1, vote(4))
    election.look(0, 0, whole=False)
    for sid in (1, 3, 4):
        election.receive(sid, vote(4))
    election.tick(FINALIZE_MS)
    assert (election.role, election.vote.leader) == (Role.FOLLOWING, 4)


def test_who_has_lost_data_never_leads_though_all_want_it() -> None:
    election = looking(2, whole=False)
    for state in (Role.LOOKING, Role.FOLLOWING):
        for sid in (1, 3, 4):
            election.receive(sid, vote(2, 9, 1, 9, state=state))
    election.tick(FINALIZE_MS)
    assert looks(election)


def test_a_voter_without_weight_does_not_become_leader() -> None:
    groups = Membership(
        [Member(sid, AT) for sid in (1, 2, 3, 4)], groups={1: (1, 2, 3, 4)}, weights={4: 0}
    )
    heavy = looking(2, membership=groups)
    heavy.receive(4, vote(4, 100, 1, 100))
    assert heavy.vote.leader == 2
    light = Election(4, groups)
    light.look(100, 100)
    assert set(told(light).values()) == {(Role.LOOKING, NOBODY, 1)}


# What is ignored


@pytest.mark.parametrize(
    "message",
    [
        vote(4, 100, 1, 100, state=4),
        vote(4, 100, 1, 100, state=-1),
        vote(5, 100, 1, 100),
        vote(STRANGER, 100, 1, 100),
        vote(NOBODY, 100, 2, 100),
        vote(4, -1, 1, 100),
        vote(4, 100, ROUND_MAX + 1, 100),
        vote(4, 100, -1, 100),
    ],
)
def test_what_makes_no_sense_is_ignored(message: Notification) -> None:
    election = looking(2)
    election.receive(3, message)
    assert (election.vote, election.round) == (Vote(2, 7, 1, 1), 1)
    assert election.drain() == []


def test_what_comes_from_itself_is_ignored() -> None:
    election = looking(2)
    election.receive(2, vote(4, 100, 5, 100))
    assert election.vote.leader == 2 and election.drain() == []


LONGS = st.integers(-(1 << 63), (1 << 63) - 1)
SOME = st.one_of(st.integers(-2, 8), LONGS)


@given(
    st.lists(
        st.tuples(
            SOME, st.builds(Notification, st.integers(-1, 5), SOME, SOME, SOME, SOME, st.just(2))
        ),
        max_size=30,
    ),
    st.sampled_from([2, 5]),
)
def test_any_messages(messages: list[tuple[int, Notification]], sid: int) -> None:
    """What is told can be told: all numbers fit their fields, and nobody tells itself."""
    election = looking(sid)
    for sender, message in messages:
        election.receive(sender, message)
        election.tick(50)
        for receiver, out in election.drain():
            assert receiver != sid
            assert Notification.decode(out.encode()) == out
        if election.role != Role.LOOKING:
            election.look(7, 1)
