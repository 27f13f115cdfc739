"""A bound on calls in flight, first come, first served.

Owns:   the count of free slots and the callers that wait for one.
Design: asyncio.Semaphore looks at every waiter it has woken before, each time that it wakes one
        more; when a thousand replies arrive in one read that is a million looks, and was two fifths
        of the client's time. Here a slot goes from hand to hand.
"""

from __future__ import annotations

import asyncio
from collections import deque


class Slots:
    def __init__(self, count: int) -> None:
        self._free = count
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def acquire(self) -> None:
        """Take a slot, when all who came before have got theirs."""
        if self._free and not self._waiting:
            self._free -= 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # it was this one's turn, at the same moment
                self.release()
            raise

    def release(self) -> None:
        """Hand a slot to the next caller who still waits."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1
