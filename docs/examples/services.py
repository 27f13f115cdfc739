"""Register services, and discover them: whoever is connected is in the list.

Prints:
web at: 10.0.0.1
web at: 10.0.0.1, 10.0.0.2
web at: 10.0.0.2
"""

import asyncio

from zkstore import Server
from zkstore.client import TEXT, Client


async def register(address: str, host: str) -> Client:
    client = Client(address)
    await client.connect()
    await client.typed(TEXT).create("/web/", host, ephemeral=True, sequential=True, parents=True)
    return client


async def main(address: str) -> None:
    services = [await register(address, "10.0.0.1")]
    async with Client(address) as client:
        async for names in client.observe_children("/web"):
            hosts = [node.value async for node in client.typed(TEXT).nodes("/web")]
            print("web at:", ", ".join(hosts))
            if len(services) == 1:
                services.append(await register(address, "10.0.0.2"))
            elif names and len(names) == 2:
                await services[0].close()
            else:
                break
    await services[1].close()


if __name__ == "__main__":
    with Server() as server:
        asyncio.run(main(server.address))
