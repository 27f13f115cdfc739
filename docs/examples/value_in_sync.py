"""Keep a value in sync: what one client writes, the other has a moment later.

Prints:
the other client sees red
the other client sees blue
"""

import asyncio

from zkstore import Server
from zkstore.client import JSON, Client


async def main(address: str) -> None:
    async with Client(address) as one, Client(address) as other:
        settings = one.typed(JSON)
        await settings.create("/settings", {"colour": "red"})
        async for node in other.typed(JSON).observe("/settings"):
            if node is not None:
                print("the other client sees", node.value["colour"])
                if node.value["colour"] == "blue":
                    break
            await settings.set("/settings", {"colour": "blue"})


if __name__ == "__main__":
    with Server() as server:
        asyncio.run(main(server.address))
