"""The hot functions of a read and of a write, one by one: where a request's microseconds go.

Design: the functions are called as the processes call them, over a real LMDB file, warm. What the
  event loop, the sockets and the flush add is seen in the macro benchmarks only.
Not here: bytes that pass between processes and servers (test_messages.py), a worker's part with
  its connections (test_worker.py), the storage decision (test_storage.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bench import wire
from bench.harness import Benchmark
from bench.micro.replica import BATCH_MAX, DATA, PATH, Replica
from zkstore.jute.codec import buffer
from zkstore.proto import opcodes as op
from zkstore.proto import replies, requests
from zkstore.records import txn as txns
from zkstore.records.txn import Txn
from zkstore.storage import schema
from zkstore.storage.batches import StoredTree
from zkstore.storage.disk import Disk
from zkstore.storage.journal import Journal
from zkstore.tree import acl as acls
from zkstore.tree import node as nodes
from zkstore.tree.apply import Batch
from zkstore.zab.ready import Ready

_TEXT = PATH.decode()
# What the commit process is given of a client: a frame without its length.
REQUESTS = {
    "setData": wire.request(1, wire.SET_DATA, wire.set_body(_TEXT, DATA))[4:],
    "create": wire.request(1, wire.CREATE, wire.create_body(f"{_TEXT}-new", DATA))[4:],
    "delete": wire.request(1, wire.DELETE, wire.delete_body(_TEXT))[4:],
    "multi of 10 setData": wire.request(
        1,
        wire.MULTI,
        wire.multi_body([(wire.SET_DATA, wire.set_body(f"{_TEXT}{n}", DATA)) for n in range(10)]),
    )[4:],
}
_ZXID = 1 << 20
TXNS = {
    "setData": Txn(_ZXID, 1, 1, 1, op.SET_DATA, (PATH, DATA, 7)),
    "create": Txn(_ZXID, 1, 1, 1, op.CREATE, (PATH + b"-", DATA, acls.OPEN_ENCODED, False, -1)),
    "delete": Txn(_ZXID, 1, 1, 1, op.DELETE, (PATH,)),
    "multi of 10 setData": Txn(
        _ZXID, 1, 1, 1, op.MULTI,
        ([(op.SET_DATA, (PATH + b"%d" % n, DATA, 7)) for n in range(10)],),
    ),
}  # fmt: skip


class _Tree(StoredTree):
    """The tree as the writer lends it to a batch; it remembers the ids of ACLs."""

    def find_acl(self, encoded: bytes) -> int | None:
        return -1


def _reads(replica: Replica) -> dict[str, Callable[[], object]]:
    value = replica.view.node(PATH)
    assert value is not None
    return {
        "open a view": lambda: replica.opened.writer.views.open().close(),
        "node key": lambda: schema.node_key(PATH),
        "node": lambda: replica.view.node(PATH),
        "reply": lambda: replies.reply(1, 1, buffer(DATA) + value[nodes.STAT]),
    }


@pytest.mark.parametrize("step", ["open a view", "node key", "node", "reply"])
def test_read(benchmark: Benchmark, replica: Replica, step: str) -> None:
    benchmark(_reads(replica)[step])


def test_decode_a_request(benchmark: Benchmark) -> None:
    benchmark(requests.read_set_data, REQUESTS["setData"], requests.BODY)


@pytest.mark.parametrize("request_name", REQUESTS)
def test_prep(benchmark: Benchmark, replica: Replica, request_name: str) -> None:
    """Decoding, checks against the tree, the txn and the change in flight."""
    frame = REQUESTS[request_name]

    def prep() -> Txn:
        replica.prep.abandon()
        return replica.prep.request(_ZXID, 1, frame, ())

    assert prep().type != op.ERROR
    benchmark(prep)
    replica.prep.abandon()


@pytest.mark.parametrize("txn_name", TXNS)
def test_encode_a_txn(benchmark: Benchmark, txn_name: str) -> None:
    benchmark(txns.encode, TXNS[txn_name])


@pytest.mark.parametrize("txn_name", TXNS)
def test_decode_a_txn(benchmark: Benchmark, txn_name: str) -> None:
    benchmark(txns.decode, txns.encode(TXNS[txn_name]))


@pytest.mark.parametrize("txn_name", TXNS)
def test_apply(benchmark: Benchmark, replica: Replica, txn_name: str) -> None:
    """A txn's changes and effects, in a batch of its own; nothing is stored."""
    writer = replica.opened.writer
    with writer.env.begin() as lmdb_txn:
        source = _Tree(lmdb_txn)

        def apply() -> int:
            batch = Batch(source, replace(writer.totals), writer.quotas)
            (code, _), _ = batch.apply(TXNS[txn_name])
            return code

        assert apply() == 0
        benchmark(apply)


@pytest.mark.parametrize("count", [1, 16, BATCH_MAX])
def test_commit_a_batch(benchmark: Benchmark, replica: Replica, count: int) -> None:
    """setData into one LMDB transaction, log and tree: decode, apply, put, commit."""

    def batch() -> tuple[tuple[Ready], dict[str, object]]:
        return (Ready(committed=replica.proposals(count)),), {}

    benchmark.pedantic(replica.opened.writer.perform, setup=batch, rounds=20, warmup_rounds=3)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal.create(tmp_path, Disk(), segment_bytes=1 << 22)
    yield journal
    journal.close()


@pytest.mark.parametrize("count", [1, 16, BATCH_MAX])
def test_journal_a_batch(benchmark: Benchmark, journal: Journal, count: int) -> None:
    """One record with so many txns, flushed."""
    payload = txns.encode(TXNS["setData"]) * count
    benchmark.pedantic(journal.append, args=(payload,), rounds=20, warmup_rounds=3)
