"""A tree goes out: as an Apache data directory, in which Apache's server starts with it.

Owns:   the new files; each has its name only when it is on the disk.
Invariants:
  1. The snapshot is not fuzzy: it is the tree at one zxid, which its name, its digest and its last
     section say, so that Apache's own check of the digest covers it.
  2. Sessions go along, with their timeouts: passwords are computed from the id by both servers.
Design: the tree's own log stays behind: a snapshot that is exact needs none.
Not here: the format (apache/snapshot.py).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from zkstore.apache.snapshot import Writer
from zkstore.errors import ZkstoreError
from zkstore.storage import apache_files
from zkstore.storage.offline import Offline
from zkstore.tree import node as nodes

COMPRESSIONS: Final = ("", "gz", "snappy")
_PROGRESS_NODES: Final = 10_000


def write_snapshot(
    source: Offline,
    target: Path,
    compression: str = "",
    progress: Callable[[str, int], None] = lambda _what, _count: None,
) -> int:
    """Write Apache's snapshot file of the tree; returns the number of its nodes."""
    unfinished = target.with_name(target.name + ".tmp")
    unfinished.unlink(missing_ok=True)
    try:
        with apache_files.open_write(unfinished, compression) as write:
            count = _write(source, Writer(write), progress)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    _flush(unfinished)
    unfinished.rename(target)
    _flush(target.parent)
    return count


def _write(source: Offline, writer: Writer, progress: Callable[[str, int], None]) -> int:
    writer.begin(sorted(source.sessions().items()), source.acls())
    count = 0
    for path, value in source.walk():
        writer.node(path, source.data(value), nodes.fixed_of(value))
        count += 1
        if count % _PROGRESS_NODES == 0:
            progress("znodes written", count)
    writer.finish(source.applied, source.totals.digest & 0xFFFFFFFFFFFFFFFF)
    return count


def export_apache(
    source: Offline,
    target: Path,
    compression: str = "",
    progress: Callable[[str, int], None] = lambda _what, _count: None,
) -> Path:
    """Make Apache's data directory `target`; returns the snapshot's path.

    Raises: ZkstoreError if there is a snapshot or log in it already.
    """
    if apache_files.holds_data(target):
        raise ZkstoreError(f"{target} holds Apache's snapshots or logs already")
    folder = target / "version-2"
    folder.mkdir(parents=True, exist_ok=True)
    ending = f".{compression}" if compression else ""
    path = folder / f"snapshot.{source.applied:x}{ending}"
    write_snapshot(source, path, compression, progress)
    newest = source.applied >> 32
    accepted, current = (max(epoch, newest) for epoch in source.epochs)
    for name, epoch in (("acceptedEpoch", accepted), ("currentEpoch", current)):
        file = folder / name
        file.write_text(str(epoch))
        _flush(file)
    _flush(folder)
    return path


def _flush(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
