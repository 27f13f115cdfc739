"""The embedded form: worker and commit process on one loop of one process, the messages passed in
memory.

Owns:   the event loop's thread of `Server`, the listening socket it bound.
Invariants:
  1. The same code as the processes run, the same durability: only the channel between the two is
     another.
Design: for tests and small set-ups it starts in a fraction of a second; on one core it is the
        faster form as well. `Server` is the Python API; `serve` is what `zkstore serve --embedded`
        runs.
"""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import signal
import socket
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Final

import uvloop

from zkstore.commit.process import CommitServer, Opened, open_writer
from zkstore.frontend.worker import Worker
from zkstore.messaging import memory_pair
from zkstore.server.ready import Ready
from zkstore.settings import Settings
from zkstore.storage.disk import Disk
from zkstore.tree.auth import Providers

_RESERVE_BYTES: Final = 16 << 20  # a test's disk need not give up a quarter of a gigabyte


class Replica:
    """One whole replica on the running loop."""

    def __init__(self, settings: Settings, opened: Opened) -> None:
        aio = asyncio.get_running_loop()
        self._commit = CommitServer(settings, opened, aio)
        self._worker = Worker(settings, Providers.of(settings), opened.writer.views, aio)
        ours, theirs = memory_pair(aio)
        self._channel = ours
        port = self._commit.loop.attach(ours)
        ours.on_message = lambda message: self._commit.loop.on_message(port, message)
        theirs.on_message = self._worker.on_message
        self._worker.start(theirs)
        self._servers: list[asyncio.AbstractServer] = []

    async def listen(self, sockets: Sequence[socket.socket]) -> None:
        aio = asyncio.get_running_loop()
        await self._commit.start()
        for sock in sockets:
            self._servers.append(await aio.create_server(self._worker.client, sock=sock))

    async def stop(self) -> None:
        """A clean stop: clients are cut, what they sent is answered, the last checkpoint is
        taken."""
        for server in self._servers:
            server.close()
        self._worker.stop()
        await asyncio.sleep(0)
        self._channel.close()
        self._commit.close()

    def abandon(self) -> None:
        """The end as a crash would make it: nothing is flushed, nothing is checkpointed."""
        for server in self._servers:
            server.close()
        self._channel.close()
        self._worker.stop()
        self._commit.abandon()


def serve(
    settings: Settings, sockets: Sequence[socket.socket], on_ready: Callable[[Ready], None]
) -> None:
    """Serve in this process until SIGTERM or SIGINT."""
    opened = open_writer(settings, Disk())

    async def run() -> None:
        aio = asyncio.get_running_loop()
        aio.set_exception_handler(_fatal)
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            aio.add_signal_handler(number, stop.set)
        replica = Replica(settings, opened)
        await replica.listen(sockets)
        gc.freeze()
        gc.set_threshold(100_000, 50, 50)
        on_ready(_ready(opened))
        await stop.wait()
        await replica.stop()

    uvloop.run(run())


def _ready(opened: Opened) -> Ready:
    return Ready(
        zxid=opened.writer.applied,
        znodes=opened.writer.totals.nodes + 1,
        replayed=opened.replayed,
        seconds=opened.seconds,
    )


def _fatal(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """An error that is nobody's request: nothing is served from an unknown state."""
    loop.default_exception_handler(context)
    os._exit(1)


class Server:
    """A real, durable server in this process, on a thread of its own, for people's own test suites.

    with zkstore.Server() as server:
        client = KazooClient(server.address)

    Without a data_dir the data lives in a temporary directory and goes with the server.
    """

    def __init__(
        self,
        data_dir: str | os.PathLike[str] | None = None,
        *,
        port: int = 0,
        host: str = "127.0.0.1",
        settings: Settings | None = None,
        disk: Disk | None = None,
        **overrides: Any,
    ) -> None:
        """`overrides` are fields of Settings, such as tick_time_ms=100."""
        self._temporary = tempfile.mkdtemp(prefix="zkstore-") if data_dir is None else None
        self.data_dir = os.fspath(data_dir) if data_dir is not None else str(self._temporary)
        base = settings or Settings(
            max_client_cnxns=0, fourletter_whitelist=("*",), disk_reserve_bytes=_RESERVE_BYTES
        )
        self.settings = replace(base, data_dir=self.data_dir, client_port=port, **overrides)
        self._host = host
        self._disk = disk or Disk()
        self._thread: threading.Thread | None = None
        self._aio: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._failure: BaseException | None = None
        self._killed = False
        self.port = port

    @property
    def address(self) -> str:
        """host:port, as every client takes it."""
        return f"{self._host}:{self.port}"

    def start(self) -> Server:
        """Start and wait until clients are served. Raises: what opening the data directory
        raises."""
        assert self._thread is None, "already started"
        started = threading.Event()
        self._thread = threading.Thread(
            target=self._run, args=(started,), name="zkstore", daemon=True
        )
        self._thread.start()
        started.wait()
        if self._failure is not None:
            failure, self._failure = self._failure, None
            self._thread = None
            raise failure
        return self

    def _run(self, started: threading.Event) -> None:
        try:
            # Before the data: a port that is taken must not leave an open replica behind.
            with socket.create_server(
                (self._host, self.settings.client_port), backlog=1024
            ) as sock:
                opened = open_writer(self.settings, self._disk)
                uvloop.run(self._main(opened, sock, started))
        except BaseException as e:  # noqa: BLE001
            # Whatever it was belongs to whoever starts or stops the server: raised there.
            self._failure = e
            started.set()

    async def _main(self, opened: Opened, sock: socket.socket, started: threading.Event) -> None:
        self._aio = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self.port = sock.getsockname()[1]
        self._aio.set_exception_handler(self._fatal)
        server = Replica(replace(self.settings, client_port=self.port), opened)
        await server.listen([sock])
        started.set()
        await self._stop.wait()
        if self._killed:
            server.abandon()
        else:
            await server.stop()

    def _fatal(self, aio: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """An error that is nobody's request: nothing is served from an unknown state."""
        self._failure = context.get("exception") or RuntimeError(context["message"])
        self._killed = True
        assert self._stop is not None
        self._stop.set()

    def kill(self) -> None:
        """The end as kill -9 would make it: the next start recovers from checkpoint and journal."""
        self._killed = True
        self.stop()

    def stop(self) -> None:
        """A clean stop. The data stays, unless its directory was temporary.

        Raises: what made the server fail, if it did.
        """
        if self._thread is None:
            return
        if self._aio is not None and self._stop is not None:
            try:
                self._aio.call_soon_threadsafe(self._stop.set)
            except RuntimeError:
                pass  # it has failed and ended by itself: its error is raised below
        self._thread.join()
        self._thread = None
        self._killed = False
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def __enter__(self) -> Server:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
