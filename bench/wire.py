"""The few records of the client protocol that a load generator needs, as bytes.

Invariants:
  1. Nothing of zkstore is imported: a fault in its codec must not cancel out in its benchmark.
  2. A reply's size is known from its request, so a stream of replies is counted by arithmetic.
Design: requests are encoded once, before the clock runs; replies are never decoded while it does.
Not here: when a request is sent (load.py, fanout.py, sessions.py).
Source: zookeeper.jute; ZooDefs.OpCode.
"""

from __future__ import annotations

import resource
import socket
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

CREATE: Final = 1
DELETE: Final = 2
EXISTS: Final = 3
GET_DATA: Final = 4
SET_DATA: Final = 5
PING: Final = 11
MULTI: Final = 14
ADD_WATCH: Final = 106
CLOSE_SESSION: Final = -11

NOTIFICATION_XID: Final = -1
PING_XID: Final = -2
NODE_EXISTS: Final = -110

# A reply begins with its length (4), xid (4), zxid (8) and error (4); a Stat has 68 bytes.
HEADER_SIZE: Final = 20
STAT_SIZE: Final = 68
MULTI_HEADER_SIZE: Final = 9

HOST: Final = "127.0.0.1"
SESSION_TIMEOUT_MS: Final = 30_000
# A server that does not answer a blocking request for so long is taken for dead.
ANSWER_TIMEOUT_S: Final = 60.0

_HEADER: Final = struct.Struct(">iiqi")
_REQUEST: Final = struct.Struct(">iii")
OPEN_ACL: Final = struct.pack(">ii", 1, 31) + b"\0\0\0\x05world" + b"\0\0\0\x06anyone"
_MULTI_HEADER: Final = struct.Struct(">i?i")
_MULTI_END: Final = _MULTI_HEADER.pack(-1, True, -1)


class BenchmarkError(Exception):
    """The run proves nothing: a server failed, refused or answered what was not asked."""


def buffer(value: bytes) -> bytes:
    """A buffer or a string, with its length."""
    return struct.pack(">i", len(value)) + value


def request(xid: int, opcode: int, body: bytes = b"") -> bytes:
    """One framed request."""
    return _REQUEST.pack(8 + len(body), xid, opcode) + body


def create_body(path: str, data: bytes) -> bytes:
    """A persistent node that everyone may use."""
    return buffer(path.encode()) + buffer(data) + OPEN_ACL + b"\0\0\0\0"


def delete_body(path: str) -> bytes:
    """Whatever the node's version is."""
    return buffer(path.encode()) + b"\xff\xff\xff\xff"


def set_body(path: str, data: bytes) -> bytes:
    """Whatever the node's version is."""
    return buffer(path.encode()) + buffer(data) + b"\xff\xff\xff\xff"


def read_body(path: str, *, watch: bool = False) -> bytes:
    """For exists and getData."""
    return buffer(path.encode()) + (b"\1" if watch else b"\0")


def persistent_watch_body(path: str) -> bytes:
    """For addWatch: a watch that stays, not recursive."""
    return buffer(path.encode()) + bytes(4)


def multi_body(ops: Sequence[tuple[int, bytes]]) -> bytes:
    """All or nothing: (opcode, body) each."""
    parts = [part for opcode, body in ops for part in (_MULTI_HEADER.pack(opcode, False, -1), body)]
    return b"".join(parts) + _MULTI_END


def connect_request(
    timeout_ms: int = SESSION_TIMEOUT_MS, session_id: int = 0, password: bytes = bytes(16)
) -> bytes:
    """A new session (0) or an old one, that may be read-only not."""
    body = struct.pack(">iqiq", 0, 0, timeout_ms, session_id) + buffer(password) + b"\0"
    return buffer(body)


def key_path(key: int) -> str:
    """The path of one of the nodes that `fill` made: 100 parents share them."""
    return f"{parent_path(key)}/k{key:07d}"


