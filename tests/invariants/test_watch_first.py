"""WatchFirst: a client gets the event for a change before it can read anything that is newer than
the change; events come in zxid order."""

from __future__ import annotations

import asyncio
import random

import pytest

import zkstore
from tests.conformance import requests
from tests.conformance.wire import Reader
from tests.invariants.client import Client, connect
from tests.invariants.history import (
    CHANGED,
    CREATED,
    DELETED,
    MULTI,
    SET_DATA,
    History,
    merged,
    watch_first,
)
from tests.invariants.replica import Replica
from tests.invariants.storm import NODES, Storm
from zkstore.frontend.worker import Worker
from zkstore.storage.view import View

RECURSIVE = 1


async def watch(client: Client, root: str, rounds: int, seed: int) -> None:
    """Read in pipelines, with a one-shot watch now and then, and write a little."""
    rng = random.Random(seed)
    for number in range(rounds):
        path = f"{root}/{rng.randrange(NODES)}"
        pipeline = [
            requests.get_data(path, watch=rng.random() < 0.5),
            requests.exists(path),
            requests.get_children(f"{root}/children", watch=rng.random() < 0.5),
        ]
        if number % 5 == 0:
            pipeline.insert(1, requests.set_data(path, b"w%d.%d" % (seed, number)))
        await client.ask(*pipeline)


def run_watched_storm(
    address: tuple[str, int], root: str, *, rounds: int, watchers: int
) -> History:
    history = History()

    async def run() -> None:
        storm = Storm(address, history, root, seed=3)
        await storm.prepare(3)
        watching = []
        for number in range(watchers):
            client = await connect(address, history.log(f"watcher {number}"))
            await client.done(requests.add_watch(root, RECURSIVE))
            watching.append(client)
        await asyncio.gather(
            storm.rage(rounds),
            *(watch(client, root, rounds, seed) for seed, client in enumerate(watching)),
        )
        # Whoever reads behind the last change must have been told of all.
        for client in watching:
            await client.done(requests.sync("/"))
            await client.done(requests.get_data(root))
        for client in [*storm.clients, *watching]:
            await client.close()

    asyncio.run(run())
    return history


def expected_events(history: History, since: int) -> list[tuple[int, str]]:
    """(zxid, path) of every data change later than `since`."""
    expected = []
    for call in history.answered():
        if call.error or call.zxid <= since:
            continue
        if call.opcode == SET_DATA:
            expected.append((call.zxid, call.path))
        elif call.opcode == MULTI:
            reader = Reader(call.request.body)
            while not (reader.i32(), reader.i8(), reader.i32())[1]:
                expected.append((call.zxid, reader.ustring() or ""))
                reader.buffer(), reader.i32()
    return sorted(expected)


def test_watch_first(replica: Replica) -> None:
    root = "/watch_first"
    history = run_watched_storm(replica.address, root, rounds=120, watchers=4)
    assert history.violations() == []
    assert list(merged(history)) == []
    for log in history.logs[3:]:
        since = log.replies()[0].zxid  # of addWatch
        last = log.replies()[-2].zxid  # of the read behind the sync
        told = [(e.zxid, e.path) for e in log.events() if e.kind == CHANGED and e.zxid <= last]
        missed = [one for one in expected_events(history, since) if one[0] <= last]
        assert sorted(set(told)) == sorted(set(missed))
        assert {CREATED, DELETED, CHANGED} <= {event.kind for event in log.events()}


def test_a_one_shot_watch_tells_once(replica: Replica) -> None:
    """However many changes follow in the same batch, and through whatever worker they are made."""
    root = "/watch_first_once"
    history = History()

    async def run() -> None:
        clients = [await connect(replica.address, history.log(f"{n}")) for n in range(4)]
        await clients[0].done(requests.create(root))
        for number in range(30):
            await asyncio.gather(*(c.done(requests.get_data(root, watch=True)) for c in clients))
            writer = clients[number % 4]
            await writer.ask(*(requests.set_data(root, b"%d.%d" % (number, n)) for n in range(10)))
            await asyncio.gather(*(c.done(requests.exists(root)) for c in clients))
        for client in clients:
            await client.close()

    asyncio.run(run())
    assert history.violations() == []
    for log in history.logs:
        assert len(log.events()) == 30


def test_control_replies_before_events(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that shows the newest view before it has told the watchers is found out."""

    told = Worker.view

    def hasty(self: Worker) -> View:
        def tell() -> None:
            told(self).close()
            self.flush()

        self._loop.call_soon(tell)
        return self._views.open()

    monkeypatch.setattr(Worker, "view", hasty)
    with zkstore.Server() as server:
        address = ("127.0.0.1", server.port)
        history = run_watched_storm(address, "/control", rounds=30, watchers=2)
    assert list(watch_first(history)) or list(merged(history))
