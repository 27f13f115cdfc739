"""A tree that is read while it changes is the tree that it was: any txns between any two pieces."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.property.stored import create, open_writer, perform, txn
from tests.property.test_prep_apply import STEPS, Step
from tests.property.test_rollback import apply, batches, txns_of
from zkstore.errors import LogTrimmed
from zkstore.proto import opcodes as op
from zkstore.storage import frozen
from zkstore.storage.frozen import Frozen, Node
from zkstore.storage.writer import Writer
from zkstore.tree.paths import split

DEEP = b"/" + b"d" * 200 + b"/" + b"e" * 100  # children of such a node have hashed keys
LONG = b"n" * 300


def freeze(writer: Writer) -> Frozen:
    replica = cast(Any, writer)._replica
    return Frozen(replica.env, replica.path)


def stands(writer: Writer) -> dict[bytes, tuple[bytes, bytes | None]]:
    """Every node, with its data."""
    with writer.views.open() as view:
        root = view.node(b"/")
        assert root is not None
        found = {b"/": root, **dict(view.descendants(b"/"))}
        return {path: (value, view.data(value)) for path, value in found.items()}


def read(pieces: Iterator[list[Node]], between: Iterator[object]) -> list[Node]:
    found: list[Node] = []
    for piece in pieces:
        found += piece
        next(between, None)
    return found


@settings(max_examples=60, deadline=None)
@given(
    STEPS.filter(len), STEPS, st.lists(st.integers(1, 6), min_size=1, max_size=5),
    st.integers(1, 4), st.integers(1, 2000),
)  # fmt: skip
def test_what_was_there_comes(
    before: list[Step], after: list[Step], sizes: list[int], items: int, size: int
) -> None:
    made = txns_of([*before, *after])
    first = len(txns_of(before))
    found = batches(made, sizes)
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.multiple(frozen, _VIEW_ITEMS=items, _VIEW_BYTES=size),
    ):
        writer = open_writer(Path(folder), segment_bytes=4096)
        apply(writer, found, first)
        wanted = stands(writer)
        with freeze(writer) as tree:
            assert tree.zxid == writer.applied
            rest = [[txn for txn in batch if txn.zxid > first] for batch in found]
            changes = (apply(writer, [batch], len(made)) for batch in rest)
            nodes = read(tree.nodes(), changes)
        writer.close()
    paths = [one.path for one in nodes]
    assert len(set(paths)) == len(paths)
    assert {one.path: one.value for one in nodes} == {p: v for p, (v, _) in wanted.items()}
    for one in nodes:
        assert one.data is None or one.data == wanted[one.path][1]
    seen: set[bytes] = set()
    for path in paths:
        assert path == b"/" or split(path)[0] in seen, path
        seen.add(path)


@pytest.mark.parametrize("items", [1, 2, 100])
def test_hashed_keys_come_behind_their_parents(
    tmp_path: Path, items: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frozen, "_VIEW_ITEMS", items)
    writer = open_writer(tmp_path)
    top = split(DEEP)[0]
    perform(
        writer, create(1, top), create(2, DEEP), create(3, DEEP + b"/x", b"1"),
        create(4, DEEP + b"/x/" + LONG, b"2"), create(5, b"/" + LONG, b"3"),
        create(6, b"/z", b"x" * 5000), create(7, DEEP + b"/y"),
    )  # fmt: skip
    wanted = stands(writer)
    changes = (
        (txn(8, op.DELETE, DEEP + b"/x/" + LONG), txn(9, op.DELETE, DEEP + b"/x")),
        (txn(10, op.SET_DATA, DEEP + b"/y", b"new", 1), create(11, DEEP + b"/w")),
        (txn(12, op.SET_DATA, b"/z", b"y" * 5000, 1),),
        (txn(13, op.DELETE, b"/z"), txn(14, op.DELETE, b"/" + LONG)),
    )
    with freeze(writer) as tree:
        nodes = read(tree.nodes(), (perform(writer, *change) for change in changes))
    assert {one.path: one.value for one in nodes} == {p: v for p, (v, _) in wanted.items()}
    assert len(nodes) == len(wanted)
    writer.close()


def test_a_log_that_was_trimmed_meanwhile_is_told(tmp_path: Path) -> None:
    writer = open_writer(tmp_path, retention_bytes=0)
    perform(writer, create(1, b"/a"))
    with freeze(writer) as tree:
        for zxid in range(2, 9):
            writer.review(now_ms=1_000)
            perform(writer, create(zxid, b"/n%d" % zxid))
        with pytest.raises(LogTrimmed):
            list(tree.nodes())
    release = writer.keep_log(writer.applied)
    with freeze(writer) as tree:
        for zxid in range(9, 19):
            writer.review(now_ms=1_000)
            perform(writer, create(zxid, b"/n%d" % zxid))
        assert sum(map(len, tree.nodes())) == 4 + 8
    release()
    writer.close()


def test_without_what_was_before_it_would_be_another_tree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control."""
    monkeypatch.setattr(frozen, "_VIEW_ITEMS", 1)
    monkeypatch.setattr(Frozen, "_as_before", lambda self, items, start, end: items)
    writer = open_writer(tmp_path)
    perform(writer, create(1, b"/a"), create(2, b"/b"))
    wanted = stands(writer)
    with freeze(writer) as tree:
        changes = (perform(writer, txn(zxid, op.DELETE, path)) for zxid, path in ((3, b"/b"),))
        nodes = read(tree.nodes(), changes)
    assert {one.path: one.value for one in nodes} != {p: v for p, (v, _) in wanted.items()}
    writer.close()
