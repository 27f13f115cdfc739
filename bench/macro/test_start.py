"""Start-up: from the start of the process to the first answer, with a tree on the disk; and a tree
that is far larger than the memory that the server may use.

Design: every turn of `start` begins with a fresh copy, so no turn profits from the one before. The
  copy is flushed first, so that its writing back is not measured; it is in the page cache, for all
  alike.
Not here: where the trees come from (trees.py).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import pytest

from bench import cgroups, trees, wire
from bench.harness import MEASURED_TIME, Arena, Metrics, Result, Workload
from bench.operations import RING_REQUESTS
from bench.servers import Kind, Server

pytestmark = pytest.mark.benchmark(timer=MEASURED_TIME)

_MB: Final = 1e6
# Far more than it takes: reads from a slow disk.
_LOAD_S_MAX: Final = 120.0
_TITLES: Final = {0: "0", 100_000: "100 k", 1_000_000: "1 M", 16_000_000: "16 M"}


@dataclass(frozen=True)
class Start(Workload):
    """A start after a clean stop or after kill -9, with so many nodes."""

    nodes: int
    stop: str
    data_bytes: int = 100

    fresh = True

    @property
    def name(self) -> str:
        return f"start {_TITLES[self.nodes]}, {self.stop}"

    @property
    def suite(self) -> str:
        is_main = self.nodes == 1_000_000
        return "main" if is_main else "more"

    @property
    def smoke(self) -> bool:
        return self.nodes != 100_000

    def turn(self, arena: Arena, kind: Kind) -> Metrics:
        count = arena.size.scaled(self.nodes)
        left = trees.left_behind(arena, kind, count, self.data_bytes) / self.stop
        directory = arena.new_directory(f"start-{kind.name}")
        with Server(kind, directory) as server:
            trees.copy(left, server.data)
            trees.flush(server.data)
            start_s = server.start(wire.key_path(count - 1) if count else "/")
            memory = server.memory()
        shutil.rmtree(directory)
        return {
            "start_ms": start_s * 1e3,
            "anonymous_mb": memory.anonymous / _MB,
            "file_mb": memory.file / _MB,
            "disk_mb": trees.disk_bytes(left) / _MB,
        }

    def seconds(self, metrics: Metrics) -> float:
        return metrics["start_ms"] / 1e3


@dataclass(frozen=True)
class LargerThanMemory(Workload):
    """Start, reads of nodes that are not in memory, and writes, under a limit that counts the page
    cache too. The server is killed at the end of a turn: the next one recovers."""

    nodes: int
    limit_mb: int
    data_bytes: int = 100
    connections: int = 256

    @property
    def name(self) -> str:
        return f"{_TITLES[self.nodes]} nodes in {self.limit_mb} MB"

    def refusal(self, kind: Kind) -> str:
        if not kind.name.startswith("zkstore"):
            return "Apache's tree is on its heap: it cannot be larger than memory"
        return cgroups.refusal()

    def turn(self, arena: Arena, kind: Kind) -> Metrics:
        count = arena.size.scaled(self.nodes)
        data = trees.imported(arena, kind, count, self.data_bytes)
        directory = arena.new_directory(f"limited-{kind.name}")
        with (
            cgroups.memory_limit(self.limit_mb << 20) as group,
            Server(kind, directory, data=data, prefix=group.enter) as server,
        ):
            # Nothing of it is in the page cache, which would be another group's to account for.
            trees.forget(data)
            start_s = server.start(wire.key_path(count - 1))
            reads = self._load(arena, server, count, "getData", depth=1)
            writes = self._load(arena, server, count, "setData", depth=16)
            memory = server.memory()
            peak_bytes = group.peak_bytes()
        return {
            "start_ms": start_s * 1e3,
            "cold_reads_per_s": reads["ops_per_s"],
            "cold_read_p50_us": reads["p50_us"],
            "cold_read_p99_us": reads["p99_us"],
            "writes_per_s": writes["ops_per_s"],
            "write_p99_us": writes["p99_us"],
            "anonymous_mb": memory.anonymous / _MB,
            "file_mb": memory.file / _MB,
            "peak_mb": peak_bytes / _MB,
        }

    def _load(
        self, arena: Arena, server: Server, count: int, operation: str, *, depth: int
    ) -> Metrics:
        """One round through the connections' requests: no node is asked for twice but by chance."""
        return arena.generate(
            "load",
            ports=server.ports,
            operation=operation,
            connections=self.connections,
            depth=depth,
            data_bytes=self.data_bytes,
            keys=count,
            # Another one for each operation: what was read is not what is written.
            seed=arena.seed + len(operation) + depth,
            warm_up_s=0,
            seconds=_LOAD_S_MAX,
            ops_max=self.connections * RING_REQUESTS * arena.size.scale,
        )

    def seconds(self, metrics: Metrics) -> float:
        return metrics["start_ms"] / 1e3


WORKLOADS = [
    *(Start(n, stop) for n in (0, 100_000, 1_000_000) for stop in ("clean", "killed")),
    LargerThanMemory(16_000_000, 512),
]


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda workload: workload.name)
def test_start(workload: Workload, kind: Kind, report: Callable[[Workload, Kind], Result]) -> None:
    report(workload, kind)
