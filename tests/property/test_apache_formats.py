"""Apache's formats, written and read back: whole, in any pieces, and the bodies with a history."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable

import cramjam
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zkstore.apache import log as apache_log
from zkstore.apache import snappy
from zkstore.apache import snapshot as apache_snapshot
from zkstore.apache.replay import Replay
from zkstore.apache.snapshot import Znode
from zkstore.errors import Code, CorruptionError, RemoteProtocolError
from zkstore.proto import opcodes as op
from zkstore.records import txn as txns
from zkstore.records.txn import Txn
from zkstore.tree import acl as acls
from zkstore.tree import node as nodes
from zkstore.tree.apply import Batch, Totals

LONGS = st.integers(-(1 << 63), (1 << 63) - 1)
INTS = st.integers(-(1 << 31), (1 << 31) - 1)
PATHS = st.binary(min_size=2, max_size=40).map(lambda b: b"/" + b)
ZNODES = st.builds(
    Znode, PATHS, st.none() | st.binary(max_size=300), LONGS, LONGS, LONGS, LONGS, LONGS,
    INTS, INTS, INTS, LONGS, LONGS,
)  # fmt: skip


def pieces(content: bytes, sizes: list[int]) -> Callable[[int], bytes]:
    """A read() that gives less than what is asked for."""
    source = io.BytesIO(content)
    turn = iter(sizes)
    return lambda size: source.read(min(size, next(turn, 1 << 20)))


@given(
    st.lists(st.tuples(LONGS, INTS), max_size=3),
    st.lists(ZNODES, max_size=5),
    LONGS,
    st.integers(0, (1 << 64) - 1),
    st.lists(st.integers(1, 50), max_size=200),
)
def test_what_is_written_is_read_in_any_pieces(
    sessions: list[tuple[int, int]], tree: list[Znode], zxid: int, digest: int, sizes: list[int]
) -> None:
    table = [(1, acls.OPEN_ENCODED), (7, acls.encode(((3, b"digest", b"a:b"),)))]
    out = io.BytesIO()
    writer = apache_snapshot.Writer(out.write)
    writer.begin(sessions, table)
    for one in tree:
        writer.node(*one.raw)
    writer.finish(zxid, digest)
    reader = apache_snapshot.Reader(pieces(out.getvalue(), sizes), "snapshot.1")
    reader.header()
    assert list(reader.sessions()) == sessions
    assert list(reader.acls()) == table
    assert list(reader.nodes()) == tree
    assert reader.seals() == (zxid, digest, zxid)
    assert reader.offset == len(out.getvalue())


@given(st.lists(st.binary(min_size=32, max_size=200), max_size=8), st.integers(0, 500),
       st.lists(st.integers(1, 50), max_size=200))  # fmt: skip
def test_a_log_is_read_in_any_pieces(
    payloads: list[bytes], padding: int, sizes: list[int]
) -> None:
    content = apache_log.HEADER + b"".join(map(apache_log.record, payloads))
    reader = apache_log.Reader(pieces(content + bytes(padding), sizes), "log.1")
    assert [record.payload for record in reader.records()] == payloads
    assert (reader.torn, reader.end) == ("", len(content))


@given(st.binary(max_size=200_000), st.lists(st.integers(1, 9), max_size=50))
def test_snappy_there_and_back(content: bytes, sizes: list[int]) -> None:
    out = io.BytesIO()
    snappy.Writer(out.write, lambda b: bytes(cramjam.snappy.compress_raw(b))).write(content)
    reader = snappy.Reader(
        io.BytesIO(out.getvalue()).read, lambda b: bytes(cramjam.snappy.decompress_raw(b)), "x"
    )
    found = b"".join(reader.read(size) for size in sizes)
    while piece := reader.read(70_000):
        found += piece
    assert found == content


def payload(kind: int, body: bytes) -> bytes:
    return struct.pack(">qiqqi", 5, 6, 7, 8, kind) + body


def test_a_close_without_paths_but_with_a_digest_is_no_list_of_paths() -> None:
    bare = payload(op.CLOSE_SESSION, b"")
    found = apache_log.split(apache_log.with_digest(bare, (1 << 64) - 1))
    assert found.encoded == bare
    assert found.txn.body == ([],)
    assert found.digest == (1 << 64) - 1
    assert apache_log.split(bare).digest is None


def test_a_create_of_before_333() -> None:
    body = b"\0\0\0\2/a" + b"\0\0\0\1x" + acls.OPEN_ENCODED + b"\1"
    found = apache_log.split(payload(op.CREATE, body))
    assert found.txn.body == (b"/a", b"x", acls.OPEN_ENCODED, True, -1)
    assert found.digest is None


def test_what_is_no_txn_is_refused() -> None:
    for body in (b"\0\0\0\2/a" + b"\0" * 20, b"\xff"):
        with pytest.raises(RemoteProtocolError):
            apache_log.split(payload(op.DELETE, body))
    with pytest.raises(RemoteProtocolError, match="unknown type 77"):
        apache_log.split(payload(77, b""))


def test_a_giant_length_is_damage_and_not_memory() -> None:
    content = apache_snapshot.HEADER + bytes(8) + b"\x7f\xff\xff\xff" + bytes(500)
    reader = apache_snapshot.Reader(io.BytesIO(content).read, "snapshot.1")
    reader.header()
    assert list(reader.sessions()) == list(reader.acls()) == []
    with pytest.raises(CorruptionError, match=r"snapshot\.1: offset 24: the file ends in a node"):
        list(reader.nodes())


# ---- a log over a tree that holds parts of it already


class Tree:
    """A tree in a dict, for apply."""

    def __init__(self, values: dict[bytes, bytes]) -> None:
        self.values = values

    def node(self, path: bytes) -> bytes | None:
        return self.values.get(path)

    def children(self, path: bytes) -> list[bytes]:
        prefix = path.rstrip(b"/") + b"/"
        return [
            one[len(prefix) :]
            for one in self.values
            if one.startswith(prefix) and one != b"/" and b"/" not in one[len(prefix) :]
        ]

    def descendants(self, path: bytes) -> list[tuple[bytes, bytes]]:
        below = path.rstrip(b"/") + b"/"
        return [(one, value) for one, value in self.values.items() if one.startswith(below)]

    def session(self, session_id: int) -> int | None:
        return None

    def ephemerals(self, session_id: int) -> list[bytes]:
        return [
            path for path, value in self.values.items()
            if nodes.unpack(value)[nodes.OWNER] == session_id
        ]  # fmt: skip

    def find_acl(self, encoded: bytes) -> int | None:
        return -1 if encoded == acls.OPEN_ENCODED else None

    def needs_long_name(self, path: bytes) -> bool:
        return False


NAMES = (b"/a", b"/b", b"/a/x", b"/a/y", b"/b/x", b"/a/x/1")
OPS = st.sampled_from(("create", "create2", "delete", "set", "close", "ephemeral"))


def after(values: dict[bytes, bytes], batch: Batch) -> dict[bytes, bytes]:
    merged = {**values, **batch.nodes}
    return {path: value for path, value in merged.items() if value is not None}


@given(st.lists(st.tuples(OPS, st.sampled_from(NAMES)), max_size=40), st.data())
def test_replay_over_a_fuzzy_snapshot_gives_the_tree(
    wanted: list[tuple[str, bytes]], data: st.DataObject
) -> None:
    root = nodes.create(b"/", b"", zxid=0, time_ms=0, owner=0, acl_id=-1)
    states = [{b"/": root}]
    log = []
    for kind, path in wanted:
        one = made(len(log) + 1, kind, path, states[-1])
        if one is None:
            continue
        batch = Batch(Tree(states[-1]), Totals())
        assert batch.apply(one)[0][0] == Code.OK
        states.append(after(states[-1], batch))
        log.append(one)
    # Written depth first while the txns were applied: each node is of a state that is not older
    # than that of the node before it; a node's children are those it had when it was written.
    snapshot: dict[bytes, bytes] = {}
    state = 0

    def write(path: bytes) -> None:
        nonlocal state
        state = data.draw(st.integers(state, len(states) - 1))
        value = states[state].get(path)
        if value is None:
            return
        names = Tree(states[state]).children(path)
        snapshot[path] = value
        base = path.rstrip(b"/")
        for name in data.draw(st.permutations(names)):
            write(base + b"/" + name)
        count = sum(1 for name in names if base + b"/" + name in snapshot)
        fields = nodes.unpack(value)
        snapshot[path] = nodes.with_children(
            value, path, cversion=fields[nodes.CVERSION], children=count,
            pzxid=fields[nodes.PZXID],
        )  # fmt: skip

    write(b"/")
    batch = Replay(Tree(snapshot), Totals())
    for one in log:
        batch.apply(one)
    assert after(snapshot, batch) == states[-1]


def made(zxid: int, kind: str, path: bytes, tree: dict[bytes, bytes]) -> Txn | None:
    """A txn as prep would make it over this tree; None if it would refuse."""
    parent = path[: path.rfind(b"/")] or b"/"
    there, above = tree.get(path), tree.get(parent)
    if kind == "close":
        return Txn(zxid, 9, 1, zxid, op.CLOSE_SESSION, (Tree(tree).ephemerals(9),))
    if kind in ("create", "create2", "ephemeral"):
        if there is not None or above is None or nodes.unpack(above)[nodes.OWNER]:
            return None
        cversion = nodes.unpack(above)[nodes.CVERSION] + 1
        body = (path, b"%d" % zxid, acls.OPEN_ENCODED, kind == "ephemeral", cversion)
        return Txn(zxid, 9, 1, zxid, op.CREATE2 if kind == "create2" else op.CREATE, body)
    if there is None:
        return None
    if kind == "set":
        version = nodes.unpack(there)[nodes.VERSION] + 1
        return Txn(zxid, 9, 1, zxid, op.SET_DATA, (path, b"%d" % zxid, version))
    if Tree(tree).children(path):
        return None
    return Txn(zxid, 9, 1, zxid, op.DELETE, (path,))


def test_the_encoded_form_is_the_txns_own() -> None:
    one = Txn(3, 9, 1, 5, op.DELETE, (b"/a",))
    assert apache_log.split(apache_log.with_digest(txns.encode(one), 4)) == (
        txns.encode(one), one, 4,
    )  # fmt: skip
