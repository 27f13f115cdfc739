"""Watch fan-out: how long until the last of many watchers of one node has its notification."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from bench.harness import MEASURED_TIME, Arena, Metrics, Result, Workload
from bench.servers import Kind

pytestmark = pytest.mark.benchmark(timer=MEASURED_TIME)


@dataclass(frozen=True, slots=True)
class Fanout:
    """One node, a one-shot data watch on each of the size's number of connections."""

    name: str = "fan-out"

    @property
    def config(self) -> dict[str, object]:
        return {"watch": "data, one-shot"}

    @property
    def fresh(self) -> bool:
        return False

    def turn(self, arena: Arena, kind: Kind) -> Metrics:
        server = arena.server(kind)
        return arena.generate(
            "fanout",
            port=server.port,
            server_pid=server.pid,
            watchers=arena.size.watchers,
            rounds=arena.size.fanout_rounds,
        )

    def seconds(self, metrics: Metrics) -> float:
        return metrics["last_ms"] / 1e3


def test_fanout(kind: Kind, report: Callable[[Workload, Kind], Result]) -> None:
    report(Fanout(), kind)
