"""commit/company.py: when nodes with a TTL may be made, and whom a tree with some is kept from."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.property.stored import create, open_writer, perform, proposals, txn
from tests.unit.zab_bench import JAVA, LEADER, OBSERVER, OF_THREE, SECOND, THIRD, ZKSTORE, Bench
from zkstore.commit.company import REFUSED, Company
from zkstore.proto import opcodes as op
from zkstore.proto import quorum as q
from zkstore.records.txn import Txn
from zkstore.settings import Settings
from zkstore.tree import acl as acls
from zkstore.zab.ready import Ready


def company(
    bench: Bench, *, given: bool | None = None, possible: bool = True, writer: Any = None
) -> Company:
    settings = Settings(server_id=bench.sid, extended_types_enabled=given)
    loop: Any = SimpleNamespace(settings=settings, writer=writer)
    return Company(loop, OF_THREE, bench.peer, possible=possible)


def leading(*zkstores: int) -> Bench:
    """With the others, of which these are ours, as its learners."""
    bench = Bench(LEADER)
    bench.elect(LEADER)
    for link, sid in enumerate((SECOND, THIRD, OBSERVER), 1):
        kind = q.OBSERVERINFO if sid == OBSERVER else q.FOLLOWERINFO
        bench.learner(link, sid, protocol=ZKSTORE if sid in zkstores else JAVA, kind=kind)
    return bench


@pytest.mark.parametrize("odd", [SECOND, THIRD, OBSERVER])
def test_one_server_of_another_kind_is_enough(odd: int) -> None:
    assert company(leading(SECOND, THIRD, OBSERVER)).allows_ttl()
    ours = {SECOND, THIRD, OBSERVER} - {odd}
    assert not company(leading(*ours)).allows_ttl()
    assert company(leading(*ours), given=True).allows_ttl()
    assert not company(leading(SECOND, THIRD, OBSERVER), given=False).allows_ttl()
    assert not company(leading(SECOND, THIRD, OBSERVER), possible=False).allows_ttl()


def test_who_is_away_is_what_it_was() -> None:
    bench = leading(SECOND, THIRD, OBSERVER)
    known = company(bench)
    assert known.are_all_ours()
    bench.peer.closed(1)
    assert known.are_all_ours()
    bench.learner(4, SECOND, protocol=JAVA)
    assert not known.are_all_ours()
    bench.peer.closed(4)
    assert not known.are_all_ours()
    bench.learner(5, SECOND)
    assert known.are_all_ours()
    bench.learner(6, 77, protocol=JAVA)  # no member, but it learns
    assert not known.are_all_ours()


def test_the_next_leader_knows_what_the_last_one_told() -> None:
    bench = Bench(LEADER)
    bench.elect(LEADER)
    known = company(bench)
    assert not known.are_all_ours(), "nobody was seen"
    known.hear(all_ours=True)
    assert known.are_all_ours()
    known.hear(all_ours=False)
    assert not known.are_all_ours()


def ttl(zxid: int, path: bytes) -> Txn:
    return txn(zxid, op.CREATE_TTL, path, b"", acls.OPEN_ENCODED, -1, 60_000)


def test_a_tree_with_ttl_nodes_is_kept_from_others(tmp_path: Path) -> None:
    writer = open_writer(tmp_path, alone=False)
    perform(writer, create(1, b"/a"), txn(2, op.CREATE_CONTAINER, b"/b", b"", acls.OPEN_ENCODED, 1))
    bench = Bench(LEADER)
    known = company(bench, writer=writer)
    assert known.why_refused() == ""
    subs = [(op.CREATE_TTL, (b"/c", b"", acls.OPEN_ENCODED, -1, 60_000))]
    for made, gone in (
        (ttl(3, b"/c"), txn(4, op.DELETE, b"/c")),
        (txn(5, op.MULTI, subs), txn(6, op.DELETE_CONTAINER, b"/c")),
    ):
        writer.remember(made)
        assert known.why_refused() == REFUSED, "proposed"
        writer.forget(proposals([made]))
        writer.perform(Ready(append=proposals([made])))
        assert known.why_refused() == REFUSED, "journaled"
        writer.perform(Ready(committed=proposals([made])))
        assert known.why_refused() == REFUSED, "applied"
        assert company(bench, given=True, writer=writer).why_refused() == ""
        assert company(bench, given=False, writer=writer).why_refused() == REFUSED
        perform(writer, gone)
        assert known.why_refused() == ""
    writer.close()
