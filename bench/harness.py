"""Turns, rounds and results: what makes figures of different servers comparable.

Owns:   the run's folder in the work directory, the servers in it, and the file of results.
Invariants:
  1. Servers take turns: in each round every server is measured once, in an order that reverses
     from round to round, so that a drift of the machine falls on all of them.
  2. A result is the median over the rounds, and carries all rounds, commit, machine and seed.
Design: a generator runs as a process of its own, so that nothing of this one is in its way.
Not here: what a workload does (macro/), tables (compare.py).
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from statistics import median
from typing import Any, ClassVar, Final, Protocol, cast

from bench import fill, wire
from bench.ensembles import Ensemble
from bench.servers import REPOSITORY, Kind, Server, commit

Metrics = Mapping[str, float]
# Far above what any generator needs: it ends a run that hangs.
_GENERATOR_TIMEOUT_S: Final = 300.0
# Servers and generators inherit the limit that allows so many.
_CONNECTIONS_MAX: Final = 12_000


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured; every size runs the same code."""

    name: str
    rounds: int
    warm_up_s: float
    seconds: float
    # Nodes that reads and writes fall on, and the load that warms a new server up.
    keys: int
    prime_s: float
    # A turn of creates ends here, so that five of them fit a heap of 1 GB.
    creates_max: int
    # What is watched, held or laid out before is this part of what the workload's name says.
    scale: float
    fanout_rounds: int
    # Whether workloads that ask for fresh servers get them.
    fresh_servers: bool

    def scaled(self, count: int) -> int:
        return max(2, round(count * self.scale)) if count else 0


SIZES: Final = {
    "smoke": Size("smoke", 1, 0.01, 0.05, 200, 0.0, 500, 0.002, 1, False),
    "real": Size("real", 5, 0.5, 2.0, 10_000, 5.0, 50_000, 1.0, 6, True),
}


# `main` is what a single server's targets are set for and `make bench` runs; `more` are its others.
SUITES: Final = ("main", "more", "ensemble")


class Workload(ABC):
    """One row of the tables; a frozen dataclass whose fields say what it does."""

    # It needs servers that have done nothing else, or leaves them changed.
    fresh: ClassVar[bool] = False

    @property
    @abstractmethod
    def name(self) -> str: ...

    @property
    def suite(self) -> str:
        """One of SUITES."""
        return "more"

    @property
    def smoke(self) -> bool:
        """At smoke size it shows something that no other workload does."""
        return True

    @property
    def config(self) -> Mapping[str, object]:
        """What it does, for the record."""
        return {field.name: getattr(self, field.name) for field in fields(cast(Any, self))}

    def refusal(self, kind: Kind) -> str:
        """Why it cannot be done on this server or machine; empty if it can."""
        return ""

    @abstractmethod
    def turn(self, arena: Arena, kind: Kind) -> Metrics:
        """Measure one server once. Raises: BenchmarkError."""

    @abstractmethod
    def seconds(self, metrics: Metrics) -> float:
        """The one figure for pytest-benchmark's table: what one unit of the work took."""


@dataclass(frozen=True, slots=True)
class Result:
    """One workload on one server."""

    workload: str
    server: str
    version: str
    commit: str
    config: Mapping[str, object]
    rounds: Sequence[Metrics]
    # For all rounds on this server, with what was made ready for them.
    took_s: float

    @property
    def median(self) -> dict[str, float]:
        return {name: median(r[name] for r in self.rounds) for name in self.rounds[0]}


