"""commit/agreement.py: who is outvoted, and that nobody is while it cannot be known."""

from __future__ import annotations

import pytest

from tests.unit.zab_bench import members
from zkstore.commit.agreement import ZXIDS_MAX, Agreement
from zkstore.proto.quorum import Told
from zkstore.storage.digests import Digests

OURS, THEIRS = 5, 6


def agreement(*voters: int, sid: int = 1) -> Agreement:
    digests = Digests()
    digests.kept += [(128 * number, OURS) for number in range(1, 100)]
    return Agreement(sid, members(*voters), digests)


def test_a_quorum_with_one_digest_is_found_and_told() -> None:
    ours = agreement(1, 2, 3, 5, 6)
    ours.answered(2, (128, OURS))
    ours.answered(3, (128, THEIRS))
    assert ours.reached is None
    ours.answered(5, (128, OURS))
    assert (ours.reached, ours.outvoted) == ((128, OURS), None)
    ours.answered(6, (128, OURS))
    ours.answered(2, (200, OURS))  # where we kept none
    assert ours.reached == (128, OURS)
    ours.begin()
    assert ours.reached is None


def test_a_leader_is_outvoted_by_its_followers() -> None:
    ours = agreement(1, 2, 3)
    ours.answered(2, (128, THEIRS))
    assert ours.outvoted is None, "one against one"
    ours.answered(2, (256, THEIRS))
    ours.answered(3, (256, THEIRS))
    assert (ours.outvoted, ours.reached) == (256, (256, THEIRS))


@pytest.mark.parametrize("answers", [[(2, THEIRS)], [(2, 7), (3, 8)], [(2, THEIRS), (2, THEIRS)]])
def test_nobody_is_outvoted_without_a_quorum(answers: list[tuple[int, int]]) -> None:
    ours = agreement(1, 2, 3)
    for sid, digest in answers:
        ours.answered(sid, (128, digest))
    assert (ours.outvoted, ours.reached) == (None, None)


def test_a_learner_answers_and_judges_itself() -> None:
    ours = agreement(1, 2, 3)
    assert ours.hear(Told(True)) is None
    assert ours.hear(Told(True, (128, THEIRS))) == (128, OURS)
    assert ours._digests.mismatches == 1
    assert ours.outvoted is None, "the leader's word alone is none"
    assert ours.hear(Told(True, (200, THEIRS), (200, THEIRS))) is None
    assert ours.hear(Told(True, (384, OURS), (256, OURS))) == (384, OURS)
    assert ours.outvoted is None
    ours.hear(Told(True, (384, OURS), (256, THEIRS)))
    assert ours.outvoted == 256


def test_what_is_remembered_has_a_bound() -> None:
    ours = agreement(1, 2, 3)
    for number in range(1, 99):
        ours.answered(2, (128 * number, THEIRS))
    assert list(ours._told) == [128 * number for number in range(99 - ZXIDS_MAX, 99)]
