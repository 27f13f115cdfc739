"""A whole replica without sockets, timers and threads: bytes in, bytes out, when the test says so.

Owns:   a data directory, the commit side and a worker, and the queue of what either wants to do.
Invariants:
  1. The same bytes in the same pieces give the same bytes out: clock and session ids are fixed.
  2. Nothing is caught: an exception in the server is one in the test.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from zkstore.commit.process import CommitServer, open_writer
from zkstore.frontend.client import Client
from zkstore.frontend.worker import Worker
from zkstore.messaging import memory_pair
from zkstore.settings import Settings
from zkstore.storage.disk import Disk
from zkstore.storage.view import Views
from zkstore.tree.auth import Providers

FIRST_SESSION_ID = 0x1000
CLOCK_MS = 1_700_000_000_000


class Queue:
    """As much of an event loop as the server needs; what is to be done later is never done."""

    def __init__(self) -> None:
        self._calls: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()

    def call_soon(self, call: Callable[..., object], *arguments: Any) -> None:
        self._calls.append((call, arguments))

    call_soon_threadsafe = call_soon

    def call_later(self, delay: float, call: Callable[..., object], *arguments: Any) -> Never:
        return Never()

    def run(self) -> None:
        """Until nothing is left to do."""
        while self._calls:
            call, arguments = self._calls.popleft()
            call(*arguments)


class Never:
    """The handle of a timer."""

    def cancel(self) -> None: ...


class Pipe(asyncio.Transport):
    """A client's transport: keeps what is written."""

    def __init__(self, client: Client) -> None:
        super().__init__({"peername": ("127.0.0.1", 4711)})
        self.written = bytearray()
        self.closed = self.ended = False
        self._client = client
        client.connection_made(self)

    def write(self, data: Any) -> None:
        assert not self.closed and not self.ended
        self.written += data

    def write_eof(self) -> None:
        self.ended = True

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._client.connection_lost(None)

    abort = close


class Machine:
    """The replica. `feed` is all that a client can do."""

    def __init__(self, folder: Path) -> None:
        settings = Settings(
            data_dir=str(folder), force_sync=False, disk_reserve_bytes=0,
            max_client_cnxns=0, fourletter_whitelist=("*",), super_digest="super:x",
        )  # fmt: skip
        self._queue = Queue()
        aio = cast(asyncio.AbstractEventLoop, self._queue)
        self._opened = open_writer(settings, Disk())
        self.commit = CommitServer(settings, self._opened, aio)
        self.commit.loop.sessions._next_id = FIRST_SESSION_ID
        self.commit.loop.prep._now_ms = lambda: CLOCK_MS
        views = Views(self._opened.replica.env)
        self.worker = Worker(settings, Providers.of(settings), views, aio)
        ours, theirs = memory_pair(aio)
        port = self.commit.loop.attach(ours)
        ours.on_message = lambda message: self.commit.loop.on_message(port, message)
        theirs.on_message = self.worker.on_message
        self.worker.start(theirs)
        self._queue.run()

    def connect(self) -> Pipe:
        pipe = Pipe(self.worker.client())
        self._queue.run()
        return pipe

    def feed(self, pipe: Pipe, data: bytes, piece: int = 0) -> None:
        """Give the server bytes of this client, `piece` of them at a time (0: all)."""
        client = pipe._client
        for at in range(0, len(data), piece or len(data) or 1):
            if pipe.closed:
                return
            client.data_received(data[at : at + piece] if piece else data)
            self._queue.run()

    def end(self, pipe: Pipe) -> None:
        """The client hangs up."""
        pipe.close()
        self._queue.run()

    def leftovers(self) -> list[str]:
        """What is still kept for clients, when none is connected."""
        loop, worker = self.commit.loop, self.worker
        kept = {
            "clients": worker._clients,
            "outstanding": worker.in_process + worker.queued,
            "outstanding bytes": worker.outstanding_bytes,
            "watches": bool(worker.watches),
            "holding": worker.holding,
            "dirty": worker.dirty,
            "connections": loop.ports.total,
            "waiting": loop.waiting,
            "deferred": loop._deferred,
            "changes in flight": loop.prep._changes,
        }
        return [name for name, what in kept.items() if what]

    def close(self) -> None:
        self.commit.abandon()
