"""Thousands of calls at once, against every kind of server."""

from __future__ import annotations

import asyncio
import random

import uvloop

from tests.client.loop import on_loop
from tests.client.proxy import Proxy
from tests.client.servers import Running
from zkstore.client import Client, ConnectionLoss
from zkstore.client.limits import REQUESTS_MAX

# A busy machine may need long for all of them; that is not what is tested here.
TIMEOUT_MS = 60_000
COUNT = 2500  # several times what may be in flight
assert COUNT > 2 * REQUESTS_MAX


@on_loop
async def test_calls_happen_in_the_order_in_which_they_were_made(address: str) -> None:
    async with Client(address, session_timeout_ms=TIMEOUT_MS) as client:
        await client.create("/a")
        writes = [client.set("/a", b"%d" % number) for number in range(COUNT)]
        written = await asyncio.gather(*writes)
        assert [node.version for node in written] == list(range(1, COUNT + 1))
        mixed = [
            client.set("/a", b"%d" % number) if number % 2 else client.get("/a")
            for number in range(COUNT)
        ]
        seen = await asyncio.gather(*mixed)
        for before, after in zip(seen[1::2], seen[2::2], strict=False):
            assert before == after, "a read shows the write before it"


@on_loop
async def test_a_large_tree_in_and_out(address: str) -> None:
    async with Client(address, session_timeout_ms=TIMEOUT_MS) as client:
        value = random.Random(1).randbytes(2000)
        await asyncio.gather(*(client.create(f"/{n:05}", value) for n in range(COUNT)))
        nodes = [node async for node in client.nodes("/")]
        assert [node.name for node in nodes] == [f"{n:05}" for n in range(COUNT)]
        assert {node.value for node in nodes} == {value}
        await asyncio.gather(*(client.delete(node.path, node.version) for node in nodes))
        assert await client.children("/") == []


@on_loop
async def test_large_values(address: str) -> None:
    value = random.Random(2).randbytes(900_000)
    async with Client(address, session_timeout_ms=TIMEOUT_MS) as client:
        await asyncio.gather(*(client.create(f"/{n}", value) for n in range(10)))
        for node in await asyncio.gather(*(client.get(f"/{n}") for n in range(10))):
            assert node.value == value


@on_loop
async def test_cancelled_calls_leave_the_others_alone(address: str) -> None:
    dice = random.Random(3)
    async with Client(address, session_timeout_ms=TIMEOUT_MS) as client:
        await client.create("/a", b"here")
        calls = [
            asyncio.ensure_future(client.get("/a") if n % 3 else client.set("/a", b"here"))
            for n in range(COUNT)
        ]
        given_up = set(dice.sample(calls, COUNT // 3))
        for call in given_up:
            if dice.random() < 0.1:
                await asyncio.sleep(0)
            call.cancel()
        results = await asyncio.gather(*calls, return_exceptions=True)
        for call, result in zip(calls, results, strict=True):
            if call not in given_up:
                assert not isinstance(result, BaseException) and result.value == b"here"


@on_loop
async def test_reads_in_flight_survive_cuts(shared_server: Running, chroot: str) -> None:
    async with (
        Proxy(shared_server.address) as proxy,
        Client(proxy.address + chroot, session_timeout_ms=TIMEOUT_MS) as client,
    ):
        await asyncio.gather(*(client.create(f"/{n}", b"%d" % n) for n in range(100)))
        reads = [asyncio.ensure_future(client.get(f"/{n % 100}")) for n in range(COUNT)]
        writes = [asyncio.ensure_future(client.set("/0", b"0")) for _ in range(COUNT)]
        for done in (10, 500, 1500):
            await reads[done]
            proxy.cut()
        values = [node.value for node in await asyncio.gather(*reads)]
        assert values == [b"%d" % (n % 100) for n in range(COUNT)]
        outcomes = await asyncio.gather(*writes, return_exceptions=True)
        failed = [one for one in outcomes if isinstance(one, BaseException)]
        assert all(isinstance(one, ConnectionLoss) for one in failed)
        assert failed


def test_any_event_loop_will_do(embedded: str) -> None:
    async def main() -> None:
        async with Client(embedded, session_timeout_ms=TIMEOUT_MS) as client:
            await client.create("/a", b"x")
            nodes = await asyncio.gather(*(client.get("/a") for _ in range(COUNT)))
            assert {node.value for node in nodes} == {b"x"}

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
