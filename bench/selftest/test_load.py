"""The load against a server that answers by rote, by both of its loops."""

from __future__ import annotations

import os
import time
from typing import Any

import pytest

from bench import native, wire
from bench.load import LoadConfig, run_load
from bench.loop import Latencies
from bench.selftest.rote import RoteServer, rote_server


def config(server: RoteServer, **changes: Any) -> LoadConfig:
    settings: dict[str, Any] = {
        "ports": (server.port,),
        "operation": "getData",
        "connections": 3,
        "depth": 1,
        "data_bytes": 100,
        "keys": 10,
        "warm_up_s": 0.0,
        "seconds": 30.0,
        "ops_max": 400,
        "seed": 1,
        "server_pids": (),
        "loop": "python",
    }
    return LoadConfig(**(settings | changes))


LOOPS = ["python", *(["c"] if native.library() else [])]
each_loop = pytest.mark.parametrize("loop", LOOPS)


@each_loop
@pytest.mark.parametrize("operation", ["getData", "setData", "exists", "mix"])
@pytest.mark.parametrize("connections", [1, 3])
@pytest.mark.parametrize("depth", [1, 16])
@pytest.mark.parametrize("piece", [0, 30])
def test_a_run_ends_with_its_count(
    server: RoteServer, loop: str, operation: str, connections: int, depth: int, piece: int
) -> None:
    server.piece = piece
    metrics = run_load(
        config(server, loop=loop, operation=operation, connections=connections, depth=depth)
    )
    # More than was asked for by at most what was in flight, then the sessions' ends.
    assert 400 <= server.answered <= 400 + connections * (2 * depth + 1)
    assert 0 < metrics["p50_us"] <= metrics["p99_us"] <= metrics["p999_us"]
    assert "cpu_us" not in metrics


@each_loop
def test_a_run_ends_with_its_time(server: RoteServer, loop: str) -> None:
    begun = time.perf_counter()
    metrics = run_load(
        config(server, loop=loop, seconds=0.1, ops_max=float("inf"), server_pids=(os.getpid(),))
    )
    assert 0.1 <= time.perf_counter() - begun < 20
    assert metrics["ops_per_s"] > 0
    assert metrics["cpu_us"] > 0


@each_loop
@pytest.mark.parametrize("depth", [1, 16])
@pytest.mark.parametrize("piece", [0, 10])
def test_an_error_reply_ends_the_run(server: RoteServer, loop: str, depth: int, piece: int) -> None:
    server.refuse, server.piece = 100, piece
    with pytest.raises(wire.BenchmarkError, match="error -101"):
        run_load(config(server, loop=loop, depth=depth))


@each_loop
def test_a_window_shorter_than_a_reply_ends_with_it(server: RoteServer, loop: str) -> None:
    server.pause_s = 0.1
    metrics = run_load(config(server, loop=loop, seconds=0.001, ops_max=float("inf")))
    assert metrics["p50_us"] > 90_000


@each_loop
def test_connections_are_dealt_to_all_servers(server: RoteServer, loop: str) -> None:
    with rote_server() as other:
        run_load(config(server, loop=loop, ports=(server.port, other.port), connections=4))
        assert len(server.sessions) == len(other.sessions) == 2
        # Of each connection a request at least, and its end.
        assert min(server.answered, other.answered) >= 4


@each_loop
def test_a_loop_measures_what_the_server_makes_it_wait(server: RoteServer, loop: str) -> None:
    server.pause_s = 0.02
    metrics = run_load(config(server, loop=loop, ops_max=30))
    assert 20_000 < metrics["p50_us"] < 1_000_000


def test_what_does_not_fit_the_socket_is_refused(server: RoteServer) -> None:
    with pytest.raises(wire.BenchmarkError, match="in flight"):
        run_load(config(server, depth=200, data_bytes=1000))


def test_percentiles_are_of_all_requests() -> None:
    latencies = Latencies()
    for _ in range(97):
        latencies.add(1_000_000)
    latencies.steps[2_000_000 >> Latencies.STEP_SHIFT] += 2
    latencies.steps[9_000_000 >> Latencies.STEP_SHIFT] += 1
    found = latencies.percentiles_us([50, 97, 98, 99, 100])
    assert found == pytest.approx([1000, 1000, 2000, 2000, 9000], abs=0.13)
