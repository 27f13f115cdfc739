"""Bounded: every queue, buffer and cache has a limit, and a named answer when it is full."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

import zkstore
from tests.conformance import requests
from tests.conformance.requests import Request
from tests.conformance.wire import ClosedError, Connection, connect_request, i32
from tests.invariants.client import Client, connect
from tests.invariants.history import History
from tests.invariants.replica import Peak, Replica, wait_for
from zkstore.constants import CLIENT_WRITE_BUFFER_BYTES_MAX, REQUEST_BYTES_OUTSTANDING_MAX

MB = 1 << 20
RECURSIVE = 1
LARGE = b"x" * 1_000_000
READ_AT_ONCE_BYTES = 256 << 10  # what uvloop takes from a socket in one go
OUTSTANDING_MAX = 500
# What a process may grow by besides the buffers that a test is about.
SLACK_BYTES = 32 * MB


@pytest.fixture(scope="module")
def bounded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replica]:
    settings = {"globalOutstandingLimit": str(OUTSTANDING_MAX)}
    with Replica(tmp_path_factory.mktemp("bounded"), 2, settings) as replica:
        yield replica


def payload(request: Request) -> bytes:
    return i32(request.xid or 1) + i32(request.opcode) + request.body


def ask(connection: Connection, request: Request) -> bytes:
    connection.send(payload(request))
    return connection.recv()


def test_requests_in_flight(bounded: Replica) -> None:
    """Over the limit a connection is read no more, and everybody is answered."""
    floods, size, count = 3, 200, 10_000

    async def run() -> int:
        history = History()
        clients = [await connect(bounded.address, history.log(f"{n}")) for n in range(floods)]
        await clients[0].done(requests.create("/bounded_in_flight"))
        for client in clients:
            client.send(*[requests.set_data("/bounded_in_flight", b"x" * size)] * count)
        answered = asyncio.gather(*(client.quiet() for client in clients))
        most = 0
        while not answered.done():
            mntr = await asyncio.to_thread(bounded.mntr)
            most = max(most, int(mntr["zk_outstanding_requests"]))
        await answered
        assert len(history.answered()) == 1 + floods * count
        assert history.violations() == []
        for client in clients:
            await client.close()
        return most

    with Peak(bounded) as peak:
        most = asyncio.run(run())
    assert peak.growth < SLACK_BYTES
    # Each connection may have one read of its socket beyond the limit.
    assert 0 < most <= OUTSTANDING_MAX + floods * READ_AT_ONCE_BYTES / size


@pytest.mark.timeout(300)  # 400 MB go to the disk
def test_large_requests_in_flight(bounded: Replica) -> None:
    """Many of the greatest requests at once, faster than any disk takes them."""

    def flood(connection: Connection) -> None:
        for _ in range(100):  # each with a time limit of its own
            connection.send(payload(requests.set_data("/bounded_large", LARGE)))
        for _ in range(100):
            assert connection.recv()[12:16] == i32(0)

    connections = [bounded.connect() for _ in range(4)]
    ask(connections[0], requests.create("/bounded_large"))
    with Peak(bounded) as peak, ThreadPoolExecutor(4) as pool:
        list(pool.map(flood, connections))
    # What may be in flight: as it came, on its way to the commit process, and logged there.
    assert peak.growth < 8 * REQUEST_BYTES_OUTSTANDING_MAX
    for connection in connections:
        connection.close()


@pytest.mark.parametrize("behind_a_write", [False, True])
def test_replies_that_are_not_read(bounded: Replica, behind_a_write: bool) -> None:
    """The server stops to read from such a client, and the others do not notice."""
    path = f"/bounded_replies_{behind_a_write}"
    lazy = bounded.connect()
    ask(lazy, requests.create(path, LARGE))
    with Peak(bounded) as peak:
        first = [payload(requests.set_data("/", b""))] * behind_a_write
        lazy.send(*first, *[payload(requests.get_data(path))] * 1000)
        others = [bounded.connect() for _ in range(2)]  # one on each worker
        for other in others * 20:
            assert len(ask(other, requests.get_data(path))) > len(LARGE)
    assert peak.growth < SLACK_BYTES
    # It was not closed: whoever reads late gets everything.
    if behind_a_write:
        lazy.recv()
    for _ in range(20):
        assert len(lazy.recv()) > len(LARGE)
    for connection in (lazy, *others):
        connection.close()


def test_a_read_of_many_nodes(bounded: Replica) -> None:
    """One frame of multiRead asks for 400 MB: it is refused, and what is sane is not."""
    connection = bounded.connect()
    ask(connection, requests.create("/bounded_many", LARGE))
    read = requests.get_data("/bounded_many")
    with Peak(bounded) as peak:
        assert ask(connection, requests.multi_read(*[read] * 400))[12:16] == i32(-5)
    assert peak.growth < CLIENT_WRITE_BUFFER_BYTES_MAX + SLACK_BYTES
    assert len(ask(connection, requests.multi_read(*[read] * 10))) > 10 * len(LARGE)
    connection.close()


EVENTS_BYTES = CLIENT_WRITE_BUFFER_BYTES_MAX + 24 * MB  # the kernel buffers some, too


def watch_and_never_read(address: tuple[str, int]) -> Connection:
    """A client with a recursive watch that lets its events lie."""
    connection = Connection(address)
    connection.handshake(connect_request(timeout_ms=60_000))
    ask(connection, requests.add_watch("/", RECURSIVE))
    return connection


def make_events(address: tuple[str, int]) -> None:
    """Changes whose events have EVENTS_BYTES in all, most of it in the path."""
    path = "/bounded_events/" + "x" * 8000

    async def one(client: Client) -> None:
        for _ in range(EVENTS_BYTES // 2 // len(path) // 50):
            await client.ask(*[requests.set_data(path, b"")] * 50)

    async def run() -> None:
        history = History()
        clients = [await connect(address, history.log(f"{n}")) for n in range(2)]
        await clients[0].one(requests.create("/bounded_events"))
        await clients[0].one(requests.create(path))
        await asyncio.gather(*map(one, clients))
        for client in clients:
            await client.close()

    asyncio.run(run())


def test_events_that_are_not_read(bounded: Replica) -> None:
    """Events cannot wait for the client: it is cut off, and the log says who and why."""
    connection = watch_and_never_read(bounded.address)
    with Peak(bounded) as peak:
        make_events(bounded.address)
    assert peak.growth < CLIENT_WRITE_BUFFER_BYTES_MAX + SLACK_BYTES
    with pytest.raises(ClosedError):
        while True:
            connection.recv()
    wait_for(lambda: "bytes unread by the client" in bounded.output)
    connection.close()


def test_control_no_limit_for_unread_events(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server without the limit keeps them all for a client that never reads."""
    monkeypatch.setattr("zkstore.frontend.client.CLIENT_WRITE_BUFFER_BYTES_MAX", 1 << 40)
    with zkstore.Server() as server:
        connection = watch_and_never_read(("127.0.0.1", server.port))
        make_events(("127.0.0.1", server.port))
        received = 0
        while received < EVENTS_BYTES * 0.9:
            received += len(connection.recv())
        connection.close()


