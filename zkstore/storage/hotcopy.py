"""A copy of a data file while its server writes it, and of one that stands still.

Owns:   nothing; reads one environment, fills a generation.
Invariants:
  1. Consistent: the copy is the server's state at one zxid, tree and log.
  2. Short views: no view is held longer than it takes to read a few thousand records, so the
     server's file does not grow by what is freed meanwhile.
Design: the keys are copied in their order, piece by piece, each piece of its own view; the log
  comes last. What the log says was touched since the first view is then read again, in turns that
  get shorter, until one view shows so little that is new that it can be finished in that view: its
  zxid is the copy's. Large data is copied by reference, from nodes and from the log's effects: the
  log's front may be trimmed meanwhile, and what only that part needed must not come along.
  Rejected: one long view (it pins every page that is freed: hundreds of MB a second at full speed).
Not here: where the copy is put (generation.py), how fast it may go (the caller's `pause`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import lmdb

from zkstore.errors import CorruptionError, StorageFull, ZkstoreError
from zkstore.proto import opcodes as op
from zkstore.records import txn as txns
from zkstore.storage import scan, schema, txnlog
from zkstore.storage.batches import StoredTree
from zkstore.storage.env import storage_error
from zkstore.storage.generation import Generation
from zkstore.storage.sorter import Item
from zkstore.storage.still import Still, drop_pages_of
from zkstore.tree import node as nodes
from zkstore.tree import quota
from zkstore.tree.paths import split

_VIEW_ITEMS: Final = 5000
_VIEW_BYTES: Final = 2 << 20
_TOUCHED_MAX: Final = 500  # read again in one view
_TURNS_MAX: Final = 1000
_DROP_BYTES: Final = 8 << 20

Pause = Callable[[int], None]


@dataclass(slots=True)
class Touched:
    """What some txns changed: to be read again."""

    paths: set[bytes] = field(default_factory=set)
    sessions: set[int] = field(default_factory=set)
    ephemerals: set[tuple[int, bytes]] = field(default_factory=set)  # that were there before

    def add(self, zxid: int, value: bytes) -> None:
        """All of one batch of the log."""
        for encoded, effects in txnlog.entries(zxid, value):
            session_id, kind = txns.session_and_type_of(encoded)
            if kind in (op.CREATE_SESSION, op.CLOSE_SESSION):
                self.sessions.add(session_id)
            for at in range(0, len(effects), 6):
                path, before, parent_before = effects[at + 1], effects[at + 4], effects[at + 5]
                if not path:
                    continue  # of a session
                self.paths.add(path)
                if parent_before is not None:
                    self.paths.add(split(path)[0])
                if before is not None:
                    owner = nodes.unpack(before)[nodes.OWNER]
                    if nodes.is_ephemeral(owner):
                        self.ephemerals.add((owner, path))

    def __len__(self) -> int:
        return len(self.paths) + len(self.sessions)


def data_ids(zxid: int, value: bytes) -> Iterator[int]:
    """The large data that a batch of the log refers to: what its nodes held before."""
    if not txnlog.last_uses_of(value):
        return
    for _, effects in txnlog.entries(zxid, value):
        for at in range(0, len(effects), 6):
            before = effects[at + 4]
            if before is not None and effects[at] in (op.NODE_DATA_CHANGED, op.NODE_DELETED):
                data_id = nodes.data_id_of(before)
                if data_id:
                    yield data_id


class HotCopy:
    """One copy of a live environment."""

    def __init__(
        self,
        env: lmdb.Environment,
        path: Path,
        generation: Generation,
        pause: Pause,
        progress: Callable[[str, int], None],
    ) -> None:
        self._env = env
        self._path = path
        self._generation = generation
        self._pause = pause
        self._progress = progress
        self._unpaused = 0
        self._copied = 0
        self._read = 0

    def run(self) -> int:
        """Copy everything; returns the zxid that the copy stands at."""
        try:
            with self._env.begin() as view:
                since, label = _label(view)
            self._next_acl_id = label.totals.next_acl_id
            self._copy(b"", schema.DATA)
            self._copy(schema.EPHEMERAL, schema.LOG)
            logged = self._copy_log(since)
            return self._catch_up(since, logged)
        except lmdb.Error as e:
            raise storage_error(e, str(self._path)) from e

    def _copy(self, start: bytes, end: bytes) -> None:
        """All records with keys from `start` to before `end`."""
        while True:
            items: list[Item] = []
            apart: list[Item] = []
            with self._env.begin() as view:
                size = 0
                for key, value in scan.items(view, b"", since=start or b"\0"):
                    if key >= end or len(items) >= _VIEW_ITEMS or size >= _VIEW_BYTES:
                        break
                    items.append((key, value))
                    size += len(value)
                    if key[:1] == schema.NODE:
                        data_id = nodes.data_id_of(value)
                        if data_id:
                            apart.append(_data(view, data_id))
                            size += len(apart[-1][1])
            if not items:
                return
            self._put(apart)
            self._generation.append(items)
            start = items[-1][0] + b"\0"
            self._account(size, len(items))

    def _put(self, items: list[Item]) -> None:
        if items:
            with self._generation.write() as write_txn:
                for key, value in items:
                    write_txn.put(key, value)

    def _account(self, size: int, count: int) -> None:
        self._copied += count
        self._read += size
        if self._read > _DROP_BYTES:
            self._drop_pages()
        self._progress("records copied", self._copied)
        self._pause(size)

    def _drop_pages(self) -> None:
        """Give back the memory of what was read, of both files."""
        drop_pages_of(self._path)
        self._generation.drop_pages()
        self._generation.write_out()
        self._read = 0

    def _copy_log(self, since: int) -> int:
        """The log up to what one view shows as its end; returns its last zxid."""
        start = schema.LOG
        last = -1
        newest = 0
        while last < newest:
            with self._env.begin() as view:
                items, apart, size = self._log_piece(view, start)
                # Where it ends now: to follow it any further might never end.
                newest = newest or _label(view)[0]
            before = txnlog.previous_of(items[0][1])
            if before > since if last < 0 else before != last:
                raise _too_slow()
            self._put(apart)
            self._generation.append(items)
            last = schema.zxid_of(items[-1][0])
            start = items[-1][0] + b"\0"
            self._account(size, len(items))
        return last

    def _log_piece(
        self, view: lmdb.Transaction, start: bytes, limit: int = _VIEW_BYTES
    ) -> tuple[list[Item], list[Item], int]:
        """(records, the large data they refer to, bytes) of the log from `start` on."""
        items: list[Item] = []
        apart: list[Item] = []
        size = 0
        for key, value in scan.items(view, schema.LOG, since=start):
            items.append((key, value))
            size += len(value)
            for data_id in data_ids(schema.zxid_of(key), value):
                apart.append(_data(view, data_id))
                size += len(apart[-1][1])
            if size > limit:
                break
        return items, apart, size

    def _catch_up(self, since: int, logged: int) -> int:
        """Read again what was touched behind `since`, until one view shows all of it."""
        done = since
        for _ in range(_TURNS_MAX):
            while done < logged:
                done = self._apply_slice(done)
            with self._env.begin() as view:
                start = schema.log_key(logged + 1)
                items, apart, size = self._log_piece(view, start)
                touched = Touched()
                for key, value in items:
                    touched.add(schema.zxid_of(key), value)
                last, label = _label(view)
                if last < logged or (items and txnlog.previous_of(items[0][1]) != logged):
                    raise _too_slow()
                newest = schema.zxid_of(items[-1][0]) if items else logged
                if newest == last and len(touched) <= _TOUCHED_MAX:
                    # A quota's usage changes without an effect, as no client sees a write.
                    tree = StoredTree(view)
                    touched.paths.update(path for path, _ in tree.descendants(quota.ROOT))
                    changes = self._changes(view, touched, label.totals.next_acl_id)
                    self._store(apart, items, changes)
                    return last
            self._store(apart, items, [])
            logged = newest
            self._account(size, len(items))
        raise _too_slow()

    def _apply_slice(self, done: int) -> int:
        """Read again what the copied log says was touched behind `done`; a bounded part of it."""
        touched = Touched()
        with self._generation.env.begin() as copied:
            for key, value in scan.items(copied, schema.LOG, since=schema.log_key(done + 1)):
                done = schema.zxid_of(key)
                touched.add(done, value)
                if len(touched) > _TOUCHED_MAX:
                    break
        paths = list(touched.paths)
        for start in range(0, len(paths) or 1, _TOUCHED_MAX):
            touched.paths = set(paths[start : start + _TOUCHED_MAX])
            with self._env.begin() as view:
                _, label = _label(view)
                changes = self._changes(view, touched, label.totals.next_acl_id)
            self._store([], [], changes)
            self._account(sum(len(value or b"") for _, value in changes), 0)
            # They are all over the files, and the kernel maps 64 kB around each that is read.
            self._drop_pages()
            touched = Touched()  # the first part had all that is no path
        return done

    def _changes(
        self, view: lmdb.Transaction, touched: Touched, next_acl_id: int
    ) -> list[tuple[bytes, bytes | None]]:
        """What the view holds of the records that were touched; None: nothing."""
        get = scan.getter(view)
        changes: list[tuple[bytes, bytes | None]] = []
        for acl_id in range(self._next_acl_id, next_acl_id):
            encoded = get(schema.acl_key(acl_id))
            if encoded is not None:
                changes.append((schema.acl_key(acl_id), encoded))
                changes.append((schema.acl_hash_key(encoded), acl_id.to_bytes(8, "big")))
        self._next_acl_id = next_acl_id
        changes += ((schema.ephemeral_key(owner, path), None) for owner, path in touched.ephemerals)
        for path in touched.paths:
            key = schema.node_key(path)
            value = get(key)
            changes.append((key, value))
            owner = 0
            if value is not None:
                owner = nodes.unpack(value)[nodes.OWNER]
                data_id = nodes.data_id_of(value)
                if data_id:
                    changes.append(_data(view, data_id))
            is_session = nodes.is_ephemeral(owner)
            changes.append((schema.sweep_key(path), path if owner and not is_session else None))
            if is_session:
                changes.append((schema.ephemeral_key(owner, path), path))
        for session_id in touched.sessions:
            key = schema.session_key(session_id)
            changes.append((key, get(key)))
        return changes

    def _store(
        self, apart: list[Item], log: list[Item], changes: list[tuple[bytes, bytes | None]]
    ) -> None:
        with self._generation.write() as write_txn:
            for key, value in (*apart, *changes):
                if value is None:
                    write_txn.delete(key)
                else:
                    write_txn.put(key, value)
            for key, value in log:
                write_txn.put(key, value, append=True)


def _label(view: lmdb.Transaction) -> tuple[int, txnlog.Label]:
    key, value = scan.last(view)
    return schema.zxid_of(key), txnlog.label_of(schema.zxid_of(key), value)


def _data(view: lmdb.Transaction, data_id: int) -> Item:
    key = schema.data_key(data_id)
    data = scan.getter(view)(key)
    if data is None:
        raise CorruptionError(f"data {data_id} of a node is not in the table")
    return key, data


def _too_slow() -> ZkstoreError:
    return StorageFull(
        "the copy is slower than the server writes: its log was trimmed, or its end never reached"
        " (raise the bandwidth or zkstore.logRetentionBytes); or the server took txns back"
    )


def live_batches(env: lmdb.Environment, path: Path, after: int) -> Iterator[tuple[int, bytes]]:
    """(last zxid, value) of the log's batches behind `after`, in short views.

    Up to where the log ended at the first of them: a busy server's never ends.
    """
    start = schema.log_key(after + 1)
    newest = 0
    while schema.zxid_of(start) <= newest or not newest:
        piece: list[Item] = []
        size = 0
        try:
            with env.begin() as view:
                newest = newest or _label(view)[0]
                for item in scan.items(view, schema.LOG, since=start):
                    piece.append(item)
                    size += len(item[1])
                    if size > _VIEW_BYTES:
                        break
        except lmdb.Error as e:
            raise storage_error(e, str(path)) from e
        if not piece:
            return
        for key, value in piece:
            yield schema.zxid_of(key), value
        start = schema.log_key(schema.zxid_of(piece[-1][0]) + 1)
        drop_pages_of(path)


def copy_still(source: Still, generation: Generation, progress: Callable[[str, int], None]) -> None:
    """Copy every record of a file that nobody writes."""

    def items() -> Iterator[Item]:
        size = 0
        with source.env.begin() as view:
            for count, item in enumerate(scan.items(view, b"", since=b"\0")):
                yield item
                size += len(item[1])
                if size > _DROP_BYTES:
                    source.drop_pages()
                    size = 0
                    progress("records copied", count)

    generation.append(items())
