"""Sessions opened and cleanly closed in a second, and the CPU of one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

import pytest

from bench.harness import MEASURED_TIME, Arena, Metrics, Result, Workload
from bench.servers import Kind

pytestmark = pytest.mark.benchmark(timer=MEASURED_TIME)


@dataclass(frozen=True, slots=True)
class Sessions:
    """`concurrency` sessions under way at any moment; latency is until the session is there."""

    concurrency: int

    @property
    def name(self) -> str:
        return f"connect+close {self.concurrency}"

    @property
    def config(self) -> dict[str, object]:
        return asdict(self)

    @property
    def fresh(self) -> bool:
        return False

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


@pytest.mark.parametrize(
    "workload", [Sessions(1), Sessions(16), Sessions(64)], ids=lambda w: w.name
)
def test_sessions(
    workload: Sessions, kind: Kind, report: Callable[[Workload, Kind], Result]
) -> None:
    report(workload, kind)