def test_auth_packets(bounded: Replica) -> None:
    """What a connection has proven is told to the commit process: some hundreds are enough."""
    connection, *others = (bounded.connect() for _ in range(3))
    some = (requests.auth("digest", b"user%d:x" % number) for number in range(3000))
    started = time.monotonic()
    with Peak(bounded) as peak:
        with suppress(ClosedError):  # it may have had enough before all is sent
            connection.send(*map(payload, some))
        for other in others:  # the commit process is asked as well, but not the disk
            ask(other, requests.sync("/"))
        assert time.monotonic() - started < 2
        accepted = 0
        with pytest.raises(ClosedError):
            while connection.recv()[12:16] == i32(0):
                accepted += 1
            connection.recv()
    assert peak.growth < SLACK_BYTES
    assert 100 < accepted < 1000
    for one in (connection, *others):
        one.close()


def test_control_the_measure_of_memory(tmp_path: Path) -> None:
    """It sees what a process takes: here its watches, which the clients' number bounds."""
    with Replica(tmp_path, 1) as replica:
        connection = replica.connect()
        with Peak(replica) as peak:
            for start in range(0, 40_000, 1000):
                paths = (f"/{'x' * 200}{number}" for number in range(start, start + 1000))
                connection.send(*(payload(requests.exists(path, True)) for path in paths))
                for _ in range(1000):
                    connection.recv()
            wait_for(lambda: peak.growth > 10 * MB)
        connection.close()
