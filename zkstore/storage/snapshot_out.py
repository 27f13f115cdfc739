"""The helper process that sends the tree to a learner: SNAP, and the stream behind it.

Owns:   the socket, as long as the tree is on it.
Invariants:
  1. Exact: the tree is that of one zxid, which the packet bears; txns behind it follow from the
     log, so the replica keeps them meanwhile.
  2. Paced by the learner: nothing is read ahead of what it takes, and no view is open while it
     takes it.
Design: a process of its own, so that the replica goes on leading, whatever the size of the tree.
        Started and heard by storage/transfer.py.
Source: LearnerHandler.run, SerializeUtils.serializeSnapshot.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final

from zkstore.apache.snapshot import END, SIGNATURE
from zkstore.errors import ZkstoreError
from zkstore.jute.codec import buffer, pack_int, pack_long
from zkstore.proto.quorum import SNAP, Packet, encode
from zkstore.storage import transfer
from zkstore.storage.env import open_reader
from zkstore.storage.frozen import Frozen, Node
from zkstore.tree import node as nodes
from zkstore.tree.paths import ROOT

_LENGTH: Final = struct.Struct(">i")
_SESSION: Final = struct.Struct(">qi")

Write = Callable[[bytes], object]


def send(frozen: Frozen, write: Write, progress: Callable[[str, int], None]) -> int:
    """Write packet, tree and signature; returns the number of nodes."""
    write(encode(Packet(SNAP, frozen.zxid, None, None)))
    sessions = b"".join(_SESSION.pack(*session) for session in frozen.sessions)
    write(pack_int(len(frozen.sessions)) + sessions)
    table = b"".join(pack_long(acl_id) + encoded for acl_id, encoded in frozen.acls)
    write(pack_int(len(frozen.acls)) + table)
    count = 0
    for piece in frozen.nodes():
        write(_encoded(piece))
        count += len(piece)
        progress("znodes sent", count)
    write(END + SIGNATURE)
    return count


def _encoded(piece: list[Node]) -> bytes:
    """Nodes as they go over the wire."""
    parts: list[bytes] = []
    pack = _LENGTH.pack
    for path, value, data in piece:
        if path == ROOT:
            path = b""
        if value[4]:
            stored = data if data is not None else nodes.data_of(value)
            parts += (pack(len(path)), path, buffer(stored), nodes.fixed_of(value))
        else:
            parts += (
                pack(len(path)), path, value[nodes.LENGTH], value[nodes.BODY :],
                nodes.fixed_of(value),
            )  # fmt: skip
    return b"".join(parts)


def main() -> None:
    job = transfer.job()
    with (
        transfer.reporting() as report,
        socket.socket(fileno=job["fd"]) as sock,
        closing(open_reader(Path(job["data_dir"]))) as reader,
        Frozen(reader.env, reader.path) as frozen,
    ):

        def write(content: bytes) -> None:
            try:
                sock.sendall(content)
            except OSError as e:
                raise ZkstoreError(f"the learner took no more: {e.strerror}") from e

        count = send(frozen, write, report.progress)
        report.done(zxid=frozen.zxid, nodes=count)


if __name__ == "__main__":
    main()
