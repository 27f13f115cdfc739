"""A server that answers by rote: what the generators are tested against."""

from __future__ import annotations

import socket
import socketserver
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from bench import wire

STAT = bytes(wire.STAT_SIZE)


class Rote(socketserver.BaseRequestHandler):
    """Answers every read and write with success, in pieces of `piece` bytes if it is set."""

    server: RoteServer

    def handle(self) -> None:
        sock: socket.socket = self.request
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            connect = wire.receive_frame(sock)
            (asked,) = struct.unpack_from(">q", connect, 16)
            self.server.sessions.append(asked)
            answer = struct.pack(">iiqi", 0, 30_000, self.server.session_id, 16) + bytes(17)
            sock.sendall(struct.pack(">i", len(answer)) + answer)
            while self.answer(wire.receive_frame(sock)):
                pass
        except (wire.BenchmarkError, OSError):
            return  # the client has gone

    def answer(self, request: bytes) -> bool:
        xid, opcode = struct.unpack_from(">ii", request)
        self.server.answered += 1
        if self.server.answered == self.server.hang_up:
            return False
        refused = self.server.answered == self.server.refuse
        body = b""
        if opcode == wire.GET_DATA and not refused:
            body = struct.pack(">i", 100) + bytes(100) + STAT
        elif opcode not in (wire.CLOSE_SESSION, wire.PING) and not refused:
            body = STAT
        error = -101 if refused else 0
        reply = struct.pack(">iiqi", 16 + len(body), xid, 1, error) + body
        piece = self.server.piece or len(reply)
        if self.server.pause_s:
            time.sleep(self.server.pause_s)
        for offset in range(0, len(reply), piece):
            self.request.sendall(reply[offset : offset + piece])
        return bool(opcode != wire.CLOSE_SESSION)


class RoteServer(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 64
    session_id = 7

    def __init__(self) -> None:
        super().__init__((wire.HOST, 0), Rote)
        self.answered = 0
        # Those that clients came with, in their order; 0: a new one.
        self.sessions: list[int] = []
        # The number of the reply that is an error; 0: none.
        self.refuse = 0
        # The number of the request at which the connection ends instead; 0: none.
        self.hang_up = 0
        self.piece = 0
        self.pause_s = 0.0

    @property
    def port(self) -> int:
        return int(self.server_address[1])


@contextmanager
def rote_server() -> Iterator[RoteServer]:
    with RoteServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()
