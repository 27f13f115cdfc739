"""zab/core.py: proposals are logged, acknowledged and committed; the contract of Ready."""

from __future__ import annotations

import pytest

from zkstore.constants import OUTSTANDING_PROPOSALS_MAX
from zkstore.errors import Code, ZooKeeperError
from zkstore.zab.core import Core, Quorum
from zkstore.zab.ready import HardState, Proposal, Ready

ME, SECOND, THIRD = 1, 2, 3


def of_one(acks: frozenset[int]) -> bool:
    return ME in acks


def of_three(acks: frozenset[int]) -> bool:
    return len(acks & {ME, SECOND, THIRD}) >= 2


def new_core(quorum: Quorum, *, last: int = 0) -> Core:
    return Core(sid=ME, quorum=quorum, last_logged=last, last_committed=last, hard=HardState(0, 0))


def propose(core: Core, count: int = 1) -> list[Proposal]:
    made = []
    for _ in range(count):
        zxid = core.next_zxid()
        made.append(Proposal(zxid, b"txn %d" % zxid))
        core.propose(made[-1])
    return made


def ready(core: Core) -> Ready:
    work = core.ready()
    assert work is not None
    return work


def test_alone_a_proposal_is_committed_once_it_is_logged() -> None:
    core = new_core(of_one, last=7)
    made = propose(core, 2)
    assert [zxid for zxid, _ in made] == [8, 9]
    logging = ready(core)
    assert (logging.append, logging.committed) == (made, [])
    assert logging.must_sync
    assert (core.last_proposed, core.last_logged, core.last_committed) == (9, 7, 7)
    core.advance(logging)
    committing = ready(core)
    assert (committing.append, committing.committed) == ([], made)
    assert not committing.must_sync
    core.advance(committing)
    assert core.ready() is None
    assert (core.last_logged, core.last_committed, core.outstanding) == (9, 9, 0)


def test_there_is_one_ready_at_a_time() -> None:
    core = new_core(of_one)
    first = propose(core)
    work = ready(core)
    second = propose(core)
    assert core.ready() is None
    core.advance(work)
    following = ready(core)
    assert (following.append, following.committed) == (second, first)


def test_a_ready_that_is_not_the_last_one_cannot_be_done() -> None:
    core = new_core(of_one)
    propose(core)
    ready(core)
    with pytest.raises(AssertionError):
        core.advance(Ready())


def test_zxids_are_contiguous() -> None:
    core = new_core(of_one)
    with pytest.raises(AssertionError):
        core.propose(Proposal(2, b""))


def test_of_three_one_other_voter_is_enough() -> None:
    core = new_core(of_three)
    made = propose(core, 3)
    core.advance(ready(core))
    assert core.ready() is None  # our own journal alone is no quorum
    core.acknowledge(SECOND, 2)
    assert ready(core).committed == made[:2]
    assert core.last_committed == 2


def test_acknowledgements_may_come_late_twice_and_out_of_order() -> None:
    core = new_core(of_three)
    made = propose(core, 4)
    core.advance(ready(core))
    core.acknowledge(THIRD, 3)
    core.acknowledge(SECOND, 1)
    core.acknowledge(THIRD, 2)  # an old one changes nothing
    work = ready(core)
    assert work.committed == made[:3]
    core.advance(work)
    core.acknowledge(SECOND, 3)
    assert core.ready() is None
    core.acknowledge(SECOND, 4)
    assert ready(core).committed == made[3:]


def test_followers_that_are_faster_than_our_own_journal_wait_for_it() -> None:
    """Two of three have it: it will be committed. Here it is applied once it is logged here."""
    core = new_core(of_three)
    made = propose(core, 2)
    logging = ready(core)
    core.acknowledge(SECOND, 2)
    core.acknowledge(THIRD, 2)
    assert core.last_committed <= core.last_logged
    core.advance(logging)
    assert ready(core).committed == made


def test_a_server_without_a_vote_does_not_count() -> None:
    core = new_core(of_three)
    propose(core)
    core.advance(ready(core))
    core.acknowledge(99, 1)
    assert core.ready() is None


def test_too_many_outstanding_proposals_are_refused() -> None:
    core = new_core(of_three)
    propose(core, OUTSTANDING_PROPOSALS_MAX)
    with pytest.raises(ZooKeeperError) as refused:
        propose(core)
    assert refused.value.code == Code.THROTTLED_OP
    core.advance(ready(core))
    core.acknowledge(SECOND, 1)
    propose(core)


def test_what_the_journal_had_no_room_for_is_taken_back() -> None:
    core = new_core(of_one, last=5)
    made = propose(core, 2)
    refused = ready(core)
    since = propose(core)
    assert core.withdraw(refused) == made + since
    assert (core.last_proposed, core.last_logged, core.outstanding) == (5, 5, 0)
    assert core.ready() is None
    again = propose(core)
    assert again[0].zxid == 6
    assert ready(core).append == again


def test_nothing_is_taken_back_that_others_may_have_seen() -> None:
    core = new_core(of_three)
    propose(core)
    core.advance(ready(core))
    propose(core)
    with pytest.raises(AssertionError, match="older proposals"):
        core.withdraw(ready(core))
