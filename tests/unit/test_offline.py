"""A stopped replica's data as readers see it, and copies of it, stopped and live."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.property.stored import SESSION, create, open_writer, perform, txn
from zkstore.errors import CorruptionError, DirectoryInUse, ZkstoreError
from zkstore.proto import opcodes as op
from zkstore.storage import scan, schema
from zkstore.storage.disk import Disk
from zkstore.storage.env import storage_dir
from zkstore.storage.generation import building
from zkstore.storage.hotcopy import HotCopy
from zkstore.storage.offline import Offline
from zkstore.storage.stillcopy import copy_stopped
from zkstore.storage.verify import Verification
from zkstore.storage.writer import Writer
from zkstore.tree import acl as acls
from zkstore.tree import node as nodes

BIG = bytes(range(256)) * 20
OTHER_ACL = acls.encode(((1, b"digest", b"a:b"),))


def silent(_what: str, _count: int) -> None:
    """No progress."""


def records(writer: Writer) -> dict[bytes, bytes]:
    """Every record of a writer's file."""
    with writer._env.begin() as view:
        return dict(scan.items(view, b"", since=b"\0"))


def copied(directory: Path) -> dict[bytes, bytes]:
    with Offline(directory) as tree, tree.still.env.begin() as view:
        return dict(scan.items(view, b"", since=b"\0"))


def damages(directory: Path) -> list[str]:
    with Offline(directory) as tree:
        return list(Verification(tree, silent).run())


def grow(writer: Writer, zxid: int) -> int:
    """A little of everything; returns the last zxid."""
    made = [
        txn(zxid + 1, op.CREATE_SESSION, 10_000),
        create(zxid + 2, b"/a%d" % zxid, b"data"),
        create(zxid + 3, b"/a%d/big" % zxid, BIG),
        create(zxid + 4, b"/a%d/eph" % zxid, b"", ephemeral=True),
        txn(zxid + 5, op.CREATE_CONTAINER, b"/a%d/c" % zxid, b"", OTHER_ACL, -1),
        txn(zxid + 6, op.SET_DATA, b"/a%d/big" % zxid, BIG[1:], 1),
        create(zxid + 7, b"/a%d/%s" % (zxid, b"n" * 400), b"long"),
    ]
    perform(writer, *made)
    return zxid + len(made)


def shown(directory: Path) -> dict[bytes, tuple[bytes, bytes | None]]:
    with Offline(directory) as tree:
        return {path: (value, tree.data(value)) for path, value in tree.walk()}


@pytest.mark.parametrize("clean", [True, False])
def test_a_reader_sees_what_the_next_start_would(tmp_path: Path, clean: bool) -> None:
    writer = open_writer(tmp_path)
    last = grow(writer, grow(writer, 0))
    perform(writer, txn(last + 1, op.DELETE, b"/a0/big"))
    perform(writer, txn(last + 2, op.CLOSE_SESSION, [b"/a7/eph"]))
    writer.close() if clean else writer._replica.abandon()
    before = {p.name: p.read_bytes() for p in storage_dir(tmp_path).iterdir()}
    with Offline(tmp_path) as tree:
        assert tree.applied == last + 2
        assert bool(tree.tail) != clean
        assert tree.sessions() == {}
        assert list(tree.ephemerals()) == []
        assert len(list(tree.sweep())) == 2
        seen = dict(tree.walk())
        assert list(Verification(tree, silent).run()) == []
        totals = tree.totals
    assert {p.name: p.read_bytes() for p in storage_dir(tmp_path).iterdir()} == before
    again = open_writer(tmp_path)
    assert again.applied == last + 2
    assert again.totals == totals
    with again.views.open() as view:
        assert seen == {b"/": view.node(b"/"), **dict(view.descendants(b"/"))}
    again.close()


def test_a_reader_writes_nothing_and_needs_no_right_to(tmp_path: Path) -> None:
    writer = open_writer(tmp_path)
    grow(writer, 0)
    writer.close()
    for path in storage_dir(tmp_path).iterdir():
        path.chmod(0o444)
    (storage_dir(tmp_path) / "lock").unlink()
    names = sorted(os.listdir(storage_dir(tmp_path)))
    assert len(shown(tmp_path)) == 4 + 5
    assert sorted(os.listdir(storage_dir(tmp_path))) == names


def test_a_directory_in_use_is_refused_and_so_is_its_server(tmp_path: Path) -> None:
    writer = open_writer(tmp_path)
    grow(writer, 0)
    with pytest.raises(DirectoryInUse):
        Offline(tmp_path)
    writer.close()
    with Offline(tmp_path), pytest.raises(DirectoryInUse):
        open_writer(tmp_path)


def test_nothing_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="holds no data of zkstore"):
        Offline(tmp_path)


def test_a_short_data_file_is_named(tmp_path: Path) -> None:
    writer = open_writer(tmp_path)
    grow(writer, 0)
    writer.close()
    data = storage_dir(tmp_path) / "data.1.mdb"
    os.truncate(data, 8192)
    with pytest.raises(CorruptionError, match=r"data\.1\.mdb: offset 8192: ends before"):
        Offline(tmp_path)


