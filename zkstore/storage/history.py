"""The applied log as the ZAB core reads it: what a learner may lack, and how much that is.

Design: batches are values by their last zxid, so a zxid is found by one look at the batch that
        would hold it; sizes are differences of the running counts in the batches' heads.
Source: zab/proposals.py's History.
"""

from __future__ import annotations

import lmdb

from zkstore.storage import scan, schema, txnlog
from zkstore.storage.writer import Writer
from zkstore.zab.ready import Proposal


class StoredHistory:
    """Over a writer's environment; each call opens a view of its own."""

    def __init__(self, env: lmdb.Environment, writer: Writer) -> None:
        self._env = env
        self._writer = writer

    @property
    def first(self) -> int:
        """The log is whole behind this zxid."""
        with self._env.begin() as lmdb_txn:
            return txnlog.previous_of(scan.first(lmdb_txn, schema.LOG)[1])

    @property
    def last(self) -> int:
        """The tree stands here."""
        return self._writer.applied

    @property
    def tree_bytes(self) -> int:
        """What a SNAP would send, about."""
        return self._writer.totals.bytes

    def holds(self, zxid: int) -> bool:
        """Whether this txn is in the log."""
        return any(p.zxid == zxid for p in self.read(zxid - 1, 1))

    def last_before(self, zxid: int) -> int:
        """The greatest zxid in the log that is smaller; 0 if there is none."""
        with self._env.begin() as lmdb_txn:
            for key, value in scan.backwards(lmdb_txn, schema.LOG):
                if txnlog.previous_of(value) >= zxid:
                    continue
                zxids = [txnlog.txn_zxid(t) for t, _ in txnlog.entries(schema.zxid_of(key), value)]
                if smaller := [found for found in zxids if found < zxid]:
                    return smaller[-1]
        return 0

    def read(self, after: int, bytes_max: int) -> list[Proposal]:
        """Txns behind `after` in order, at least one if there is any, about so many bytes."""
        found: list[Proposal] = []
        with self._env.begin() as lmdb_txn:
            for key, value in scan.items(lmdb_txn, schema.LOG, since=schema.log_key(after + 1)):
                for txn, _ in txnlog.entries(schema.zxid_of(key), value):
                    zxid = txnlog.txn_zxid(txn)
                    if zxid > after:
                        found.append(Proposal(zxid, txn))
                        bytes_max -= len(txn)
                if bytes_max <= 0:
                    break
        return found

    def bytes_after(self, zxid: int) -> int:
        """What a DIFF from there on would send, about."""
        with self._env.begin() as lmdb_txn:
            total = txnlog.log_bytes_of(scan.last(lmdb_txn)[1])
            for _, value in scan.items(lmdb_txn, schema.LOG, since=schema.log_key(zxid)):
                return total - txnlog.log_bytes_of(value)
        return 0
