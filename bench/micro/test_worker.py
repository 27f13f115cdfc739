"""A worker's part: from the bytes of a socket to the bytes of a socket, without either.

Owns:   a worker over a replica's views, with clients whose transports and whose commit process
  only count.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, cast

import pytest

from bench import wire
from bench.harness import Benchmark
from bench.micro.replica import DATA, PATH, Replica
from zkstore.frontend.client import Client
from zkstore.frontend.worker import Worker
from zkstore.proto import replies
from zkstore.records import ipc
from zkstore.tree.auth import Providers
from zkstore.tree.watches import PERSISTENT, STANDARD, Watches
from zkstore.zab.ready import Ready

COUNT = 64
WATCHERS = 1000
_TEXT = PATH.decode()
GET = wire.request(1, wire.GET_DATA, wire.read_body(_TEXT))
SET = wire.request(1, wire.SET_DATA, wire.set_body(_TEXT, DATA))
SET_REPLY = replies.reply(1, 1, bytes(wire.STAT_SIZE))


class Sink:
    """A transport and a channel that take everything."""

    def __init__(self) -> None:
        self.size = 0

    def write(self, data: bytes) -> None:
        self.size += len(data)

    def send(self, message: ipc.Message) -> None:
        self.size += len(message)

    def close(self) -> None:
        pass

    def get_extra_info(self, name: str) -> Any:
        return ("127.0.0.1", 1) if name == "peername" else None

    def set_write_buffer_limits(self, high: int) -> None:
        pass

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


class Connected:
    """A worker, and how its clients come to their sessions."""

    def __init__(self, replica: Replica, loop: asyncio.AbstractEventLoop) -> None:
        settings = replica.settings
        views = replica.opened.writer.views
        self.loop = loop
        self.worker = Worker(settings, Providers.of(settings), views, loop)
        self.worker.start(Sink())
        self.worker.on_message([replica.opened.writer.applied])

    def client(self) -> tuple[Client, Sink]:
        client, sink = self.worker.client(), Sink()
        client.connection_made(cast(asyncio.Transport, sink))
        client.data_received(wire.connect_request())
        client.connected(client.number, 30_000, b"", 0)
        self.turn()
        return client, sink

    def turn(self) -> None:
        """Let the loop do what was put off to the end of the turn."""
        self.loop.call_soon(self.loop.stop)
        self.loop.run_forever()


@pytest.fixture
def connected(replica: Replica) -> Iterator[Connected]:
    loop = asyncio.new_event_loop()
    yield Connected(replica, loop)
    loop.close()


@pytest.mark.parametrize("count", [1, COUNT])
def test_serve_reads(benchmark: Benchmark, connected: Connected, count: int) -> None:
    """getData frames of one chunk: cut, read over one view, answered in one write."""
    client, sink = connected.client()
    before = sink.size
    client.data_received(GET * count)
    assert sink.size - before == count * (wire.HEADER_SIZE + 4 + len(DATA) + wire.STAT_SIZE)
    benchmark(client.data_received, GET * count)


@pytest.mark.parametrize("count", [1, COUNT])
def test_pass_writes_on(benchmark: Benchmark, connected: Connected, count: int) -> None:
    """setData frames of one chunk into the turn's message, and their replies to the socket."""
    client, sink = connected.client()
    applied = connected.worker.applied
    message: ipc.Message = [applied, ipc.REPLY, client.number, applied, [SET_REPLY] * count]

    def write() -> None:
        client.data_received(SET * count)
        connected.turn()
        connected.worker.on_message(message)

    before = sink.size
    write()
    assert sink.size - before == count * len(SET_REPLY)
    benchmark(write)


class Watcher:
    """One that only holds watches."""

    def __init__(self) -> None:
        self.watched_paths: set[bytes] = set()


@pytest.mark.parametrize("mode", [STANDARD, PERSISTENT])
def test_find_watchers(benchmark: Benchmark, mode: int) -> None:
    """Whom a change of a watched node concerns; a one-shot watch is set anew each time."""
    watches = Watches()
    watchers = [Watcher() for _ in range(WATCHERS)]
    for watcher in watchers:
        watches.add(watcher, PATH, mode)

    def change() -> int:
        told = sum(len(event[3]) for event in watches.changed(PATH, 1))
        if mode == STANDARD:
            for watcher in watchers:
                watches.add_data(watcher, PATH)
        return told

    assert change() == WATCHERS
    benchmark(change)


def test_change_without_watchers(benchmark: Benchmark) -> None:
    """What every effect costs a worker that watches other nodes."""
    watches = Watches()
    watches.add_data(Watcher(), b"/another")
    benchmark(lambda: list(watches.changed(PATH, 1)))


def test_tell_watchers(benchmark: Benchmark, replica: Replica, connected: Connected) -> None:
    """One change, found in the log and told to all: an event and a write for each client."""
    changed = PATH + b"0"
    clients = [connected.client() for _ in range(WATCHERS)]
    for client, _ in clients:
        connected.worker.watches.add(client, changed, PERSISTENT)
    sizes = [sink.size for _, sink in clients]

    def change() -> None:
        replica.opened.writer.perform(Ready(committed=replica.proposals(1)))

    def tell() -> None:
        connected.worker.on_message([replica.opened.writer.applied])

    change()
    tell()
    assert all(sink.size > size for size, (_, sink) in zip(sizes, clients, strict=True))
    benchmark.pedantic(tell, setup=change, rounds=10)
