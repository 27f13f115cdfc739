"""How long until the last of many watchers has heard of a change.

`python -m bench.fanout --port P --connections 1000` sets a watch on one node from that many
connections, changes the node, and prints one JSON object. `--nodes N` has each of them watch N
nodes, all of which change at once; `--persistent` sets watches that stay.

Owns:   the watchers' sessions and the writer's.
Invariants:
  1. Each round, every notification is received whole and looked at, after its time was taken.
Design: with one node the kernel says which connections have got something (edge-triggered epoll),
  and only that is timed: reading a thousand notifications one by one in Python would be timed as
  the server's work. A notification is one small segment, so it is readable as a whole or not at
  all. With more nodes, what has come is read and counted in bytes.
Not here: repetition (harness.py).
"""

from __future__ import annotations

import argparse
import gc
import json
import select
import socket
import struct
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Final

from bench import procs, wire

_DATA: Final = b"x" * 100
_NODE_DATA_CHANGED: Final = 3
_WARM_UP_ROUNDS: Final = 2
# Behind the header: type, state, length of the path.
_EVENT: Final = struct.Struct(">iii")
# Watches that are set before their answers are taken.
_ARMED_AT_ONCE: Final = 500


@dataclass(frozen=True, slots=True)
class FanoutConfig:
    """One run."""

    port: int
    connections: int
    # Watched by each connection.
    nodes: int
    persistent: bool
    rounds: int
    server_pid: int


@dataclass(frozen=True, slots=True)
class Round:
    """Times since the writes were sent until a connection has heard all, in ns; CPU of the server
    in ns."""

    first: int
    middle: int
    last: int
    arm_cpu: int
    notify_cpu: int


class Fanout:
    """The watchers, the writer, and what is readable."""

    def __init__(self, config: FanoutConfig) -> None:
        self._config = config
        self._paths = [f"/bench-fanout-{node:04d}" for node in range(config.nodes)]
        self._notification_size = wire.HEADER_SIZE + _EVENT.size + len(self._paths[0])
        self._writer, *watchers = wire.open_sessions((config.port,), config.connections + 1)
        self._watchers = {watcher.fileno(): watcher for watcher in watchers}
        made = (0, wire.NODE_EXISTS)
        for path in self._paths:
            wire.call(self._writer, wire.CREATE, wire.create_body(path, _DATA), allowed=made)
        self._poll = select.epoll()
        for fd in self._watchers:
            self._poll.register(fd, select.EPOLLIN | select.EPOLLET)

    def round(self, *, arm: bool) -> Round:
        """Set every watch, write once to each node, wait for all notifications."""
        cpu_before = procs.cpu_sample(self._config.server_pid)
        if arm:
            self._arm()
        cpu_armed = procs.cpu_sample(self._config.server_pid)
        arrivals, heard = self._notify()
        cpu_after = procs.cpu_sample(self._config.server_pid)
        for fd, watcher in self._watchers.items():
            missing = self._notification_size * len(self._paths) - len(heard[fd])
            self._check(heard[fd] + wire.receive(watcher, missing))
        return Round(
            arrivals[0],
            arrivals[len(arrivals) // 2],
            arrivals[-1],
            cpu_armed.since(cpu_before),
            cpu_after.since(cpu_armed),
        )

    def _arm(self) -> None:
        if self._config.persistent:
            bodies = [(wire.ADD_WATCH, wire.persistent_watch_body(path)) for path in self._paths]
        else:
            bodies = [(wire.GET_DATA, wire.read_body(path, watch=True)) for path in self._paths]
        requests = b"".join(wire.request(1, opcode, body) for opcode, body in bodies)
        watchers = list(self._watchers.values())
        for first in range(0, len(watchers), _ARMED_AT_ONCE):
            some = watchers[first : first + _ARMED_AT_ONCE]
            for watcher in some:
                watcher.sendall(requests)
            for watcher in some:
                for _ in self._paths:
                    if error := wire.receive_reply(watcher).error:
                        raise wire.BenchmarkError(f"setting a watch failed with {error}")
        # The edges of these replies are history.
        while self._poll.poll(0):
            pass

    def _notify(self) -> tuple[list[int], dict[int, bytes]]:
        """Write; returns when each watcher had heard all, ascending, in ns, and what was read."""
        writes = b"".join(
            wire.request(1, wire.SET_DATA, wire.set_body(path, _DATA)) for path in self._paths
        )
        heard = dict.fromkeys(self._watchers, b"")
        waiting = set(self._watchers)
        arrivals: list[int] = []
        begin = time.perf_counter_ns()
        self._writer.sendall(writes)
        while waiting:
            ready = self._poll.poll(wire.ANSWER_TIMEOUT_S, len(waiting))
            now = time.perf_counter_ns()
            if not ready:
                raise wire.BenchmarkError(f"{len(waiting)} watchers have not heard all")
            arrived = [fd for fd, _ in ready]
            if len(self._paths) > 1:
                arrived = [fd for fd in arrived if self._heard_all(fd, heard)]
            arrivals += [now - begin] * len(arrived)
            waiting.difference_update(arrived)
        for _ in self._paths:
            if error := wire.receive_reply(self._writer).error:
                raise wire.BenchmarkError(f"a write failed with {error}")
        return arrivals, heard

    def _heard_all(self, fd: int, heard: dict[int, bytes]) -> bool:
        """Read what is there; whether that was the last."""
        every = self._notification_size * len(self._paths)
        try:
            heard[fd] += self._watchers[fd].recv(every, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False  # read with the edge before
        return len(heard[fd]) == every

    def _check(self, notifications: bytes) -> None:
        """One of each node, in the order of the writes."""
        size = self._notification_size
        for number, path in enumerate(self._paths):
            (reply,) = wire.split_replies(notifications[number * size : (number + 1) * size])
            event, _, _ = _EVENT.unpack_from(reply.body)
            expected = wire.NOTIFICATION_XID, _NODE_DATA_CHANGED, path.encode()
            if (reply.xid, event, reply.body[_EVENT.size :]) != expected:
                raise wire.BenchmarkError(f"not the notification that was expected: {reply}")

    def close(self) -> None:
        wire.close_sessions([self._writer, *self._watchers.values()])
        self._poll.close()


def run_fanout(config: FanoutConfig) -> dict[str, float]:
    """One run; returns its metrics, medians over the rounds. CPU is µs per watch."""
    fanout = Fanout(config)
    warm_up = [fanout.round(arm=not (config.persistent and n)) for n in range(_WARM_UP_ROUNDS)]
    own_before = time.process_time_ns()
    rounds = [fanout.round(arm=not config.persistent) for _ in range(config.rounds)]
    own_ns = time.process_time_ns() - own_before
    fanout.close()
    each = config.connections * config.nodes * 1000
    arms = warm_up[:1] if config.persistent else rounds
    return {
        "first_ms": median(r.first for r in rounds) / 1e6,
        "middle_ms": median(r.middle for r in rounds) / 1e6,
        "last_ms": median(r.last for r in rounds) / 1e6,
        "cpu_us": sum(r.notify_cpu for r in rounds) / len(rounds) / each,
        "arm_cpu_us": sum(r.arm_cpu for r in arms) / len(arms) / each,
        "generator_cpu_us": own_ns / len(rounds) / each,
    }


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.fanout", description=__doc__)
    parser.add_argument("--port", type=int, default=2181)
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--nodes", type=int, default=1)
    parser.add_argument("--persistent", action="store_true")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--server-pid", type=int, required=True)
    config = FanoutConfig(**vars(parser.parse_args(argv)))
    wire.raise_file_limit(config.connections)
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
