"""frontend/barriers.py: which barrier each read is behind."""

from __future__ import annotations

from typing import Any

from zkstore.frontend.barriers import Barriers
from zkstore.proto import opcodes as op


def test_reads_of_one_turn_share_a_barrier_and_later_ones_need_another() -> None:
    asked: list[int] = []
    barriers = Barriers(asked.append, on=True)
    anne: Any = "anne"
    bert: Any = "bert"
    assert [barriers.behind(one, op.GET_DATA) for one in (anne, bert, anne)] == [1, 1, 1]
    barriers.sent()
    barriers.sent()  # a turn without reads
    assert barriers.behind(bert, op.EXISTS) == 2
    assert asked == [1, 2]
    assert list(barriers.passes(1)) == [anne, bert]
    assert barriers.passed == 1
    assert list(barriers.passes(2)) == [bert]


def test_one_that_was_never_answered_is_passed_with_the_next() -> None:
    barriers = Barriers(lambda number: None, on=True)
    anne: Any = "anne"
    barriers.behind(anne, op.GET_DATA)
    barriers.sent()
    bert: Any = "bert"
    barriers.behind(bert, op.GET_DATA)
    assert list(barriers.passes(2)) == [anne, bert]
    assert list(barriers.passes(2)) == []


def test_writes_wait_for_none_nor_does_anything_where_they_are_off() -> None:
    asked: list[int] = []
    anne: Any = "anne"
    assert Barriers(asked.append, on=True).behind(anne, op.SYNC) == 0
    assert Barriers(asked.append, on=False).behind(anne, op.GET_DATA) == 0
    assert asked == []
