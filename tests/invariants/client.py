"""A ZooKeeper client that pipelines, and writes down everything that it sends and hears.

Owns:   one connection; what it saw goes into the history's log for this connection.
Invariants:
  1. Honest times: a request's `sent` is taken before its bytes leave, a reply's `heard` after it
     has come in, on one clock for all clients of the test. So what the log calls earlier was.
  2. Never blocks without end: every wait fails after WAIT_SECONDS.
Not here: judging (history.py), the requests' bytes (tests/conformance/requests.py).
"""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Awaitable
from typing import Final, TypeVar

from tests.conformance import requests
from tests.conformance.requests import Request
from tests.conformance.wire import (
    ConnectResponse,
    connect_request,
    frame,
    read_connect_response,
)
from tests.invariants.history import Call, Event, Log

WAIT_SECONDS: Final = 60.0
_HEADER: Final = struct.Struct(">iqi")
_EVENT: Final = struct.Struct(">iii")
_XID_EVENT: Final = -1
T = TypeVar("T")


class RefusedError(Exception):
    """The server did not take the session, or closed the connection before it answered."""


async def soon(what: Awaitable[T]) -> T:
    """Wait for it, but not without end."""
    return await asyncio.wait_for(what, WAIT_SECONDS)


class Client(asyncio.Protocol):
    """One connection. Get it from `connect`."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.connected: asyncio.Future[ConnectResponse] = asyncio.get_running_loop().create_future()
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.session_id = 0
        self.password = b""
        self.last_zxid = 0
        self._transport: asyncio.Transport | None = None
        self._waiting: dict[int, list[tuple[Call, asyncio.Future[Call]]]] = {}
        self._outstanding = 0
        self._quiet: asyncio.Future[None] | None = None
        self._xid = 0
        self._rest = b""

    # ---- what a test does

    def send(self, *some: Request) -> list[asyncio.Future[Call]]:
        """Send the requests in one write; each future is its reply, be it an error.

        Raises: RefusedError: the connection is closed, nobody would answer.
        """
        assert self._transport is not None
        if self.closed.done():
            raise RefusedError("the connection was closed before")
        futures = []
        payloads = []
        now = time.monotonic()
        for request in some:
            xid = request.xid
            if xid is None:
                self._xid += 1
                xid = self._xid
            call = Call(len(self.log.calls), xid, request, now)
            self.log.calls.append(call)
            future: asyncio.Future[Call] = asyncio.get_running_loop().create_future()
            self._waiting.setdefault(xid, []).append((call, future))
            futures.append(future)
            payloads.append(frame(struct.pack(">ii", xid, request.opcode) + request.body))
        self._outstanding += len(futures)
        self._transport.write(b"".join(payloads))
        return futures

    async def ask(self, *some: Request) -> list[Call]:
        """Send the requests in one write and wait for all replies."""
        return await soon(asyncio.gather(*self.send(*some)))

    async def one(self, request: Request) -> Call:
        """Send one request, wait for its reply."""
        return (await self.ask(request))[0]

    async def done(self, request: Request) -> Call:
        """As `one`; the request must succeed."""
        call = await self.one(request)
        assert call.error == 0, (request.text, call.error)
        return call

    async def quiet(self) -> None:
        """Wait until every request is answered."""
        if self._outstanding:
            self._quiet = asyncio.get_running_loop().create_future()
            await soon(self._quiet)

    async def ended(self) -> None:
        """Wait until the server has closed the connection."""
        await soon(asyncio.shield(self.closed))

    async def close(self) -> None:
        """End the session and the connection."""
        if not self.closed.done():
            self.send(requests.close_session())
        await self.ended()

    def write(self, data: bytes) -> None:
        """Send bytes as they are; nothing is noted."""
        assert self._transport is not None
        self._transport.write(data)

    def cut(self) -> None:
        """Let the connection go, without a word about the session."""
        assert self._transport is not None
        self._transport.abort()

    def hold(self) -> None:
        """Do not read what the server sends."""
        assert self._transport is not None
        self._transport.pause_reading()

    # ---- the transport's calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        error = RefusedError("the connection was closed")
        if not self.connected.done():
            self.connected.set_exception(error)
        for futures in self._waiting.values():
            for _, future in futures:
                if not future.done():
                    future.set_exception(error)
                    future.exception()  # a test that does not wait for it says so by that
        self._waiting.clear()
        self._outstanding = 0
        self._is_quiet()
        self.closed.set_result(None)

    def data_received(self, data: bytes) -> None:
        now = time.monotonic()
        data = self._rest + data
        at = 0
        while len(data) - at >= 4:
            (size,) = struct.unpack_from(">i", data, at)
            if at + 4 + size > len(data):
                break
            self._frame(data[at + 4 : at + 4 + size], now)
            at += 4 + size
        self._rest = data[at:]

    def _frame(self, payload: bytes, now: float) -> None:
        if not self.connected.done():
            self.connected.set_result(read_connect_response(payload))
            return
        xid, zxid, error = _HEADER.unpack_from(payload)
        if xid == _XID_EVENT:
            kind, _, size = _EVENT.unpack_from(payload, 16)
            path = payload[28 : 28 + size].decode()
            self.log.heard.append(Event(zxid, kind, path, now))
            return
        call, future = self._waiting[xid].pop(0)
        call.zxid, call.error, call.heard = zxid, error, now
        call.body = payload[16:]
        self.log.heard.append(call)
        if zxid > 0:
            self.last_zxid = zxid
        self._outstanding -= 1
        if not future.done():
            future.set_result(call)
        self._is_quiet()

    def _is_quiet(self) -> None:
        if self._quiet is not None and not self._outstanding and not self._quiet.done():
            self._quiet.set_result(None)


async def connect(
    address: tuple[str, int],
    log: Log,
    *,
    timeout_ms: int = 20_000,
    session_id: int = 0,
    password: bytes = bytes(16),
    last_zxid: int = 0,
) -> Client:
    """Open a session, or take one over. Raises: RefusedError."""
    client = await reach(address, log)
    handshake = connect_request(
        timeout_ms=timeout_ms, session_id=session_id, password=password, last_zxid=last_zxid
    )
    client.last_zxid = last_zxid
    client.write(frame(handshake))
    response = await soon(client.connected)
    if not response.session_id:
        await client.ended()
        raise RefusedError("no such session")
    client.session_id = response.session_id
    client.password = response.password or b""
    log.session_id = response.session_id
    log.since = time.monotonic()
    return client


async def reach(address: tuple[str, int], log: Log) -> Client:
    """A connection on which nothing was said."""
    loop = asyncio.get_running_loop()
    _, client = await soon(loop.create_connection(lambda: Client(log), *address))
    return client
