"""Elect a leader: whoever came first leads; everybody else waits for the one before him to go.

Nobody watches more than one node, so a leader who goes wakes one candidate, not all of them.

Prints:
ann leads
bob leads
cid leads
"""

import asyncio

from zkstore import Server
from zkstore.client import Client


async def stand(address: str, name: str, stands: asyncio.Event) -> None:
    async with Client(address) as client:
        me = await client.create("/leader/", ephemeral=True, sequential=True, parents=True)
        stands.set()
        while before := [c for c in await client.children("/leader") if c < me.name]:
            async for node in client.observe(f"/leader/{before[-1]}"):
                if node is None:
                    break
        print(name, "leads")
    # The session ends here, as it would end with the program: the next one leads.


async def main(address: str) -> None:
    async with asyncio.TaskGroup() as candidates:
        for name in ("ann", "bob", "cid"):
            stands = asyncio.Event()
            candidates.create_task(stand(address, name, stands))
            await stands.wait()


if __name__ == "__main__":
    with Server() as server:
        asyncio.run(main(server.address))
