"""Start-up: from the start of the process to the first answer, with a large tree on the disk.

Owns:   the work directory's cache: a filled data directory for each kind and version of server, as
  a clean stop and as kill -9 of all processes leave it.
Design: every turn starts on a fresh copy, so no turn profits from the one before. The copy is
  flushed first, so that its writing back is not measured; it is in the page cache, for all alike.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest

from bench import fill, wire
from bench.harness import MEASURED_TIME, Arena, Metrics, Result, Workload
from bench.servers import REPOSITORY, Kind, Server

pytestmark = pytest.mark.benchmark(timer=MEASURED_TIME)

_MB = 1e6


@dataclass(frozen=True, slots=True)
class Start:
    """A start after a clean stop or after kill -9."""

    stop: str
    data_bytes: int = 100

    @property
    def name(self) -> str:
        return f"start, {self.stop}"

    @property
    def config(self) -> dict[str, object]:
        return asdict(self)

    @property
    def fresh(self) -> bool:
        return True

    def turn(self, arena: Arena, kind: Kind) -> Metrics:
        filled = _filled(arena, kind, self.data_bytes) / self.stop
        directory = arena.new_directory(f"start-{kind.name}")
        with Server(kind, directory) as server:
            _copy(filled, server.data)
            os.sync()
            start_s = server.start(wire.key_path(arena.size.start_nodes - 1))
            memory = server.memory()
        shutil.rmtree(directory)
        return {
            "start_ms": start_s * 1e3,
            "anonymous_mb": memory.anonymous / _MB,
            "file_mb": memory.file / _MB,
            "disk_mb": _disk_bytes(filled) / _MB,
        }

    def seconds(self, metrics: Metrics) -> float:
        return metrics["start_ms"] / 1e3


def _version(kind: Kind) -> str:
    """What a filled directory depends on; for zkstore all of its sources, as its commit may be
    one that is being worked on."""
    if not kind.name.startswith("zkstore"):
        return kind.version
    sources = hashlib.sha256()
    for path in sorted((REPOSITORY / "zkstore").rglob("*.py")):
        sources.update(path.read_bytes())
    return sources.hexdigest()[:16]


def _filled(arena: Arena, kind: Kind, data_bytes: int) -> Path:
    """The cached folders `clean` and `killed` of this kind, made if they are not there."""
    prefix = f"{kind.name}-{arena.size.start_nodes}-{data_bytes}-"
    cache = arena.work_dir / "cache"
    made = cache / f"{prefix}{_version(kind)}"
    if made.exists():
        return made
    for outdated in cache.glob(f"{prefix}*"):
        shutil.rmtree(outdated)
    making = arena.new_directory(f"fill-{kind.name}")
    with Server(kind, making) as server:
        server.start()
        fill.fill(server.port, arena.size.start_nodes, data_bytes, arena.seed)
        server.kill()
        _copy(server.data, making / "killed")
        server.start()
        server.stop()
        server.data.rename(making / "clean")
    cache.mkdir(exist_ok=True)
    try:
        making.rename(made)
    except OSError:
        # Another run may have been faster.
        if not made.exists():
            raise
    return made


def _copy(source: Path, target: Path) -> None:
    """Holes stay holes: a memory map's file may be sparse."""
    subprocess.run(["cp", "-a", str(source), str(target)], check=True)


def _disk_bytes(directory: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in directory.rglob("*"))


@pytest.mark.parametrize("workload", [Start("clean"), Start("killed")], ids=lambda w: w.name)
def test_start(workload: Start, kind: Kind, report: Callable[[Workload, Kind], Result]) -> None:
    report(workload, kind)
