"""SessionOrder: replies of a session leave in the order of its requests; a read sees that session's
earlier writes, and not its later ones."""

from __future__ import annotations

import asyncio

import pytest

import zkstore
from tests.conformance import requests
from tests.invariants.client import connect
from tests.invariants.history import History, fifo, own
from tests.invariants.replica import Replica
from tests.invariants.storm import Storm
from zkstore.frontend import reads
from zkstore.frontend.client import Client
from zkstore.proto import replies


def run_storm(address: tuple[str, int], root: str, *, clients: int, rounds: int) -> History:
    history = History()

    async def run() -> None:
        storm = Storm(address, history, root, seed=1)
        await storm.prepare(clients)
        await storm.rage(rounds)
        await storm.close()

    asyncio.run(run())
    return history


def test_session_order(replica: Replica) -> None:
    history = run_storm(replica.address, "/session_order", clients=6, rounds=150)
    assert len(history.answered()) > 2000
    assert history.violations() == []


def test_a_read_in_a_pipeline_sees_exactly_the_writes_before_it(replica: Replica) -> None:
    """Each data is read between the write of it and the write of the next."""
    root = "/session_order_versions"
    history = History()

    async def run() -> None:
        client = await connect(replica.address, history.log("one"))
        other = await connect(replica.address, history.log("other"))
        await client.done(requests.create(root))
        for start in range(0, 400, 40):
            # Another session's writes to another node make batches that the pipeline falls into.
            noise = other.send(*(requests.set_data("/", b"%d" % n) for n in range(20)))
            pipeline = []
            for number in range(start, start + 40):
                pipeline.append(requests.set_data(root, b"%d" % number))
                pipeline.append(requests.get_data(root))
                if number % 7 == 0:
                    pipeline.append(requests.sync(root))
            await client.ask(*pipeline)
            await asyncio.gather(*noise)
        await client.close()
        await other.close()

    asyncio.run(run())
    assert history.violations() == []


def test_pings_and_auth_do_not_wait_and_disturb_nothing(replica: Replica) -> None:
    history = History()

    async def run() -> None:
        client = await connect(replica.address, history.log("one"))
        await client.done(requests.create("/session_order_pings", b""))
        for number in range(50):
            client.send(
                requests.set_data("/session_order_pings", b"%d" % number),
                requests.ping(),
                requests.get_data("/session_order_pings"),
                requests.auth("digest", b"user:%d" % number),
                requests.exists("/session_order_pings"),
            )
        await client.quiet()
        await client.close()

    asyncio.run(run())
    assert history.violations() == []


def test_control_reads_that_do_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server whose reads overtake the writes of their session is found out."""
    dispatch = Client._dispatch

    def hasty(self: Client, frame: bytes, xid: int, kind: int, now: float) -> None:
        if kind not in reads.HANDLERS:
            dispatch(self, frame, xid, kind, now)
            return
        with self.worker.view() as view:
            body = reads.HANDLERS[kind](view, self, frame)
            self.send(replies.reply(xid, view.applied, body))

    monkeypatch.setattr(Client, "_dispatch", hasty)
    with zkstore.Server() as server:
        history = run_storm(("127.0.0.1", server.port), "/control", clients=2, rounds=40)
    assert list(fifo(history))
    assert list(own(history))
