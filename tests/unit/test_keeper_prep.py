"""tree/keeper_prep.py: Keeper's writes over the tree and the changes in flight.

The oracle is the same leader with nothing in flight: what it does one by one is right by the tests
over the wire (tests/conformance/test_keeper.py).
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from tests.conformance import requests as r
from tests.conformance.requests import Request
from tests.conformance.wire import i32, ustring
from tests.property.dict_tree import DictTree
from tests.property.leader import ANNE, BERT, PROVIDERS, Leader
from zkstore.errors import Code
from zkstore.proto import keeper
from zkstore.proto import opcodes as op
from zkstore.records.txn import Txn
from zkstore.tree import keeper_prep, paths
from zkstore.tree import node as nodes
from zkstore.tree.acl import Acl
from zkstore.tree.keeper_prep import KeeperPrep


class Source:
    """The tree of a leader, by way of views that end: one that is kept answers no more."""

    def __init__(self, tree: DictTree, leader: KeeperLeader) -> None:
        self._leader = leader
        self._tree = tree
        self._open = 0

    def renew(self) -> None:
        """A new message: `node` is another view's, and the old one's is dead."""
        self._open += 1
        mine = self._open

        def node(path: bytes) -> bytes | None:
            assert mine == self._open, "a view that has ended"
            return self._tree.node(path)

        self.node = node

    def acl(self, acl_id: int) -> Acl:
        return self._tree.acl(acl_id)

    def ephemerals(self, session_id: int) -> list[bytes]:
        return self._tree.ephemerals(session_id)

    def children(self, path: bytes) -> list[bytes]:
        return [paths.split(p)[1] for p in self._tree.nodes if p != b"/" and _parent(p) == path]

    def pending(self, after: int) -> Iterator[Txn]:
        return (txn for txn in self._leader.waiting if txn.zxid > after)


def _parent(path: bytes) -> bytes:
    return paths.split(path)[0]


class KeeperLeader(Leader):
    def __init__(self) -> None:
        super().__init__()
        self.source = Source(self.tree, self)
        self.source.renew()
        self.prep = KeeperPrep(
            self.source, PROVIDERS,
            ttl_enabled=True, close_session_paths=True, now_ms=lambda: self.now_ms,
        )  # fmt: skip

    def ask(self, request: Request, session_id: int = ANNE) -> Txn:
        """As a message of its own."""
        self.source.renew()
        self.now_ms += 7
        return self.request(request, session_id)


def op_of(code: int, body: bytes) -> Request:
    return r.raw(code, body)


def remove_recursive(path: str, limit: int) -> Request:
    return op_of(op.REMOVE_RECURSIVE, ustring(path) + i32(limit))


def check_stat(path: bytes, stat: bytes) -> Request:
    return op_of(op.CHECK_STAT, ustring(path) + i32(-1) + stat)


def any_request(rng: random.Random) -> Request:
    """A write near the few paths that all of them use."""
    path = "/" + "/".join(rng.choices("ab", k=rng.randint(1, 3)))
    choices = [
        r.create(path, rng.randbytes(rng.randint(0, 9)), flags=rng.choice((0, 0, r.EPHEMERAL))),
        r.set_data(path, rng.randbytes(rng.randint(0, 9))),
        r.delete(path),
        r.set_acl(path, r.OPEN),
        op_of(op.CREATE_IF_NOT_EXISTS, r.create(path, b"new").body),
        op_of(op.TRY_REMOVE, ustring(path) + i32(rng.choice((-1, 0)))),
        remove_recursive(path, rng.randint(0, 4)),
    ]
    return rng.choice(choices)


@pytest.mark.parametrize("seed", range(40))
def test_what_is_in_flight_counts_as_if_it_were_applied(seed: int) -> None:
    """Errors, trees and every field of every Stat, over changes that no tree has seen."""
    rng = random.Random(seed)
    piped, plain = KeeperLeader(), KeeperLeader()
    for leader in (piped, plain):
        leader.create_session(ANNE)
        leader.create_session(BERT)
        leader.apply()
    for _ in range(120):
        session_id = rng.choice((ANNE, BERT))
        request = any_request(rng)
        if rng.random() < 0.3:
            request = r.multi(request, any_request(rng), any_request(rng))
        expected, made = plain.ask(request, session_id), piped.ask(request, session_id)
        plain.apply()
        assert made == expected
        if rng.random() < 0.5:
            path = rng.choice(sorted(plain.tree.nodes))
            value = plain.tree.node(path)
            assert value is not None
            right = check_stat(path, value[nodes.STAT])
            assert piped.ask(right).type == plain.ask(right).type == op.CHECK
            plain.apply()
        if rng.random() < 0.1:
            piped.apply(rng.randint(1, len(piped.waiting)) if piped.waiting else None)
    piped.apply()
    assert piped.tree.nodes == plain.tree.nodes
    assert piped.tree.totals == plain.tree.totals


def test_a_wrong_stat_in_flight_is_refused() -> None:
    leader = KeeperLeader()
    leader.do(r.create("/a"))
    before = leader.tree.node(b"/a")
    assert before is not None
    leader.ask(r.create("/a/b"))
    refused = leader.ask(check_stat(b"/a", before[nodes.STAT]))
    assert (refused.type, refused.body) == (op.ERROR, (int(Code.BAD_VERSION),))


def test_a_multi_of_many_removals_has_one_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper_prep, "REMOVE_RECURSIVE_NODES_MAX", 5)
    leader = KeeperLeader()
    for path in ("/a", "/a/1", "/a/2", "/b", "/b/1", "/b/2"):
        leader.do(r.create(path))
    both = leader.ask(r.multi(remove_recursive("/a", 9), remove_recursive("/b", 9)))
    assert both.body == ([(op.ERROR, (0,)), (op.ERROR, (int(Code.NOT_EMPTY),))],)
    assert leader.ask(remove_recursive("/a", 9)).type == op.MULTI
    assert leader.ask(remove_recursive("/b", 9)).type == op.MULTI


def test_long_paths_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper_prep, "REMOVE_RECURSIVE_BYTES_MAX", 100)
    leader = KeeperLeader()
    leader.do(r.create("/a"))
    leader.do(r.create("/a/" + "x" * 98))
    assert leader.ask(remove_recursive("/a", 9)).body == (int(Code.NOT_EMPTY),)


def test_what_is_logged_is_apaches() -> None:
    leader = KeeperLeader()
    made = [
        leader.ask(op_of(op.CREATE_IF_NOT_EXISTS, r.create("/a").body)),
        leader.ask(op_of(op.CREATE_IF_NOT_EXISTS, r.create("/a").body)),
        leader.ask(op_of(op.CHECK_NOT_EXISTS, ustring("/b") + i32(-1))),
        leader.ask(op_of(op.TRY_REMOVE, ustring("/b") + i32(-1))),
        leader.ask(remove_recursive("/a", 1)),
    ]
    assert [txn.type for txn in made] == [op.CREATE, op.CHECK, op.CHECK, op.CHECK, op.DELETE]


def test_the_flags_are_one_bit_each() -> None:
    assert bytes([0b11111111, 0b11100000]) == keeper.FEATURE_FLAGS
