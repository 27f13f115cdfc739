"""Three servers: what they cost and how fast they are together, and what a lost member costs.

Design: the members' clients are dealt to all three; a lone client is with a follower, as two of
  three are. CPU is summed over all servers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import pytest

from bench import trees, wire
from bench.ensembles import Ensemble
from bench.harness import MEASURED_TIME, Arena, Metrics, Result, Workload
from bench.servers import Kind

pytestmark = pytest.mark.benchmark(timer=MEASURED_TIME)

_MISSED_WRITES: Final = 100_000
_TREE_NODES: Final = 1_000_000
# Far more than the writes take that a member is to miss.
_WRITING_S_MAX: Final = 120.0


class OfThree(Workload):
    """Asked of three servers."""

    @property
    def suite(self) -> str:
        return "ensemble"


@dataclass(frozen=True)
class Spread(OfThree):
    """`connections` with `depth` requests in flight on each, spread over all three."""

    operation: str
    connections: int
    depth: int
    data_bytes: int = 100

    @property
    def name(self) -> str:
        return f"ensemble {self.operation} {self.connections}x{self.depth}"

    @property
    def smoke(self) -> bool:
        return self.operation == "setData" and self.depth > 1

    def turn(self, arena: Arena, kind: Kind) -> Metrics:
        ensemble = arena.ensemble(kind)
        alone = self.connections == 1
        return arena.generate(
            "load",
            ports=ensemble.follower().ports if alone else ensemble.ports,
            server_pids=ensemble.pids,
            operation=self.operation,
            connections=self.connections,
            depth=self.depth,
            data_bytes=self.data_bytes,
            keys=arena.size.keys,
            seed=arena.seed,
            warm_up_s=arena.size.warm_up_s,
            seconds=arena.size.seconds,
        )

    def seconds(self, metrics: Metrics) -> float:
        return 1 / metrics["ops_per_s"]


@dataclass(frozen=True)
class LeaderKilled(OfThree):
    """From kill -9 of the leader to the first write through another server, in the same session."""

    @property
    def name(self) -> str:
        return "ensemble leader killed"

    def turn(self, arena: Arena, kind: Kind) -> Metrics:
        ensemble = arena.ensemble(kind)
        leader = ensemble.leader()
        metrics = arena.generate(
            "failover",
            ports=ensemble.ports,
            leader=ensemble.servers.index(leader),
            leader_pid=leader.pid,
        )
        leader.kill()
        leader.start()
        return metrics

    def seconds(self, metrics: Metrics) -> float:
        return metrics["first_write_ms"] / 1e3


@dataclass(frozen=True)
class MissedWrites(OfThree):
    """From the start of a follower that was away for so many writes to its first answer, which
    must show the last of them."""

    writes: int

    @property
    def name(self) -> str:
        return f"ensemble {self.writes // 1000} k writes missed"

    def turn(self, arena: Arena, kind: Kind) -> Metrics:
        ensemble = arena.ensemble(kind)
        away = ensemble.follower()
        away.kill()
        others = [server for server in ensemble.servers if server is not away]
        arena.generate(
            "load",
            ports=tuple(server.port for server in others),
            operation="setData",
            connections=16,
            depth=64,
            data_bytes=100,
            keys=arena.size.keys,
            warm_up_s=0,
            seconds=_WRITING_S_MAX,
            ops_max=arena.size.scaled(self.writes),
        )
        return _back(ensemble, away.port, lambda: away.start("/"))

    def seconds(self, metrics: Metrics) -> float:
        return metrics["back_ms"] / 1e3


@dataclass(frozen=True)
class LostTree(OfThree):
    """From the start of a follower whose disk was emptied to its first answer."""

    nodes: int
    data_bytes: int = 100

    fresh = True

    @property
    def name(self) -> str:
        return f"ensemble {self.nodes // 1_000_000} M nodes lost"

    def turn(self, arena: Arena, kind: Kind) -> Metrics:
        count = arena.size.scaled(self.nodes)
        ensemble = arena.ensemble(
            kind,
            f"{count}",
            lambda data: trees.copy(trees.untouched(arena, kind, count, self.data_bytes), data),
        )
        away = ensemble.follower()
        away.kill()
        ensemble.forget(away)
        return _back(ensemble, away.port, lambda: away.start(wire.key_path(count - 1)))

    def seconds(self, metrics: Metrics) -> float:
        return metrics["back_ms"] / 1e3


def _back(ensemble: Ensemble, port: int, start: Callable[[], float]) -> Metrics:
    """Start a member that has something to catch up with.

    Raises: BenchmarkError if it answers from behind what the others had before it started.
    """
    with wire.open_session(ensemble.leader().port) as session:
        expected = wire.call(session, wire.EXISTS, wire.read_body("/")).zxid
        wire.close_sessions([session])
    back_s = start()
    with wire.open_session(port) as session:
        seen = wire.call(session, wire.EXISTS, wire.read_body("/")).zxid
        wire.close_sessions([session])
    if seen < expected:
        raise wire.BenchmarkError(f"it answers at {seen:#x}, the others were at {expected:#x}")
    return {"back_ms": back_s * 1e3}


WORKLOADS = [
    Spread("setData", 1, 1),
    Spread("setData", 64, 1),
    Spread("setData", 16, 64),
    Spread("getData", 16, 64),
    LeaderKilled(),
    MissedWrites(_MISSED_WRITES),
    LostTree(_TREE_NODES),
]


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda workload: workload.name)
def test_ensembles(
    workload: Workload, kind: Kind, report: Callable[[Workload, Kind], Result]
) -> None:
    report(workload, kind)
