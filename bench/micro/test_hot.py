"""The hot functions of a read and of a write, one by one: where a request's microseconds go.

Owns:   a replica in a temporary directory, opened as the commit process opens it, never served.
Design: the functions are called as the processes call them, over a real LMDB file, warm. What the
        event loop, the sockets and the flush add is seen in the macro benchmarks only.
Not here: the storage decision (test_storage.py).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from bench.harness import Benchmark
from zkstore.commit.process import Opened, open_writer
from zkstore.jute.codec import INT_INT, buffer, pack_int
from zkstore.proto import opcodes as op
from zkstore.proto import replies, requests
from zkstore.records import txn as txns
from zkstore.records.txn import Txn
from zkstore.settings import Settings
from zkstore.storage import schema
from zkstore.storage.disk import Disk
from zkstore.storage.view import View
from zkstore.tree import acl as acls
from zkstore.tree import node as nodes
from zkstore.tree.auth import Providers
from zkstore.tree.prep import Prep
from zkstore.zab.ready import Proposal, Ready

PATH = b"/bench/p07/k0000042"
DATA = b"x" * 100
BATCH = 64


@dataclass
class Replica:
    """An opened replica with the node that all is done to."""

    opened: Opened
    view: View
    prep: Prep
    zxids: Iterator[int]

    def batch(self) -> Ready:
        """One Ready that commits a batch of setData."""
        made = [
            Txn(next(self.zxids), 1, 1, 1, op.SET_DATA, (PATH + b"%d" % n, DATA, n))
            for n in range(BATCH)
        ]
        return Ready(committed=[Proposal(one.zxid, txns.encode(one)) for one in made])


@pytest.fixture(scope="module")
def replica(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replica]:
    folder: Path = tmp_path_factory.mktemp("hot")
    settings = Settings(data_dir=str(folder), disk_reserve_bytes=1 << 20)
    opened = open_writer(settings, Disk())
    zxids = itertools.count(1)
    paths = [b"/bench", b"/bench/p07", PATH, *(PATH + b"%d" % n for n in range(BATCH))]
    made = [
        Txn(next(zxids), 1, 1, 1, op.CREATE, (path, DATA, acls.OPEN_ENCODED, False, -1))
        for path in paths
    ]
    proposals = [Proposal(one.zxid, txns.encode(one)) for one in made]
    opened.writer.perform(Ready(append=proposals))
    opened.writer.perform(Ready(committed=proposals))
    with opened.writer.views.open() as view:
        prep = Prep(
            view, Providers.of(settings), ttl_enabled=True, close_session_paths=True,
            now_ms=lambda: 1,
        )  # fmt: skip
        yield Replica(opened, view, prep, zxids)
    opened.writer.close()
    opened.reserve.close()


SET_DATA = INT_INT.pack(1, op.SET_DATA) + buffer(PATH) + buffer(DATA) + pack_int(-1)


def _steps(replica: Replica) -> dict[str, Callable[[], object]]:
    """The steps, each as a call without arguments."""
    value = replica.view.node(PATH)
    assert value is not None
    fields = nodes.unpack(value)
    made = Txn(1, 1, 1, 1, op.SET_DATA, (PATH, DATA, 7))

    def prep() -> None:
        replica.prep.abandon()
        replica.prep.request(1, 1, SET_DATA, ())

    return {
        "read: open a view": lambda: replica.opened.writer.views.open().close(),
        "read: node key": lambda: schema.node_key(PATH),
        "read: node": lambda: replica.view.node(PATH),
        "read: reply": lambda: replies.reply(1, 1, buffer(DATA) + value[nodes.STAT]),
        "write: decode": lambda: requests.read_set_data(SET_DATA, requests.BODY),
        "write: prep": prep,
        "write: encode the txn": lambda: txns.encode(made),
        "write: the node's new value": lambda: nodes.with_data(
            value, fields, PATH, DATA, zxid=2, time_ms=2, version=2
        ),
    }


STEPS = (
    "read: open a view", "read: node key", "read: node", "read: reply", "write: decode",
    "write: prep", "write: encode the txn", "write: the node's new value",
)  # fmt: skip


@pytest.mark.parametrize("step", STEPS)
def test_step(benchmark: Benchmark, replica: Replica, step: str) -> None:
    benchmark(_steps(replica)[step])


def test_commit_a_batch(benchmark: Benchmark, replica: Replica) -> None:
    """64 setData into one LMDB transaction, log and tree: decode, apply, put, commit."""
    benchmark.pedantic(
        replica.opened.writer.perform, setup=lambda: ((replica.batch(),), {}), rounds=20
    )
