"""tree/apply.py over random txns, misfits among them: batches of any size give the same tree, the
totals are what a count gives, and the effects lead back."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.property.dict_tree import DictTree
from zkstore.proto import opcodes as op
from zkstore.records.txn import Body, Txn
from zkstore.tree import acl as acls
from zkstore.tree import node as nodes
from zkstore.tree import paths
from zkstore.tree.apply import Effects, Result

SESSIONS = (0x100000000000001, 0x100000000000002)
NAMES = (b"a", b"b", b"n" * 251)
ACLS = [acls.OPEN_ENCODED, *(acls.encode(((perms, b"digest", b"x:y"),)) for perms in (1, 31))]
DATA = (None, b"", b"x", b"y" * 1024, b"z" * 1025, b"z" * 5000)


class Maker:
    """Makes txns that mostly fit the tree; what it knows of the tree is only a guess."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)
        self._zxid = 0
        self._paths = [b"/"]
        self._parents = [b"/"]  # never an ephemeral, nor a path that was one

    def txn(self) -> Txn:
        rng = self._rng
        self._zxid += 1
        kind = rng.choice([*[op.CREATE] * 4, op.DELETE, op.SET_DATA, op.SET_ACL, op.CREATE_TTL,
                           op.CREATE_CONTAINER, op.CLOSE_SESSION, op.CREATE_SESSION, op.MULTI,
                           op.ERROR, op.DELETE_CONTAINER])  # fmt: skip
        session_id = rng.choice(SESSIONS)
        return Txn(self._zxid, session_id, 1, self._zxid * 10, kind, self._body(kind))

    def _body(self, kind: int) -> Body:
        rng = self._rng
        if kind in op.CREATES:
            return self._create(kind)
        path = rng.choice(self._paths)
        if kind in (op.DELETE, op.DELETE_CONTAINER):
            # No leader deletes a node that has children.
            leaves = [p for p in self._paths if not any(is_child(c, p) for c in self._paths)]
            path = rng.choice(leaves)
            if path == b"/":
                return (b"/none",)
            self._paths.remove(path)
            if path in self._parents:
                self._parents.remove(path)
            return (path,)
        if kind == op.SET_DATA:
            return path, rng.choice(DATA), rng.randrange(9)
        if kind == op.SET_ACL:
            return path, rng.choice(ACLS), rng.randrange(9)
        if kind == op.MULTI:
            return ([(op.CHECK, (path, 1)), (op.ERROR, (-101,)), (op.ERROR, (-2,))],)
        if kind == op.CLOSE_SESSION:
            return ([],)
        return (-101,) if kind == op.ERROR else (30_000,)

    def _create(self, kind: int) -> Body:
        rng = self._rng
        parent = rng.choice(self._parents)
        path = (b"" if parent == b"/" else parent) + b"/" + rng.choice(NAMES)
        ephemeral = kind == op.CREATE and path not in self._parents and rng.random() < 0.4
        if path not in self._paths:
            self._paths.append(path)
            if not ephemeral:
                self._parents.append(path)
        body = (path, rng.choice(DATA), rng.choice(ACLS))
        cversion = rng.choice((-1, -1, -1, 0, 3))
        if kind == op.CREATE_CONTAINER:
            return *body, cversion
        if kind == op.CREATE_TTL:
            return *body, cversion, 1000
        return *body, ephemeral, cversion


def is_child(path: bytes, parent: bytes) -> bool:
    return path != b"/" and paths.split(path)[0] == parent


def made(seed: int, count: int) -> list[Txn]:
    maker = Maker(seed)
    return [maker.txn() for _ in range(count)]


SEEDS = st.integers(0, 1 << 32)
COUNTS = st.integers(1, 80)


