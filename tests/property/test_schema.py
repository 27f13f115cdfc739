"""storage/schema.py and storage/view.py: random trees with names and paths of every length, on a
real LMDB file, read back in the order of their names."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.property import stored
from zkstore.constants import LMDB_KEY_BYTES_MAX
from zkstore.proto import opcodes as op
from zkstore.storage import schema
from zkstore.storage.view import View
from zkstore.storage.writer import Writer
from zkstore.tree import node as nodes
from zkstore.tree import paths

FRAME_BYTES_MAX = 0xFFFFF

# Bytes that sort before and after the letters, a byte of UTF-8, and names around the limit of 250.
_CHARACTERS = st.sampled_from(["a", "b", " ", "~", "é", "\ufdff"])
_SHORT = st.text(_CHARACTERS, min_size=1, max_size=3)
_LONG = st.builds(
    lambda fill, size, tail: fill * size + tail,
    st.sampled_from("ab"), st.sampled_from([248, 249, 250, 251, 300, 600]), st.text(_CHARACTERS),
)  # fmt: skip
NAMES = (_SHORT | _SHORT | _LONG).map(str.encode)
PATHS = st.lists(NAMES, min_size=1, max_size=4).map(lambda names: b"/" + b"/".join(names))


@given(st.sets(PATHS, max_size=50))
def test_no_two_nodes_have_one_key(chosen: set[bytes]) -> None:
    keys = {schema.node_key(path) for path in chosen}
    assert len(keys) == len(chosen)
    assert all(len(key) <= LMDB_KEY_BYTES_MAX for key in keys)


@given(st.lists(st.sets(NAMES, max_size=20), min_size=1, max_size=3), PATHS)
def test_the_short_names_of_a_parent_are_one_range_in_order(
    families: list[set[bytes]], parent: bytes
) -> None:
    for names in families:
        short = sorted(name for name in names if len(name) <= 250)
        keys = [schema.node_key(parent + b"/" + name) for name in short]
        assert keys == sorted(keys)
        assert all(key.startswith(schema.children_prefix(parent)) for key in keys)


@pytest.fixture(scope="module")
def writer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Writer]:
    writer = stored.open_writer(tmp_path_factory.mktemp("tree"))
    yield writer
    writer.close()


def grow(writer: Writer, chosen: set[bytes]) -> set[bytes]:
    """Make these nodes and what is above them; returns all of them."""
    wanted = set()
    for path in chosen:
        while path != paths.ROOT:
            wanted.add(path)
            path = paths.split(path)[0]
    txns = [
        stored.create(writer.applied + 1 + index, path, path[:9])
        for index, path in enumerate(sorted(wanted, key=lambda path: path.count(b"/")))
    ]
    if txns:
        assert all(result[0] == 0 for _, result in stored.perform(writer, *txns))
    return wanted


def fell(writer: Writer, grown: set[bytes]) -> None:
    deepest_first = sorted(grown, key=lambda path: -path.count(b"/"))
    txns = [
        stored.txn(writer.applied + 1 + index, op.DELETE, path)
        for index, path in enumerate(deepest_first)
    ]
    if txns:
        assert all(result[0] == 0 for _, result in stored.perform(writer, *txns))


def compare(view: View, grown: set[bytes]) -> None:
    for path in grown | {b"/"}:
        names = sorted(one.rpartition(b"/")[2] for one in grown if paths.split(one)[0] == path)
        found = [name for name in view.children(path) if name != b"zookeeper"]
        assert found == names
        value = view.node(path)
        assert value is not None
        if path != b"/":
            assert view.data(value) == path[:9]
            assert nodes.unpack(value)[nodes.CHILDREN] == len(names)
    below = {path for path, _ in view.descendants(b"/") if not path.startswith(b"/zookeeper")}
    assert below == grown


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sets(PATHS, max_size=25))
def test_a_tree_is_read_back_as_it_was_made(writer: Writer, chosen: set[bytes]) -> None:
    grown = grow(writer, chosen)
    with writer.views.open() as view:
        compare(view, grown)
    fell(writer, grown)
    with writer.views.open() as view:
        compare(view, set())
        assert view.label().totals.nodes == 4


@pytest.mark.parametrize(
    "path",
    [b"/" + b"n" * (FRAME_BYTES_MAX - 1), b"/" + b"/".join([b"x" * 250, b"y" * 251] * 100)],
    ids=["a name of a whole frame", "two hundred levels"],
)
def test_the_longest_paths(writer: Writer, path: bytes) -> None:
    grown = grow(writer, {path})
    with writer.views.open() as view:
        compare(view, grown)
    fell(writer, grown)
