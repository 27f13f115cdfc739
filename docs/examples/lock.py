"""Take a lock: one at a time, in the order of asking.

An error inside ends the session, and the place in the queue with it; so does a program that dies.
Where a lock has to be more than this (shared, timed, held by many threads), take kazoo's.

Prints:
10 increments made 10
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from zkstore import Server
from zkstore.client import JSON, Client


@asynccontextmanager
async def lock(address: str, path: str) -> AsyncIterator[Client]:
    async with Client(address) as client:
        me = await client.create(f"{path}/", ephemeral=True, sequential=True, parents=True)
        while before := [n for n in await client.children(path) if n < me.name]:
            async for node in client.observe(f"{path}/{before[-1]}"):
                if node is None:
                    break
        yield client


async def increment(address: str) -> None:
    async with lock(address, "/lock") as client:
        number = await client.typed(JSON).get("/number")
        await client.typed(JSON).set("/number", number.value + 1)


async def main(address: str) -> None:
    async with Client(address) as client:
        await client.typed(JSON).create("/number", 0)
        await asyncio.gather(*(increment(address) for _ in range(10)))
        print("10 increments made", (await client.typed(JSON).get("/number")).value)


if __name__ == "__main__":
    with Server() as server:
        asyncio.run(main(server.address))
