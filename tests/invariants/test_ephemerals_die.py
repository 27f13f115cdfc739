"""EphemeralsDie: a closed or expired session's ephemerals go in one txn, and never before the
session's timeout."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import zkstore
from tests.conformance import requests
from tests.conformance.requests import EPHEMERAL
from tests.conformance.wire import Reader
from tests.invariants.client import Client, connect
from tests.invariants.history import (
    DELETED,
    History,
    Log,
    fifo,
    never_back,
    own,
    read_names,
    visible,
    watch_first,
)
from tests.invariants.replica import TICK_MS, Replica, wait_for
from zkstore.session.tracker import Session, Tracker
from zkstore.tree.apply import Batch, Result

TIMEOUT_MS = 2000
# Rounded up to a tick, looked for every half second, and the machine may be slow: the very moment
# is tests/unit/test_tracker.py's.
LATE_MS = TICK_MS + 500 + 30_000
NODES = 40
RECURSIVE = 1


@pytest.fixture(scope="module", params=[2, 3], ids=lambda workers: f"{workers}-workers")
def replica(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Replica]:
    """One that does not flush: how long a disk takes must not end a session, nor delay its end."""
    workers: int = request.param
    folder = tmp_path_factory.mktemp(f"ephemerals{workers}")
    with Replica(folder, workers, {"forceSync": "no"}) as server:
        yield server


async def own_nodes(client: Client, root: str) -> list[str]:
    """Ephemerals below the root; returns their paths."""
    paths = [f"{root}/{client.session_id:x}.{number}" for number in range(NODES)]
    calls = await client.ask(*(requests.create(path, flags=EPHEMERAL) for path in paths))
    assert all(call.error == 0 for call in calls)
    return paths


def scattered(log: Log, owned: dict[int, list[str]]) -> Iterator[str]:
    """Sessions whose ephemerals did not go together, as the watcher of this log was told."""
    gone = {event.path: event.zxid for event in log.events() if event.kind == DELETED}
    for session, paths in owned.items():
        zxids = {gone.get(path) for path in paths}
        if len(zxids) != 1:
            yield f"session {session:#x}: its ephemerals went at {zxids}"


def half_seen(log: Log, owned: dict[int, list[str]]) -> Iterator[str]:
    """Reads that saw a part of a session's ephemerals."""
    for call in log.replies():
        if not call.request.text.startswith("getChildren"):
            continue
        names = set(read_names(Reader(call.body)))
        for paths in owned.values():
            seen = len(names.intersection(path.rpartition("/")[2] for path in paths))
            if seen not in (0, len(paths)):
                yield f"{call} shows {seen} of {len(paths)}"


async def _watch(client: Client, root: str, done: asyncio.Event) -> None:
    """Look at the children all the time."""
    while not done.is_set():
        await client.ask(*[requests.get_children(root)] * 10)
        await asyncio.sleep(0.002)


async def end_sessions(
    address: tuple[str, int], root: str, history: History, timeout_ms: int = TIMEOUT_MS
) -> tuple[Log, dict[int, list[str]], list[tuple[float, int]]]:
    """Sessions end by closeSession, by silence on an open connection, and by a cut connection.

    Returns the watcher's log, who owned what, and when which of the silent ones was heard last.
    """
    watcher = await connect(address, history.log("watcher"))
    await watcher.done(requests.create(root))
    sessions = []
    owned = {}
    for number in range(6):
        log = history.log(f"session {number}")
        client = await connect(address, log, timeout_ms=timeout_ms)
        owned[client.session_id] = await own_nodes(client, root)
        sessions.append(client)
    await watcher.done(requests.add_watch(root, RECURSIVE))
    done = asyncio.Event()
    watching = asyncio.create_task(_watch(watcher, root, done))
    heard = []
    for number, client in enumerate(sessions):
        if number % 3:
            heard.append((time.monotonic(), client.session_id))
            await client.ask(requests.ping())
    for number, client in enumerate(sessions):
        if number % 3 == 0:
            await client.close()
        elif number % 3 == 1:
            client.cut()
    # Those that said nothing more are closed by the server.
    await asyncio.gather(*(client.ended() for client in sessions))
    while len([e for e in watcher.log.events() if e.kind == DELETED]) < 6 * NODES:
        await watcher.done(requests.sync(root))
        await asyncio.sleep(0.01)
        assert time.monotonic() - heard[-1][0] < (timeout_ms + LATE_MS) / 1000
    done.set()
    await watching
    await watcher.close()
    return watcher.log, owned, heard