@dataclass(slots=True)
class Arena:
    """The servers of one run; started when first asked for."""

    size: Size
    seed: int
    # What outlives the run is in `work_dir`, all else in `run_dir`: two runs may share a work_dir.
    work_dir: Path
    run_dir: Path = field(init=False)
    # By kind and by what is on them.
    _servers: dict[tuple[str, int], Server] = field(default_factory=dict)
    _ensembles: dict[tuple[str, str], Ensemble] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.work_dir.mkdir(parents=True, exist_ok=True)
        wire.raise_file_limit(_CONNECTIONS_MAX)
        self.run_dir = Path(tempfile.mkdtemp(prefix="run-", dir=self.work_dir))

    def server(self, kind: Kind, data_bytes: int = 100) -> Server:
        """A running server of this kind, filled with nodes of so many bytes, and warm."""
        key = kind.name, data_bytes
        if key not in self._servers:
            server = Server(kind, self.new_directory(f"{kind.name}-{data_bytes}"))
            server.start()
            self._servers[key] = server
            self._make_ready(server, data_bytes)
        return self._servers[key]

    def ensemble(
        self, kind: Kind, tree: str = "", lay_out: Callable[[Path], None] = lambda data: None
    ) -> Ensemble:
        """Three running servers of this kind: filled and warm, or with the named tree that
        `lay_out` puts into each data directory."""
        key = kind.name, tree
        if key not in self._ensembles:
            ensemble = Ensemble(kind, self.new_directory(f"{kind.name}-three-{tree}"), lay_out)
            ensemble.start()
            self._ensembles[key] = ensemble
            if not tree:
                self._make_ready(ensemble, data_bytes=100)
        return self._ensembles[key]

    def _make_ready(self, servers: Server | Ensemble, data_bytes: int) -> None:
        """Fill them, and load them until a compiler that works while the program runs is done."""
        fill.fill(servers.ports[0], self.size.keys, data_bytes, seed=self.seed)
        for operation in ("mix", "setData") if self.size.prime_s else ():
            self.generate(
                "load",
                ports=servers.ports,
                operation=operation,
                connections=16,
                depth=64,
                data_bytes=data_bytes,
                keys=self.size.keys,
                warm_up_s=0,
                seconds=self.size.prime_s / 2,
            )

    def generate(self, generator: str, **options: object) -> dict[str, float]:
        """Run a generator in its own process; returns its metrics.

        Raises: BenchmarkError with what it wrote, if it fails.
        """
        command = [sys.executable, "-m", f"bench.{generator}"]
        for name, value in options.items():
            option = f"--{name.replace('_', '-')}"
            if isinstance(value, bool):
                command += [option] if value else []
            else:
                text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
                command += [option, text]
        try:
            done = subprocess.run(
                command,
                cwd=REPOSITORY,
                capture_output=True,
                text=True,
                timeout=_GENERATOR_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise wire.BenchmarkError(str(error)) from error
        if done.returncode:
            raise wire.BenchmarkError(f"{' '.join(command[2:])}: {done.stderr.strip()}")
        metrics: dict[str, Any] = json.loads(done.stdout)
        del metrics["config"]
        return metrics

    def _running(self) -> list[tuple[str, Server | Ensemble]]:
        found: list[tuple[str, Server | Ensemble]] = []
        found += [(name, server) for (name, _), server in self._servers.items()]
        found += [(name, ensemble) for (name, _), ensemble in self._ensembles.items()]
        return found

    def log(self, kind: Kind) -> str:
        """The last that running servers of this kind wrote."""
        return "\n".join(servers.log() for name, servers in self._running() if name == kind.name)

    def new_directory(self, name: str) -> Path:
        """An empty folder of this run."""
        directory = self.run_dir / name
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        return directory

    def stop_servers(self) -> None:
        """Stop what runs and forget its data."""
        for _, servers in self._running():
            servers.kill()
            shutil.rmtree(servers.directory)
        self._servers.clear()
        self._ensembles.clear()

    def close(self) -> None:
        self.stop_servers()
        shutil.rmtree(self.run_dir)


class Contest:
    """Measures each workload once, on all servers in turns, and keeps the results."""

    def __init__(self, arena: Arena, kinds: Sequence[Kind], results_file: Path | None) -> None:
        self.kinds = list(kinds)
        self.results: list[Result] = []
        self._arena = arena
        self._results_file = results_file
        self._by_workload: dict[str, dict[str, Result] | wire.BenchmarkError] = {}
        self._run = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self._commit = commit()
        self._machine = machine(arena.work_dir)

    def result(self, workload: Workload, kind: Kind) -> Result:
        """Raises: BenchmarkError if the workload failed on any of the servers."""
        if workload.name not in self._by_workload:
            try:
                self._by_workload[workload.name] = self._measure(workload)
            except wire.BenchmarkError as error:
                self._by_workload[workload.name] = error
                # What such a server does next proves nothing.
                self._arena.stop_servers()
        measured = self._by_workload[workload.name]
        if isinstance(measured, wire.BenchmarkError):
            raise measured
        return measured[kind.name]

    def _measure(self, workload: Workload) -> dict[str, Result]:
        kinds = [kind for kind in self.kinds if not workload.refusal(kind)]
        rounds: dict[str, list[Metrics]] = {kind.name: [] for kind in kinds}
        took_s = dict.fromkeys(rounds, 0.0)
        fresh = workload.fresh and self._arena.size.fresh_servers
        if fresh:
            self._arena.stop_servers()
        for number in range(self._arena.size.rounds):
            for kind in kinds if number % 2 == 0 else reversed(kinds):
                begun = time.perf_counter()
                rounds[kind.name].append(self._turn(workload, kind))
                took_s[kind.name] += time.perf_counter() - begun
        if fresh:
            self._arena.stop_servers()
        results = {
            kind.name: Result(
                workload.name,
                kind.name,
                kind.version,
                kind.commit or self._commit,
                workload.config,
                rounds[kind.name],
                took_s[kind.name],
            )
            for kind in kinds
        }
        self.results += results.values()
        self._record(results.values())
        return results

    def _turn(self, workload: Workload, kind: Kind) -> Metrics:
        try:
            return workload.turn(self._arena, kind)
        except wire.BenchmarkError as error:
            log = self._arena.log(kind)
            raise wire.BenchmarkError(f"{workload.name}, {kind.name}: {error}\n{log}") from None

    def _record(self, results: Iterable[Result]) -> None:
        if self._results_file is None:
            return
        self._results_file.parent.mkdir(parents=True, exist_ok=True)
        with self._results_file.open("a") as file:
            for result in results:
                line = {
                    "run": self._run,
                    "commit": result.commit,
                    "size": self._arena.size.name,
                    "seed": self._arena.seed,
                    "machine": self._machine,
                    "workload": result.workload,
                    "server": result.server,
                    "version": result.version,
                    "config": dict(result.config),
                    "took_s": round(result.took_s, 1),
                    "median": rounded(result.median),
                    "rounds": [rounded(metrics) for metrics in result.rounds],
                }
                file.write(json.dumps(line) + "\n")

    def close(self) -> None:
        self._arena.close()


def rounded(metrics: Metrics) -> dict[str, float]:
    """Four digits say more than any of these figures holds."""
    return {name: float(f"{value:.4g}") for name, value in metrics.items()}


def machine(directory: Path) -> dict[str, object]:
    """What the figures were taken on; `directory` is on the disk that was written to."""
    models = {
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    }
    return {
        "cpu": " + ".join(sorted(models)) or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
        "kernel": platform.release(),
        "file_system": _file_system(directory),
        "python": platform.python_version(),
        # Above 0.3 or so, other work was running beside.
        "load_at_start": round(os.getloadavg()[0], 2),
    }


def _file_system(directory: Path) -> str:
    """The type of the file system that holds `directory`."""
    path = directory.resolve()
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    holding = [m for m in mounts if path.is_relative_to(m[1])]
    return max(holding, key=lambda mount: len(mount[1]))[2]


class Benchmark(Protocol):
    """What is used of pytest-benchmark's fixture."""

    group: str
    extra_info: dict[str, Any]

    def __call__(self, function: Callable[..., Any], *args: Any) -> Any: ...

    def pedantic(self, target: Callable[..., Any], **options: Any) -> Any: ...


class _MeasuredTime:
    """A clock for pytest-benchmark that shows what was measured elsewhere."""

    __name__ = "measured"

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


MEASURED_TIME: Final = _MeasuredTime()
