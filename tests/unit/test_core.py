"""zab/core.py: a server alone logs and commits its proposals; the contract of Ready."""

from __future__ import annotations

import pytest

from zkstore.constants import OUTSTANDING_PROPOSALS_MAX
from zkstore.errors import Code, ZooKeeperError
from zkstore.zab.core import Core
from zkstore.zab.ready import Proposal, Ready


def new_core(*, last: int = 0) -> Core:
    return Core(last_logged=last)


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


def test_a_proposal_is_committed_with_the_ready_that_logs_it() -> None:
    core = new_core(last=7)
    made = propose(core, 2)
    assert [zxid for zxid, _ in made] == [8, 9]
    assert (core.last_proposed, core.last_committed, core.outstanding) == (9, 7, 2)
    work = ready(core)
    assert (work.append, work.committed) == (made, made)
    assert work.must_sync
    assert core.last_committed == 7
    core.advance(work)
    assert core.ready() is None
    assert (core.last_committed, core.outstanding) == (9, 0)


def test_there_is_one_ready_at_a_time() -> None:
    core = new_core()
    propose(core)
    work = ready(core)
    second = propose(core)
    assert core.ready() is None
    core.advance(work)
    assert ready(core).append == second


def test_a_ready_that_is_not_the_last_one_cannot_be_done() -> None:
    core = new_core()
    propose(core)
    ready(core)
    with pytest.raises(AssertionError):
        core.advance(Ready())


def test_zxids_are_contiguous() -> None:
    core = new_core()
    with pytest.raises(AssertionError):
        core.propose(Proposal(2, b""))


def test_too_many_outstanding_proposals_are_refused() -> None:
    core = new_core()
    propose(core, OUTSTANDING_PROPOSALS_MAX)
    with pytest.raises(ZooKeeperError) as refused:
        propose(core)
    assert refused.value.code == Code.THROTTLED_OP
    core.advance(ready(core))
    propose(core)


def test_what_the_journal_had_no_room_for_is_taken_back() -> None:
    core = new_core(last=5)
    made = propose(core, 2)
    refused = ready(core)
    since = propose(core)
    assert core.withdraw(refused) == made + since
    assert (core.last_proposed, core.last_committed, core.outstanding) == (5, 5, 0)
    assert core.ready() is None
    again = propose(core)
    assert again[0].zxid == 6
    assert ready(core).append == again
