"""How long until the last of many watchers has heard of a change.

`python -m bench.fanout --port P --watchers 1000` sets a watch on one node from that many
connections, changes the node, and prints one JSON object.

Owns:   the watchers' sessions and the writer's.
Invariants:
  1. Each round, every watcher's notification is received whole and looked at, after its time was
     taken.
Design: the kernel says which connections have got something (edge-triggered epoll), and only that
  is timed: reading a thousand notifications one by one in Python would be timed as the server's
  work. A notification is one small segment, so it is readable as a whole or not at all.
Not here: repetition (harness.py).
"""

from __future__ import annotations

import argparse
import gc
import json
import select
import struct
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Final

from bench import procs, wire

_PATH: Final = "/bench-fanout"
_DATA: Final = b"x" * 100
_NODE_DATA_CHANGED: Final = 3
_WARM_UP_ROUNDS: Final = 3


@dataclass(frozen=True, slots=True)
class FanoutConfig:
    """One run."""

    port: int
    watchers: int
    rounds: int
    server_pid: int


@dataclass(frozen=True, slots=True)
class Round:
    """Times since the write was sent, in ns; CPU of the server in ns."""

    first: int
    middle: int
    last: int
    arm_cpu: int
    notify_cpu: int


class Fanout:
    """The watchers, the writer, and what is readable."""

    def __init__(self, config: FanoutConfig) -> None:
        self._config = config
        self._writer, *self._watchers = wire.open_sessions((config.port,), config.watchers + 1)
        made = (0, wire.NODE_EXISTS)
        wire.call(self._writer, wire.CREATE, wire.create_body(_PATH, _DATA), allowed=made)
        self._poll = select.epoll()
        for watcher in self._watchers:
            self._poll.register(watcher.fileno(), select.EPOLLIN | select.EPOLLET)

    def round(self) -> Round:
        """Arm every watch, write once, wait for all notifications."""
        cpu_before = procs.cpu_sample(self._config.server_pid)
        self._arm()
        cpu_armed = procs.cpu_sample(self._config.server_pid)
        arrivals = self._notify()
        cpu_after = procs.cpu_sample(self._config.server_pid)
        for watcher in self._watchers:
            _check_notification(wire.receive_reply(watcher))
        return Round(
            arrivals[0],
            arrivals[len(arrivals) // 2],
            arrivals[-1],
            cpu_armed.since(cpu_before),
            cpu_after.since(cpu_armed),
        )

    def _arm(self) -> None:
        arm = wire.request(1, wire.GET_DATA, wire.read_body(_PATH, watch=True))
        for watcher in self._watchers:
            watcher.sendall(arm)
        for watcher in self._watchers:
            if error := wire.receive_reply(watcher).error:
                raise wire.BenchmarkError(f"setting a watch failed with {error}")
        # The edges of these replies are history.
        while self._poll.poll(0):
            pass

    def _notify(self) -> list[int]:
        """Write; returns when each watcher had its notification, ascending, in ns."""
        write = wire.request(1, wire.SET_DATA, wire.set_body(_PATH, _DATA))
        waiting = {watcher.fileno() for watcher in self._watchers}
        events_max = len(waiting)
        arrivals: list[int] = []
        begin = time.perf_counter_ns()
        self._writer.sendall(write)
        while waiting:
            ready = self._poll.poll(wire.ANSWER_TIMEOUT_S, events_max)
            now = time.perf_counter_ns()
            if not ready:
                raise wire.BenchmarkError(f"{len(waiting)} watchers have heard nothing")
            arrivals += [now - begin] * len(ready)
            waiting.difference_update(fd for fd, _ in ready)
        if error := wire.receive_reply(self._writer).error:
            raise wire.BenchmarkError(f"the write failed with {error}")
        return arrivals

    def close(self) -> None:
        wire.close_sessions([self._writer, *self._watchers])
        self._poll.close()


def _check_notification(reply: wire.Reply) -> None:
    (event,) = struct.unpack_from(">i", reply.body)
    if reply.xid != wire.NOTIFICATION_XID or event != _NODE_DATA_CHANGED:
        raise wire.BenchmarkError(f"not the notification that was expected: {reply}")


def run_fanout(config: FanoutConfig) -> dict[str, float]:
    """One run; returns its metrics, medians over the rounds. CPU is µs per watcher."""
    fanout = Fanout(config)
    for _ in range(_WARM_UP_ROUNDS):
        fanout.round()
    own_before = time.process_time_ns()
    rounds = [fanout.round() for _ in range(config.rounds)]
    own_ns = time.process_time_ns() - own_before
    fanout.close()
    watches = config.watchers * config.rounds
    return {
        "first_ms": median(r.first for r in rounds) / 1e6,
        "middle_ms": median(r.middle for r in rounds) / 1e6,
        "last_ms": median(r.last for r in rounds) / 1e6,
        "cpu_us": sum(r.notify_cpu for r in rounds) / watches / 1000,
        "arm_cpu_us": sum(r.arm_cpu for r in rounds) / watches / 1000,
        "generator_cpu_us": own_ns / watches / 1000,
    }


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.fanout", description=__doc__)
    parser.add_argument("--port", type=int, default=2181)
    parser.add_argument("--watchers", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--server-pid", type=int, required=True)
    config = FanoutConfig(**vars(parser.parse_args(argv)))
    wire.raise_file_limit(config.watchers)
    gc.disable()
    try:
        metrics = run_fanout(config)
    except (wire.BenchmarkError, OSError) as error:
        print(f"bench.fanout: {error}", file=sys.stderr)
        return 1
    print(json.dumps({"config": asdict(config), **metrics}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
