"""Taking committed txns back: the tree as it stood at an earlier zxid, out of the log's effects.

Owns:   nothing; works inside one LMDB transaction of the caller's.
Invariants:
  1. Exact: nodes, data, ephemerals, containers and TTL nodes, sessions, totals and log are those of
     the earlier state; where the log says what its totals were they are compared.
  2. Ids of ACLs and data are never given twice, here either: readers remember ACLs by id. So ACLs
     that are not used any more stay in the table, as they do when a node is deleted.
  3. Where the log does not reach back, or did not see the tree exactly, nothing is changed.
Design: the effects of each txn are undone from the newest to the oldest, in memory; then what is
        different is written. It is for the few txns that a new leader does not know; more than
        ROLLBACK_BYTES_MAX of log are not taken back: a snapshot is as cheap.
Not here: when this is due, and how it is made durable (writer.py, record.py).
Source: LearnerHandler.syncFollower (TRUNC), Leader.tryToCommit (COMMIT goes out before the leader
        has it in its own log).
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import lmdb

from zkstore.errors import CorruptionError, LogTrimmed
from zkstore.proto import opcodes as op
from zkstore.records import txn as txns
from zkstore.storage import fuzzy, scan, schema, txnlog
from zkstore.tree import node as nodes
from zkstore.tree.apply import Effects, Totals
from zkstore.tree.paths import split

ROLLBACK_BYTES_MAX: Final = 64 << 20
_U64: Final = (1 << 64) - 1


def check(lmdb_txn: lmdb.Transaction, upto: int) -> None:
    """Raises: LogTrimmed if the tree cannot be taken back to this zxid."""
    first = txnlog.previous_of(scan.first(lmdb_txn, schema.LOG)[1])
    exact = max(first, fuzzy.read(lmdb_txn).inexact_upto)
    if upto < exact:
        raise LogTrimmed(f"txns behind {upto:#x} cannot be taken back: all begins at {exact:#x}")
    total = txnlog.log_bytes_of(scan.last(lmdb_txn)[1])
    for key, value in scan.backwards(lmdb_txn, schema.LOG):
        if schema.zxid_of(key) <= upto:
            return
        size = total - txnlog.log_bytes_of(value)
        if size > ROLLBACK_BYTES_MAX:
            raise LogTrimmed(f"txns behind {upto:#x} cannot be taken back: {size} bytes of log")


def roll_back(write_txn: lmdb.Transaction, upto: int) -> txnlog.Label:
    """Take back every txn behind `upto`; returns what the state then says of itself.

    Raises: LogTrimmed, CorruptionError: abort the transaction.
    """
    check(write_txn, upto)
    undone = _Undone(write_txn)
    batch = _take_off(write_txn, upto, undone)
    undone.write()
    said, totals = batch.said, undone.totals
    if said is not None and _exact(said) != _exact(totals):
        raise CorruptionError(f"back at {batch.zxid:#x} the tree has {totals}, the log says {said}")
    value = txnlog.encode(batch.previous, totals, batch.log_bytes, batch.entries, batch.last_uses)
    write_txn.put(schema.log_key(batch.zxid), value)
    return txnlog.label_of(batch.zxid, value)


def _exact(totals: Totals) -> tuple[int, int, int, int]:
    return totals.nodes, totals.ephemerals, totals.bytes, totals.digest & _U64


class _Last(NamedTuple):
    """The batch that becomes the log's last."""

    zxid: int
    previous: int
    log_bytes: int  # without it
    entries: list[bytes | Effects]
    last_uses: int
    said: Totals | None  # what its label said; None: it had none of its own


