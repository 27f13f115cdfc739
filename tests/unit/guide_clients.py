"""Clients for the programmer's guide: kazoo's, and one without a library."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable
from typing import Any

from kazoo.client import KazooClient
from kazoo.protocol.states import WatchedEvent

import zkstore
from tests.conformance import requests as r
from tests.conformance import wire

EVENT_SECONDS_MAX = 60.0


class Events:
    """A watch function that keeps what it is told."""

    def __init__(self) -> None:
        self._queue: queue.Queue[WatchedEvent] = queue.Queue()

    def __call__(self, event: WatchedEvent) -> None:
        self._queue.put(event)

    def next(self) -> tuple[str, str]:
        event = self._queue.get(timeout=EVENT_SECONDS_MAX)
        return event.type, event.path

    def empty(self) -> bool:
        return self._queue.empty()


def wait_until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + EVENT_SECONDS_MAX
    while not what():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


class KazooClientOf:
    """A client for the length of a block."""

    def __init__(self, server: zkstore.Server) -> None:
        self._client = KazooClient(hosts=server.address)

    def __enter__(self) -> KazooClient:
        self._client.start(timeout=60)
        return self._client

    def __exit__(self, *_: object) -> None:
        self._client.stop()
        self._client.close()


class Raw:
    """A connection without a client library: it pings nobody and hides nothing."""

    def __init__(self, server: zkstore.Server, **handshake: Any) -> None:
        self._wire = wire.Connection(("127.0.0.1", server.port))
        response = self._wire.handshake(wire.connect_request(**handshake))
        self.session_id, self.password = response.session_id, response.password
        self.timeout_ms = response.timeout_ms
        self.zxid = 0  # the newest state that it has seen

    def ask(self, request: r.Request) -> bytes:
        """Send a request and read its reply, which is no error; returns its body."""
        self.send(request)
        body = self.reply_or_event()
        assert isinstance(body, bytes), body
        return body

    def send(self, request: r.Request) -> None:
        self._wire.send(wire.i32(1) + wire.i32(request.opcode) + request.body)

    def reply_or_event(self) -> bytes | tuple[int, str | None]:
        """The next frame: the body of a reply, or (type, path) of an event."""
        reader = wire.Reader(self._wire.recv())
        xid = reader.i32()
        self.zxid, error = max(self.zxid, reader.i64()), reader.i32()
        assert error == 0
        if xid != wire.XID_NOTIFICATION:
            return reader.rest()
        kind, _, path = reader.i32(), reader.i32(), reader.ustring()
        return kind, path

    def event(self) -> tuple[int, str | None]:
        """The next frame, an event."""
        event = self.reply_or_event()
        assert isinstance(event, tuple), event
        return event
