"""The one writer of a replica: journal first, then tree and log in one LMDB transaction.

Owns:   the LMDB write transactions, the totals, the trimming of the log, and when a checkpoint is
        due.
Invariants:
  1. Durable: `perform` returns only when what a Ready appends is in the journal, flushed.
  2. One LMDB transaction holds all of a batch: log, tree, sessions, aggregates. Only committed txns
     are in it.
  3. A batch that LMDB could not commit is kept and tried again before any other: never skipped.
  4. What is journaled and not applied is in `tail`; no segment that holds a part of it is given up.
Design: LMDB commits are not flushed; the journal is what survives, the checkpoint is what LMDB is
        restarted from (storage/checkpoint.py).
Not here: what a txn does to the tree (tree/apply.py), a record of the journal (record.py).
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Final

import lmdb

from zkstore.constants import (
    ACL_BYTES_REMEMBERED_MAX,
    ACL_IDS_MAX,
    BATCH_REQUESTS_MAX,
    DIGEST_INTERVAL,
    LOG_TRIM_BATCHES_MAX,
)
from zkstore.errors import RemoteProtocolError, StorageFailed, StorageFull
from zkstore.observability.log import Limited
from zkstore.observability.metrics import Summary
from zkstore.proto import opcodes as op
from zkstore.records import txn as txns
from zkstore.records.txn import Txn
from zkstore.storage import fuzzy, record, rollback, scan, schema, txnlog
from zkstore.storage.batches import StoredTree, put_acl, write_batch
from zkstore.storage.digests import Digests
from zkstore.storage.env import Replica, storage_error
from zkstore.storage.journal import JournalPosition
from zkstore.storage.view import Looked, Views
from zkstore.tree import acl as acls
from zkstore.tree import node as nodes
from zkstore.tree import paths, quota
from zkstore.tree.apply import Batch, Effects, Result, Totals
from zkstore.zab.ready import HardState, Proposal, Ready

_PAGE: Final = 4096
_OVERHEAD_PAGES: Final = 6  # branches, log, free list and meta page of one commit, roughly
# One LMDB transaction of a replay. Larger ones were slower, though they write fewer pages twice:
# measured, ARCHITECTURE "Where the time goes".
REPLAY_TXNS_MAX: Final = 1000
REPLAY_BYTES_MAX: Final = 4 << 20
RECEIVED_DECODED_MAX: Final = 4096  # of a leader's txns, kept until they are applied


# A txn that is now visible, and what its client is told. A plain tuple: there are many.
Applied = tuple[Txn, Result]


class _Source(StoredTree):
    """The tree under an open write transaction; remembers the ACL ids it looked up."""

    def __init__(
        self, lmdb_txn: lmdb.Transaction, looked: Looked, acl_ids: dict[bytes, int]
    ) -> None:
        super().__init__(lmdb_txn)
        looked.at(lmdb_txn.id() - 1, self.get)  # until something is written, the state before
        self._looked = looked
        self._acl_ids = acl_ids

    def node(self, path: bytes) -> bytes | None:
        return self._looked.node(path)

    def find_acl(self, encoded: bytes) -> int | None:
        known = self._acl_ids.get(encoded)
        if known is None:
            known = super().find_acl(encoded)
            if known is not None and len(encoded) <= ACL_BYTES_REMEMBERED_MAX:
                self._acl_ids[encoded] = known
        return known


class Writer:
    """Performs the core's Readies on one opened replica."""

    def __init__(
        self,
        replica: Replica,
        *,
        retention_ms: int,
        retention_bytes: int,
        flush_warning_ms: int = 1000,
        alone: bool = True,
    ) -> None:
        """`alone`: what is journaled is thereby committed, there is nobody else to ask."""
        self._replica = replica
        self._alone = alone
        self._journal = replica.journal
        self.views = Views(replica.env)
        self.retention_ms = retention_ms  # these two, and flush_warning_ms, may be changed
        self.retention_bytes = retention_bytes
        self._acl_ids: dict[bytes, int] = {acls.OPEN_ENCODED: -1}
        self._decoded: dict[int, Txn] = {}  # zxid → txn that prep made here
        self._unapplied: list[Proposal] = []  # committed, but LMDB refused them so far
        self.tail: deque[Proposal] = deque()  # journaled, not applied; alone there is none
        # (last zxid, record's start)
        self._unfinished: deque[tuple[int, JournalPosition]] = deque()
        self._begun: tuple[int, float] | None = None  # a record: its txns, seconds so far
        self.flush_warning_ms = flush_warning_ms
        self.flush_ms = Summary()  # of the journal's records
        self.batch_txns = Summary()
        # (zxid, tree digest) at each DIGEST_INTERVAL-th zxid
        self.digests = Digests()
        self.stalled = False  # committed txns wait for LMDB to have room
        self._complain = Limited(logging.getLogger("zkstore.storage"), logging.ERROR)
        self._slow = Limited(logging.getLogger("zkstore.storage"), logging.WARNING)
        self.trimming = False  # the log is past its retention; see `review`
        self.changed_bytes = 0  # since the last checkpoint, roughly
        self.unlooked_bytes = 0  # since the keeper looked at the disk, at most
        self.hard_state = HardState(replica.accepted_epoch, replica.current_epoch, replica.whole)
        self._planted = not replica.env.stat()["entries"]
        if self._planted:
            with replica.env.begin(write=True) as lmdb_txn:
                _plant(lmdb_txn)
        self._kept: list[int] = []  # the log is not trimmed behind any of these
        self._load()

    def _load(self) -> None:
        """Read what the data file says of itself."""
        self._env = env = self._replica.env
        with env.begin() as lmdb_txn:
            self._fuzzy = fuzzy.read(lmdb_txn).pending
            self._batch = fuzzy.batch_of(lmdb_txn)
        self._fuzzy_upto = fuzzy.NEVER  # once this is applied the tree is exact; see `_settle`
        with self.views.open() as view:
            self.applied, self._log_bytes, self.totals = view.label()
            self.quotas = quota.registered(view)
        self._trimmed_bytes = self._front_bytes()

    # ---- start

    @property
    def env(self) -> lmdb.Environment:
        """Of the generation that is in use."""
        return self._env

    def recover(self) -> int:
        """Apply what the journal holds beyond `applied`; returns how many txns that were.

        A server alone counts all of it as history: what was flushed may have been acknowledged. A
        member applies what is known to be committed, and keeps the rest as its tail. With a damaged
        journal it is not whole.

        Nobody waits for a checkpoint: what was read back is on the device (Journal.recover), and
        after a crash is read once more. One is due at once. But the first of all has to be there
        before anybody writes: a reader of what a crash leaves finds a tree.
        """
        replica = self._replica
        found = record.sort_out(
            replica.replay, reflected=replica.reflected, applied=self.applied,
            hard_state=self.hard_state, roll_back=self._roll_back,
        )  # fmt: skip
        hard = found.hard_state
        if replica.journal_damaged:
            promised = max(hard.accepted_epoch, record.epochs_of(replica.behind_damage))
            hard = HardState(promised, hard.current_epoch, whole=False)
        self.hard_state = hard
        ordered = found.committed
        if self._alone:
            ordered += found.tail
        elif found.tail:
            self.tail.extend(found.tail)
            self._unfinished.append((found.tail[-1].zxid, replica.position))
        self._settle((found.tail or ordered or [Proposal(self.applied, b"")])[-1].zxid)
        for batch in _portions(ordered):
            self._commit(batch)
        if replica.replay or self._journal.damage:
            self.changed_bytes = max(self.changed_bytes, 1)
        replica.replay.clear()
        if self._planted and not replica.journal_damaged:
            done = replica.checkpointer.take(**self._mark())
            self._journal.recycle(done.position)
        return len(ordered)

    # ---- the core's work

    def remember(self, txn: Txn) -> None:
        """Keep a txn that was made here, so that applying it need not decode it again."""
        self._decoded[txn.zxid] = txn

    def received(self, zxid: int, encoded: bytes) -> None:
        """A leader's txn, before it is journaled: what could not be applied is not taken.

        Raises: RemoteProtocolError.
        """
        txn = txns.decode(encoded)
        if txn.zxid != zxid:
            raise RemoteProtocolError(f"txn {txn.zxid:#x} in a packet of {zxid:#x}")
        if len(self._decoded) < RECEIVED_DECODED_MAX:
            self._decoded[txn.zxid] = txn

    def pending(self, after: int) -> list[Txn]:
        """The txns made here that are not applied, behind this zxid, in order."""
        pending = []
        for zxid in reversed(self._decoded):
            if zxid <= after:
                break
            pending.append(self._decoded[zxid])
        pending.reverse()
        return pending

    def forget(self, proposals: list[Proposal]) -> None:
        """These need not be decoded any more: they are applied, or will never be."""
        for zxid, _ in proposals:
            self._decoded.pop(zxid, None)

    def abandon(self) -> None:
        """What was made here and is not applied is nobody's any more: we do not lead."""
        self._decoded.clear()

    def perform(self, ready: Ready) -> list[Applied]:
        """Do what a Ready asks; returns what became visible.

        Order:  the journal's flush, then LMDB's commit. While the device is writing the record, the
                txns are applied in an LMDB transaction that nobody sees.
        Raises: StorageFull: the journal has no room, nothing was written and nothing is committed;
                LogTrimmed: the tree cannot be taken back that far, nothing was done;
                StorageFailed: stop.
        """
        if ready.must_sync:
            self._write(ready)
        self._unapplied += ready.committed
        applied = self.retry()
        self._flush()
        return applied

    def _write(self, ready: Ready) -> None:
        """Journal a Ready: one record. `_flush` ends it."""
        append, cut = ready.append, ready.truncate_after
        committed = self.applied
        if cut is not None and cut < committed:
            with self._env.begin() as lmdb_txn:
                rollback.check(lmdb_txn, cut)
            committed = cut
        if self._alone and append:
            committed = append[-1].zxid
        payload = record.encode(append, committed, ready.hard_state, cut)
        started = time.monotonic()
        position = self._journal.begin(payload)
        self._begun = len(append), time.monotonic() - started
        if cut is not None or ready.hard_state is not None:
            self._flush()
        self.hard_state = ready.hard_state or self.hard_state
        if cut is not None:
            self._truncate(cut)
        if append:
            self._unfinished.append((append[-1].zxid, position))
            if not self._alone:
                self.tail.extend(append)
        if ready.hard_state is not None:
            self._settle(self.tail[-1].zxid if self.tail else self.applied)

    def _flush(self) -> None:
        """Wait until the record that was begun is durable, if there is one."""
        begun, self._begun = self._begun, None
        if begun is not None:
            started = time.monotonic()
            self._journal.finish()
            txns_flushed, writing_s = begun
            self._count_flush((writing_s + time.monotonic() - started) * 1000, txns_flushed)

    def _settle(self, last: int) -> None:
        """`last` ends the journal; once we are whole, the tree holds no part of any later txn.

        Source: NEWLEADER, with which we become whole, comes behind all that a tree may hold.
        """
        if not self._fuzzy or not self.hard_state.whole:
            return
        self._fuzzy_upto = last
        if last <= self.applied:
            with self._env.begin(write=True) as lmdb_txn:
                fuzzy.end(lmdb_txn, self.applied)
            self._exact()

    def _exact(self) -> None:
        self._fuzzy, self._batch, self._fuzzy_upto = False, Batch, fuzzy.NEVER

    def declare_not_whole(self) -> None:
        """The tree turned out to be damaged: what it says is not to be trusted."""
        self.hard_state = self.hard_state._replace(whole=False)

    def switch(self, generation: int, *, zxid: int, whole: bool) -> None:
        """Go on in the tree that was built as this generation and stands at `zxid`.

        All that was journaled and not applied is forgotten. Workers must reopen the data file.
        Order:  no view of this process is open.
        Raises: StorageFull: nothing has changed; StorageFailed: stop.
        """
        hard = self.hard_state._replace(whole=whole)
        accepted_epoch, current_epoch, _ = hard
        self._replica.move(
            generation, applied=zxid, accepted_epoch=accepted_epoch, current_epoch=current_epoch,
            whole=whole,
        )  # fmt: skip
        self.hard_state = hard
        self._decoded.clear()
        self._unapplied.clear()
        self._unfinished.clear()
        self.tail.clear()
        self.digests.replaced()
        self._acl_ids = {acls.OPEN_ENCODED: -1}
        self.stalled = self.trimming = False
        self.changed_bytes = 0
        self.views.reopen(self._replica.env)
        self._load()
        assert self.applied == zxid, (self.applied, zxid)

    def _truncate(self, cut: int) -> None:
        """Forget everything behind a zxid; the journal says so already."""
        self.forget([proposal for proposal in self.tail if proposal.zxid > cut])
        self.tail = deque(proposal for proposal in self.tail if proposal.zxid <= cut)
        self._unapplied = [proposal for proposal in self._unapplied if proposal.zxid <= cut]
        self._unfinished = deque((min(last, cut), start) for last, start in self._unfinished)
        if cut < self.applied:
            self._roll_back(cut)

    def _roll_back(self, upto: int) -> int:
        """Take the tree back, in one LMDB transaction; returns where it stands.

        Raises: LogTrimmed; StorageFailed if LMDB has no room: the journal says that it is done.
        """
        try:
            with self._env.begin(write=True) as lmdb_txn:
                label = rollback.roll_back(lmdb_txn, upto)
        except lmdb.Error as e:
            raise StorageFailed(f"LMDB could not take back the txns behind {upto:#x}: {e}") from e
        with self.views.open() as view:
            self.quotas = quota.registered(view)
        self.applied, self._log_bytes, self.totals = label
        self.digests.cut(upto)
        self.changed_bytes += _PAGE
        return self.applied

    def _count_flush(self, flush_ms: float, txns_flushed: int) -> None:
        self.flush_ms.add(1, flush_ms)
        self.batch_txns.add(1, txns_flushed)
        if flush_ms > self.flush_warning_ms:
            self._slow(
                "flushing the journal took %d ms for %d txns: every write waits for it"
                " (fsync.warningthresholdms=%d)",
                flush_ms, txns_flushed, self.flush_warning_ms,
            )  # fmt: skip

    def reset(self) -> None:
        """What `srst` resets."""
        self.flush_ms = Summary()
        self.batch_txns = Summary()

    def retry(self) -> list[Applied]:
        """Apply what is committed, a batch at a time; what LMDB has no room for is kept."""
        applied: list[Applied] = []
        try:
            while self._unapplied:
                applied += self._commit(self._unapplied[:BATCH_REQUESTS_MAX])
                del self._unapplied[:BATCH_REQUESTS_MAX]
        except StorageFull as e:
            self._flush()
            self.stalled = True
            self._complain("%s: kept, will be tried again", e)
            return applied
        self.stalled = False
        return applied

    def _commit(self, proposals: list[Proposal]) -> list[Applied]:
        """One LMDB transaction with all of them."""
        totals = Totals(
            self.totals.nodes, self.totals.ephemerals, self.totals.bytes, self.totals.digest,
            self.totals.next_acl_id, self.totals.next_data_id,
        )  # fmt: skip
        applied: list[Applied] = []
        entries: list[bytes | Effects] = []
        digests: list[tuple[int, int]] = []
        decoded = self._decoded
        try:
            with self._env.begin(write=True) as lmdb_txn:
                source = _Source(lmdb_txn, self.views.looked, self._acl_ids)
                batch = self._batch(source, totals, self.quotas)
                for zxid, encoded in proposals:
                    txn = decoded.get(zxid) or txns.decode(encoded)
                    result, effects = batch.apply(txn)
                    if not self._fuzzy:
                        self.digests.compare_txn(encoded, totals.digest, effects, batch.node)
                    applied.append((txn, result))
                    entries += (encoded, effects)
                    if not zxid % DIGEST_INTERVAL and not self._fuzzy:
                        digests.append((zxid, totals.digest))
                write_batch(lmdb_txn, batch, self.views.looked.keys)
                last = proposals[-1].zxid
                lmdb_id = lmdb_txn.id()
                value = txnlog.encode(
                    self.applied, totals, self._log_bytes, entries, batch.last_uses
                )
                lmdb_txn.put(schema.log_key(last), value, append=True)
                if self.trimming:
                    self._trim(lmdb_txn)
                if last >= self._fuzzy_upto:
                    fuzzy.end(lmdb_txn, last)
                self._flush()
        except lmdb.Error as e:
            self.digests.forget()
            free_bytes = self._replica.free_bytes()
            what = f"LMDB could not commit {len(proposals)} txns"
            raise storage_error(e, what, free_bytes) from e
        self.forget(proposals)
        if last >= self._fuzzy_upto:
            self._exact()
        tail = self.tail
        while tail and tail[0].zxid <= last:
            tail.popleft()
        self.totals = totals
        self.quotas = batch.quotas
        self.digests.kept += digests
        self.applied = last
        self.views.committed(lmdb_id, last)
        self._log_bytes = txnlog.log_bytes_of(value)
        if len(self._acl_ids) > ACL_IDS_MAX:
            self._acl_ids = {acls.OPEN_ENCODED: -1}
        changed = _PAGE * (len(batch.nodes) + _OVERHEAD_PAGES) + len(value)
        self.changed_bytes += changed
        self.unlooked_bytes += changed + len(value)  # large data is in the value and beside it
        return applied

    def explain_digests(self) -> None:
        """If a leader told another digest, go on looking for the reason. Call it every second."""
        found = self.digests.ascii
        if found is not None and not found.complete:
            with self._env.begin() as lmdb_txn:
                found.look(lmdb_txn)

    # ---- the log's front

    def keep_log(self, after: int) -> Callable[[], None]:
        """Trim nothing behind this zxid until what is returned is called."""
        self._kept.append(after)

        def release() -> None:
            self._kept.remove(after)

        return release

    def _front_bytes(self) -> int:
        """Log bytes in front of the oldest batch that is kept."""
        with self._env.begin() as lmdb_txn:
            _, value = scan.first(lmdb_txn, schema.LOG)
        return txnlog.log_bytes_of(value) - len(value)

    def review(self, now_ms: int) -> None:
        """Decide whether the log has outgrown its retention. Call it every second or so."""
        if self._log_bytes - self._trimmed_bytes > self.retention_bytes:
            self.trimming = True
            return
        with self._env.begin() as lmdb_txn:
            oldest_ms = _oldest_ms(lmdb_txn)
        self.trimming = oldest_ms is not None and oldest_ms < now_ms - self.retention_ms

    def _trim(self, lmdb_txn: lmdb.Transaction) -> None:
        """Drop the oldest batches, at most twice as many as came; the newest always stays."""
        kept = min(self._kept, default=self.applied)
        for _ in range(LOG_TRIM_BATCHES_MAX):
            key, value = scan.first(lmdb_txn, schema.LOG)
            if schema.zxid_of(key) >= self.applied or schema.zxid_of(key) > kept:
                return
            if txnlog.last_uses_of(value):
                for _, effects in txnlog.entries(schema.zxid_of(key), value):
                    _drop_old_data(lmdb_txn, effects)
            lmdb_txn.delete(key)
            self._trimmed_bytes = txnlog.log_bytes_of(value)

    # ---- checkpoints

    def _mark(self) -> dict[str, Any]:
        """What a checkpoint says of this state."""
        while self._unfinished and self._unfinished[0][0] <= self.applied:
            self._unfinished.popleft()
        position = self._unfinished[0][1] if self._unfinished else self._journal.end
        return {
            "applied": self.applied,
            "accepted_epoch": self.hard_state.accepted_epoch,
            "current_epoch": self.hard_state.current_epoch,
            "whole": self.hard_state.whole,
            "position": position,
            "reflected": self._journal.end.sequence,
        }

    def begin_checkpoint(self) -> None:
        """Start one in the background; only right after a commit or on an idle writer.

        A member whose journal is damaged takes none until a snapshot has made it whole.
        """
        self.changed_bytes = 0
        if not self._replica.journal_damaged:
            self._replica.checkpointer.begin(**self._mark())

    @property
    def checkpointing(self) -> bool:
        return self._replica.checkpointer.busy

    def finish_checkpoint(self) -> None:
        """If the one under way is done: recycle the journal behind it.

        Raises: StorageFull: it was put off and is tried again; StorageFailed: stop.
        """
        try:
            done = self._replica.checkpointer.poll()
        except StorageFull:
            self.changed_bytes += 1
            raise
        if done is not None:
            self._journal.recycle(done.position)

    def close(self) -> None:
        """A clean stop: the last checkpoint needs no replay.

        With committed txns that LMDB has not, there is none: the next start replays them.
        """
        if self.stalled:
            self._replica.abandon()
            return
        self._replica.close(**self._mark())


