"""Observe a node, without asyncio: its present state, then each change, its end too.

Prints:
there is none
b'starting', version 0
b'running', version 1
there is none
"""

from zkstore import Server
from zkstore.client import SyncClient


def main(address: str) -> None:
    with SyncClient(address) as client, SyncClient(address) as program:
        steps = iter(
            [
                lambda: program.create("/status", b"starting", ephemeral=True),
                lambda: program.set("/status", b"running"),
                program.close,
            ]
        )
        for node in client.observe("/status"):
            print(f"{node.value!r}, version {node.version}" if node else "there is none")
            step = next(steps, None)
            if step is None:
                break
            step()


if __name__ == "__main__":
    with Server() as server:
        main(server.address)
