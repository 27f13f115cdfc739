"""The inner loop of load.py in Python, for machines without a C compiler; what both loops share.

Owns:   the time of sending of every request in flight.
Design: work is done by the chunk, not by the reply: one read, one count, one write of as many
  requests as replies came (operations.py). The collector is off; nothing grows.
Not here: the same loop in C (loop.c, native.py); sessions and accounts of CPU (load.py).
"""

from __future__ import annotations

import select
import socket
import struct
import time
from array import array
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from bench import wire
from bench.operations import RING_REQUESTS, ReplyStream, Ring

_BUFFER_SIZE: Final = 1 << 20
_POLL_S: Final = 0.1
_clock: Final = time.perf_counter_ns


class Latencies:
    """The latencies of one window, exact where they come one by one, else in steps of 128 ns."""

    __slots__ = ("_alone", "add", "steps")

    STEP_SHIFT: Final = 7

    def __init__(self) -> None:
        # Appending to an array costs half of counting in a table, whose entries miss the caches.
        self._alone = array("q")
        self.add: Callable[[int], None] = self._alone.append
        self.steps: Counter[int] = Counter()

    def percentiles_us(self, wanted: Sequence[float]) -> list[float]:
        """The latency that so many percent of all requests did not exceed (its step's middle)."""
        shift = self.STEP_SHIFT
        steps = self.steps + Counter(ns >> shift for ns in self._alone)
        ascending = sorted(steps.items())
        found = []
        for percent in wanted:
            left = percent / 100 * steps.total()
            for step, count in ascending:
                left -= count
                if left <= 0:
                    found.append(((step << shift) + (1 << shift - 1)) / 1000)
                    break
        return found


class Loop(Protocol):
    """Keeps requests in flight on all of its connections."""

    def begin(self) -> None:
        """Send as many requests as the connections keep in flight."""

    def run(self, seconds: float, ops_max: float, latencies: Latencies) -> int:
        """Answer each reply with the next request, until the time is over or there were as many
        replies; returns how many. Raises: BenchmarkError on a wrong reply, a lost connection or a
        server that fell silent."""

    def drain(self) -> None:
        """Take the replies that are still to come."""


class Connection(Protocol):
    """One session's socket, its requests and those in flight."""

    sock: socket.socket

    def begin(self) -> None:
        """Send as many requests as the connection keeps in flight."""

    def turn(self, buffer: bytearray, latencies: Latencies, *, send: bool) -> int:
        """Take what can be read, add the latencies of the replies to `latencies`, and send as many
        requests as replies came; returns how many. Raises: BenchmarkError."""

    def idle(self) -> bool:
        """Nothing is in flight."""


class Pipelined:
    """Many requests in flight: everything is done by the chunk."""

    __slots__ = ("_depth", "_in_flight", "_receive_into", "_replies", "_ring", "sock")

    def __init__(self, sock: socket.socket, ring: Ring, depth: int) -> None:
        self.sock = sock
        self._receive_into = sock.recv_into
        self._ring = ring
        self._replies = ReplyStream(ring.reply_sizes)
        self._depth = depth
        # [when sent, how many of them are unanswered], oldest first.
        self._in_flight: deque[list[int]] = deque()

    def begin(self) -> None:
        self._send(self._depth, _clock())

    def _send(self, count: int, now: int) -> None:
        requests = self._ring.take(count)
        sent = self.sock.send(requests)
        assert sent == len(requests), (sent, len(requests))
        self._in_flight.append([now, count])

    def turn(self, buffer: bytearray, latencies: Latencies, *, send: bool) -> int:
        size = self._receive_into(buffer)
        now = _clock()
        if not size:
            raise wire.BenchmarkError("the server closed a connection under load")
        completed = left = self._replies.count(buffer, size)
        in_flight, steps = self._in_flight, latencies.steps
        while left:
            oldest = in_flight[0]
            answered = min(oldest[1], left)
            steps[(now - oldest[0]) >> Latencies.STEP_SHIFT] += answered
            left -= answered
            oldest[1] -= answered
            if not oldest[1]:
                in_flight.popleft()
        if completed and send:
            self._send(completed, now)
        return completed

    def idle(self) -> bool:
        return not self._in_flight


