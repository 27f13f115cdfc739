"""What an operator does to a stopped replica's log: see what a damaged journal still holds, and
drop the log's oldest part.

Owns:   nothing; the caller has the directory open and locked.
Not here: the retention of a running server (storage/writer.py).
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import lmdb

from zkstore.proto import opcodes as op
from zkstore.records import txn as txns
from zkstore.storage import journal, record, scan, schema, txnlog
from zkstore.storage.disk import Disk
from zkstore.storage.journal import JournalPosition
from zkstore.tree import node as nodes

_BATCHES: Final = 1000


def behind_damage(directory: Path, position: JournalPosition) -> list[int]:
    """The zxids of whole records that stand behind the first one that is not whole."""
    found: dict[int, None] = {}
    for payload in journal.whole_behind_damage(directory, Disk(), position):
        for encoded in record.decode(payload).append:
            found[txns.zxid_of(encoded)] = None
    return sorted(found)


def drop_log_front(
    env: lmdb.Environment,
    *,
    keep_txns: int | None,
    keep_bytes: int | None,
    keep_ms: int | None,
    now_ms: int,
) -> dict[str, int]:
    """Drop the oldest batches that none of the limits wants kept; the newest one always stays.

    Returns: "txns" dropped, and the zxid that the log "begins" behind.
    """
    with env.begin() as view:
        key, value = scan.last(view)
        newest, total = schema.zxid_of(key), txnlog.log_bytes_of(value)
        first_kept = _first_kept(view, keep_txns, keep_bytes, keep_ms, now_ms, newest, total)
    dropped = 0
    begins = 0
    while True:
        with env.begin(write=True) as write_txn:
            batch: list[tuple[bytes, bytes]] = []
            for key, value in scan.items(write_txn, schema.LOG):
                if schema.zxid_of(key) >= first_kept or len(batch) >= _BATCHES:
                    break
                batch.append((key, value))
            for key, value in batch:
                dropped += _drop(write_txn, key, value)
        if len(batch) < _BATCHES:
            break
    with env.begin() as view:
        begins = txnlog.previous_of(scan.first(view, schema.LOG)[1])
    return {"txns": dropped, "begins": max(begins, 0)}


def _first_kept(
    view: lmdb.Transaction,
    keep_txns: int | None,
    keep_bytes: int | None,
    keep_ms: int | None,
    now_ms: int,
    newest: int,
    total: int,
) -> int:
    """The last zxid of the first batch that is kept."""
    for key, value in scan.items(view, schema.LOG):
        zxid = schema.zxid_of(key)
        old = zxid < newest
        if keep_txns is not None:
            old = old and newest - zxid >= keep_txns
        if keep_bytes is not None:
            old = old and total - txnlog.log_bytes_of(value) >= keep_bytes
        if keep_ms is not None and old:
            times = [txns.decode(one).time_ms for one, _ in txnlog.entries(zxid, value)]
            old = not times or max(times) < now_ms - keep_ms
        if not old:
            return zxid
    return newest


def _drop(write_txn: lmdb.Transaction, key: bytes, value: bytes) -> int:
    """Drop one batch, and the large data that only it referred to; returns its txns."""
    count = 0
    for _, effects in txnlog.entries(schema.zxid_of(key), value):
        count += 1
        for at in range(0, len(effects), 6):
            if effects[at] in (op.NODE_DATA_CHANGED, op.NODE_DELETED):
                data_id = nodes.data_id_of(effects[at + 4])
                if data_id:
                    write_txn.delete(schema.data_key(data_id))
    write_txn.delete(key)
    return count