def too_early(
    log: Log,
    owned: dict[int, list[str]],
    heard: list[tuple[float, int]],
    timeout_ms: int = TIMEOUT_MS,
) -> Iterator[str]:
    """Silent sessions that lived shorter than their timeout."""
    gone = {event.path: event.heard for event in log.events() if event.kind == DELETED}
    for since, session in heard:
        lived_ms = (gone[owned[session][0]] - since) * 1000
        if lived_ms < timeout_ms:
            yield f"session {session:#x} expired after {lived_ms:.0f} ms"


def test_ephemerals_die(replica: Replica) -> None:
    history = History()
    log, owned, heard = asyncio.run(end_sessions(replica.address, "/ephemerals_die", history))
    assert list(scattered(log, owned)) == []
    assert list(half_seen(log, owned)) == []
    assert list(too_early(log, owned, heard)) == []
    for check in (fifo, own, never_back, watch_first, visible):
        assert list(check(history)) == []


def test_a_session_that_pings_keeps_its_nodes(replica: Replica) -> None:
    """Every worker reports what it heard, for whomever it was, and however busy the others are."""
    root = "/ephemerals_die_pings"

    async def run() -> None:
        history = History()
        clients = []
        for number in range(6):
            log = history.log(f"session {number}")
            clients.append(await connect(replica.address, log, timeout_ms=TIMEOUT_MS))
        await clients[0].done(requests.create(root))
        owned = [await own_nodes(client, root) for client in clients]
        until = time.monotonic() + 2 * TIMEOUT_MS / 1000
        while time.monotonic() < until:
            for client in clients:
                client.send(requests.ping())
            await asyncio.sleep(TIMEOUT_MS / 6000)
        for client in clients:
            await client.quiet()
        there = await clients[0].done(requests.get_children(root))
        assert len(read_names(Reader(there.body))) == sum(map(len, owned))
        for client in clients:
            await client.close()

    asyncio.run(run())


def test_what_a_killed_worker_had_heard_counts(tmp_path: Path) -> None:
    """It dies with the news of a ping that it has answered."""
    settings = {"tickTime": "50", "minSessionTimeout": "100", "forceSync": "no"}
    with Replica(tmp_path, 2, settings) as replica:

        async def run() -> None:
            history = History()
            watcher = await connect(replica.address, history.log("watcher"))
            await watcher.done(requests.create("/top"))
            client = await connect(replica.address, history.log("one"), timeout_ms=TIMEOUT_MS)
            await client.done(requests.create("/top/e", flags=EPHEMERAL))
            await asyncio.sleep(0.5 * TIMEOUT_MS / 1000)
            heard = time.monotonic()
            await client.ask(requests.ping())
            for pid in replica.workers():
                replica.kill(pid)
            await client.ended()
            wait_for(replica.serves)
            watcher = await connect(replica.address, history.log("watcher again"))
            while (await watcher.one(requests.exists("/top/e"))).error == 0:
                await asyncio.sleep(0.01)
            assert (time.monotonic() - heard) * 1000 >= TIMEOUT_MS
            await watcher.close()

        asyncio.run(run())


def test_control_a_hasty_tracker(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that expires sessions at a quarter of their timeout is found out."""
    timeout_ms = 8000  # a machine may be slow: there is time to begin with, and to be early

    def due(self: Tracker, session: Session) -> int:
        return session.heard_ms + session.timeout_ms // 4

    monkeypatch.setattr(Tracker, "_due", due)
    history = History()
    with zkstore.Server(
        tick_time_ms=TICK_MS, max_session_timeout_ms=60_000, force_sync=False
    ) as server:
        address = ("127.0.0.1", server.port)
        log, owned, heard = asyncio.run(end_sessions(address, "/control", history, timeout_ms))
    assert list(too_early(log, owned, heard, timeout_ms))


def test_control_ephemerals_that_go_in_two_txns(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that leaves the rest to a second txn is found out."""

    def first_half(self: Batch, zxid: int, session_id: int, paths: list[bytes]) -> Result:
        for path in paths[: len(paths) // 2]:
            self._delete(zxid, path)
        return 0, b""

    monkeypatch.setattr(Batch, "_close_session", first_half)
    history = History()

    async def run(address: tuple[str, int]) -> tuple[Log, dict[int, list[str]]]:
        watcher = await connect(address, history.log("watcher"))
        await watcher.done(requests.create("/control"))
        client = await connect(address, history.log("one"))
        owned = {client.session_id: await own_nodes(client, "/control")}
        await watcher.done(requests.add_watch("/control", RECURSIVE))
        await client.close()
        left = await watcher.done(requests.get_children("/control"))
        for name in read_names(Reader(left.body)):
            await watcher.done(requests.delete(f"/control/{name}"))
        await watcher.close()
        return watcher.log, owned

    with zkstore.Server(tick_time_ms=TICK_MS) as server:
        log, owned = asyncio.run(run(("127.0.0.1", server.port)))
    assert list(scattered(log, owned))
    assert list(half_seen(log, owned))
