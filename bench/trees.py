"""Data directories with a large tree, made without asking a server for each node.

Owns:   the work directory's cache: snapshots as Apache writes them, zkstore's directories imported
  from them, and what servers left behind that ran on them. It may be deleted at any time.
Design: both servers start from the same snapshot, so both have the same tree, and a million nodes
  take seconds. A directory is kept for as long as the sources that wrote it stay what they are.
Not here: servers (servers.py), and what is measured (macro/).
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from bench import wire
from bench.harness import Arena, Metrics
from bench.servers import REPOSITORY, Kind, Server

# Apache makes a snapshot every 100 000 transactions, give or take: what it has to replay at a start
# is this on average.
WRITES: Final = 50_000
_WRITING_S: Final = 120.0
_TIME_MS: Final = 1_700_000_000_000
# A snapshot's magic, version and database; one session; the table of ACLs, with one that is open.
_SNAPSHOT_HEAD: Final = (
    struct.pack(">4siq", b"ZKSN", 2, -1)
    + struct.pack(">iqi", 1, 0x100000000000001, 30_000)
    + struct.pack(">iq", 1, 1)
    + wire.OPEN_ACL
)
# ACL, czxid, mzxid, ctime, mtime, version, cversion, aversion, owner, pzxid.
_FIXED: Final = struct.Struct(">qqqqqiiiqq")
_END: Final = wire.buffer(b"/")
_SEAL: Final = struct.Struct(">qi1s")
_NODES_A_PIECE: Final = 1000


def run_tool(words: Sequence[str], source: Path = REPOSITORY) -> Metrics:
    """`python -m zkstore <words>` of the sources in `source`, to its end.

    Raises: BenchmarkError with what it wrote, if it fails.
    """
    return run_measured([sys.executable, "-m", "zkstore", *words], source)


def run_measured(command: Sequence[str], source: Path = REPOSITORY) -> Metrics:
    """Run to the end, as a user would; returns seconds, CPU and the greatest memory.

    Raises: BenchmarkError with what it wrote, if it fails.
    """
    measure = [sys.executable, str(REPOSITORY / "bench" / "measure.py"), *command]
    environment = {**os.environ, "PYTHONPATH": str(source)}
    done = subprocess.run(
        measure, capture_output=True, text=True, cwd=source, env=environment, check=False
    )
    if done.returncode:
        raise wire.BenchmarkError(f"{' '.join(command)}: {done.stderr}")
    metrics: dict[str, float] = json.loads(done.stdout)
    return metrics


def _once(cache: Path, prefix: str, version: str, make: Callable[[Path], None]) -> Path:
    """The folder of the cache of this prefix and version, made if it is not there; those of other
    versions go."""
    made = cache / f"{prefix}@{version}"
    if made.exists():
        return made
    cache.mkdir(parents=True, exist_ok=True)
    for old in cache.glob(f"{prefix}@*"):
        shutil.rmtree(old)
    making = Path(tempfile.mkdtemp(dir=cache))
    try:
        make(making)
        making.rename(made)
    except OSError:
        # Another run may have been faster.
        if not made.exists():
            raise
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return made


def snapshot(arena: Arena, count: int, data_bytes: int) -> Path:
    """A data directory of Apache's with one snapshot of bench.fill's tree, never started on."""

    def make(folder: Path) -> None:
        folder.joinpath("version-2").mkdir()
        _write_snapshot(folder / "version-2", count, data_bytes, arena.seed)

    return _once(arena.work_dir / "cache", f"snapshot-{count}-{data_bytes}", "1", make)


def imported(arena: Arena, kind: Kind, count: int, data_bytes: int) -> Path:
    """The same tree as a data directory of zkstore's."""
    tree = snapshot(arena, count, data_bytes)

    def make(folder: Path) -> None:
        run_tool(["import", str(tree), "--data-dir", str(folder / "data")], kind.source)

    named = f"imported-{count}-{data_bytes}-{kind.source.name}"
    # The tree on the disk changes with what writes it, not with every commit.
    version = _sources(kind.source / "zkstore" / "storage", kind.source / "zkstore" / "tree")
    return _once(arena.work_dir / "cache", named, version, make) / "data"


