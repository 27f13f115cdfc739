"""A load generator that costs far less than the server: one process, one loop, closed.

`python -m bench.load --ports P --operation setData --connections 16 --depth 64` keeps `depth`
requests in flight on each of its connections and prints one JSON object.

Owns:   the connections.
Invariants:
  1. Closed: a request is sent when a reply has come, so latency never hides a queue of its own.
  2. Latency is from the write that carried the request to the read that brought its reply, by the
     order of the requests on the connection.
  3. The window is bounded: warm-up, then `seconds` or `ops_max`, whichever ends first.
Design: the loop is C's where there is a compiler (native.py), else Python's (loop.py): at 64
  connections Python's takes a third more CPU, which on a small machine is the server's loss.
Not here: what the nodes hold before (fill.py), servers (servers.py), repetition (harness.py).
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import inf
from typing import Final

from bench import native, procs, wire
from bench.loop import Latencies, Loop, PythonLoop
from bench.operations import OPERATIONS, RING_REQUESTS, Ring, Spec

# What a connection may have in flight: it must fit the socket's buffer, as waiting for room in it
# would count as the server's time.
IN_FLIGHT_BYTES_MAX: Final = 128 << 10


@dataclass(frozen=True, slots=True)
class LoadConfig:
    """One run of the generator."""

    # Of the servers, all of one ensemble.
    ports: tuple[int, ...]
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
    # None: the servers' CPU is not measured.
    server_pids: tuple[int, ...]
    # "c", "python", or "" for the better one that can be had.
    loop: str


def _sessions(config: LoadConfig) -> list[tuple[socket.socket, Ring]]:
    """Connections, dealt to the servers in turn, and what each asks for."""
    if config.depth > RING_REQUESTS:
        raise wire.BenchmarkError(f"depth {config.depth} > {RING_REQUESTS}")
    rng = random.Random(config.seed)
    # Names that no earlier run on the same server has used.
    run = time.time_ns() // 1_000_000 % 16**10
    rings = []
    for number in range(config.connections):
        spec = Spec(rng.randbytes(config.data_bytes), config.keys, f"{run:010x}-{number:05d}")
        rings.append(OPERATIONS[config.operation](spec, rng))
    if config.depth * max(ring.size_max for ring in rings) > IN_FLIGHT_BYTES_MAX:
        raise wire.BenchmarkError(f"more than {IN_FLIGHT_BYTES_MAX} bytes in flight a connection")
    sockets = wire.open_sessions(config.ports, config.connections)
    for sock in sockets:
        sock.setblocking(False)
    return list(zip(sockets, rings, strict=True))


def _loop(config: LoadConfig, sessions: Sequence[tuple[socket.socket, Ring]]) -> Loop:
    code = None if config.loop == "python" else native.library()
    if code is not None:
        return native.NativeLoop(code, sessions, config.depth)
    if config.loop == "c":
        raise wire.BenchmarkError("there is no C compiler")
    return PythonLoop(sessions, config.depth)


def run_load(config: LoadConfig) -> dict[str, float]:
    """One run; returns its metrics. CPU is per operation, in µs."""
    sessions = _sessions(config)
    loop = _loop(config, sessions)
    loop.begin()
    loop.run(config.warm_up_s, inf, Latencies())

    latencies = Latencies()
    server_before = procs.cpu_sample(*config.server_pids)
    own_before = time.process_time_ns()
    begin = time.perf_counter_ns()
    ops = loop.run(config.seconds, config.ops_max, latencies)
    if not ops:
        # So short a window ends with the first reply.
        ops = loop.run(wire.ANSWER_TIMEOUT_S, 1, latencies)
    elapsed_s = (time.perf_counter_ns() - begin) / 1e9
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
        # Near 1 the generator, not the server, is what was measured.
        "generator_load": own_ns / elapsed_s / 1e9,
    }
    if config.server_pids:
        used_ns = procs.cpu_sample(*config.server_pids).since(server_before)
        metrics["cpu_us"] = used_ns / ops / 1000
    loop.drain()
    for sock, _ in sessions:
        sock.settimeout(wire.ANSWER_TIMEOUT_S)
    wire.close_sessions([sock for sock, _ in sessions])
    return metrics


def _parse(argv: Sequence[str]) -> LoadConfig:
    parser = argparse.ArgumentParser(prog="python -m bench.load", description=__doc__)
    parser.add_argument("--ports", type=wire.numbers, default=(2181,), help="commas between them")
    parser.add_argument("--operation", choices=OPERATIONS, default="getData")
    parser.add_argument("--connections", type=int, default=1)
    parser.add_argument("--depth", type=int, default=1)
    parser.add_argument("--data-bytes", type=int, default=100)
    parser.add_argument("--keys", type=int, default=10_000, help="nodes that bench.fill made")
    parser.add_argument("--warm-up-s", type=float, default=1.0)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--ops-max", type=float, default=inf)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--server-pids", type=wire.numbers, default=())
    parser.add_argument("--loop", choices=("", "c", "python"), default="")
    return LoadConfig(**vars(parser.parse_args(argv)))


def main(argv: Sequence[str]) -> int:
    config = _parse(argv)
    gc.disable()
    try:
        metrics = run_load(config)
    except BlockingIOError:
        # A lone connection of the loop in Python waits in its read.
        print("bench.load: the server has stopped answering", file=sys.stderr)
        return 1
    except (wire.BenchmarkError, OSError) as error:
        print(f"bench.load: {error}", file=sys.stderr)
        return 1
    print(json.dumps({"config": {**asdict(config), "ops_max": str(config.ops_max)}, **metrics}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
