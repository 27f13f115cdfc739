"""Sessions opened and cleanly closed in a second, and the CPU of one; sessions that are idle."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from bench.harness import MEASURED_TIME, Arena, Metrics, Result, Workload
from bench.servers import Kind

pytestmark = pytest.mark.benchmark(timer=MEASURED_TIME)


@dataclass(frozen=True)
class Sessions(Workload):
    """`concurrency` sessions under way at any moment; latency is until the session is there."""

    concurrency: int

    @property
    def name(self) -> str:
        return f"connect+close {self.concurrency}"

    @property
    def suite(self) -> str:
        return "main"

    def turn(self, arena: Arena, kind: Kind) -> Metrics:
        server = arena.server(kind)
        return arena.generate(
            "sessions",
            port=server.port,
            server_pid=server.pid,
            concurrency=self.concurrency,
            warm_up_s=arena.size.warm_up_s,
            seconds=arena.size.seconds,
        )

    def seconds(self, metrics: Metrics) -> float:
        return 1 / metrics["ops_per_s"]


@dataclass(frozen=True)
class Idle(Workload):
    """Sessions that only ping, once in four seconds each."""

    sessions: int

    @property
    def name(self) -> str:
        return f"idle {self.sessions}"

    @property
    def suite(self) -> str:
        return "main"

    def turn(self, arena: Arena, kind: Kind) -> Metrics:
        server = arena.server(kind)
        real = arena.size.scale == 1
        return arena.generate(
            "idle",
            port=server.port,
            server_pid=server.pid,
            sessions=arena.size.scaled(self.sessions),
            warm_up_s=arena.size.warm_up_s,
            # A period of the pings, and two thirds of the next for what else the server does.
            seconds=6 if real else 0.3,
        )

    def seconds(self, metrics: Metrics) -> float:
        return metrics["cpu_ms_per_s"] / 1e3


WORKLOADS = [Sessions(1), Sessions(16), Sessions(64), Idle(10_000)]


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda workload: workload.name)
def test_sessions(
    workload: Workload, kind: Kind, report: Callable[[Workload, Kind], Result]
) -> None:
    report(workload, kind)
