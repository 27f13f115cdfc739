"""Latency, throughput and CPU of writes and reads: alone, from many connections, and pipelined."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from bench.harness import MEASURED_TIME, Arena, Metrics, Result, Workload
from bench.servers import Kind

pytestmark = pytest.mark.benchmark(timer=MEASURED_TIME)


@dataclass(frozen=True)
class Requests(Workload):
    """`connections` with `depth` requests in flight on each."""

    operation: str
    connections: int
    depth: int
    data_bytes: int = 100

    @property
    def name(self) -> str:
        size = "" if self.data_bytes == 100 else f" {self.data_bytes} B"
        return f"{self.operation} {self.connections}x{self.depth}{size}"

    @property
    def suite(self) -> str:
        is_main = self.operation in ("getData", "setData") and self.data_bytes == 100
        return "main" if is_main else "more"

    @property
    def smoke(self) -> bool:
        return (self.connections, self.depth) in ((1, 1), (16, 64))

    def turn(self, arena: Arena, kind: Kind) -> Metrics:
        server = arena.server(kind, self.data_bytes)
        creates = self.operation == "create"
        return arena.generate(
            "load",
            ports=server.ports,
            server_pids=server.pids,
            operation=self.operation,
            connections=self.connections,
            depth=self.depth,
            data_bytes=self.data_bytes,
            keys=arena.size.keys,
            seed=arena.seed,
            warm_up_s=arena.size.warm_up_s / (3 if creates else 1),
            seconds=arena.size.seconds,
            ops_max=arena.size.creates_max if creates else float("inf"),
        )

    def seconds(self, metrics: Metrics) -> float:
        return 1 / metrics["ops_per_s"]


@dataclass(frozen=True)
class Creates(Requests):
    """They leave a tree behind that the next turn, and the next workload, would feel."""

    fresh = True


# Connections × requests in flight on each.
CONCURRENCY = [(1, 1), (8, 1), (64, 1), (256, 1), (16, 64)]
CROWDS = [(64, 1), (16, 64)]
WORKLOADS = [
    *(Requests("getData", *concurrency) for concurrency in CONCURRENCY),
    *(Requests("setData", *concurrency) for concurrency in CONCURRENCY),
    *(Requests("mix", *concurrency) for concurrency in CONCURRENCY),
    *(Requests("exists", *concurrency) for concurrency in CROWDS),
    *(Requests("create+delete", *concurrency) for concurrency in CONCURRENCY),
    *(Requests("multi", *concurrency) for concurrency in [(1, 1), (64, 1), (16, 64)]),
    *(Creates("create", *concurrency) for concurrency in CONCURRENCY),
    *(Requests("setData", *concurrency, data_bytes=1000) for concurrency in CONCURRENCY),
    *(Requests("getData", *concurrency, data_bytes=1000) for concurrency in CROWDS),
]


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda workload: workload.name)
def test_requests(
    workload: Requests, kind: Kind, report: Callable[[Workload, Kind], Result]
) -> None:
    report(workload, kind)
