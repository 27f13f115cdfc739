"""How a worker and the commit process reach each other: a stream between processes, or memory
within one.

Owns:   framing and buffering of one channel.
Invariants:
  1. Messages arrive whole and in order, or the channel is lost.
  2. Both kinds behave alike: a message is never handled inside the call that sent it.
Design: msgpack behind a 4-byte length on a Unix stream. Measured for the prototype: what passes
        matters little, as long as it is a stream and one message a turn; a datagram a message cost
        a factor of three.
Not here: what a message says (records/ipc.py).
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import Final, Protocol, cast

import msgpack

from zkstore.constants import IPC_MESSAGE_BYTES_MAX
from zkstore.records.ipc import Message

_LENGTH: Final = struct.Struct(">I")
_CREDENTIALS: Final = struct.Struct("=iII")  # struct ucred


class Channel(Protocol):
    """One end of a connection between a worker and the commit process."""

    def send(self, message: Message) -> None: ...

    def close(self) -> None: ...


class StreamChannel(asyncio.Protocol):
    """A channel over a Unix stream."""

    def __init__(
        self,
        on_message: Callable[[Message], None],
        on_lost: Callable[[], None],
        on_connected: Callable[[StreamChannel], None] | None = None,
    ) -> None:
        self._on_message = on_message
        self._on_lost = on_lost
        self._on_connected = on_connected
        self._transport: asyncio.Transport | None = None
        self._chunks: list[bytes] = []
        self._have = 0
        self._need = _LENGTH.size

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if self._on_connected is not None:
            self._on_connected(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._on_lost()

    def data_received(self, data: bytes) -> None:
        if self._chunks:
            self._chunks.append(data)
            self._have += len(data)
            if self._have < self._need:
                return
            data = b"".join(self._chunks)
            self._chunks.clear()
        offset, end = 0, len(data)
        while end - offset >= _LENGTH.size:
            size = _LENGTH.unpack_from(data, offset)[0]
            stop = offset + _LENGTH.size + size
            if stop > end:
                break
            self._on_message(msgpack.unpackb(data[offset + _LENGTH.size : stop]))
            offset = stop
        if offset < end:
            self._chunks.append(data[offset:] if offset else data)
            self._have = end - offset
            self._need = _LENGTH.size
            if self._have >= _LENGTH.size:
                self._need += _LENGTH.unpack_from(data, offset)[0]

    def send(self, message: Message) -> None:
        """Send one message; a channel that is lost drops it, as its owner is told by on_lost."""
        if self._transport is None:
            return
        body = msgpack.packb(message)
        assert len(body) <= IPC_MESSAGE_BYTES_MAX, len(body)
        self._transport.write(_LENGTH.pack(len(body)) + body)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def peer_pid(self) -> int:
        """The process at the other end; 0 where the system does not tell."""
        sock = self._transport.get_extra_info("socket") if self._transport is not None else None
        if sock is None or not hasattr(socket, "SO_PEERCRED"):
            return 0
        credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        pid: int = _CREDENTIALS.unpack(credentials)[0]
        return pid


class MemoryChannel:
    """One end of a channel inside one process."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.peer: MemoryChannel | None = None
        self.on_message: Callable[[Message], None] = lambda _: None
        self.on_lost: Callable[[], None] = lambda: None

    def send(self, message: Message) -> None:
        if self.peer is not None:
            self._loop.call_soon(self.peer._receive, message)

    def _receive(self, message: Message) -> None:
        if self.peer is not None:
            self.on_message(message)

    def close(self) -> None:
        peer, self.peer = self.peer, None
        if peer is not None:
            peer.peer = None
            self._loop.call_soon(peer.on_lost)


def memory_pair(loop: asyncio.AbstractEventLoop) -> tuple[MemoryChannel, MemoryChannel]:
    """The two ends of a channel in memory."""
    one, other = MemoryChannel(loop), MemoryChannel(loop)
    one.peer, other.peer = other, one
    return one, other
