"""Watch fan-out: how long until the last of many watchers has its notifications."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from bench.harness import MEASURED_TIME, Arena, Metrics, Result, Workload
from bench.servers import Kind

pytestmark = pytest.mark.benchmark(timer=MEASURED_TIME)


@dataclass(frozen=True)
class Fanout(Workload):
    """`connections` that watch the data of the same `nodes`, all of which change at once."""

    connections: int
    nodes: int = 1
    persistent: bool = False

    @property
    def name(self) -> str:
        kind = ", persistent" if self.persistent else ""
        return f"fan-out {self.connections}x{self.nodes}{kind}"

    @property
    def suite(self) -> str:
        is_main = self.nodes == 1 and not self.persistent
        return "main" if is_main else "more"

    def turn(self, arena: Arena, kind: Kind) -> Metrics:
        server = arena.server(kind)
        nodes = self.nodes if self.nodes == 1 else arena.size.scaled(self.nodes)
        return arena.generate(
            "fanout",
            port=server.port,
            server_pid=server.pid,
            connections=arena.size.scaled(self.connections),
            nodes=nodes,
            persistent=self.persistent,
            rounds=arena.size.fanout_rounds,
        )

    def seconds(self, metrics: Metrics) -> float:
        return metrics["last_ms"] / 1e3


WORKLOADS = [
    Fanout(connections, nodes, persistent)
    for persistent in (False, True)
    for connections, nodes in ((1000, 1), (10_000, 1), (100, 100))
]


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda workload: workload.name)
def test_fanout(workload: Fanout, kind: Kind, report: Callable[[Workload, Kind], Result]) -> None:
    report(workload, kind)
