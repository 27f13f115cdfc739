"""A load generator that costs far less than the server: one process, one loop, closed.

`python -m bench.load --port P --operation setData --connections 16 --depth 64` keeps `depth`
requests in flight on each of its connections and prints one JSON object.

Owns:   the connections, and the time of sending of every request in flight.
Invariants:
  1. Closed: a request is sent when a reply has come, so latency never hides a queue of its own.
  2. Latency is from the write that carried the request to the read that brought its reply, by the
     order of the requests on the connection.
  3. The window is bounded: warm-up, then `seconds` or `ops_max`, whichever ends first.
Design: work is done by the chunk, not by the reply: one read, one count, one write of as many
  requests as replies came (operations.py). The collector is off; nothing grows.
Not here: what the nodes hold before (fill.py), servers (servers.py), repetition (harness.py).
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import select
import socket
import struct
import sys
import time
from array import array
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from math import inf
from typing import Final, Protocol

from bench import procs, wire
from bench.operations import OPERATIONS, RING_REQUESTS, ReplyStream, Ring, Spec

_BUFFER_SIZE: Final = 1 << 20
# What a connection may have in flight: it must fit the socket's buffer, as waiting for room in it
# would count as the server's time.
IN_FLIGHT_BYTES_MAX: Final = 128 << 10
_REQUEST_OVERHEAD: Final = 128
_POLL_S: Final = 0.1
_clock: Final = time.perf_counter_ns


@dataclass(frozen=True, slots=True)
class LoadConfig:
    """One run of the generator."""

    port: int
    operation: str
    connections: int
    # Requests in flight on each connection.
    depth: int
    data_bytes: int
    keys: int
    warm_up_s: float
    seconds: float
    ops_max: float
    seed: int
    # 0: the server's CPU is not measured.
    server_pid: int


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
        assert sent == len(requests), (sent, len(requests), IN_FLIGHT_BYTES_MAX)
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


def _timeval(seconds: float) -> bytes:
    """A C struct timeval, for a socket option."""
    return struct.pack("ll", int(seconds), 0)


class Generator:
    """All connections of one run, in one loop."""

    def __init__(self, connections: Sequence[Connection]) -> None:
        self._connections = {c.sock.fileno(): c for c in connections}
        self._turns = {fd: c.turn for fd, c in self._connections.items()}
        self._buffer = bytearray(_BUFFER_SIZE)
        self._epoll = select.epoll()
        for fd in self._connections:
            self._epoll.register(fd, select.EPOLLIN)
        self._poll: Callable[[float], list[tuple[int, int]]] = self._epoll.poll
        if len(connections) == 1:
            # A lone connection waits in its read: asking first would be a third of the cost.
            alone = [(connections[0].sock.fileno(), select.EPOLLIN)]
            connections[0].sock.setsockopt(
                socket.SOL_SOCKET, socket.SO_RCVTIMEO, _timeval(wire.ANSWER_TIMEOUT_S)
            )
            connections[0].sock.setblocking(True)
            self._poll = lambda timeout_s: alone

    def begin(self) -> None:
        for connection in self._connections.values():
            connection.begin()

    def run(self, until: Callable[[int, int], bool], latencies: Latencies, *, send: bool) -> int:
        """Take replies until `until(now, replies)`, asked once a wake-up; returns the replies.

        send: answer each reply with the next request.
        Raises: BenchmarkError on a wrong reply, a lost connection or a server that fell silent.
        """
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
        """Take the replies that are still to come."""
        everyone = self._connections.values()
        self.run(lambda now, replies: all(c.idle() for c in everyone), Latencies(), send=False)
        self._epoll.close()


def _connections(config: LoadConfig) -> list[Connection]:
    rng = random.Random(config.seed)
    # Names that no earlier run on the same server has used.
    run = time.time_ns() // 1_000_000 % 16**10
    connections: list[Connection] = []
    for number, sock in enumerate(wire.open_sessions(config.port, config.connections)):
        spec = Spec(rng.randbytes(config.data_bytes), config.keys, f"{run:010x}-{number:05d}")
        ring = OPERATIONS[config.operation](spec, rng)
        sock.setblocking(False)
        if config.depth == 1:
            connections.append(Lockstep(sock, ring))
        else:
            connections.append(Pipelined(sock, ring, config.depth))
    return connections


def run_load(config: LoadConfig) -> dict[str, float]:
    """One run; returns its metrics. CPU is per operation, in µs."""
    if config.depth > RING_REQUESTS:
        raise wire.BenchmarkError(f"depth {config.depth} > {RING_REQUESTS}")
    if config.depth * (config.data_bytes + _REQUEST_OVERHEAD) > IN_FLIGHT_BYTES_MAX:
        raise wire.BenchmarkError(f"more than {IN_FLIGHT_BYTES_MAX} bytes in flight a connection")
    connections = _connections(config)
    generator = Generator(connections)
    generator.begin()
    warm_until = _clock() + int(config.warm_up_s * 1e9)
    generator.run(lambda now, replies: now >= warm_until, Latencies(), send=True)

    latencies = Latencies()
    server_before = procs.cpu_sample(config.server_pid) if config.server_pid else None
    own_before = time.process_time_ns()
    begin = _clock()
    end = begin + int(config.seconds * 1e9)
    ops = generator.run(
        lambda now, replies: now >= end or replies >= config.ops_max, latencies, send=True
    )
    elapsed_s = (_clock() - begin) / 1e9
    own_ns = time.process_time_ns() - own_before
    if not ops:
        raise wire.BenchmarkError("no reply in the whole window")
    p50, p99, p999 = latencies.percentiles_us([50, 99, 99.9])
    metrics = {
        "ops_per_s": ops / elapsed_s,
        "p50_us": p50,
        "p99_us": p99,
        "p999_us": p999,
        "generator_cpu_us": own_ns / ops / 1000,
    }
    if server_before is not None:
        used_ns = procs.cpu_sample(config.server_pid).since(server_before)
        metrics["cpu_us"] = used_ns / ops / 1000
    generator.drain()
    for connection in connections:
        connection.sock.settimeout(wire.ANSWER_TIMEOUT_S)
    wire.close_sessions([connection.sock for connection in connections])
    return metrics


def _parse(argv: Sequence[str]) -> LoadConfig:
    parser = argparse.ArgumentParser(prog="python -m bench.load", description=__doc__)
    parser.add_argument("--port", type=int, default=2181)
    parser.add_argument("--operation", choices=OPERATIONS, default="getData")
    parser.add_argument("--connections", type=int, default=1)
    parser.add_argument("--depth", type=int, default=1)
    parser.add_argument("--data-bytes", type=int, default=100)
    parser.add_argument("--keys", type=int, default=10_000, help="nodes that bench.fill made")
    parser.add_argument("--warm-up-s", type=float, default=1.0)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--ops-max", type=float, default=inf)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--server-pid", type=int, default=0)
    return LoadConfig(**vars(parser.parse_args(argv)))


def main(argv: Sequence[str]) -> int:
    config = _parse(argv)
    gc.disable()
    try:
        metrics = run_load(config)
    except BlockingIOError:
        print("bench.load: the server has stopped answering", file=sys.stderr)
        return 1
    except (wire.BenchmarkError, OSError) as error:
        print(f"bench.load: {error}", file=sys.stderr)
        return 1
    print(json.dumps({"config": {**asdict(config), "ops_max": str(config.ops_max)}, **metrics}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
