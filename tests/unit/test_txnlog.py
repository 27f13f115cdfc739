"""storage/txnlog.py: a batch of the log, its label, and what damage does."""

from __future__ import annotations

import pytest

from tests.property.stored import create
from zkstore.errors import CorruptionError
from zkstore.records import txn as txns
from zkstore.storage import txnlog
from zkstore.tree.apply import Effects, Totals

TOTALS = Totals(5, 1, 200, (1 << 64) + 12345, 3, 4)
FIRST: Effects = [1, b"/a", -1, 2, None, b"parent"]
SECOND: Effects = []
TXNS = [txns.encode(create(zxid, b"/a")) for zxid in (7, 8)]
VALUE = txnlog.encode(6, TOTALS, 1000, [TXNS[0], FIRST, TXNS[1], SECOND])


def test_the_label() -> None:
    label = txnlog.label_of(8, VALUE)
    assert label.applied == 8
    assert label.totals == Totals(5, 1, 200, 12345, 3, 4)
    assert label.log_bytes == txnlog.log_bytes_of(VALUE) == 1000 + len(VALUE)
    assert txnlog.previous_of(VALUE) == 6


def test_a_digest_that_was_subtracted_below_zero_is_stored_modulo_2_to_64() -> None:
    value = txnlog.encode(1, Totals(digest=-1), 0, [])
    assert txnlog.label_of(1, value).totals.digest == (1 << 64) - 1


def test_the_entries() -> None:
    found = list(txnlog.entries(8, VALUE))
    assert found == [(TXNS[0], FIRST), (TXNS[1], SECOND)]
    assert [txnlog.txn_zxid(encoded) for encoded, _ in found] == [7, 8]


@pytest.mark.parametrize("at", [*range(0, len(VALUE), 7), len(VALUE) - 1])
def test_a_damaged_batch_is_named(at: int) -> None:
    damaged = VALUE[:at] + bytes([VALUE[at] ^ 0x40]) + VALUE[at + 1 :]
    with pytest.raises(CorruptionError, match="ends with zxid 0x8"):
        txnlog.entries(8, damaged)


@pytest.mark.parametrize("size", [0, 10, len(VALUE) - 1])
def test_a_batch_that_is_cut_short_is_damaged(size: int) -> None:
    with pytest.raises(CorruptionError):
        txnlog.check(8, VALUE[:size])
