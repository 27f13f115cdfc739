"""The file tools over a large tree, beside Apache's SnapshotFormatter over the same tree; and what
a copy costs a server that is written to.

Owns:   the work directory's cache: a snapshot file and the data directory made from it.
Design: a tool is measured as its user sees it: a process from its start to its end. Apache's side
  of every row is SnapshotFormatter reading the same snapshot, as it has no tool of the same kind.
  Memory is the greatest resident set, files that are mapped included.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import pytest

from bench import wire
from bench.harness import MEASURED_TIME, Arena, Metrics, Result, Workload
from bench.servers import REPOSITORY, Kind
from zkstore.apache.snapshot import Writer
from zkstore.storage.env import open_reader
from zkstore.tree import acl as acls
from zkstore.tree import node as nodes

pytestmark = pytest.mark.benchmark(timer=MEASURED_TIME)

_TIME_MS: Final = 1_700_000_000_000
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


@dataclass(frozen=True, slots=True)
class Tool:
    """One tool over a tree of `start_nodes` nodes."""

    tool: str
    data_bytes: int = 100

    @property
    def name(self) -> str:
        return f"files, {self.tool}"

    @property
    def config(self) -> dict[str, object]:
        return asdict(self)

    @property
    def fresh(self) -> bool:
        return False

    def turn(self, arena: Arena, kind: Kind) -> Metrics:
        cached = _cached(arena, self.data_bytes)
        new = arena.new_directory(f"files-{kind.name}")
        snapshot = next((cached / "apache" / "version-2").iterdir())
        if kind.name.startswith("zkstore"):
            words = _TOOLS[self.tool].format(
                apache=cached / "apache", snapshot=snapshot, data=cached / "data", new=new
            )
            command = [sys.executable, "-m", "zkstore", *words.split()]
        else:
            class_path = kind.command("")[-3]
            name = "org.apache.zookeeper.server.SnapshotFormatter"
            command = ["java", "-Xmx1000m", "-cp", class_path, name, str(snapshot)]
        metrics = _measured(command)
        shutil.rmtree(new)
        return metrics

    def seconds(self, metrics: Metrics) -> float:
        return metrics["run_s"]


def _measured(command: list[str]) -> Metrics:
    """Run to the end. Raises: BenchmarkError with what it wrote, if it fails."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    begun = time.perf_counter()
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=REPOSITORY, env=environment
    ) as process:
        assert process.stderr is not None
        said = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    run_s = time.perf_counter() - begun
    if process.returncode:
        raise wire.BenchmarkError(f"{' '.join(command)}: {said.decode()}")
    return {
        "run_s": run_s,
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "memory_mb": usage.ru_maxrss * 1024 / 1e6,
    }


def _cached(arena: Arena, data_bytes: int) -> Path:
    """`apache` with one snapshot, and `data` imported from it."""
    made = arena.work_dir / "cache" / f"files-{arena.size.start_nodes}-{data_bytes}"
    if not made.exists():
        making = arena.new_directory("files")
        folder = making / "apache" / "version-2"
        folder.mkdir(parents=True)
        _write_snapshot(folder, arena.size.start_nodes, data_bytes, arena.seed)
        words = ["import", str(making / "apache"), "--data-dir", str(making / "data")]
        _measured([sys.executable, "-m", "zkstore", *words])
        made.parent.mkdir(exist_ok=True)
        making.rename(made)
    return made


def _write_snapshot(folder: Path, count: int, data_bytes: int, seed: int) -> None:
    """A tree as bench.fill makes it, its children in no order, as Apache writes them."""
    rng = random.Random(seed)
    data = rng.randbytes(data_bytes)
    parents = min(wire.PARENTS, count)
    last = count + parents + 1
    with (folder / f"snapshot.{last:x}").open("wb") as file:
        writer = Writer(file.write)
        writer.begin([(0x100000000000001, 30_000)], [(1, acls.OPEN_ENCODED)])
        digest = zxid = 0

        def add(path: str, content: bytes, children: int) -> None:
            nonlocal digest
            time_ms = _TIME_MS if zxid else 0
            fixed = (1, zxid, zxid, time_ms, time_ms, 0, children, 0, 0, last if children else zxid)
            writer.node(path.encode(), content, fixed)
            digest += nodes.digest_of(
                nodes.restored(path.encode(), content, fixed, children=children)
            )

        add("/", b"", 1)
        add("/zookeeper", b"", 0)
        zxid = 1
        add("/bench", b"", parents)
        for parent in range(parents):
            zxid += 1
            keys = list(range(parent, count, parents))
            rng.shuffle(keys)
            add(wire.parent_path(parent), b"", len(keys))
            for key in keys:
                zxid += 1
                add(wire.key_path(key), data, 0)
        writer.finish(last, digest & 0xFFFFFFFFFFFFFFFF)


@dataclass(frozen=True, slots=True)
class WhileCopied:
    """Writes at full speed, while `snapshot create` copies the server's data again and again."""

    copied: bool
    connections: int = 16
    depth: int = 64

    @property
    def name(self) -> str:
        return f"setData {self.connections}x{self.depth}, {'' if self.copied else 'not '}copied"

    @property
    def config(self) -> dict[str, object]:
        return asdict(self)

    @property
    def fresh(self) -> bool:
        return True

    def turn(self, arena: Arena, kind: Kind) -> Metrics:
        server = arena.server(kind)
        done = threading.Event()
        copies: list[float] = []
        failed: list[wire.BenchmarkError] = []
        target = arena.run_dir / "copies"

        def copy() -> None:
            while not done.is_set():
                shutil.rmtree(target, ignore_errors=True)
                words = ["snapshot", "create", str(server.data), str(target)]
                try:
                    copies.append(_measured([sys.executable, "-m", "zkstore", *words])["run_s"])
                except wire.BenchmarkError as error:
                    failed.append(error)
                    return

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
        return {**metrics, "copies": float(len(copies)), "data_file_grew_mb": grown}

    def seconds(self, metrics: Metrics) -> float:
        return metrics["p99_us"] / 1e6


def _data_bytes(data_dir: Path) -> int:
    """Where the last page of zkstore's data file ends; its blocks include a reserve. Else 0."""
    try:
        reader = open_reader(data_dir)
    except FileNotFoundError:
        return 0
    with contextlib.closing(reader):
        last: int = reader.env.info()["last_pgno"]
        page: int = reader.env.stat()["psize"]
    return (last + 1) * page


@pytest.mark.parametrize("workload", [Tool(tool) for tool in _TOOLS], ids=lambda w: w.name)
def test_files(workload: Tool, kind: Kind, report: Callable[[Workload, Kind], Result]) -> None:
    report(workload, kind)


@pytest.mark.parametrize("workload", [WhileCopied(False), WhileCopied(True)], ids=lambda w: w.name)
def test_copies(
    workload: WhileCopied, kind: Kind, report: Callable[[Workload, Kind], Result]
) -> None:
    report(workload, kind)
