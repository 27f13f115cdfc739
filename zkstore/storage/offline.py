"""A replica's data as a reader without a server sees it: the checkpoint's tree and the journal's
tail over it, in memory.

Owns:   the view of a stopped directory, and what its journal adds.
Invariants:
  1. The state is the one that a server would serve after its start: at `applied`, the journal's
     last whole record.
  2. Streamed: a walk keeps a cursor for each level and the journal's tail, never the tree.
Design: the tail is applied by tree/apply.py to a batch that is never written; the batch's changes
  lie over LMDB's. A walk takes each parent's key range in turn: its values come with it.
Not here: opening LMDB (storage/still.py); writing (storage/generation.py).
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import lmdb

from zkstore.errors import CorruptionError, ZkstoreError
from zkstore.records import txn as txns
from zkstore.storage import fuzzy, journal, record, scan, schema, txnlog
from zkstore.storage.batches import StoredTree
from zkstore.storage.disk import Disk
from zkstore.storage.env import storage_dir
from zkstore.storage.still import Still
from zkstore.tree import node as nodes
from zkstore.tree.apply import Totals
from zkstore.tree.paths import ROOT, split
from zkstore.zab.ready import HardState

_DROP_BYTES: Final = 32 << 20  # read between two returns of memory
_NODE_BYTES: Final = 150  # of a node's key and head
_AROUND_BYTES: Final = 64 << 10  # what the kernel maps around a page that is looked at
Item = tuple[bytes, bytes]


class Offline:
    """One stopped replica. A context manager; close it."""

    def __init__(self, data_dir: Path, log_dir: Path | None = None) -> None:
        """`data_dir`: the dataDir of the configuration; `log_dir`: its dataLogDir, if it has one.

        Raises: FileNotFoundError, DirectoryInUse, FormatError, CorruptionError.
        """
        self.name = str(data_dir)
        self._unreturned = 0
        self.still = Still(storage_dir(data_dir))
        self._txn: lmdb.Transaction = self.still.env.begin()
        try:
            self._base = StoredTree(self._txn)
            label = txnlog.label_of(*self._last())
            self.totals: Totals = label.totals
            self.applied: int = label.applied
            self.stored_upto = self.applied  # what is behind comes from the journal
            cp = self.still.checkpoint
            self.epochs = (cp.accepted_epoch, cp.current_epoch)
            self.tail: list[tuple[bytes, list[Any]]] = []  # (txn, effects) of the journal's txns
            self.batch = fuzzy.batch_of(self._txn)(self._base, self.totals)
            directory = storage_dir(log_dir or data_dir)
            payloads, self.journal_damage = journal.read_back(directory, Disk(), cp.position)
            self._replay(payloads)
            self._changed = self._by_parent()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Offline:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._txn.abort()
        self.still.close()

    def _last(self) -> tuple[int, bytes]:
        key, value = scan.last(self._txn)
        if not key.startswith(schema.LOG):
            raise CorruptionError(f"{self.still.path}: there is no log record")
        return schema.zxid_of(key), value

    def _replay(self, payloads: list[bytes]) -> None:
        cp = self.still.checkpoint
        found = record.sort_out(
            payloads, reflected=max(0, cp.reflected - cp.position.sequence), applied=self.applied,
            hard_state=HardState(*self.epochs), roll_back=self._cannot_roll_back,
        )  # fmt: skip
        self.epochs = found.hard_state[:2]
        for zxid, encoded in (*found.committed, *found.tail):
            _, effects = self.batch.apply(txns.decode(encoded))
            self.tail.append((encoded, effects))
            self.applied = zxid

    def _cannot_roll_back(self, upto: int) -> int:
        raise ZkstoreError(
            f"{self.name}: its journal takes back the txns behind {upto:#x}, which only its server"
            " does; start it and stop it once"
        )

    def _by_parent(self) -> dict[bytes, dict[bytes, Item | None]]:
        """What the tail changed: prefix of the children → key → item; None: it is gone."""
        changed: dict[bytes, dict[bytes, Item | None]] = {}
        for path, value in self.batch.nodes.items():
            if path != ROOT:
                key = schema.node_key(path)
                prefix = schema.children_prefix(split(path)[0])
                item = None if value is None else (key, value)
                changed.setdefault(prefix, {})[key] = item
        return changed

    # ---- the tree --------------------------------------------------------------------------------

    def _count(self, size: int) -> None:
        """So many bytes of the map were read."""
        self._unreturned += size
        if self._unreturned > _DROP_BYTES:
            self.still.drop_pages()
            self._unreturned = 0

    def node(self, path: bytes) -> bytes | None:
        """A node's stored value; None if there is none."""
        self._count(_AROUND_BYTES)
        return self.batch.node(path)

    def data(self, value: bytes) -> bytes | None:
        """The data of a node's value. Raises: CorruptionError if it is not in the table."""
        data_id = nodes.data_id_of(value)
        if not data_id:
            return nodes.data_of(value)
        data = self.batch.data.get(data_id) or self._base.get(schema.data_key(data_id))
        self._count(len(data or b""))
        if data is None:
            raise CorruptionError(f"{self.still.path}: data {data_id} of a node is missing")
        return data

    def children(self, path: bytes) -> Iterator[Item]:
        """(path, value) of each child, in the order of the keys."""
        prefix = schema.children_prefix(path)
        base = b"" if path == ROOT else path
        skip = len(prefix)
        for key, value in self._range(prefix):
            name = key[skip:]
            if name[:1] == schema.HASHED:
                name = nodes.long_name_of(value)
            if name:  # the root's own key is the empty name below itself
                self._count(_NODE_BYTES + len(value))
                yield base + b"/" + name, value

    def _range(self, prefix: bytes) -> Iterator[Item]:
        stored = scan.items(self._txn, prefix)
        changed = self._changed.get(prefix)
        if changed is None:
            return stored
        kept = (item for item in stored if item[0] not in changed)
        return heapq.merge(kept, sorted(item for item in changed.values() if item is not None))

    def walk(self, path: bytes = ROOT, depth_max: int | None = None) -> Iterator[Item]:
        """(path, value) of a node and all below it, parents first; nothing if there is none."""
        value = self.node(path)
        if value is None:
            return
        yield path, value
        levels = [self.children(path)]
        while levels:
            item = next(levels[-1], None)
            if item is None:
                levels.pop()
                continue
            yield item
            value = item[1]
            if nodes.unpack(value)[nodes.CHILDREN] and (
                depth_max is None or len(levels) < depth_max
            ):
                levels.append(self.children(item[0]))

    # ---- the tables ------------------------------------------------------------------------------

    def acls(self) -> list[tuple[int, bytes]]:
        """All (id, encoded vector) but the open one."""
        found = [
            (int.from_bytes(key[1:], "big"), value)
            for key, value in scan.items(self._txn, schema.ACL)
        ]
        return found + [(acl_id, encoded) for encoded, acl_id in self.batch.acls.items()]

    def sessions(self) -> dict[int, int]:
        """session id → timeout_ms."""
        found = {
            schema.session_of(key): int.from_bytes(value, "big", signed=True)
            for key, value in scan.items(self._txn, schema.SESSION)
        }
        for session_id, timeout_ms in self.batch.sessions.items():
            if timeout_ms is None:
                found.pop(session_id, None)
            else:
                found[session_id] = timeout_ms
        return found

    def ephemerals(self) -> Iterator[tuple[int, bytes]]:
        """(session id, path) of the table of ephemerals."""
        changed = self.batch.ephemerals
        for key, path in scan.items(self._txn, schema.EPHEMERAL):
            session_id = schema.session_of(key)
            if path not in changed.get(session_id, {}):
                yield session_id, path
        for session_id, paths in changed.items():
            yield from ((session_id, path) for path, there in paths.items() if there)

    def sweep(self) -> Iterator[bytes]:
        """The paths in the table of containers and TTL nodes."""
        changed = self.batch.sweep
        for _, path in scan.items(self._txn, schema.SWEEP):
            if path not in changed:
                yield path
        yield from (path for path, there in changed.items() if there)

    def batches(self, since: int = 0) -> Iterator[tuple[int, bytes]]:
        """(last zxid, value) of the log's stored batches that end at `since` or behind it."""
        start = schema.log_key(since)
        for key, value in scan.items(self._txn, schema.LOG, since=start):
            self._count(len(value))
            yield schema.zxid_of(key), value
