"""The commit process's whole turn: from a worker's message to the message with the replies.

Owns:   a commit loop over a replica in a temporary directory, with one port that only counts.
Design: the requests are setData of random nodes among some thousand, as a turn's cost is also that
  of the pages it changes. `flushed` is with the journal's flush, on the disk of the directory.
Not here: the steps of a turn one by one (test_hot.py), a worker's part (test_worker.py).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest

from bench import wire
from bench.harness import Benchmark, Size
from zkstore.commit.loop import Loop
from zkstore.commit.ports import Port
from zkstore.commit.process import open_writer
from zkstore.records import ipc
from zkstore.settings import Settings
from zkstore.storage.disk import Disk
from zkstore.storage.journal import Journal
from zkstore.tree.auth import Providers

NODES = 4000
TURNS = {"smoke": 20, "real": 200}
WORK = 2000  # steps of a loop: some 60 µs
RECORD = bytes(200)


class Sink:
    """A worker's end: packs what it gets, as a stream does."""

    replies = 0

    def send(self, message: ipc.Message) -> None:
        msgpack.packb(message)
        self.replies += sum(len(frames) for frames in message[4::4] if isinstance(frames, list))

    def close(self) -> None:
        pass


class Turns:
    """A loop with one client, whose turns are run when told."""

    def __init__(self, folder: Path, *, flush: bool) -> None:
        settings = Settings(data_dir=str(folder), disk_reserve_bytes=0, force_sync=flush)
        self._opened = open_writer(settings, Disk())
        self._soon: list[Callable[[], None]] = []
        self.loop = Loop(
            settings, self._opened.writer, Providers.of(settings), self._soon.append
        )
        self.sink = Sink()
        self._port: Port = self.loop.attach(self.sink)
        self._rng = random.Random(1)
        connect = wire.connect_request(30_000)[4:]
        self.run(msgpack.packb([ipc.OPEN, 1, "127.0.0.1", ipc.CONNECT, 1, connect]))
        self.paths = [f"/n{n:05}" for n in range(NODES)]
        for start in range(0, NODES, 500):
            self.run(self._requests(
                wire.request(1, wire.CREATE, wire.create_body(path, bytes(100)))
                for path in self.paths[start : start + 500]
            ))  # fmt: skip

    def _requests(self, frames: Iterator[bytes]) -> bytes:
        items: list[Any] = []
        for frame in frames:
            items += (ipc.REQUEST, 1, frame)
        packed: bytes = msgpack.packb(items)
        return packed

    def writes(self, count: int) -> bytes:
        """A worker's message with so many setData."""
        body = bytes(100)
        return self._requests(
            wire.request(1, wire.SET_DATA, wire.set_body(self._rng.choice(self.paths), body))
            for _ in range(count)
        )

    def run(self, message: bytes) -> None:
        """One message and the turn that it leads to."""
        self.loop.on_message(self._port, msgpack.unpackb(message))
        while self._soon:
            self._soon.pop(0)()

    def close(self) -> None:
        self.loop.ended = True
        self._opened.writer.close()
        self._opened.reserve.close()


@pytest.mark.parametrize("flush", [False, True], ids=["unflushed", "flushed"])
@pytest.mark.parametrize("count", [1, 64])
def test_turn(benchmark: Benchmark, tmp_path: Path, size: Size, count: int, flush: bool) -> None:
    turns, rounds = Turns(tmp_path, flush=flush), TURNS[size.name]
    before = turns.sink.replies
    benchmark.pedantic(
        turns.run, setup=lambda: ((turns.writes(count),), {}), rounds=rounds, warmup_rounds=5
    )
    assert turns.sink.replies >= before + rounds * count
    turns.close()


def _work() -> None:
    for _ in range(WORK):
        pass


@pytest.mark.parametrize("order", ["flush_then_work", "work_while_the_device_writes"])
def test_journal(benchmark: Benchmark, tmp_path: Path, size: Size, order: str) -> None:
    """Why a record is begun, then applied, then finished (storage/writer.py `perform`)."""
    journal = Journal.create(tmp_path, Disk(), segment_bytes=1 << 20)

    def flush_then_work() -> None:
        journal.append(RECORD)
        _work()

    def work_while_the_device_writes() -> None:
        journal.begin(RECORD)
        _work()
        journal.finish()

    benchmark.pedantic(locals()[order], rounds=TURNS[size.name], warmup_rounds=5)
    journal.close()
