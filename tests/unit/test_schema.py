"""storage/schema.py: keys of nodes with names and paths of every size."""

from __future__ import annotations

import pytest

from zkstore.constants import LMDB_KEY_BYTES_MAX
from zkstore.storage import schema

LONG = b"x" * 251  # one byte more than a key holds of a name


@pytest.mark.parametrize(
    "path",
    [
        b"/",
        b"/a",
        b"/" + b"n" * 250,
        b"/" + LONG,
        b"/" + b"p" * 254 + b"/" + b"n" * 250,
        b"/" + b"p" * 255 + b"/n",
        b"/" + LONG + b"/" + LONG,
        b"/x" * 500_000,
    ],
    ids=lambda path: f"{len(path)} bytes",
)
def test_a_nodes_key_is_within_lmdbs_limit_and_in_its_parents_range(path: bytes) -> None:
    key = schema.node_key(path)
    assert len(key) <= LMDB_KEY_BYTES_MAX
    parent, _, name = path.rpartition(b"/")
    prefix = schema.children_prefix(parent or b"/")
    assert key.startswith(prefix)
    if not schema.needs_long_name(path):
        assert key == prefix + name
    else:
        assert key[len(prefix) :].startswith(schema.HASHED)
        assert len(key) == len(prefix) + 21


def test_the_roots_other_name_is_the_empty_path() -> None:
    assert schema.node_key(b"") == schema.node_key(b"/")


@pytest.mark.parametrize(
    "path", [b"a", b"a/b", b"/a/", b"//a", b"/a//b", b"\0", b"/\0", b"/a\0b", b"/a/\0"]
)
def test_a_path_that_no_node_has_is_not_taken_for_another(path: bytes) -> None:
    kept = {
        schema.node_key(each)
        for each in (b"/", b"/a", b"/a/b", b"/b", b"/" + LONG, b"/" + LONG + b"/b")
    }
    assert schema.node_key(path) not in kept


def test_a_hash_is_not_taken_for_the_name_that_it_stands_for() -> None:
    """getData and delete of "/\\1 + hash" reached the node with the long name."""
    for path in (b"/" + LONG, b"/a/" + LONG, b"/" + LONG * 2 + b"/b"):
        forged = schema.node_key(path)[1:].replace(b"\0", b"/", 1)
        assert schema.node_key(forged) != schema.node_key(path)
        assert schema.node_key(b"/" + forged) != schema.node_key(path)


def test_the_log_is_the_end_of_the_table() -> None:
    others = [
        schema.node_key(b"/" + b"\xff" * 200),
        schema.data_key(1 << 62),
        schema.acl_key(1 << 62),
        schema.acl_hash_key(b""),
        schema.ephemeral_key(-1, b"/a"),
        schema.session_key(-1),
        schema.sweep_key(b"/a"),
    ]
    assert all(key < schema.log_key(0) for key in others)
    assert schema.log_key(1) < schema.log_key(1 << 40)


@pytest.mark.parametrize("number", [0, 1, 1 << 62, -1, -(1 << 63)])
def test_ids_come_back_out_of_their_keys(number: int) -> None:
    assert schema.session_of(schema.session_key(number)) == number
    assert schema.session_of(schema.ephemeral_key(number, b"/a")) == number
    assert schema.zxid_of(schema.log_key(number)) == number
