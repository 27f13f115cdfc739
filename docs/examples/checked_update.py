"""Update a value that others update too: write it only if it is still what was read.

Prints:
20 clients added up to 210
"""

import asyncio

from zkstore import Server
from zkstore.client import JSON, BadVersion, Client


async def add(address: str, number: int) -> None:
    async with Client(address) as client:
        total = client.typed(JSON)
        while True:
            node = await total.get("/total")
            try:
                await total.set("/total", node.value + number, node.version)
                return
            except BadVersion:
                continue  # somebody was faster: read again


async def main(address: str) -> None:
    async with Client(address) as client:
        await client.typed(JSON).create("/total", 0)
        await asyncio.gather(*(add(address, number) for number in range(1, 21)))
        print("20 clients added up to", (await client.typed(JSON).get("/total")).value)


if __name__ == "__main__":
    with Server() as server:
        asyncio.run(main(server.address))
