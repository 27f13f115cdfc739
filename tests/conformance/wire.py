"""A ZooKeeper wire client of its own: jute by hand, frames over a socket.

What for:   conformance scenarios speak to Apache ZooKeeper and to zkstore through this file only,
            so a mistake in zkstore's codec cannot hide behind the same mistake in its test.
Owns:       one socket per `Connection`; every wait has a deadline.
Invariants:
  1. Independent: imports the standard library only (test_suite.py checks the folder's imports).
  2. Never blocks without end: each read raises `DeadlineError` after its time, `ClosedError` on
     end of file.
Not here:   what the requests of each operation look like (requests.py), how replies are shown
            (render.py).
Source:     zookeeper.jute; org.apache.zookeeper.server.NIOServerCnxn; reference parity, section A.
"""

from __future__ import annotations

import socket
import struct
import time
from dataclasses import dataclass
from typing import Final

RECV_SECONDS_MAX: Final = 30.0
SEND_SECONDS_MAX: Final = 60.0  # many megabytes, to a server whose disk may be slow
_RECV_BYTES: Final = 65_536

XID_NOTIFICATION: Final = -1
XID_PING: Final = -2
XID_AUTH: Final = -4
XID_SET_WATCHES: Final = -8


class ClosedError(Exception):
    """The server closed the connection."""


class DeadlineError(Exception):
    """The server sent no whole frame within the deadline."""


def i8(value: int) -> bytes:
    return struct.pack(">b", value)


def i32(value: int) -> bytes:
    return struct.pack(">i", value)


def i64(value: int) -> bytes:
    return struct.pack(">q", value)


def buffer(value: bytes | None) -> bytes:
    """A jute buffer: length and bytes, or -1 for null."""
    return i32(-1) if value is None else i32(len(value)) + value


def ustring(value: str | bytes | None) -> bytes:
    """A jute string; bytes are sent as they are, which makes broken UTF-8 possible."""
    if isinstance(value, str):
        value = value.encode()
    return buffer(value)


def vector(items: list[bytes] | None) -> bytes:
    return i32(-1) if items is None else i32(len(items)) + b"".join(items)


def frame(payload: bytes) -> bytes:
    return i32(len(payload)) + payload


class Reader:
    """A cursor over one payload; reading past its end raises struct.error or IndexError."""

    def __init__(self, payload: bytes) -> None:
        self._payload = payload
        self._offset = 0

    def i8(self) -> int:
        self._offset += 1
        return self._payload[self._offset - 1]

    def i32(self) -> int:
        (value,) = struct.unpack_from(">i", self._payload, self._offset)
        self._offset += 4
        return int(value)

    def i64(self) -> int:
        (value,) = struct.unpack_from(">q", self._payload, self._offset)
        self._offset += 8
        return int(value)

    def buffer(self) -> bytes | None:
        size = self.i32()
        if size < 0:
            return None
        value = self._payload[self._offset : self._offset + size]
        if len(value) != size:
            raise IndexError(f"buffer of {size} bytes past the end")
        self._offset += size
        return value

    def ustring(self) -> str | None:
        value = self.buffer()
        return None if value is None else value.decode("utf-8", "backslashreplace")

    def rest(self) -> bytes:
        """All that is left; the cursor ends at the end."""
        left = self._payload[self._offset :]
        self._offset = len(self._payload)
        return left


@dataclass(frozen=True, slots=True)
class ConnectResponse:
    """The answer to a handshake; `read_only` is None when the byte was absent."""

    protocol: int
    timeout_ms: int
    session_id: int
    password: bytes | None
    read_only: int | None


def connect_request(
    *,
    protocol: int = 0,
    last_zxid: int = 0,
    timeout_ms: int = 10_000,
    session_id: int = 0,
    password: bytes | None = bytes(16),
    read_only: bool | None = False,
) -> bytes:
    """The payload of a handshake: 45 bytes, or 44 when `read_only` is None (clients before 3.4)."""
    body = i32(protocol) + i64(last_zxid) + i32(timeout_ms) + i64(session_id) + buffer(password)
    return body if read_only is None else body + i8(int(read_only))


class Connection:
    """One TCP connection that sends and receives frames."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._received = b""
        try:
            self._socket = socket.create_connection(address, timeout=RECV_SECONDS_MAX)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except (BrokenPipeError, ConnectionResetError):
            # Accepted and closed at once, before connect() was through: a closed connection.
            self._socket, other_end = socket.socketpair()
            other_end.close()

    def send_raw(self, data: bytes) -> None:
        """Send bytes as they are. Raises: ClosedError."""
        try:
            self._socket.settimeout(SEND_SECONDS_MAX)
            self._socket.sendall(data)
        except ConnectionError as error:
            raise ClosedError from error

    def send(self, *payloads: bytes) -> None:
        """Send the payloads as frames, all in one write."""
        self.send_raw(b"".join(frame(payload) for payload in payloads))

    def recv(self, seconds: float = RECV_SECONDS_MAX) -> bytes:
        """The payload of the next frame. Raises: ClosedError, DeadlineError."""
        deadline = time.monotonic() + seconds
        while True:
            if len(self._received) >= 4:
                (size,) = struct.unpack_from(">i", self._received)
                if len(self._received) >= 4 + size:
                    payload = self._received[4 : 4 + size]
                    self._received = self._received[4 + size :]
                    return payload
            self._received += self._recv_some(deadline)

    def recv_all(self, seconds: float = RECV_SECONDS_MAX) -> bytes:
        """Everything up to the end of file, unframed: the answer to a four-letter word."""
        deadline = time.monotonic() + seconds
        data, self._received = self._received, b""
        while True:
            try:
                data += self._recv_some(deadline)
            except ClosedError:
                return data

    def handshake(self, payload: bytes) -> ConnectResponse:
        """Send a connect request and read its answer. Raises: ClosedError when there is none."""
        self.send(payload)
        return read_connect_response(self.recv())

    def shut_write(self) -> None:
        self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._socket.close()

    def _recv_some(self, deadline: float) -> bytes:
        left = deadline - time.monotonic()
        if left <= 0:
            raise DeadlineError
        self._socket.settimeout(left)
        try:
            data = self._socket.recv(_RECV_BYTES)
        except TimeoutError as error:
            raise DeadlineError from error
        except ConnectionError as error:
            raise ClosedError from error
        if not data:
            raise ClosedError
        return data


def read_connect_response(payload: bytes) -> ConnectResponse:
    reader = Reader(payload)
    protocol, timeout_ms, session_id = reader.i32(), reader.i32(), reader.i64()
    password = reader.buffer()
    rest = reader.rest()
    if len(rest) > 1:
        raise IndexError(f"{len(rest)} bytes after the connect response")
    return ConnectResponse(protocol, timeout_ms, session_id, password, rest[0] if rest else None)


def java_password(session_id: int) -> bytes:
    """The password Apache gives a session: java.util.Random(id ^ 0xB3415C00).nextBytes(16).

    Source: ZooKeeperServer.generatePasswd; java.util.Random's linear congruential generator.
    """
    state = ((session_id ^ 0xB3415C00) ^ 0x5DEECE66D) & ((1 << 48) - 1)
    password = b""
    while len(password) < 16:
        state = (state * 0x5DEECE66D + 0xB) & ((1 << 48) - 1)
        password += struct.pack("<I", state >> 16)
    return password