class Lockstep:
    """One request in flight: the chunk is one reply, and each call of Python counts."""

    __slots__ = (
        "_next",
        "_partial",
        "_receive_into",
        "_requests",
        "_ring",
        "_send",
        "_sent",
        "_sizes",
        "sock",
    )

    def __init__(self, sock: socket.socket, ring: Ring) -> None:
        self.sock = sock
        self._receive_into = sock.recv_into
        self._send = sock.send
        self._ring = ring
        self._requests = ring.take_all()
        self._sizes = ring.reply_sizes * (RING_REQUESTS // len(ring.reply_sizes))
        # Of the request in flight: its number in the ring, and when it was sent (0: none is).
        self._next = 0
        self._sent = 0
        # What has come of a reply that did not come in one piece.
        self._partial = bytearray()

    def begin(self) -> None:
        self._sent = _clock()
        self._send(self._requests[0])

    def turn(self, buffer: bytearray, latencies: Latencies, *, send: bool) -> int:
        size = self._receive_into(buffer)
        now = _clock()
        number = self._next
        good = size == self._sizes[number] and buffer[7] == number + 1 & 255 and not buffer[19]
        if not good and not self._completes(buffer[:size]):
            return 0
        latencies.add(now - self._sent)
        number += 1
        if number == RING_REQUESTS:
            number = 0
            self._requests = self._ring.take_all()
        self._next = number
        if send:
            self._sent = now
            self._send(self._requests[number])
        else:
            self._sent = 0
        return 1

    def _completes(self, chunk: bytearray) -> bool:
        """What is not one whole and good reply: part of one, or an end to the run."""
        if not chunk:
            raise wire.BenchmarkError("the server closed a connection under load")
        self._partial += chunk
        for reply in wire.split_replies(bytes(self._partial)):
            if reply.error or reply.xid != self._next + 1:
                raise wire.BenchmarkError(
                    f"error {reply.error}, xid {reply.xid} (expected {self._next + 1})"
                )
        missing = self._sizes[self._next] - len(self._partial)
        if missing < 0:
            raise wire.BenchmarkError(f"a reply of {len(self._partial)} bytes, {missing} too many")
        if not missing:
            self._partial.clear()
        return not missing

    def idle(self) -> bool:
        return not self._sent


def wait_at_most(sock: socket.socket, seconds: float) -> None:
    """Make `sock` blocking, with a limit that the kernel keeps: asking first costs more."""
    whole = int(seconds)
    limit = struct.pack("ll", whole, int((seconds - whole) * 1e6))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
    sock.setblocking(True)


class PythonLoop:
    """The loop of one run: a connection for each socket and its ring."""

    def __init__(self, sessions: Sequence[tuple[socket.socket, Ring]], depth: int) -> None:
        made: list[Connection] = [
            Lockstep(sock, ring) if depth == 1 else Pipelined(sock, ring, depth)
            for sock, ring in sessions
        ]
        self._connections = {c.sock.fileno(): c for c in made}
        self._turns = {fd: c.turn for fd, c in self._connections.items()}
        self._buffer = bytearray(_BUFFER_SIZE)
        self._epoll = select.epoll()
        for fd in self._connections:
            self._epoll.register(fd, select.EPOLLIN)
        self._poll: Callable[[float], list[tuple[int, int]]] = self._epoll.poll
        if len(made) == 1:
            # A lone connection waits in its read: asking first would be a third of the cost.
            alone = [(made[0].sock.fileno(), select.EPOLLIN)]
            wait_at_most(made[0].sock, wire.ANSWER_TIMEOUT_S)
            self._poll = lambda timeout_s: alone

    def begin(self) -> None:
        for connection in self._connections.values():
            connection.begin()

    def run(self, seconds: float, ops_max: float, latencies: Latencies) -> int:
        end = _clock() + seconds * 1e9
        return self._run(
            lambda now, replies: now >= end or replies >= ops_max, latencies, send=True
        )

    def _run(self, until: Callable[[int, int], bool], latencies: Latencies, *, send: bool) -> int:
        """Take replies until `until(now, replies)`, asked once a wake-up; returns the replies."""
        turns, buffer, poll = self._turns, self._buffer, self._poll
        replies = 0
        now = last_reply = _clock()
        while not until(now, replies):
            ready = poll(_POLL_S)
            for fd, _ in ready:
                replies += turns[fd](buffer, latencies, send=send)
            now = _clock()
            if ready:
                last_reply = now
            elif now - last_reply > wire.ANSWER_TIMEOUT_S * 1e9:
                raise wire.BenchmarkError("the server has stopped answering")
        return replies

    def drain(self) -> None:
        everyone = self._connections.values()
        self._run(lambda now, replies: all(c.idle() for c in everyone), Latencies(), send=False)
        self._epoll.close()
