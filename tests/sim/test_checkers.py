"""Controls: each checker accepts what is right and refuses what is not."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.sim import checkers
from tests.sim.checkers import Violation
from zkstore.zab.ready import Proposal

ONE = Proposal(1 << 32 | 1, b"one")
TWO = Proposal(1 << 32 | 2, b"two")
THREE = Proposal(2 << 32 | 1, b"three")
OTHER = Proposal(1 << 32 | 2, b"other")


def refused(call: Callable[..., object], *args: object) -> None:
    with pytest.raises(Violation):
        call(*args)


def test_integrity() -> None:
    checker = checkers.Integrity()
    checker.broadcast(ONE)
    checker.delivered(ONE)
    refused(checker.delivered, TWO)
    refused(checker.delivered, Proposal(ONE.zxid, b"another"))
    refused(checker.broadcast, ONE)


def test_total_order() -> None:
    checker = checkers.TotalOrder()
    checker.delivered(0, ONE.zxid)
    checker.delivered(ONE.zxid, TWO.zxid)
    checker.delivered(ONE.zxid, TWO.zxid)
    refused(checker.delivered, 0, TWO.zxid)


def test_agreement() -> None:
    checker = checkers.Agreement()
    assert checker.delivered(0, ONE)
    assert not checker.delivered(0, ONE)
    assert checker.delivered(1, TWO)
    refused(checker.delivered, 1, OTHER)
    refused(checker.delivered, 3, THREE)


def test_prefix_consistency() -> None:
    checker = checkers.PrefixConsistency()
    checker.compare([[], [ONE], [ONE, TWO]])
    refused(checker.compare, [[ONE, TWO], [ONE, OTHER]])
    refused(checker.compare, [[ONE, TWO, THREE], [TWO]])


def test_local_primary_order() -> None:
    checker = checkers.LocalPrimaryOrder()
    checker.delivered(ONE.zxid, TWO.zxid)
    checker.delivered(TWO.zxid, THREE.zxid)
    refused(checker.delivered, ONE.zxid, ONE.zxid + 2)
    refused(checker.delivered, TWO.zxid, THREE.zxid + 1)


def test_global_primary_order() -> None:
    checker = checkers.GlobalPrimaryOrder()
    checker.delivered(TWO.zxid, THREE.zxid)
    refused(checker.delivered, THREE.zxid, TWO.zxid)


def test_primary_integrity() -> None:
    checker = checkers.PrimaryIntegrity()
    checker.established(2, [ONE, TWO], [ONE])
    checker.first_delivered(TWO.zxid)
    checker.first_delivered(THREE.zxid)
    refused(checker.first_delivered, TWO.zxid + 1)
    refused(checkers.PrimaryIntegrity().established, 2, [TWO], [ONE])


def test_one_leader() -> None:
    checker = checkers.OneLeader()
    checker.established(1, 3, 1)
    checker.established(2, 4, 1)
    refused(checker.established, 1, 4, 1)
    refused(checker.established, 1, 3, 2)


def test_durable() -> None:
    checker = checkers.Durable()
    checker.first_delivered(1, {1, 2}, lambda sids: len(sids) >= 2)
    refused(checker.first_delivered, 1, {1}, lambda sids: len(sids) >= 2)


def test_linearizable() -> None:
    checker = checkers.Linearizable()
    checker.write_done(0, 5)
    assert checker.last == 5
    checker.write_done(5, 6)
    checker.write_done(0, 4)
    checker.sync_done(6, 6)
    refused(checker.write_done, 6, 3)
    refused(checker.write_done, 0, 5)
    refused(checker.sync_done, 6, 5)


def test_nothing_lost() -> None:
    checker = checkers.NothingLost()
    checker.compare({ONE.zxid}, [[ONE], [ONE, TWO]])
    refused(checker.compare, {ONE.zxid, TWO.zxid}, [[ONE], [ONE, TWO]])


def test_lawful() -> None:
    checker = checkers.Lawful()
    checker.hung_up(1, "the leader is silent")
    refused(checker.hung_up, 1, "COMMIT 0x1 without its PROPOSAL")
