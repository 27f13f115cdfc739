"""tree/apply.py: what a committed txn does, in batches of any size."""

from __future__ import annotations

import pytest

from tests.property.dict_tree import DictTree
from zkstore.constants import INLINE_DATA_BYTES_MAX
from zkstore.errors import Code
from zkstore.proto import opcodes as op
from zkstore.records.txn import Txn
from zkstore.tree import acl as acls
from zkstore.tree import node as nodes

ANNE, BERT = 0x100000000000001, 0x100000000000002
OPEN = acls.OPEN_ENCODED


def create(
    zxid: int, path: bytes, data: bytes | None = b"", *, session_id: int = ANNE,
    ephemeral: bool = False, cversion: int = -1, acl: bytes = OPEN,
) -> Txn:  # fmt: skip
    body = (path, data, acl, ephemeral, cversion)
    return Txn(zxid, session_id, 1, zxid * 10, op.CREATE, body)


def delete(zxid: int, path: bytes) -> Txn:
    return Txn(zxid, BERT, 1, zxid * 10, op.DELETE, (path,))


def close(zxid: int, session_id: int, *listed: bytes) -> Txn:
    return Txn(zxid, session_id, 1, zxid * 10, op.CLOSE_SESSION, (list(listed),))


def commit(tree: DictTree, *txns: Txn) -> None:
    tree.commit(txns)
    assert tree.recount() == tree.totals


def test_a_closing_session_leaves_what_others_made_in_the_same_batch_at_its_path() -> None:
    tree = DictTree()
    commit(tree, create(1, b"/lock", ephemeral=True))
    commit(tree, delete(2, b"/lock"), create(3, b"/lock", b"mine"), close(4, ANNE))
    assert tree.data(b"/lock") == b"mine"
    assert not tree.ephemerals(ANNE)


def test_a_closing_session_takes_ephemerals_of_the_same_batch_with_it() -> None:
    tree = DictTree()
    commit(
        tree, create(1, b"/a", ephemeral=True), create(2, b"/b", ephemeral=True),
        delete(3, b"/b"), close(4, ANNE),
    )  # fmt: skip
    assert not {b"/a", b"/b"} & set(tree.nodes)
    assert tree.totals.ephemerals == 0


def test_a_closing_session_deletes_what_its_txn_lists_and_what_it_does_not() -> None:
    tree = DictTree()
    commit(tree, create(1, b"/a", ephemeral=True), create(2, b"/b", ephemeral=True))
    commit(tree, close(3, ANNE, b"/a", b"/was-never-there"))
    assert not {b"/a", b"/b"} & set(tree.nodes)


def test_a_txn_that_does_not_fit_changes_nothing() -> None:
    tree = DictTree()
    commit(tree, create(1, b"/a"))
    before = tree.content()
    for misfit, code in (
        (create(2, b"/a"), Code.NODE_EXISTS),
        (create(2, b"/none/b"), Code.NO_NODE),
        (delete(2, b"/none"), Code.NO_NODE),
        (Txn(2, ANNE, 1, 20, op.SET_DATA, (b"/none", b"", 1)), Code.NO_NODE),
        (Txn(2, ANNE, 1, 20, op.SET_ACL, (b"/none", OPEN, 1)), Code.NO_NODE),
    ):
        ((result, effects),) = tree.commit([misfit])
        assert result == (int(code), b"")
        assert effects == []
    assert tree.content() == before


def test_a_create_of_before_3_3_counts_the_parents_version_itself() -> None:
    tree = DictTree()
    commit(tree, create(1, b"/a", cversion=-1), create(2, b"/b", cversion=-1))
    root = tree.node(b"/")
    assert root is not None and nodes.unpack(root)[nodes.CVERSION] == 2


def test_a_create_that_is_replayed_does_not_turn_the_parent_back() -> None:
    tree = DictTree()
    commit(tree, create(5, b"/a", cversion=7), create(6, b"/b", cversion=3))
    root = tree.node(b"/")
    assert root is not None
    fields = nodes.unpack(root)
    assert (fields[nodes.CVERSION], fields[nodes.PZXID]) == (7, 5)


@pytest.mark.parametrize("size", [INLINE_DATA_BYTES_MAX, INLINE_DATA_BYTES_MAX + 1])
def test_large_data_lives_apart_and_keeps_its_id_when_the_node_changes(size: int) -> None:
    tree = DictTree()
    data = b"x" * size
    commit(tree, create(1, b"/a", data), create(2, b"/a/child"))
    value = tree.node(b"/a")
    assert value is not None
    assert bool(nodes.data_id_of(value)) == (size > INLINE_DATA_BYTES_MAX)
    assert tree.data(b"/a") == data
    commit(tree, Txn(3, ANNE, 1, 30, op.SET_ACL, (b"/a", acls.encode(acls.READ_ALL), 1)))
    changed = tree.node(b"/a")
    assert changed is not None
    assert nodes.data_id_of(changed) == nodes.data_id_of(value)
    commit(tree, Txn(4, ANNE, 1, 40, op.SET_DATA, (b"/a", data + b"y", 1)))
    assert tree.data(b"/a") == data + b"y"
    assert tree.data(b"/a") != data


def test_acl_ids_are_shared_and_never_used_again() -> None:
    tree = DictTree()
    mine = acls.encode(((31, b"digest", b"anne:x"),))
    commit(tree, create(1, b"/a", acl=mine), create(2, b"/b", acl=mine))
    ids = {acl_id_of(tree, b"/a"), acl_id_of(tree, b"/b")}
    assert len(ids) == 1
    commit(tree, delete(3, b"/a"), delete(4, b"/b"))
    other = acls.encode(((31, b"digest", b"bert:x"),))
    commit(tree, create(5, b"/a", acl=other))
    assert acl_id_of(tree, b"/a") not in ids


def acl_id_of(tree: DictTree, path: bytes) -> int:
    value = tree.node(path)
    assert value is not None
    acl_id: int = nodes.unpack(value)[nodes.ACL_ID]
    return acl_id


def test_effects_say_what_was_there_before() -> None:
    tree = DictTree()
    commit(tree, create(1, b"/a", b"one"))
    before, root = tree.node(b"/a"), tree.node(b"/")
    assert before is not None and root is not None
    changed, gone = tree.commit(
        [Txn(2, ANNE, 1, 20, op.SET_DATA, (b"/a", b"two", 1)), delete(3, b"/a")]
    )
    assert changed[1] == [op.NODE_DATA_CHANGED, b"/a", -1, 0, before, None]
    kind, path, acl_id, parent_acl_id, value, parent = gone[1]
    assert (kind, path, acl_id, parent_acl_id) == (op.NODE_DELETED, b"/a", -1, -1)
    assert isinstance(value, bytes) and nodes.data_of(value) == b"two"
    assert parent == root[: nodes.BODY]


def test_a_multi_with_an_error_is_a_row_of_errors() -> None:
    tree = DictTree()
    subs = [(op.CREATE, (b"/a", b"", OPEN, False, 1)), (op.ERROR, (-110,)), (op.ERROR, (-2,))]
    ((result, effects),) = tree.commit([Txn(1, ANNE, 1, 10, op.MULTI, (subs,))])
    assert effects == []
    assert b"/a" not in tree.nodes
    code, body = result
    assert code == 0
    assert body.hex() == (
        "ffffffff00" "00000000" "00000000"  # what came before the failure: 0
        "ffffffff00" "ffffff92" "ffffff92"  # the failure: -110
        "ffffffff00" "fffffffe" "fffffffe"  # what came after it: -2
        "ffffffff01" "ffffffff"
    )  # fmt: skip
