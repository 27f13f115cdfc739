"""A worker over real storage, between a socket and a commit process that the test plays."""

from __future__ import annotations

import asyncio
import struct
from typing import Any

from tests.conformance.requests import Request
from tests.conformance.wire import connect_request, frame
from zkstore.commit.process import Opened
from zkstore.frontend.board import Board
from zkstore.frontend.client import Client
from zkstore.frontend.worker import Worker
from zkstore.proto import replies
from zkstore.records import ipc
from zkstore.records import txn as txns
from zkstore.records.txn import Txn
from zkstore.settings import Settings
from zkstore.tree.auth import Providers
from zkstore.zab.ready import Proposal, Ready


class Transport(asyncio.Transport):
    """Takes everything, and keeps it."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1)})
        self.sent = b""
        self.paused = False
        self.closed = False

    def write(self, data: Any) -> None:
        self.sent += data

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def close(self) -> None:
        self.closed = True

    def frames(self) -> list[bytes]:
        """What was sent since the last call."""
        found, rest = [], self.sent
        while rest:
            size = struct.unpack_from(">i", rest)[0]
            found.append(rest[4 : 4 + size])
            rest = rest[4 + size :]
        self.sent = b""
        return found


class Messages:
    """The channel to a commit process that the test plays."""

    def __init__(self) -> None:
        self.sent: list[list[Any]] = []

    def send(self, message: list[Any]) -> None:
        self.sent.append(message)

    def close(self) -> None: ...

    def items(self) -> list[list[Any]]:
        """What was sent since the last call."""
        sent, self.sent = self.sent, []
        width = ipc.TO_COMMIT_WIDTH
        return [
            message[at : at + width] for message in sent for at in range(0, len(message), width)
        ]


class Timers:
    """A loop that only keeps what is to be called."""

    def __init__(self) -> None:
        self.due: list[Any] = []

    def call_soon(self, what: Any, *args: Any) -> None:
        self.due.append((what, args))

    def call_later(self, _: float, what: Any, *args: Any) -> None:
        """The test calls it itself."""

    def run(self) -> None:
        due, self.due = self.due, []
        for what, args in due:
            what(*args)


class Stage:
    """A worker over real storage, and a commit process that does what the test says."""

    def __init__(self, opened: Opened, settings: Settings, board: Board | None = None) -> None:
        self.opened = opened
        self.timers = Timers()
        self.views = opened.writer.views
        loop: Any = self.timers
        self.worker = Worker(settings, Providers.of(settings), self.views, loop, board)
        self.channel = Messages()
        self.worker.start(self.channel)

    def commit(self, kind: int, *body: Any) -> int:
        """One txn, in the journal and applied; returns its zxid."""
        writer = self.opened.writer
        zxid = writer.applied + 1
        proposal = Proposal(zxid, txns.encode(Txn(zxid, 1, 1, 0, kind, body)))
        writer.perform(Ready(append=[proposal], committed=[proposal]))
        return zxid

    def connect(self) -> tuple[Client, Transport]:
        client, transport = self.worker.client(), Transport()
        client.connection_made(transport)
        client.data_received(frame(connect_request(timeout_ms=10_000)))
        self.timers.run()
        session = [replies.connect(client.number, 10_000, bytes(16), None), client.number, 10_000]
        self.say(ipc.SESSION, client.number, 0, session)
        transport.frames()
        return client, transport

    def say(self, *items: Any) -> None:
        self.worker.on_message([self.opened.writer.applied, *items])
        self.timers.run()


def bytes_of(*some: Request) -> bytes:
    return b"".join(
        frame(struct.pack(">ii", number, one.opcode) + one.body)
        for number, one in enumerate(some, 1)
    )
