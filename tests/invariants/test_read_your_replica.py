"""ReadYourReplica: once any client of a replica has the reply to a write, every later read on that
replica, through any worker, sees it."""

from __future__ import annotations

import asyncio
import random

import pytest

from tests.conformance import requests
from tests.invariants.broken import late_views
from tests.invariants.client import connect
from tests.invariants.history import History, visible
from tests.invariants.replica import Replica

READERS = 6


async def tell_and_read(
    address: tuple[str, int], history: History, root: str, rounds: int, writes_at_once: int
) -> None:
    """In each round one client writes, and all others read as soon as it has its reply."""
    rng = random.Random(2)
    logs = [history.log(f"client {number}") for number in range(READERS)]
    clients = [await connect(address, log) for log in logs]
    await clients[0].done(requests.create(root))
    for number in range(rounds):
        writer = rng.choice(clients)
        data = [b"%d.%d" % (number, part) for part in range(writes_at_once)]
        await writer.ask(*(requests.set_data(root, each) for each in data))
        reads = (client.ask(requests.get_data(root), requests.exists(root)) for client in clients)
        await asyncio.gather(*reads)
    await asyncio.gather(*(client.close() for client in clients))


@pytest.mark.parametrize("writes_at_once", [1, 16])
def test_read_your_replica(replica: Replica, writes_at_once: int) -> None:
    history = History()
    root = f"/read_your_replica_{writes_at_once}"
    asyncio.run(tell_and_read(replica.address, history, root, 150, writes_at_once))
    assert history.violations() == []


def test_a_new_session_sees_it_too(replica: Replica) -> None:
    """Its worker may never have heard of the node."""
    root = "/read_your_replica_new"
    history = History()

    async def run() -> None:
        writer = await connect(replica.address, history.log("writer"))
        await writer.done(requests.create(root))
        for number in range(20):
            await writer.done(requests.set_data(root, b"%d" % number))
            reader = await connect(replica.address, history.log(f"reader {number}"))
            await reader.done(requests.get_data(root))
            await reader.close()
        await writer.close()

    asyncio.run(run())
    assert history.violations() == []


def test_control_views_of_the_turn_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server whose reads come too late to see the newest write is found out."""
    history = History()
    with late_views(monkeypatch) as address:
        asyncio.run(tell_and_read(address, history, "/control", 20, 1))
    assert list(visible(history))