@given(SEEDS, COUNTS)
def test_batches_of_any_size_give_the_same_tree(seed: int, count: int) -> None:
    txns = made(seed, count)
    one_by_one, together, chunks = DictTree(), DictTree(), DictTree()
    wanted = [told(txn, *one_by_one.commit([txn])[0]) for txn in txns]
    assert [told(txn, *one) for txn, one in zip(txns, together.commit(txns), strict=True)] == wanted
    rng = random.Random(seed)
    got, rest = [], txns
    while rest:
        size = rng.randint(1, 20)
        got += chunks.commit(rest[:size])
        rest = rest[size:]
    assert [told(txn, *one) for txn, one in zip(txns, got, strict=True)] == wanted
    for tree in (together, chunks):
        assert tree.nodes == one_by_one.nodes
        assert tree.totals == one_by_one.totals
        assert tree.acl_ids == one_by_one.acl_ids
        assert tree.sessions == one_by_one.sessions
        assert {k: v for k, v in tree.owned.items() if v} == {
            k: v for k, v in one_by_one.owned.items() if v
        }


def told(txn: Txn, result: Result, effects: Effects) -> tuple[Result, Effects]:
    """What must not depend on the batch: in which order a closing session's nodes go may."""
    return result, [] if txn.type == op.CLOSE_SESSION else effects


@given(SEEDS, COUNTS)
def test_all_that_is_counted_ahead_is_what_a_count_gives(seed: int, count: int) -> None:
    tree = DictTree()
    tree.commit(made(seed, count))
    assert tree.recount() == tree.totals
    owners: dict[bytes, int] = {}
    for path, value in tree.nodes.items():
        fields = nodes.unpack(value)
        owners[path] = fields[nodes.OWNER]
        data = tree.data(path)
        assert fields[nodes.DATA_LENGTH] == len(data or b"")
        assert nodes.intact(value, path, data)
        children = [each for each in tree.nodes if is_child(each, path)]
        assert fields[nodes.CHILDREN] == len(children), path
        assert path == b"/" or paths.split(path)[0] in tree.nodes
        name = path.rpartition(b"/")[2]
        if tree.needs_long_name(path):
            assert nodes.long_name_of(value) == name
    assert tree.sweep == {path for path, owner in owners.items() if owner < 0}
    owned = {(owner, path) for path, owner in owners.items() if owner > 0}
    assert owned == {(one, path) for one, listed in tree.owned.items() for path in listed}


@given(SEEDS, st.integers(1, 30), COUNTS)
def test_the_effects_lead_back_to_what_was_before(seed: int, before: int, count: int) -> None:
    txns = made(seed, before + count)
    tree = DictTree()
    tree.commit(txns[:before])
    wanted = dict(tree.nodes)
    effects: Effects = []
    for _, one in tree.commit(txns[before:]):
        effects += one
    assert len(effects) % 6 == 0
    for at in range(len(effects) - 6, -1, -6):
        if effects[at + 1]:  # else it is of a session
            undo(tree.nodes, *effects[at : at + 6])
    assert tree.nodes == wanted


def undo(
    stored: dict[bytes, bytes], kind: object, path: object, acl_id: object, parent_acl_id: object,
    value: object, parent: object,
) -> None:  # fmt: skip
    """Put back what one effect says was there: whole values, of the parent all but its data."""
    assert isinstance(path, bytes)
    if kind == op.NODE_CREATED:
        assert value is None
        del stored[path]
    else:
        assert isinstance(value, bytes)
        stored[path] = value
    if parent is not None:
        assert isinstance(parent, bytes)
        above = paths.split(path)[0]
        stored[above] = parent + stored[above][nodes.BODY :]


@pytest.mark.parametrize("seed", range(3))
def test_the_maker_makes_more_than_errors(seed: int) -> None:
    """A control: most txns do something, and all kinds of effects come up."""
    applied = DictTree().commit(made(seed, 300))
    done = [effects for (code, _), effects in applied if code == 0 and effects]
    assert len(done) > 100
    assert {one[0] for one in done} == {
        0, op.NODE_CREATED, op.NODE_DELETED, op.NODE_DATA_CHANGED,
    }  # fmt: skip
