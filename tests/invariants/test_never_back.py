"""NeverBack: no session ever sees an older state than one it has seen, across workers."""

from __future__ import annotations

import asyncio

import pytest

from tests.conformance import requests
from tests.invariants.broken import late_views
from tests.invariants.client import Client, RefusedError, connect
from tests.invariants.history import History, never_back
from tests.invariants.replica import Replica
from tests.invariants.storm import Storm


async def hop(address: tuple[str, int], history: History, name: str, path: str, hops: int) -> None:
    """One session that comes back over a new connection again and again, and reads at once."""
    client: Client | None = None
    for number in range(hops):
        log = history.log(f"{name} connection {number}")
        if client is None:
            client = await connect(address, log)
        else:
            client = await connect(
                address, log, session_id=client.session_id, password=client.password,
                last_zxid=client.last_zxid,
            )  # fmt: skip
        await client.ask(requests.get_data(path), requests.exists(path))
        await client.ask(requests.set_data(path, b"%d" % number), requests.get_data(path))
        if number % 2:
            client.cut()
            await client.ended()
    assert client is not None
    if not client.closed.done():
        await client.close()


def run_hops(address: tuple[str, int], root: str, *, hops: int) -> History:
    history = History()

    async def run() -> None:
        storm = Storm(address, history, root, seed=4)
        await storm.prepare(3)
        path = f"{root}/0"
        hopping = (hop(address, history, f"session {n}", path, hops) for n in range(4))
        await asyncio.gather(storm.rage(hops), *hopping)
        await storm.close()

    asyncio.run(run())
    return history


def test_never_back(replica: Replica) -> None:
    history = run_hops(replica.address, "/never_back", hops=50)
    assert history.violations() == []


def test_who_has_seen_more_than_the_server_is_turned_away(replica: Replica) -> None:
    """It would see the past; with what the server has, or less, it is welcome."""

    async def run() -> None:
        history = History()
        client = await connect(replica.address, history.log("writer"))
        await client.done(requests.create("/never_back_ahead"))
        ahead = client.last_zxid + 1_000_000
        with pytest.raises(RefusedError):
            await connect(replica.address, history.log("ahead"), last_zxid=ahead)
        equal = await connect(replica.address, history.log("equal"), last_zxid=client.last_zxid)
        await equal.close()
        await client.close()

    asyncio.run(run())


def test_control_views_of_the_turn_before(monkeypatch: pytest.MonkeyPatch) -> None:
    with late_views(monkeypatch) as address:
        history = run_hops(address, "/control", hops=20)
    assert list(never_back(history))