def _take_off(write_txn: lmdb.Transaction, upto: int, undone: _Undone) -> _Last:
    """Remove the log's batches behind `upto`, undoing each; returns what is now the last."""
    rows: list[scan.Item] = []
    whole: scan.Item | None = None
    for row in scan.backwards(write_txn, schema.LOG):
        if schema.zxid_of(row[0]) <= upto:
            whole = row
            break
        rows.append(row)
    kept: list[bytes | Effects] = []
    for key, value in rows:
        write_txn.delete(key)
        for encoded, effects in reversed(list(txnlog.entries(schema.zxid_of(key), value))):
            if txns.zxid_of(encoded) > upto:
                undone.undo(encoded, effects)
            else:
                kept[:0] = (encoded, effects)
    oldest = rows[-1][1] if rows else b""
    if kept:
        encoded = kept[-2]
        assert isinstance(encoded, bytes)
        zxid, value, said = txns.zxid_of(encoded), oldest, None
    elif whole is not None:
        zxid, value = schema.zxid_of(whole[0]), whole[1]
        said = txnlog.label_of(zxid, value).totals
        for encoded, effects in txnlog.entries(zxid, value):
            kept += (encoded, effects)
    else:
        zxid, value, said = txnlog.previous_of(oldest), oldest, None
    log_bytes = txnlog.log_bytes_of(value) - len(value)
    return _Last(zxid, txnlog.previous_of(value), log_bytes, kept, _last_uses(kept), said)


def _last_uses(entries: list[bytes | Effects]) -> int:
    """How many large data only these effects refer to."""
    uses = 0
    for effects in entries[1::2]:
        for at in range(0, len(effects), 6):
            before = effects[at + 4]
            if effects[at] in (op.NODE_DATA_CHANGED, op.NODE_DELETED):
                assert isinstance(before, bytes)
                uses += nodes.data_id_of(before) > 0
    return uses


class _Undone:
    """What taking txns back changes; `totals` are right once it is written."""

    def __init__(self, write_txn: lmdb.Transaction) -> None:
        self._txn = write_txn
        self._get = scan.getter(write_txn)
        self._nodes: dict[bytes, bytes | None] = {}
        self._sessions: dict[int, bytes | None] = {}
        self._data_ids: set[int] = set()  # of all values that the paths had
        key, value = scan.last(write_txn)
        self.totals = txnlog.label_of(schema.zxid_of(key), value).totals

    def undo(self, encoded: bytes, effects: list[Any]) -> None:
        """Take one txn back; the later ones were before."""
        session_id, kind = txns.session_and_type_of(encoded)
        if kind in (op.CREATE_SESSION, op.CLOSE_SESSION):
            self._sessions[session_id] = None
        for at in range(len(effects) - 6, -1, -6):
            _, path, _, _, before, parent_before = effects[at : at + 6]
            if not path:
                self._sessions[session_id] = before
                continue
            if before is not None:
                self._data_ids.add(nodes.data_id_of(before))
            self._nodes[path] = before
            if parent_before is not None:
                parent_path = split(path)[0]
                parent = self._nodes.get(parent_path) or self._get(schema.node_key(parent_path))
                assert parent is not None, parent_path
                self._nodes[parent_path] = parent_before + parent[nodes.BODY :]

    def write(self) -> None:
        """Make the tables what they were."""
        put, delete = self._txn.put, self._txn.delete
        for path, value in self._nodes.items():
            key = schema.node_key(path)
            old = self._get(key)
            if old is not None:
                self._data_ids.add(nodes.data_id_of(old))
                self._count(path, old, -1)
                delete(key)
            if value is not None:
                self._count(path, value, 1)
                put(key, value)
        needed = {nodes.data_id_of(value) for value in self._nodes.values() if value is not None}
        for data_id in self._data_ids - needed:
            delete(schema.data_key(data_id))
        for session_id, timeout in self._sessions.items():
            delete(schema.session_key(session_id))
            if timeout is not None:
                put(schema.session_key(session_id), timeout)

    def _count(self, path: bytes, value: bytes, sign: int) -> None:
        """Enter a node in the totals and in the table of its owner, or (-1) take it out."""
        fields = nodes.unpack(value)
        totals = self.totals
        totals.nodes += sign
        totals.bytes += sign * (len(path) + fields[nodes.DATA_LENGTH])
        totals.digest += sign * fields[0]
        owner = fields[nodes.OWNER]
        if not owner:
            return
        key = schema.sweep_key(path)
        if nodes.is_ephemeral(owner):
            totals.ephemerals += sign
            key = schema.ephemeral_key(owner, path)
        if sign > 0:
            self._txn.put(key, path)
        else:
            self._txn.delete(key)