def left_behind(arena: Arena, kind: Kind, count: int, data_bytes: int) -> Path:
    """The folders `clean` and `killed`: the tree's data directory as a clean stop and as kill -9 of
    all processes leave it, after WRITES writes."""

    def make(folder: Path) -> None:
        with Server(kind, folder) as server:
            if count:
                server.data.parent.mkdir(exist_ok=True)
                copy(untouched(arena, kind, count, data_bytes), server.data)
            server.start()
            if count:
                arena.generate(
                    "load",
                    ports=server.ports,
                    operation="setData",
                    connections=16,
                    depth=64,
                    data_bytes=data_bytes,
                    keys=count,
                    warm_up_s=0,
                    seconds=_WRITING_S,
                    ops_max=arena.size.scaled(WRITES),
                )
            server.kill()
            copy(server.data, folder / "killed")
            server.start()
            server.stop()
            server.data.rename(folder / "clean")

    named = f"left-{kind.name}-{count}-{data_bytes}"
    return _once(arena.work_dir / "cache", named, _version(kind), make)


def untouched(arena: Arena, kind: Kind, count: int, data_bytes: int) -> Path:
    """A data directory of this kind with the tree, that no server has seen."""
    if kind.name.startswith("zkstore"):
        return imported(arena, kind, count, data_bytes)
    return snapshot(arena, count, data_bytes)


def _version(kind: Kind) -> str:
    """What a directory that a server has written depends on."""
    if not kind.name.startswith("zkstore"):
        return kind.version
    return _sources(kind.source / "zkstore")


def _sources(*folders: Path) -> str:
    """A short name for what these programs are now: a commit may be one that is worked on."""
    content = hashlib.sha256()
    for folder in folders:
        for path in sorted(folder.rglob("*.py")):
            content.update(path.read_bytes())
    return content.hexdigest()[:16]


def copy(source: Path, target: Path) -> None:
    """Holes stay holes: a memory map's file may be sparse."""
    subprocess.run(["cp", "-a", str(source), str(target)], check=True)


def flush(directory: Path) -> None:
    """Have these files on the disk; what else the machine has to write does not matter."""
    for path in directory.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())


def forget(directory: Path) -> None:
    """Have the kernel drop its cached pages of these files."""
    for path in directory.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def disk_bytes(directory: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in directory.rglob("*"))


def _write_snapshot(folder: Path, count: int, data_bytes: int, seed: int) -> None:
    """A tree as bench.fill makes it, its children in no order, as Apache writes them."""
    rng = random.Random(seed)
    data = rng.randbytes(data_bytes)
    parents = min(wire.PARENTS, count)
    last = count + parents + 1
    with (folder / f"snapshot.{last:x}").open("wb") as file:
        checksum = 1
        for piece in _snapshot_pieces(count, parents, data, rng):
            file.write(piece)
            checksum = zlib.adler32(piece, checksum)
        file.write(_SEAL.pack(checksum, 1, b"/"))


def _snapshot_pieces(count: int, parents: int, data: bytes, rng: random.Random) -> Iterator[bytes]:
    """All before the checksum. Source: zookeeper.jute; FileSnap, DataTree, DataNode."""
    yield _SNAPSHOT_HEAD
    yield _node("", b"", 0, children=2, last_child=1)
    yield _node("/zookeeper", b"", 0, children=0, last_child=0)
    zxid = 1
    # The last parent comes before its own children.
    last_parent = 2 + count - len(range(parents - 1, count, parents)) + parents - 1
    yield _node("/bench", b"", zxid, children=parents, last_child=last_parent)
    for parent in range(parents):
        keys = list(range(parent, count, parents))
        rng.shuffle(keys)
        zxid += 1
        last_child = zxid + len(keys)
        yield _node(wire.parent_path(parent), b"", zxid, children=len(keys), last_child=last_child)
        for first in range(0, len(keys), _NODES_A_PIECE):
            some = keys[first : first + _NODES_A_PIECE]
            yield b"".join(
                _node(wire.key_path(key), data, zxid + number, children=0, last_child=zxid + number)
                for number, key in enumerate(some, 1)
            )
            zxid += len(some)
    yield _END


def _node(path: str, data: bytes, zxid: int, *, children: int, last_child: int) -> bytes:
    """`last_child`: the zxid of the newest of them, or the node's own."""
    time_ms = _TIME_MS if zxid else 0
    fixed = _FIXED.pack(1, zxid, zxid, time_ms, time_ms, 0, children, 0, 0, last_child)
    return wire.buffer(path.encode()) + wire.buffer(data) + fixed
