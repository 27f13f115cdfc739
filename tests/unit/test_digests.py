"""Digests of a leader's tree beside ours: what agrees is silent, what differs is counted."""

from __future__ import annotations

import pytest

from zkstore.apache.log import with_digest
from zkstore.proto import opcodes as op
from zkstore.records import txn as txns
from zkstore.storage.digests import Digests

TXN = txns.encode(txns.Txn(0x100000080, 7, 1, 0, op.DELETE, (b"/a",)))


def test_a_txn_that_bears_the_leaders_digest(caplog: pytest.LogCaptureFixture) -> None:
    digests = Digests()
    digests.compare_txn(TXN, 5)
    digests.compare_txn(with_digest(TXN, 5), 5)
    digests.compare_txn(with_digest(TXN, (1 << 64) - 5), -5)  # sums may be negative here
    assert digests.mismatches == 0
    digests.compare_txn(with_digest(TXN, 6), 5)
    assert digests.mismatches == 1
    assert "0x100000080" in caplog.text


def test_a_digest_that_comes_with_a_ping() -> None:
    digests = Digests()
    assert digests.last() is None
    digests.kept += [(128, 1), (256, -2)]
    assert digests.last() == (256, (1 << 64) - 2)
    digests.compare(128, 1)
    digests.compare(200, 9)  # we did not keep it: nothing to compare with
    digests.compare(256, (1 << 64) - 2)
    assert digests.mismatches == 0
    digests.kept.append((384, 3))
    digests.compare(384, 4)
    digests.compare(384, 4)  # told again at each tick
    assert digests.mismatches == 1


def test_a_tree_that_goes_back() -> None:
    digests = Digests()
    digests.kept += [(128, 1), (256, 2)]
    digests.cut(200)
    assert list(digests.kept) == [(128, 1)]
