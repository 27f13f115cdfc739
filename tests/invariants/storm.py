"""Clients that write and read the same few nodes in pipelines, all at once.

Invariants:
  1. Every data written is a token of its own, so that what a read saw names the write.
  2. Bounded: by the number of rounds, and each client has at most OUTSTANDING_MAX requests in
     flight.
"""

from __future__ import annotations

import asyncio
import random
from typing import Final

from tests.conformance import requests
from tests.conformance.requests import EPHEMERAL_SEQUENTIAL, SEQUENTIAL, Request
from tests.conformance.wire import Reader
from tests.invariants.client import Client, connect
from tests.invariants.history import CREATE, Call, History

NODES: Final = 4
OUTSTANDING_MAX: Final = 64


class Storm:
    """Clients over one subtree. Call `prepare`, then `rage` as often as you like."""

    def __init__(self, address: tuple[str, int], history: History, root: str, seed: int) -> None:
        self.history = history
        self.root = root
        self.clients: list[Client] = []
        self._address = address
        self._rng = random.Random(seed)
        self._tokens = 0
        self._made: list[str] = []

    async def prepare(self, clients: int) -> None:
        """Open the sessions and create the nodes."""
        for number in range(clients):
            log = self.history.log(f"{self.root} client {number}")
            self.clients.append(await connect(self._address, log))
        first = self.clients[0]
        await first.done(requests.create(self.root))
        await first.done(requests.create(f"{self.root}/children"))
        for number in range(NODES):
            await first.done(requests.create(f"{self.root}/{number}", self.token()))

    async def rage(self, rounds: int) -> None:
        """Every client sends `rounds` pipelines of random requests."""
        await asyncio.gather(*(self._one(client, rounds) for client in self.clients))

    async def _one(self, client: Client, rounds: int) -> None:
        in_flight: list[asyncio.Future[Call]] = []
        for _ in range(rounds):
            size = self._rng.choice((1, 1, 2, 5, 20))
            for future in client.send(*(self.request() for _ in range(size))):
                future.add_done_callback(self._learn)
                in_flight.append(future)
            if len(in_flight) > OUTSTANDING_MAX or self._rng.random() < 0.3:
                await client.quiet()
                in_flight.clear()
            elif self._rng.random() < 0.5:
                await asyncio.sleep(0)
        await client.quiet()

    def _learn(self, future: asyncio.Future[Call]) -> None:
        """Remember the names that the server chose, so that anyone may delete them."""
        if not future.cancelled() and future.exception() is None:
            call = future.result()
            if call.opcode == CREATE and not call.error:
                self._made.append(Reader(call.body).ustring() or "")

    def token(self) -> bytes:
        self._tokens += 1
        return b"%d" % self._tokens

    def path(self) -> str:
        return f"{self.root}/{self._rng.randrange(NODES)}"

    def request(self) -> Request:
        """Half reads, half writes."""
        choice = self._rng.randrange(14)
        if choice < 3:
            return requests.get_data(self.path())
        if choice < 5:
            return requests.exists(self.path())
        if choice < 7:
            return requests.get_children(f"{self.root}/children")
        if choice < 10:
            return requests.set_data(self.path(), self.token())
        if choice == 10:
            # A version that may have passed: refused, and still in its order.
            return requests.set_data(self.path(), self.token(), version=self._rng.randrange(50))
        if choice == 11:
            two = (requests.set_data(self.path(), self.token()) for _ in range(2))
            return requests.multi(*two)
        if choice == 12 and self._made:
            return requests.delete(self._made.pop(self._rng.randrange(len(self._made))))
        flags = self._rng.choice((SEQUENTIAL, EPHEMERAL_SEQUENTIAL))
        return requests.create(f"{self.root}/children/c", self.token(), flags=flags)

    async def close(self) -> None:
        """End all sessions."""
        await asyncio.gather(*(client.close() for client in self.clients))
