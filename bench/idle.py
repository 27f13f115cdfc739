"""What sessions cost that do nothing: `python -m bench.idle --port P --sessions 10000`.

Owns:   the sessions.
Invariants:
  1. Every session pings once a period, evenly spread over it; every answer is received and looked
     at.
Design: a client pings after a third of its session's time, as Apache's does when it is idle; the
  time is short so that a window of a few seconds sees every session ping at least once.
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
from typing import Final

from bench import procs, wire

TIMEOUT_MS: Final = 12_000
PERIOD_S: Final = TIMEOUT_MS / 3000
_PING: Final = wire.request(wire.PING_XID, wire.PING)
_POLL_S: Final = 0.01


@dataclass(frozen=True, slots=True)
class IdleConfig:
    """One run."""

    port: int
    sessions: int
    warm_up_s: float
    seconds: float
    server_pid: int


class Idle:
    """The sessions, and whose turn it is to ping."""

    def __init__(self, config: IdleConfig) -> None:
        self._sessions = wire.open_sessions((config.port,), config.sessions, TIMEOUT_MS)
        self._by_fd = {session.fileno(): session for session in self._sessions}
        self._poll = select.epoll()
        for fd in self._by_fd:
            self._poll.register(fd, select.EPOLLIN)
        self._sent = 0
        self._answered = 0

    def run(self, seconds: float) -> int:
        """Ping for so long, and take the last answer; returns how many there were."""
        begun, sent_before, answered_before = time.perf_counter(), self._sent, self._answered
        every = len(self._sessions)
        elapsed_s = 0.0
        while elapsed_s < seconds:
            self._take(_POLL_S)
            elapsed_s = min(time.perf_counter() - begun, seconds)
            due = sent_before + int(elapsed_s / PERIOD_S * every) - self._sent
            for _ in range(due):
                self._sessions[self._sent % every].sendall(_PING)
                self._sent += 1
        self._settle()
        return self._answered - answered_before

    def _settle(self) -> None:
        """Wait for all answers. Raises: BenchmarkError if they stay away."""
        while self._answered < self._sent:
            if not self._take(wire.ANSWER_TIMEOUT_S):
                raise wire.BenchmarkError(f"{self._sent - self._answered} pings not answered")

    def _take(self, timeout_s: float) -> bool:
        """The answers that have come; whether there were any."""
        ready = self._poll.poll(timeout_s)
        for fd, _ in ready:
            answer = self._by_fd[fd].recv(wire.HEADER_SIZE, socket.MSG_WAITALL)
            replies = list(wire.split_replies(answer))
            if [(reply.xid, reply.error) for reply in replies] != [(wire.PING_XID, 0)]:
                raise wire.BenchmarkError(f"not the answer to a ping: {answer!r}")
            self._answered += 1
        return bool(ready)

    def close(self) -> None:
        self._poll.close()
        wire.close_sessions(self._sessions)


def run_idle(config: IdleConfig) -> dict[str, float]:
    """One run; returns its metrics. CPU is that of the server a second, and a ping."""
    idle = Idle(config)
    idle.run(config.warm_up_s)
    server_before = procs.cpu_sample(config.server_pid)
    own_before, begin = time.process_time_ns(), time.perf_counter_ns()
    pings = idle.run(config.seconds)
    server_ns = procs.cpu_sample(config.server_pid).since(server_before)
    own_ns, elapsed_ns = time.process_time_ns() - own_before, time.perf_counter_ns() - begin
    idle.close()
    if not pings:
        raise wire.BenchmarkError("no ping in the whole window")
    return {
        "cpu_ms_per_s": server_ns / elapsed_ns * 1000,
        "cpu_us": server_ns / pings / 1000,
        "generator_cpu_us": own_ns / pings / 1000,
    }


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.idle", description=__doc__)
    parser.add_argument("--port", type=int, default=2181)
    parser.add_argument("--sessions", type=int, default=10_000)
    parser.add_argument("--warm-up-s", type=float, default=1.0)
    parser.add_argument("--seconds", type=float, default=2 * PERIOD_S)
    parser.add_argument("--server-pid", type=int, required=True)
    config = IdleConfig(**vars(parser.parse_args(argv)))
    wire.raise_file_limit(config.sessions)
    gc.disable()
    try:
        metrics = run_idle(config)
    except (wire.BenchmarkError, OSError) as error:
        print(f"bench.idle: {error}", file=sys.stderr)
        return 1
    print(json.dumps({"config": asdict(config), **metrics}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
