"""The worker process: its share of the clients, its read-only environment, its channel to the
commit process.

Owns:   the accepted sockets.
Invariants:
  1. Balanced: a worker that has more clients than the emptiest one lets that one accept first.
  2. A worker whose commit process is gone ends: the supervisor restarts the replica.
Shape:  started as `python -m zkstore.frontend.process --bootstrap FD`; see server/child.py for what
        FD says.
Design: all workers accept on the one socket that the supervisor bound. Counts in shared memory keep
        the shares even; passing sockets between processes would cost each session a hop.
"""

from __future__ import annotations

import asyncio
import errno
import gc
import json
import logging
import mmap
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any, Final

import uvloop

from zkstore import lifeline
from zkstore.frontend.board import CLIENTS, Board
from zkstore.frontend.worker import Worker
from zkstore.messaging import StreamChannel
from zkstore.observability import log
from zkstore.observability.log import Limited
from zkstore.settings import Settings
from zkstore.storage.env import open_reader
from zkstore.storage.view import Views
from zkstore.tree.auth import Providers

_NO_ROOM: Final = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))
_NO_ROOM_S: Final = 0.1  # before the next attempt
_YIELD_S: Final = 0.002  # how long a fuller worker leaves an arriving client to an emptier one


class Acceptor:
    """Accepts clients from a shared listening socket, in fair shares."""

    def __init__(
        self,
        listening: socket.socket,
        worker: Worker,
        board: Board,
        *,
        keep_alive: bool,
    ) -> None:
        self._listening = listening
        self._worker = worker
        self._board = board
        self._tcp = listening.family != socket.AF_UNIX
        self._keep_alive = keep_alive and self._tcp
        self._aio = asyncio.get_running_loop()
        self._yielded = False
        self._complain = Limited(logging.getLogger("zkstore.worker"), logging.ERROR)
        self._tasks: set[asyncio.Task[Any]] = set()
        listening.setblocking(False)

    def start(self) -> None:
        self._aio.add_reader(self._listening, self._on_readable)

    def stop(self) -> None:
        self._aio.remove_reader(self._listening)

    def count(self, clients: int) -> None:
        """Publish how many clients this worker has."""
        self._board.put(CLIENTS, clients)

    def _is_back(self) -> None:
        self._board.yields(-1)
        self.start()

    def _on_readable(self) -> None:
        clients, fewest = self._board.clients()
        if clients > fewest and not self._yielded:
            # Once only: if the emptier worker is busy, the client is not left waiting for it.
            self._yielded = True
            self.stop()
            self._board.yields(1)
            self._aio.call_later(_YIELD_S, self._is_back)
            return
        self._yielded = False
        try:
            sock, _ = self._listening.accept()
        except OSError as error:
            if error.errno in _NO_ROOM:
                # The listening socket stays readable: look again in a while instead of at once.
                self._complain("cannot accept clients: %s", error.strerror)
                self.stop()
                self._aio.call_later(_NO_ROOM_S, self.start)
            return  # else another worker was quicker, or the client is gone already
        try:
            sock.setblocking(False)
            if self._tcp:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._keep_alive:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        except OSError:
            sock.close()  # some systems refuse it once the client is gone
            return
        self.count(clients + 1)
        connecting = self._aio.create_task(
            self._aio.connect_accepted_socket(self._worker.client, sock)
        )
        self._tasks.add(connecting)
        connecting.add_done_callback(self._tasks.discard)


def main(argv: list[str]) -> None:
    """Run until SIGTERM."""
    assert argv[0] == "--bootstrap", argv
    with os.fdopen(int(argv[1])) as pipe:
        bootstrap = json.load(pipe)
    lifeline.follow_supervisor(bootstrap["supervisor_pid"])
    log.configure(f"worker {bootstrap['worker']}")
    uvloop.run(_serve(bootstrap))


def _fatal(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """An unknown error in a client's own protocol costs that connection; in a turn of the worker,
    it may have lost what others wait for."""
    loop.default_exception_handler(context)
    if "handle" in context:
        os._exit(1)


async def _serve(bootstrap: dict[str, Any]) -> None:
    aio = asyncio.get_running_loop()
    aio.set_exception_handler(_fatal)
    settings = Settings.from_json(json.dumps(bootstrap["settings"]))
    stop = asyncio.Event()
    aio.add_signal_handler(signal.SIGTERM, stop.set)
    board = Board(mmap.mmap(bootstrap["board_fd"], 0), bootstrap["worker"])
    recovered: asyncio.Future[None] = aio.create_future()
    worker: Worker | None = None

    def message(items: list[Any]) -> None:
        if worker is not None:
            worker.on_message(items)
        elif not recovered.done():
            recovered.set_result(None)

    def lost() -> None:
        if not stop.is_set():
            os._exit(1)

    # The commit process listens from the start, but speaks only when it has recovered the data.
    _, channel = await aio.create_unix_connection(
        lambda: StreamChannel(message, lost), bootstrap["commit_path"]
    )
    await recovered
    reader = open_reader(Path(settings.data_dir))
    views = Views(reader.env)
    worker = Worker(settings, Providers.of(settings), views, aio, board)
    worker.on_reopen = lambda: views.reopen(reader.reopen())
    acceptors = [
        Acceptor(socket.socket(fileno=fd), worker, board, keep_alive=settings.tcp_keep_alive)
        for fd in bootstrap["listen_fds"]
    ]
    worker.on_count = acceptors[0].count
    worker.start(channel)
    for acceptor in acceptors:
        acceptor.start()
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)
    with os.fdopen(bootstrap["status_fd"], "w", buffering=1) as status:
        status.write(json.dumps({"event": "ready"}) + "\n")
        await stop.wait()
    for acceptor in acceptors:
        acceptor.stop()
    worker.stop()
    await asyncio.sleep(0)
    channel.close()
    reader.close()


if __name__ == "__main__":
    main(sys.argv[1:])