def parent_path(key: int) -> str:
    return f"/bench/p{key % PARENTS:02d}"


PARENTS: Final = 100


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply, decoded; for what is not timed."""

    xid: int
    zxid: int
    error: int
    body: bytes


def receive(sock: socket.socket, size: int) -> bytes:
    """The next bytes of a blocking socket. Raises: BenchmarkError if the connection ends."""
    received = bytearray()
    while len(received) < size:
        chunk = sock.recv(size - len(received))
        if not chunk:
            raise BenchmarkError("the server closed the connection")
        received += chunk
    return bytes(received)


def receive_frame(sock: socket.socket) -> bytes:
    """The next frame of a blocking socket, without its length."""
    (size,) = struct.unpack(">i", receive(sock, 4))
    return receive(sock, size)


def receive_reply(sock: socket.socket) -> Reply:
    """The next reply or notification of a blocking socket.

    Raises: BenchmarkError if the connection ends.
    """
    frame = receive_frame(sock)
    xid, zxid, error = struct.unpack_from(">iqi", frame)
    return Reply(xid, zxid, error, frame[16:])


def split_replies(chunk: bytes) -> Iterator[Reply]:
    """The whole replies at the beginning of `chunk`: to say what went wrong."""
    offset = 0
    while offset + HEADER_SIZE <= len(chunk):
        size, xid, zxid, error = _HEADER.unpack_from(chunk, offset)
        yield Reply(xid, zxid, error, chunk[offset + HEADER_SIZE : offset + 4 + size])
        offset += 4 + max(size, 16)


def call(sock: socket.socket, opcode: int, body: bytes, *, allowed: Sequence[int] = (0,)) -> Reply:
    """One request and its reply.

    Raises: BenchmarkError on an error that is not among `allowed`.
    """
    sock.sendall(request(1, opcode, body))
    reply = receive_reply(sock)
    if reply.error not in allowed:
        raise BenchmarkError(f"request {opcode} failed with {reply.error}: {body[:80]!r}")
    return reply


def connect(port: int) -> socket.socket:
    """A blocking connection, without a session yet."""
    sock = socket.create_connection((HOST, port), ANSWER_TIMEOUT_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def finish_handshake(sock: socket.socket) -> None:
    """Take the answer to a connect_request that was sent.

    Raises: BenchmarkError if the server gives no session.
    """
    answer = receive_frame(sock)
    _, timeout_ms, _ = struct.unpack_from(">iiq", answer)
    if timeout_ms <= 0:
        raise BenchmarkError("the server refused the session")


def open_session(port: int) -> socket.socket:
    """A blocking connection with a new session."""
    return open_sessions((port,), 1)[0]


def open_sessions(
    ports: Sequence[int], count: int, timeout_ms: int = SESSION_TIMEOUT_MS
) -> list[socket.socket]:
    """`count` connections with a session each, dealt to the ports in turn, a few dozen handshakes
    at a time."""
    sessions: list[socket.socket] = []
    while len(sessions) < count:
        made = len(sessions)
        numbers = range(made, min(made + 32, count))
        wave = [connect(ports[number % len(ports)]) for number in numbers]
        for sock in wave:
            sock.sendall(connect_request(timeout_ms))
        for sock in wave:
            finish_handshake(sock)
        sessions += wave
    return sessions


def close_sessions(sessions: Sequence[socket.socket]) -> None:
    """Close blocking connections with their sessions, so that none is left to expire."""
    for sock in sessions:
        sock.sendall(request(1, CLOSE_SESSION))
    for sock in sessions:
        receive_reply(sock)
        sock.close()


def numbers(text: str) -> tuple[int, ...]:
    """For a command line: numbers with commas between them."""
    return tuple(int(word) for word in text.split(",") if word)


def raise_file_limit(connections: int) -> None:
    """Allow this process so many connections, as far as the system does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + 64
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))
