"""The applied log as the ZAB core reads it: what a learner may lack, and how much that is.

Owns:   nothing; each call has a view of its own.
Design: batches are values by their last zxid, and name the zxid before them, so that a zxid is
        found with one look at the batch that would hold it; sizes are differences of the running
        counts in the batches' heads. No call looks at more than two batches, but for `read`.
Source: zab/proposals.py's History.
"""

from __future__ import annotations

from typing import Final, Protocol

import lmdb

from zkstore.storage import scan, schema, txnlog
from zkstore.tree.apply import Totals
from zkstore.zab.ready import Proposal

_NODE_BYTES: Final = 80  # of a node in a snapshot's stream, besides its path and data


class Written(Protocol):
    """What the writer says of the state it has made."""

    @property
    def env(self) -> lmdb.Environment: ...

    applied: int
    totals: Totals


class StoredHistory:
    """Over what a writer has applied."""

    def __init__(self, writer: Written) -> None:
        self._writer = writer

    @property
    def first(self) -> int:
        """The log is whole behind this zxid; 1 stands for the beginning of all."""
        with self._writer.env.begin() as lmdb_txn:
            return txnlog.previous_of(scan.first(lmdb_txn, schema.LOG)[1]) or 1

    @property
    def last(self) -> int:
        """The tree stands here."""
        return self._writer.applied

    @property
    def tree_bytes(self) -> int:
        """What a SNAP would send, about."""
        totals = self._writer.totals
        return totals.bytes + _NODE_BYTES * totals.nodes

    def holds(self, zxid: int) -> bool:
        """Whether this txn is in the log."""
        with self._writer.env.begin() as lmdb_txn:
            batch = _batch_at(lmdb_txn, zxid)
            return batch is not None and zxid in _zxids(batch)

    def last_before(self, zxid: int) -> int:
        """The greatest zxid in the log that is smaller; 0 if there is none."""
        with self._writer.env.begin() as lmdb_txn:
            batch = _batch_at(lmdb_txn, zxid) or scan.last(lmdb_txn)
            smaller = [found for found in _zxids(batch) if found < zxid]
            if smaller:
                return smaller[-1]
            before = txnlog.previous_of(batch[1])
            found = _batch_at(lmdb_txn, before)
            return before if found is not None and before in _zxids(found) else 0

    def read(self, after: int, bytes_max: int) -> list[Proposal]:
        """Txns behind `after` in order, at least one if there is any; whole batches, so that there
        may be some MB more than asked for."""
        found: list[Proposal] = []
        with self._writer.env.begin() as lmdb_txn:
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
        with self._writer.env.begin() as lmdb_txn:
            batch = _batch_at(lmdb_txn, zxid)
            if batch is None:
                return 0
            return txnlog.log_bytes_of(scan.last(lmdb_txn)[1]) - txnlog.log_bytes_of(batch[1])


def _batch_at(lmdb_txn: lmdb.Transaction, zxid: int) -> scan.Item | None:
    """The first batch that ends at this zxid or behind it."""
    return next(scan.items(lmdb_txn, schema.LOG, since=schema.log_key(zxid)), None)


def _zxids(batch: scan.Item) -> list[int]:
    """Of all txns of a batch. Raises: CorruptionError."""
    key, value = batch
    return [txnlog.txn_zxid(txn) for txn, _ in txnlog.entries(schema.zxid_of(key), value)]
