"""The line of a worker's clients whose requests wait for room in process.

Owns:   the line, and the timer that looks whether other workers have left room.
Invariants:
  1. A client stands in line at most once, and whoever came first goes first; one turn takes as much
     room as there is, and what is left of its requests goes to the end.
  2. Nobody waits for a wake-up that does not come: while there is a line it is looked at with each
     message of the commit process, and once every request_throttle_stall_time.
Not here: how much room there is (session/throttle.py), the requests (frontend/client.py).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from zkstore.frontend.board import WAITING, Board
from zkstore.observability.log import Limited
from zkstore.observability.metrics import Distribution
from zkstore.proto import opcodes as op
from zkstore.session.throttle import RequestThrottle
from zkstore.settings import Settings

if TYPE_CHECKING:
    from zkstore.frontend.client import Client

_log = logging.getLogger("zkstore.worker")


class Line:
    """Empty, and without any cost, while request_throttle_max_requests is 0."""

    def __init__(
        self,
        board: Board,
        aio: asyncio.AbstractEventLoop,
        on_stall: Callable[[], None],
    ) -> None:
        """`on_stall` is called again and again while somebody waits."""
        self.throttle = RequestThrottle(Settings())
        self.reset()
        self._board = board
        self._clients: deque[Client] = deque()
        self._standing: set[Client] = set()
        self._aio = aio
        self._on_stall = on_stall
        self._timer: asyncio.TimerHandle | None = None
        self._complain = Limited(_log, logging.WARNING)

    def __len__(self) -> int:
        return len(self._clients)

    def reset(self) -> None:
        """What `srst` resets."""
        self.counters: Counter[str] = Counter()
        self.waited_ms = Distribution()

    def join(self, client: Client) -> None:
        """There is no room for the oldest request of this client."""
        if client in self._standing:
            return
        self.counters["request_throttle_wait_count"] += 1
        self._clients.append(client)
        self._standing.add(client)
        self._board.put(WAITING, 1)
        if self._timer is None:
            self._stall()

    def next(self) -> Client:
        """Whose turn it is; it has left the line."""
        client = self._clients.popleft()
        self._remove(client)
        return client

    def _remove(self, client: Client) -> None:
        self._standing.remove(client)
        if not self._standing:
            self._board.put(WAITING, 0)

    def _stall(self) -> None:
        self._timer = self._aio.call_later(self.throttle.stall_ms / 1000, self._stalled)

    def _stalled(self) -> None:
        self._timer = None
        self._on_stall()
        if self._clients and self._timer is None:
            self._stall()

    def drop_stale(self) -> None:
        """End the connections of requests that are older than their sessions' timeouts."""
        now = time.monotonic()
        for client in list(self._clients):
            age_ms = client.waits_s(now) * 1000
            if self.throttle.is_stale(age_ms, client.timeout_ms):
                client.fail(
                    f"a request waited {age_ms:.0f} ms for room: request_stale_latency_check"
                )

    def is_late(self, kind: int, waited_s: float) -> bool:
        """Whether a request that waited so long is refused instead of processed (reference R6)."""
        return kind != op.CLOSE_SESSION and self.throttle.is_late(waited_s * 1000)

    def passed(self, client: Client, waited_s: float, *, late: bool) -> None:
        """A request's wait is over.

        Its session is touched, as by one that comes in: who sent much and waits for its replies
        does not expire while it is served (reference H5; ZooKeeperServer.submitRequestNow).
        """
        client.heard_ms = int(time.monotonic() * 1000)
        waited_ms = waited_s * 1000
        self.waited_ms.add(1, waited_ms)
        if late:
            self.counters["throttled_ops"] += 1
            self._complain(
                "%s:%s session %#x: a request waited %d ms for room and is refused:"
                " throttled_op_wait_time=%d, request_throttle_max_requests=%d",
                client.address, client.port, client.session_id, waited_ms,
                self.throttle.late_ms, self.throttle.requests_max,
            )  # fmt: skip

    def leave(self, client: Client, requests: int) -> None:
        """A connection ended while so many of its requests waited."""
        if client in self._standing:
            self._clients.remove(client)
            self._remove(client)
        name = "stale_requests_dropped" if self.throttle.drops_closed else "stale_requests"
        self.counters[name] += requests