def _portions(proposals: list[Proposal]) -> Iterator[list[Proposal]]:
    """Cut into what one LMDB transaction of a replay takes."""
    start = size = 0
    for at, proposal in enumerate(proposals):
        size += len(proposal.txn)
        if at - start == REPLAY_TXNS_MAX or (size > REPLAY_BYTES_MAX and at > start):
            yield proposals[start:at]
            start, size = at, len(proposal.txn)
    if proposals:
        yield proposals[start:]


def _plant(lmdb_txn: lmdb.Transaction) -> None:
    """The nodes that every tree begins with (reference E1). Their times and zxids are zero."""
    totals = Totals(ephemerals=0, next_acl_id=1, next_data_id=1)
    encoded = acls.encode(acls.READ_ALL)
    for path, children, acl_id in (
        (paths.ROOT, 1, -1), (paths.ZOOKEEPER, 2, -1), (paths.QUOTA, 0, -1),
        (paths.CONFIG, 0, totals.next_acl_id),
    ):  # fmt: skip
        value = nodes.create(path, b"", zxid=0, time_ms=0, owner=0, acl_id=acl_id)
        if path == paths.CONFIG:
            value = nodes.with_acl(value, path, acl_id=acl_id, aversion=-1)
        if children:
            value = nodes.with_children(value, path, cversion=0, children=children, pzxid=0)
        lmdb_txn.put(schema.node_key(path), value)
        totals.nodes += 1
        totals.bytes += len(path)
        totals.digest += nodes.digest_of(value)
    put_acl(lmdb_txn, encoded, totals.next_acl_id)
    totals.next_acl_id += 1
    lmdb_txn.put(schema.log_key(0), txnlog.encode(0, totals, 0, []))


def wall_ms() -> int:
    """The wall clock, for the times in txns and nowhere else."""
    return time.time_ns() // 1_000_000


def _oldest_ms(lmdb_txn: lmdb.Transaction) -> int | None:
    """The wall-clock time of the log's oldest txn; the batch of the planted tree has none."""
    for key, value in scan.items(lmdb_txn, schema.LOG):
        for encoded, _ in txnlog.entries(schema.zxid_of(key), value):
            return txns.decode(encoded).time_ms
    return None


def _drop_old_data(lmdb_txn: lmdb.Transaction, effects: list[Any]) -> None:
    """Large data that only this log record still needed: it was replaced or deleted by it."""
    for at in range(0, len(effects), 6):
        if effects[at] in (op.NODE_DATA_CHANGED, op.NODE_DELETED):
            data_id = nodes.data_id_of(effects[at + 4])
            if data_id:
                lmdb_txn.delete(schema.data_key(data_id))
