"""Why writes go to a journal and to an LMDB that is not flushed: the three ways, side by side.

A batch of updates must be durable (on the disk) and visible (to readers in other processes):

* `durable`: one LMDB commit with log and tree, flushed by LMDB: data, then its meta page.
* `log_durable`: the log in an LMDB of its own, flushed; then the tree in another, not flushed.
* `journal`: one record in a preallocated file, flushed; then log and tree in one LMDB, not flushed.

Owns:   a folder in the work directory, on the disk that is to be judged.
Invariants:
  1. All three write the same bytes: per update a log value and a node's value.
Design: nothing of zkstore is used, so the comparison stays what it was when it decided the design.
Not here: checkpoints and recovery; what LMDB's flags mean for safety (ARCHITECTURE.md).
"""

from __future__ import annotations

import os
import random
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Protocol

import lmdb
import pytest

from bench.harness import Benchmark, Size

_NODES: Final = {"smoke": 1000, "real": 100_000}
_ROUNDS: Final = {"smoke": 5, "real": 500}
_MAP_SIZE: Final = 1 << 32
_JOURNAL_SIZE: Final = 64 << 20
# A node's head, Stat and 100 bytes of data; a log value has the transaction and its effects.
_NODE_SIZE: Final = 180
_LOG_SIZE: Final = 300


class Store(Protocol):
    """One way to make a batch durable and visible."""

    def write(self, first_zxid: int, nodes: list[int]) -> None: ...

    def close(self) -> None: ...


def _key(node: int) -> bytes:
    return b"/bench/p%02d\0k%07d" % (node % 100, node)


def _zxid(zxid: int) -> bytes:
    return zxid.to_bytes(8, "big")


def _value(zxid: int, size: int) -> bytes:
    return _zxid(zxid) + bytes(size - 8)


def _environment(path: Path, *, flushed: bool) -> lmdb.Environment:
    return lmdb.open(str(path), map_size=_MAP_SIZE, max_dbs=2, sync=flushed, metasync=flushed)


class _Tables:
    """A log, a tree or both in one LMDB environment."""

    def __init__(self, path: Path, *, flushed: bool, names: tuple[bytes, ...], nodes: int) -> None:
        self.environment = _environment(path, flushed=flushed)
        self.tables = {name: self.environment.open_db(name) for name in names}
        if b"tree" in names:
            with self.environment.begin(write=True, db=self.tables[b"tree"]) as txn:
                for node in range(nodes):
                    txn.put(_key(node), _value(0, _NODE_SIZE))
            self.environment.sync(True)

    def commit(self, first_zxid: int, nodes: list[int]) -> None:
        log, tree = self.tables.get(b"log"), self.tables.get(b"tree")
        with self.environment.begin(write=True) as txn:
            for zxid, node in enumerate(nodes, first_zxid):
                if log is not None:
                    txn.put(_zxid(zxid), _value(zxid, _LOG_SIZE), db=log, append=True)
                if tree is not None:
                    txn.put(_key(node), _value(zxid, _NODE_SIZE), db=tree)


class Durable:
    def __init__(self, directory: Path, nodes: int) -> None:
        names = (b"log", b"tree")
        self._tables = _Tables(directory / "all", flushed=True, names=names, nodes=nodes)

    def write(self, first_zxid: int, nodes: list[int]) -> None:
        self._tables.commit(first_zxid, nodes)

    def close(self) -> None:
        self._tables.environment.close()


class LogDurable:
    def __init__(self, directory: Path, nodes: int) -> None:
        self._log = _Tables(directory / "log", flushed=True, names=(b"log",), nodes=0)
        self._tree = _Tables(directory / "tree", flushed=False, names=(b"tree",), nodes=nodes)

    def write(self, first_zxid: int, nodes: list[int]) -> None:
        self._log.commit(first_zxid, nodes)
        self._tree.commit(first_zxid, nodes)

    def close(self) -> None:
        self._log.environment.close()
        self._tree.environment.close()


class Journal:
    def __init__(self, directory: Path, nodes: int) -> None:
        names = (b"log", b"tree")
        self._tables = _Tables(directory / "all", flushed=False, names=names, nodes=nodes)
        self._file = os.open(directory / "journal", os.O_RDWR | os.O_CREAT)
        # Written, not only reserved: the flush of a block that was never written writes metadata.
        for offset in range(0, _JOURNAL_SIZE, 1 << 20):
            os.pwrite(self._file, bytes(1 << 20), offset)
        os.fsync(self._file)
        self._offset = 0

    def write(self, first_zxid: int, nodes: list[int]) -> None:
        values = [_value(zxid, _LOG_SIZE) for zxid in range(first_zxid, first_zxid + len(nodes))]
        payload = b"".join(values)
        record = len(payload).to_bytes(4, "big") + zlib.crc32(payload).to_bytes(4, "big") + payload
        if self._offset + len(record) > _JOURNAL_SIZE:
            self._offset = 0
        os.pwrite(self._file, record, self._offset)
        os.fdatasync(self._file)
        self._offset += len(record)
        self._tables.commit(first_zxid, nodes)

    def close(self) -> None:
        os.close(self._file)
        self._tables.environment.close()


WAYS: Final[dict[str, Callable[[Path, int], Store]]] = {
    "durable": Durable,
    "log_durable": LogDurable,
    "journal": Journal,
}


@pytest.fixture
def directory(pytestconfig: pytest.Config) -> Iterator[Path]:
    work_dir: Path = pytestconfig.getoption("--work-dir")
    work_dir.mkdir(parents=True, exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix="micro-", dir=work_dir))
    yield directory
    shutil.rmtree(directory)


@pytest.mark.parametrize("batch", [1, 16, 64])
@pytest.mark.parametrize("way", WAYS)
def test_durable_and_visible(
    way: str, batch: int, directory: Path, size: Size, benchmark: Benchmark
) -> None:
    nodes, rounds = _NODES[size.name], _ROUNDS[size.name]
    store = WAYS[way](directory, nodes)
    rng = random.Random(1)
    batches = iter([(1 + i * batch, rng.sample(range(nodes), batch)) for i in range(rounds + 10)])
    benchmark.group = f"durable and visible, {batch} updates"
    benchmark.pedantic(
        store.write, setup=lambda: (next(batches), {}), rounds=rounds, warmup_rounds=10
    )
    store.close()


@pytest.fixture
def tree(directory: Path, size: Size) -> Iterator[_Tables]:
    nodes = _NODES[size.name]
    tables = _Tables(directory / "tree", flushed=False, names=(b"tree",), nodes=nodes)
    yield tables
    tables.environment.close()


def test_lmdb_get(tree: _Tables, size: Size, benchmark: Benchmark) -> None:
    """One node, in a view that is open."""
    keys = [_key(node) for node in random.Random(1).sample(range(_NODES[size.name]), 100)]
    with tree.environment.begin(db=tree.tables[b"tree"]) as view:
        get = view.get

        def read_100() -> None:
            for key in keys:
                get(key)

        benchmark.group = "LMDB, 100 gets in one view"
        benchmark(read_100)


def test_lmdb_view(tree: _Tables, benchmark: Benchmark) -> None:
    """What a view costs: begin and abort."""
    begin = tree.environment.begin

    def view() -> None:
        begin().abort()

    benchmark.group = "LMDB, begin and abort a view"
    benchmark(view)
