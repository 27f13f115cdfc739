"""The helper process that takes in the tree that a leader sends, beside the one that is in use.

Owns:   the next generation's file while it is built; the socket, as long as the tree is on it.
Invariants:
  1. Whole or nothing: it says that it is done when all has been read, checked and flushed; until
     then what it built is only a file whose name nobody knows (generation.py).
  2. Not a byte is lost: what was read beyond the tree goes back with the word that it is done.
Design: a process of its own, so that the replica goes on answering its peers, whatever the size of
        the tree. Started and heard by storage/transfer.py.
Not here: taking the old tree's place (writer.py's `switch`).
Source: Learner.syncWithLeader (SNAP), SerializeUtils.deserializeSnapshot.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from zkstore.apache import snapshot as apache_snapshot
from zkstore.errors import CorruptionError
from zkstore.storage import transfer
from zkstore.storage.disk import Disk
from zkstore.storage.env import storage_dir
from zkstore.storage.generation import Generation
from zkstore.storage.intake import add_lost_sessions
from zkstore.storage.loader import Loader

Progress = Callable[[str, int], None]


def receive(
    fd: int,
    rest: bytes,
    data_dir: Path,
    *,
    generation: int,
    zxid: int,
    map_size_bytes: int,
    progress: Progress,
) -> tuple[dict[str, Any], bytes]:
    """Read a tree from a socket and build it; returns (what it is, bytes behind it).

    `rest`: what was read of the socket already.
    Raises: CorruptionError, StorageFull, StorageFailed; nothing is left behind then.
    """
    pieces = [rest] if rest else []

    def read(size: int) -> bytes:
        if pieces:
            return pieces.pop()
        try:
            return os.read(fd, size)
        except OSError as e:
            raise CorruptionError(f"the leader's tree: {e.strerror}") from e

    built = Generation(storage_dir(data_dir), generation, map_size_bytes)
    try:
        with closing(Loader(built.directory, progress)) as loader:
            reader = apache_snapshot.Reader(read, "the leader's tree")
            for session_id, timeout_ms in reader.sessions():
                loader.session(session_id, timeout_ms)
            for acl_id, encoded in reader.acls():
                loader.acl(acl_id, encoded)
            loader.raw_nodes(reader.raw_nodes(), reader.damage)
            beyond = reader.signature()
            loader.store(built, zxid, pending=True)
            found = {"nodes": loader.totals.nodes, "bytes": reader.offset}
        warnings: list[str] = []
        with built.write() as write_txn:
            add_lost_sessions(write_txn, warnings.append)
        built.seal(Disk(), progress)
    except BaseException:
        built.discard()
        raise
    return {**found, "warnings": warnings}, beyond


def main() -> None:
    job = transfer.job()
    with transfer.reporting() as report:
        found, beyond = receive(
            job["fd"], bytes.fromhex(job["rest"]), Path(job["data_dir"]),
            generation=job["generation"], zxid=job["zxid"], map_size_bytes=job["map_size_bytes"],
            progress=report.progress,
        )  # fmt: skip
        report.done(**found, rest=beyond.hex())


if __name__ == "__main__":
    main()
