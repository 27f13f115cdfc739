"""storage/view.py: one state of tree and log, on a real LMDB file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from tests.property.stored import SESSION, create, open_writer, perform, txn
from zkstore.errors import CorruptionError
from zkstore.proto import opcodes as op
from zkstore.storage import schema
from zkstore.storage import view as views
from zkstore.storage.writer import Writer
from zkstore.tree import acl as acls
from zkstore.tree import node as nodes

LARGE = b"x" * 5000
MINE = acls.encode(((31, b"digest", b"anne:x"),))


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    writer = open_writer(tmp_path)
    yield writer
    writer.close()


def test_the_tree_that_every_server_begins_with(writer: Writer) -> None:
    """Reference E1."""
    with writer.views.open() as view:
        found = dict(view.descendants(b"/"))
        assert set(found) == {b"/zookeeper", b"/zookeeper/quota", b"/zookeeper/config"}
        assert view.children(b"/") == [b"zookeeper"]
        assert view.children(b"/zookeeper") == [b"config", b"quota"]
        assert view.node(b"") == view.node(b"/") is not None
        config = nodes.unpack(found[b"/zookeeper/config"])
        assert view.acl(config[nodes.ACL_ID]) == acls.READ_ALL
        assert (view.applied, view.label().totals.nodes) == (0, 4)


def test_a_view_does_not_move(writer: Writer) -> None:
    perform(writer, create(1, b"/a", b"one"))
    with writer.views.open() as old:
        perform(writer, txn(2, op.SET_DATA, b"/a", b"two", 1), create(3, b"/b"))
        value = old.node(b"/a")
        assert value is not None and old.data(value) == b"one"
        assert old.node(b"/b") is None
        assert (old.applied, [zxid for zxid, _ in old.log(0)]) == (1, [1])
    with writer.views.open() as new:
        assert new.applied == 3
        assert new.children(b"/") == [b"a", b"b", b"zookeeper"]


def test_sessions_ephemerals_and_what_the_sweep_looks_at(writer: Writer) -> None:
    other = SESSION + 1
    perform(
        writer, txn(1, op.CREATE_SESSION, 30_000),
        txn(2, op.CREATE_SESSION, 4_000, session_id=other),
        create(3, b"/e1", ephemeral=True), create(4, b"/e2", ephemeral=True),
        txn(5, op.CREATE_CONTAINER, b"/c", b"", acls.OPEN_ENCODED, -1),
        txn(6, op.CREATE_TTL, b"/t", b"", acls.OPEN_ENCODED, -1, 1000),
    )  # fmt: skip
    with writer.views.open() as view:
        assert view.sessions() == [(SESSION, 30_000), (other, 4_000)]
        assert sorted(view.ephemerals(SESSION)) == [b"/e1", b"/e2"]
        assert view.ephemerals(other) == []
        assert set(view.ephemerals_by_session()) == {SESSION}
        candidates = view.sweep_candidates(b"", 10)
        assert sorted(path for _, path in candidates) == [b"/c", b"/t"]
        (first, _), second = candidates
        assert view.sweep_candidates(first, 1) == candidates[:1]
        assert view.sweep_candidates(first + b"\0", 10) == [second]
    perform(
        writer, txn(7, op.CLOSE_SESSION, [b"/e1", b"/e2"]), txn(8, op.DELETE_CONTAINER, b"/c"),
        txn(9, op.DELETE, b"/t"),
    )  # fmt: skip
    with writer.views.open() as view:
        assert view.sessions() == [(other, 4_000)]
        assert view.ephemerals_by_session() == {}
        assert view.sweep_candidates(b"", 10) == []


def test_the_log_from_the_middle_of_a_batch(writer: Writer) -> None:
    perform(writer, *(create(zxid, b"/n%d" % zxid) for zxid in range(1, 4)))
    perform(writer, *(create(zxid, b"/n%d" % zxid) for zxid in range(4, 7)))
    with writer.views.open() as view:
        for after in range(7):
            found = list(view.log(after))
            assert [zxid for zxid, _ in found] == list(range(after + 1, 7))
            assert all(effects[1] == b"/n%d" % zxid for zxid, effects in found)
            assert view.log_covers(after)


def test_acls_are_found_by_their_ids(writer: Writer) -> None:
    perform(writer, txn(1, op.CREATE, b"/a", b"", MINE, False, -1))
    with writer.views.open() as view:
        value = view.node(b"/a")
        assert value is not None
        acl_id = nodes.unpack(value)[nodes.ACL_ID]
        assert view.acl(acl_id) == acls.decode(MINE)
        assert view.acl(-1) == acls.OPEN
        with pytest.raises(CorruptionError, match="ACL 999"):
            view.acl(999)


def test_large_data_that_is_missing_is_damage(writer: Writer) -> None:
    perform(writer, create(1, b"/a", LARGE))
    with writer.views.open() as view:
        value = view.node(b"/a")
        assert value is not None
        assert view.data(value) == LARGE
        data_id = nodes.data_id_of(value)
    with cast(Any, writer)._env.begin(write=True) as lmdb_txn:
        lmdb_txn.delete(schema.data_key(data_id))
    with writer.views.open() as view, pytest.raises(CorruptionError, match="data 1"):
        view.data(value)


# ---- what prep looked up serves the commit that follows


def test_a_node_is_looked_up_once_for_each_state(writer: Writer) -> None:
    """Until something is committed the value is remembered, its absence too; then never."""
    looked = writer.views.looked
    perform(writer, create(1, b"/a", b"old"))
    with writer.views.open() as view:
        view.lend()
        before = looked.node(b"/a")
        assert before is not None and nodes.data_of(before) == b"old"
        assert looked.node(b"/b") is None
    with writer.views.open() as view:
        view.lend()  # the same state: nothing is read again
        assert looked.node(b"/a") is before
        assert set(looked.values) == set(looked.keys) == {b"/a", b"/b"}
    perform(writer, txn(2, op.SET_DATA, b"/a", b"new", 1), create(3, b"/b"))
    with writer.views.open() as view:
        view.lend()
        after = looked.node(b"/a")
        assert after is not None and nodes.data_of(after) == b"new"
        assert looked.node(b"/b") is not None


def test_a_commit_does_not_use_what_was_looked_up_before_another(writer: Writer) -> None:
    """Prep may be ahead by more than one commit, as on a leader that waits for its followers."""
    perform(writer, create(1, b"/a", b"1"))
    with writer.views.open() as view:
        view.lend()
        writer.views.looked.node(b"/a")
    perform(writer, txn(2, op.SET_DATA, b"/a", b"22", 1))
    perform(writer, txn(3, op.SET_DATA, b"/a", b"333", 2))
    with writer.views.open() as view:
        before = {zxid: effects[4] for zxid, effects in view.log(1)}
    assert nodes.data_of(before[2]) == b"1"
    assert nodes.data_of(before[3]) == b"22"


def test_what_is_remembered_is_bounded(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "LOOKED_NODES_MAX", 2)
    with writer.views.open() as view:
        view.lend()
        for n in range(5):
            assert writer.views.looked.node(b"/%d" % n) is None
    assert len(writer.views.looked.keys) == len(writer.views.looked.values) == 2
