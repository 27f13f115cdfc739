"""A writer over a real data directory, as the commit process opens it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from zkstore.proto import opcodes as op
from zkstore.records import txn as txns
from zkstore.records.txn import Body, Txn
from zkstore.storage.disk import Disk
from zkstore.storage.env import open_replica
from zkstore.storage.writer import Applied, Writer
from zkstore.tree import acl as acls
from zkstore.zab.ready import Proposal, Ready

SESSION = 0x100000000000001


def open_writer(
    folder: Path,
    *,
    disk: Disk | None = None,
    segment_bytes: int = 1 << 20,
    retention_ms: int = 1 << 50,
    retention_bytes: int = 1 << 40,
    alone: bool = True,
) -> Writer:
    """Open or recover `folder`. Close the writer, or abandon it as a crash would."""
    replica = open_replica(
        folder,
        folder,
        disk=disk or Disk(),
        map_size_bytes=1 << 30,
        journal_segment_bytes=segment_bytes,
    )
    writer = Writer(
        replica, retention_ms=retention_ms, retention_bytes=retention_bytes, alone=alone
    )
    writer.recover()
    return writer


def txn(
    zxid: int, kind: int, *body: object, session_id: int = SESSION, time_ms: int = 1_000
) -> Txn:
    made: Body = body
    return Txn(zxid, session_id, 1, time_ms, kind, made)


def create(zxid: int, path: bytes, data: bytes | None = b"", *, ephemeral: bool = False) -> Txn:
    return txn(zxid, op.CREATE, path, data, acls.OPEN_ENCODED, ephemeral, -1)


def proposals(made: Iterable[Txn]) -> list[Proposal]:
    return [Proposal(one.zxid, txns.encode(one)) for one in made]


def perform(writer: Writer, *made: Txn) -> list[Applied]:
    """Journal them, then apply them, as a replica alone does."""
    batch = proposals(made)
    writer.perform(Ready(append=batch))
    return writer.perform(Ready(committed=batch))
