"""Deterministic: the same log gives byte-equal trees on every replica."""

from __future__ import annotations

import asyncio
import random
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import lmdb
import pytest

from tests.conformance import requests
from tests.conformance.requests import CREATOR, EPHEMERAL, READ, SEQUENTIAL
from tests.invariants.client import connect
from tests.invariants.history import History
from tests.invariants.replica import Replica
from tests.invariants.storm import Storm
from zkstore.commit.process import Opened, open_writer
from zkstore.records import txn as txns
from zkstore.records.txn import Txn
from zkstore.settings import Settings
from zkstore.storage import schema, txnlog
from zkstore.storage.disk import Disk
from zkstore.tree import node as nodes
from zkstore.tree.apply import Batch, Effects, Result, Totals
from zkstore.zab.ready import Proposal, Ready

# The journal keeps all from the beginning: a recovery replays everything.
ALL_IN_THE_JOURNAL = {
    "zkstore.checkpointBytes": str(1 << 30),
    "zkstore.checkpointIntervalMs": "1000000",
}


class Tree(NamedTuple):
    """All that a replica keeps, and its log as one sequence: batches may differ."""

    records: dict[bytes, bytes]  # by LMDB key
    log: list[tuple[bytes, Effects]]
    totals: Totals


def tree_of(env: lmdb.Environment) -> Tree:
    records: dict[bytes, bytes] = {}
    log: list[tuple[bytes, Effects]] = []
    totals = Totals()
    with env.begin() as lmdb_txn, lmdb_txn.cursor() as cursor:
        for key, value in cursor:
            if key.startswith(schema.LOG):
                zxid = schema.zxid_of(key)
                log += txnlog.entries(zxid, value)
                totals = txnlog.label_of(zxid, value).totals
            else:
                records[key] = value
    return Tree(records, log, totals)


def digest(tree: Tree) -> int:
    """The tree's digest, computed anew from its nodes."""
    values = (value for key, value in tree.records.items() if key.startswith(schema.NODE))
    return sum(map(nodes.digest_of, values)) % (1 << 64)


def as_left(data_dir: Path) -> Tree:
    """The tree as the killed server had it, batch by batch; not what recovery makes of it."""
    copy = data_dir.parent / "as-left.mdb"
    shutil.copy(data_dir / "zkstore" / "data.1.mdb", copy)
    with lmdb.open(str(copy), subdir=False, lock=False, map_size=1 << 40) as env:
        return tree_of(env)


@contextmanager
def opened(data_dir: Path) -> Iterator[Opened]:
    replica = open_writer(Settings(data_dir=str(data_dir)), Disk())
    try:
        yield replica
    finally:
        replica.replica.abandon()
        replica.reserve.close()


def recovered(data_dir: Path) -> Tree:
    """The tree as a recovery from the journal makes it."""
    copy = data_dir.with_name("copy")
    shutil.copytree(data_dir, copy, ignore=shutil.ignore_patterns("*.sock"))
    with opened(copy) as replica:
        assert replica.replayed
        return tree_of(replica.replica.env)


def fed(data_dir: Path, log: list[tuple[bytes, Effects]], seed: int) -> Tree:
    """The tree of a new replica that is fed this log, in batches of its own."""
    rng = random.Random(seed)
    with opened(data_dir) as replica:
        at = 0
        while at < len(log):
            size = rng.choice((1, 1, 3, 50))
            proposals = [Proposal(txns.zxid_of(txn), txn) for txn, _ in log[at : at + size]]
            replica.writer.perform(Ready(append=proposals, committed=proposals))
            at += size
        return tree_of(replica.replica.env)


async def make_history(address: tuple[str, int]) -> None:
    """Something of every kind of operation, from several sessions at once."""
    storm = Storm(address, History(), "/storm", seed=5)
    await storm.prepare(4)
    raging = asyncio.create_task(storm.rage(150))
    other = await connect(address, storm.history.log("other"))
    gone = await connect(address, storm.history.log("gone"))
    await other.done(requests.create("/other", None))
    await other.one(requests.auth("digest", b"user:secret"))
    for number in range(20):
        path = f"/other/{number}"
        acl = CREATOR if number % 2 else requests.OPEN
        await other.ask(
            requests.create(path, b"x" * (100 * number), acl=acl),
            requests.set_data(path, b"y" * (3000 - 100 * number)),
            requests.set_acl(path, [(READ, "world", "anyone"), (31, "ip", f"10.0.0.{number}")]),
            requests.create_container(f"{path}-container"),
            requests.create_ttl(f"{path}-ttl", ttl_ms=10_000_000),
            requests.create(f"/other/{'long' * 80}-{number}", b"long", flags=SEQUENTIAL),
            requests.delete(f"/other/{number - 2}"),
            requests.multi(requests.set_data("/other", b"%d" % number), requests.check("/nowhere")),
        )
        await gone.ask(requests.create(f"/other/{number}-ephemeral", flags=EPHEMERAL))
    await gone.close()
    await raging
    await storm.close()


def served(folder: Path, workers: int) -> Path:
    """A data directory that was served, with a log of some thousand txns, and killed."""
    with Replica(folder, workers, ALL_IN_THE_JOURNAL) as replica:
        asyncio.run(make_history(replica.address))
        replica.kill_all()
        return replica.data_dir


@pytest.mark.parametrize("workers", [2, 3])
def test_deterministic(tmp_path: Path, workers: int) -> None:
    data_dir = served(tmp_path, workers)
    first = as_left(data_dir)
    assert len(first.log) > 1000
    assert digest(first) == first.totals.digest
    assert recovered(data_dir) == first
    assert fed(tmp_path / "second", first.log, seed=1) == first
    assert fed(tmp_path / "third", first.log, seed=2) == first


def test_control_an_apply_that_looks_at_the_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply = Batch.apply

    def now(self: Batch, txn: Txn) -> tuple[Result, Effects]:
        return apply(self, txn._replace(time_ms=time.time_ns() // 1_000_000))

    first = as_left(served(tmp_path, 2))
    monkeypatch.setattr(Batch, "apply", now)
    second = fed(tmp_path / "second", first.log, seed=1)
    assert second.records != first.records
    assert second.totals.digest != first.totals.digest
