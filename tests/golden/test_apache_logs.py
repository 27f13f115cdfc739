"""Apache's own transaction logs, applied by zkstore: the same bytes, digests, and trees."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.golden.apache_log import SERVERS, expected, logged
from tests.property.dict_tree import DictTree
from zkstore.records import txn as txns
from zkstore.storage.disk import Disk
from zkstore.storage.env import open_replica
from zkstore.storage.view import View
from zkstore.storage.writer import Writer
from zkstore.tree import node as nodes
from zkstore.zab.ready import Proposal, Ready

DIGESTED = [server for server in SERVERS if not server.endswith("-nodigest")]


@pytest.mark.parametrize("server", SERVERS)
def test_a_txn_is_encoded_as_apache_does(server: str) -> None:
    count = 0
    for one in logged(server):
        assert txns.encode(txns.decode(one.txn)) == one.txn or is_bare_close(one.txn)
        count += 1
    assert count > 60


def is_bare_close(encoded: bytes) -> bool:
    """closeSession with closeSessionTxn.enabled=false has no body; ours always has one."""
    return txns.decode(encoded).type == -11 and len(encoded) == 32


@pytest.mark.parametrize("server", DIGESTED)
def test_the_trailing_digest_does_not_disturb(server: str) -> None:
    for one in logged(server):
        if one.digest is not None:
            behind = b"\0\0\0\2" + one.digest.to_bytes(8, "big")
            assert txns.decode(one.txn + behind) == txns.decode(one.txn)


@pytest.mark.parametrize("server", DIGESTED)
def test_the_tree_digest_is_apaches_after_each_txn(server: str) -> None:
    tree = DictTree()
    compared = 0
    for one in logged(server):
        tree.commit([txns.decode(one.txn)])
        assert tree.recount() == tree.totals
        if one.digest is not None:
            assert tree.digest() == one.digest, txns.decode(one.txn)
            compared += 1
    assert compared > 40


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("seed", range(4))
def test_the_tree_is_apaches_however_the_txns_are_batched(server: str, seed: int) -> None:
    rng = random.Random(seed)
    pending = [txns.decode(one.txn) for one in logged(server)]
    tree = DictTree()
    while pending:
        size = rng.choice((1, 3, 10, len(pending)))
        tree.commit(pending[:size])
        del pending[:size]
    compare(server, tree)


def compare(server: str, tree: DictTree) -> None:
    wanted = expected(server)
    assert set(tree.nodes) == set(wanted.tree)
    for path, (stat, data, acl) in wanted.tree.items():
        value = tree.nodes[path]
        assert value[nodes.STAT] == stat, path
        assert tree.data(path) == data, path
        assert list(tree.acl(nodes.unpack(value)[nodes.ACL_ID])) == acl, path
    assert tree.recount() == tree.totals
    compare_gauges(server, tree.totals.nodes, tree.totals.ephemerals, tree.totals.bytes)


def compare_gauges(server: str, count: int, ephemerals: int, data_bytes: int) -> None:
    gauges, tree = expected(server).gauges, expected(server).tree
    assert count + 1 == int(gauges["zk_znode_count"])  # the root counts twice there
    assert ephemerals == int(gauges["zk_ephemerals_count"])
    # Apache counts the characters of a path, zkstore its bytes.
    further_bytes = sum(len(path) - len(path.decode()) for path in tree)
    assert data_bytes - further_bytes == int(gauges["zk_approximate_data_size"])


@pytest.mark.parametrize("server", SERVERS)
def test_the_stored_tree_is_apaches_and_survives_a_reopening(server: str, tmp_path: Path) -> None:
    pending = [Proposal(txns.zxid_of(one.txn), one.txn) for one in logged(server)]
    last = pending[-1].zxid
    writer = open_writer(tmp_path)
    while pending:
        writer.perform(Ready(append=pending[:7], committed=pending[:7]))
        del pending[:7]
    with writer.views.open() as view:
        compare_stored(server, view)
    writer.close()
    again = open_writer(tmp_path)
    assert again.applied == last
    with again.views.open() as view:
        compare_stored(server, view)
    again.close()


def open_writer(folder: Path) -> Writer:
    replica = open_replica(
        folder, folder, disk=Disk(), map_size_bytes=1 << 30, journal_segment_bytes=1 << 20
    )
    writer = Writer(replica, retention_ms=1 << 40, retention_bytes=1 << 30)
    writer.recover()
    return writer


def compare_stored(server: str, view: View) -> None:
    wanted = expected(server)
    found = {b"/", *(path for path, _ in view.descendants(b"/"))}
    assert found == set(wanted.tree)
    for path, (stat, data, acl) in wanted.tree.items():
        value = view.node(path)
        assert value is not None
        assert value[nodes.STAT] == stat, path
        assert view.data(value) == data, path
        assert list(view.acl(nodes.unpack(value)[nodes.ACL_ID])) == acl, path
        names = [name for name in (one.rpartition(b"/") for one in found) if name[0] == path]
        if path != b"/":
            assert view.children(path) == sorted(name for _, _, name in names)
    totals = view.label().totals
    compare_gauges(server, totals.nodes, totals.ephemerals, totals.bytes)
