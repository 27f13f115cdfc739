"""The file tools over a large tree, beside Apache's SnapshotFormatter over the same tree; and what
a copy costs a server that is written to.

Design: a tool is measured as its user sees it: a process from its start to its end. Apache's side
  of every row is SnapshotFormatter reading the same snapshot, as it has no tool of the same kind.
  Memory is the greatest resident set, files that are mapped included.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import lmdb
import pytest

from bench import trees, wire
from bench.harness import MEASURED_TIME, Arena, Metrics, Result, Workload
from bench.servers import Kind

pytestmark = pytest.mark.benchmark(timer=MEASURED_TIME)

_NODES: Final = 1_000_000
# What a copy says that gave up, as it may where processors are scarce: a figure, not a failure.
_TOO_SLOW: Final = "the copy is slower than the server writes"
# What follows `zkstore`; {snapshot}, {data} and {new} are paths.
_TOOLS: Final = {
    "import": "import {apache} --data-dir {new}",
    "export": "export {new} --data-dir {data}",
    "export json": "export {new}/tree.json --format json --data-dir {data}",
    "snapshot create": "snapshot create {data} {new}",
    "snapshot verify": "snapshot verify {data}",
    "snapshot summary": "snapshot summary {data}",
    "snapshot summary of Apache's file": "snapshot summary {snapshot}",
    "snapshot compare": "snapshot compare {data} {data}",
}


@dataclass(frozen=True)
class Tool(Workload):
    """One tool over a tree of a million nodes."""

    tool: str
    data_bytes: int = 100

    @property
    def name(self) -> str:
        return f"files, {self.tool}"

    def turn(self, arena: Arena, kind: Kind) -> Metrics:
        count = arena.size.scaled(_NODES)
        apache = trees.snapshot(arena, count, self.data_bytes)
        new = arena.new_directory(f"files-{kind.name}")
        (snapshot,) = apache.glob("version-2/*")
        if kind.name.startswith("zkstore"):
            data = trees.imported(arena, kind, count, self.data_bytes)
            words = _TOOLS[self.tool].format(apache=apache, snapshot=snapshot, data=data, new=new)
            metrics = trees.run_tool(words.split(), kind.source)
        else:
            class_path = kind.command("")[-3]
            name = "org.apache.zookeeper.server.SnapshotFormatter"
            metrics = trees.run_measured(
                ["java", "-Xmx1000m", "-cp", class_path, name, str(snapshot)]
            )
        shutil.rmtree(new)
        return metrics

    def seconds(self, metrics: Metrics) -> float:
        return metrics["run_s"]


@dataclass(frozen=True)
class WhileCopied(Workload):
    """Writes at full speed, while `snapshot create` copies the server's data again and again."""

    fresh = True

    copied: bool
    connections: int = 16
    depth: int = 64

    @property
    def name(self) -> str:
        return f"setData {self.connections}x{self.depth}, {'' if self.copied else 'not '}copied"

    def turn(self, arena: Arena, kind: Kind) -> Metrics:
        server = arena.server(kind)
        done = threading.Event()
        copies: list[float] = []
        given_up = 0
        failed: list[wire.BenchmarkError] = []
        target = arena.run_dir / "copies"

        def copy() -> None:
            nonlocal given_up
            while not done.is_set():
                shutil.rmtree(target, ignore_errors=True)
                words = ["snapshot", "create", str(server.data), str(target)]
                try:
                    copies.append(trees.run_tool(words, kind.source)["run_s"])
                except wire.BenchmarkError as error:
                    if _TOO_SLOW not in str(error):
                        failed.append(error)
                        return
                    given_up += 1

        before = _data_bytes(server.data)
        thread = threading.Thread(target=copy)
        # Apache's server makes its snapshots by itself: its rows are the same.
        copied = self.copied and kind.name.startswith("zkstore")
        if copied:
            thread.start()
        metrics = arena.generate(
            "load",
            ports=server.ports,
            operation="setData",
            connections=self.connections,
            depth=self.depth,
            keys=arena.size.keys,
            warm_up_s=arena.size.warm_up_s,
            seconds=arena.size.seconds,
        )
        done.set()
        if copied:
            thread.join()
        if failed:
            raise failed[0]
        grown = (_data_bytes(server.data) - before) / 1e6
        return {
            **metrics,
            "copies": float(len(copies)),
            "copies_given_up": float(given_up),
            "data_file_grew_mb": grown,
        }

    def seconds(self, metrics: Metrics) -> float:
        return metrics["p99_us"] / 1e6


def _data_bytes(data_dir: Path) -> int:
    """Where the last page of zkstore's data file ends; its blocks include a reserve. Else 0."""
    size = 0
    for path in data_dir.glob("zkstore/data.*.mdb"):
        with lmdb.open(str(path), subdir=False, readonly=True, lock=False) as environment:
            size += (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
    return size


@pytest.mark.parametrize("workload", [Tool(tool) for tool in _TOOLS], ids=lambda w: w.name)
def test_files(workload: Tool, kind: Kind, report: Callable[[Workload, Kind], Result]) -> None:
    report(workload, kind)


@pytest.mark.parametrize("workload", [WhileCopied(False), WhileCopied(True)], ids=lambda w: w.name)
def test_copies(
    workload: WhileCopied, kind: Kind, report: Callable[[Workload, Kind], Result]
) -> None:
    report(workload, kind)
