"""Sessions opened and cleanly closed, one after the other on each of some connections.

`python -m bench.sessions --port P --concurrency 16` prints one JSON object.

Owns:   the sockets under way, and what each waits for.
Invariants:
  1. A session counts when its close was answered; the next one begins then.
Design: nothing here blocks: a server that lets its backlog fill delays the sessions that it
  concerns by the kernel's second, and no other.
Not here: repetition (harness.py).
"""

from __future__ import annotations

import argparse
import gc
import json
import select
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import Enum, auto
from typing import Final

from bench import procs, wire
from bench.loop import Latencies

_CONNECT: Final = wire.connect_request()
_CLOSE: Final = wire.request(1, wire.CLOSE_SESSION)
_clock: Final = time.perf_counter_ns


@dataclass(frozen=True, slots=True)
class SessionsConfig:
    """One run."""

    port: int
    concurrency: int
    warm_up_s: float
    seconds: float
    server_pid: int


class _Stage(Enum):
    """What a session under way waits for."""

    CONNECTION = auto()
    SESSION = auto()
    CLOSE = auto()


@dataclass(slots=True)
class _Attempt:
    """A session under way."""

    sock: socket.socket
    begun: int
    stage: _Stage


class SessionLoop:
    """Keeps `concurrency` sessions under way."""

    def __init__(self, config: SessionsConfig) -> None:
        self._address = (wire.HOST, config.port)
        self._poll = select.epoll()
        self._attempts: dict[int, _Attempt] = {}
        for _ in range(config.concurrency):
            self._begin()

    def _begin(self) -> None:
        begun = _clock()
        sock = socket.socket()
        sock.setblocking(False)
        sock.connect_ex(self._address)
        attempt = _Attempt(sock, begun, _Stage.CONNECTION)
        self._attempts[sock.fileno()] = attempt
        try:
            sock.send(_CONNECT)
        except BlockingIOError:
            # The server's backlog is full: the kernel goes on trying.
            self._poll.register(sock.fileno(), select.EPOLLOUT)
        else:
            # On the loopback a connection is there at once.
            attempt.stage = _Stage.SESSION
            self._poll.register(sock.fileno(), select.EPOLLIN)

    def run(self, seconds: float, connects: Latencies, *, renew: bool) -> int:
        """Returns the number of sessions that were closed; so short a window that none is ends with
        the first. renew: begin one for each."""
        closed = 0
        end = _clock() + int(seconds * 1e9)
        limit = end + int(wire.ANSWER_TIMEOUT_S * 1e9)
        while self._attempts and _clock() < (end if closed or not renew else limit):
            for fd, _ in self._poll.poll(0.1):
                if self._advance(fd, connects):
                    closed += 1
                    if renew:
                        self._begin()
        return closed

    def _advance(self, fd: int, connects: Latencies) -> bool:
        """One step of the session at `fd`; returns whether it was the last.

        Raises: BenchmarkError if the server refuses the session or its close.
        """
        attempt = self._attempts[fd]
        sock = attempt.sock
        if attempt.stage is _Stage.CONNECTION:
            sock.send(_CONNECT)
            self._poll.modify(fd, select.EPOLLIN)
            attempt.stage = _Stage.SESSION
            return False
        answer = sock.recv(256)
        if attempt.stage is _Stage.SESSION:
            if len(answer) < 12 or answer[8:12] == bytes(4):
                raise wire.BenchmarkError(f"no session: {answer!r}")
            connects.add(_clock() - attempt.begun)
            attempt.stage = _Stage.CLOSE
            sock.send(_CLOSE)
            return False
        if len(answer) != wire.HEADER_SIZE or answer[-4:] != bytes(4):
            raise wire.BenchmarkError(f"a session was not closed: {answer!r}")
        del self._attempts[fd]
        # Closing it takes it out of the poll.
        sock.close()
        return True

    def finish(self) -> None:
        """Let what is under way end."""
        self.run(wire.ANSWER_TIMEOUT_S, Latencies(), renew=False)
        if self._attempts:
            raise wire.BenchmarkError(f"{len(self._attempts)} sessions are stuck")
        self._poll.close()


def run_sessions(config: SessionsConfig) -> dict[str, float]:
    """One run; returns its metrics. CPU is µs per session."""
    loop = SessionLoop(config)
    loop.run(config.warm_up_s, Latencies(), renew=True)
    connects = Latencies()
    server_before = procs.cpu_sample(config.server_pid)
    own_before = time.process_time_ns()
    begin = _clock()
    sessions = loop.run(config.seconds, connects, renew=True)
    elapsed_s = (_clock() - begin) / 1e9
    own_ns = time.process_time_ns() - own_before
    server_ns = procs.cpu_sample(config.server_pid).since(server_before)
    loop.finish()
    if not sessions:
        raise wire.BenchmarkError("no session in the whole window")
    p50, p99 = connects.percentiles_us([50, 99])
    return {
        "ops_per_s": sessions / elapsed_s,
        "p50_us": p50,
        "p99_us": p99,
        "generator_cpu_us": own_ns / sessions / 1000,
        "cpu_us": server_ns / sessions / 1000,
    }


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.sessions", description=__doc__)
    parser.add_argument("--port", type=int, default=2181)
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--warm-up-s", type=float, default=1.0)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--server-pid", type=int, required=True)
    config = SessionsConfig(**vars(parser.parse_args(argv)))
    gc.disable()
    try:
        metrics = run_sessions(config)
    except (wire.BenchmarkError, OSError) as error:
        print(f"bench.sessions: {error}", file=sys.stderr)
        return 1
    print(json.dumps({"config": asdict(config), **metrics}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