@pytest.mark.parametrize("clean", [True, False])
def test_a_stopped_copy_is_the_same_and_serves(tmp_path: Path, clean: bool) -> None:
    writer = open_writer(tmp_path / "one")
    last = grow(writer, grow(writer, 0))
    expected = records(writer)
    writer.close() if clean else writer._replica.abandon()
    with Offline(tmp_path / "one") as tree:
        assert copy_stopped(tree, tmp_path / "two", silent) == last
    if clean:
        assert copied(tmp_path / "two") == expected
    assert shown(tmp_path / "two") == shown(tmp_path / "one")
    assert damages(tmp_path / "two") == []
    again = open_writer(tmp_path / "two")
    grow(again, last)
    again.close()


def hot_copy(writer: Writer, target: Path, pause: Callable[[int], None]) -> int:
    directory = storage_dir(target)
    directory.mkdir(parents=True)
    with building(directory, 1, 1 << 30) as generation:
        applied = HotCopy(writer._env, writer._replica.path, generation, pause, silent).run()
        generation.install(
            applied=applied, epochs=(0, 0), disk=Disk(), log_directory=directory
        )
    return applied


@pytest.mark.parametrize("seed", range(5))
def test_a_hot_copy_is_one_state_whatever_is_written_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr("zkstore.storage.hotcopy._VIEW_ITEMS", 7)
    monkeypatch.setattr("zkstore.storage.hotcopy._VIEW_BYTES", 3000)
    monkeypatch.setattr("zkstore.storage.hotcopy._TOUCHED_MAX", 12)
    rng = random.Random(seed)
    writer = open_writer(tmp_path / "live")
    last = 0
    for _ in range(6):
        last = grow(writer, last)
    states = {}

    def write(_size: int) -> None:
        nonlocal last
        if rng.random() < 0.7:
            paths = sorted(p for p, _ in walked(writer) if p.startswith(b"/a"))
            leaves = [p for p in paths if not any(q.startswith(p + b"/") for q in paths)]
            kind = rng.choice(("grow", "set", "delete", "close"))
            if kind == "grow":
                last = grow(writer, last)
            elif kind == "close":
                perform(writer, txn(last + 1, op.CLOSE_SESSION, []))
                last += 1
            elif leaves:
                path = rng.choice(leaves)
                body = (path, rng.choice((b"x", BIG, None)), 9) if kind == "set" else (path,)
                perform(writer, txn(last + 1, op.SET_DATA if kind == "set" else op.DELETE, *body))
                last += 1
        states[writer.applied] = records(writer)

    applied = hot_copy(writer, tmp_path / "copy", write)
    states[writer.applied] = records(writer)
    assert copied(tmp_path / "copy") == states[applied]
    assert damages(tmp_path / "copy") == []
    assert len(states) > 3
    writer.close()


def test_a_hot_copy_has_the_usage_of_quotas(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It changes without an effect in the log."""
    monkeypatch.setattr("zkstore.storage.hotcopy._VIEW_ITEMS", 3)
    writer = open_writer(tmp_path / "live")
    perform(
        writer,
        create(1, b"/zz", b""),
        create(2, b"/zookeeper/quota/zz"),
        create(3, b"/zookeeper/quota/zz/zookeeper_limits", b"count=5,bytes=50"),
        create(4, b"/zookeeper/quota/zz/zookeeper_stats", b"count=0,bytes=0"),
    )
    last = 4

    def write(_size: int) -> None:
        nonlocal last
        last += 1
        perform(writer, txn(last, op.SET_DATA, b"/zz", b"x" * (last % 40), last))

    hot_copy(writer, tmp_path / "copy", write)
    assert copied(tmp_path / "copy") == records(writer)
    assert damages(tmp_path / "copy") == []
    writer.close()


def walked(writer: Writer) -> list[tuple[bytes, bytes]]:
    with writer.views.open() as view:
        return list(view.descendants(b"/"))


def test_a_copy_slower_than_the_logs_retention_says_so(tmp_path: Path) -> None:
    writer = open_writer(tmp_path / "live", retention_bytes=1)
    last = grow(writer, 0)

    def outrun(_size: int) -> None:
        nonlocal last
        for _ in range(4):
            last = grow(writer, last)
            writer.review(0)

    with pytest.raises(ZkstoreError, match="slower than the server writes"):
        hot_copy(writer, tmp_path / "copy", outrun)
    assert not list((tmp_path / "copy").rglob("data.*"))
    writer.close()


def test_verification_names_what_is_wrong(tmp_path: Path) -> None:
    writer = open_writer(tmp_path)
    grow(writer, 0)
    key = schema.node_key(b"/a0")
    with writer._env.begin(write=True) as write_txn:
        value = bytearray(scan.getter(write_txn)(key) or b"")
        value[nodes.BODY] ^= 1
        write_txn.put(key, bytes(value))
        write_txn.delete(schema.ephemeral_key(SESSION, b"/a0/eph"))
        write_txn.delete(schema.node_key(b"/a0/big"))
        write_txn.delete(schema.session_key(SESSION))
    writer.close()
    found = "\n".join(damages(tmp_path))
    assert "node /a0: wrong crc32" in found
    assert "node /a0: its Stat says 4 children, it has 3" in found
    assert "aggregates: nodes: 8 in the tree, the log says 9" in found
    assert f"node /a0/eph: its session {SESSION:#x} is not among the sessions" in found
    assert "table of ephemerals: 0 entries for 1 nodes" in found
