"""A batch's way to and from an LMDB transaction: the tree that it is applied to, and its records.

Owns:   nothing.
Not here: when a batch is written, and by whom (storage/writer.py, storage/generation.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import lmdb

from zkstore.storage import scan, schema
from zkstore.storage.view import descendants
from zkstore.tree import acl as acls
from zkstore.tree import node as nodes
from zkstore.tree.apply import Batch


class StoredTree:
    """LMDB under a transaction, for tree/apply.py and apache/replay.py."""

    needs_long_name = staticmethod(schema.needs_long_name)

    def __init__(self, lmdb_txn: lmdb.Transaction) -> None:
        self._txn = lmdb_txn
        self.get = scan.getter(lmdb_txn)

    def node(self, path: bytes) -> bytes | None:
        return self.get(schema.node_key(path))

    def children(self, path: bytes) -> list[bytes]:
        prefix = schema.children_prefix(path)
        names = []
        for key, value in scan.items(self._txn, prefix):
            name = key[len(prefix) :]
            names.append(nodes.long_name_of(value) if name[:1] == schema.HASHED else name)
        return [name for name in names if name]

    def descendants(self, path: bytes) -> Iterator[tuple[bytes, bytes]]:
        return descendants(self.children, self.node, path)

    def session(self, session_id: int) -> int | None:
        stored = self.get(schema.session_key(session_id))
        return None if stored is None else int.from_bytes(stored, "big", signed=True)

    def ephemerals(self, session_id: int) -> list[bytes]:
        return [path for _, path in scan.items(self._txn, schema.ephemerals_prefix(session_id))]

    def find_acl(self, encoded: bytes) -> int | None:
        if encoded == acls.OPEN_ENCODED:
            return -1
        stored = self.get(schema.acl_hash_key(encoded))
        return None if stored is None else int.from_bytes(stored, "big")


def put_acl(write_txn: lmdb.Transaction, encoded: bytes, acl_id: int) -> None:
    """Enter an ACL under its id, and its id under the ACL."""
    write_txn.put(schema.acl_key(acl_id), encoded)
    write_txn.put(schema.acl_hash_key(encoded), acl_id.to_bytes(8, "big"))


def write_batch(
    write_txn: lmdb.Transaction, batch: Batch, keys: Mapping[bytes, bytes] | None = None
) -> None:
    """Write the batch's changes, each record once; `keys` are those of nodes that are known."""
    known = keys or {}
    put, delete = write_txn.put, write_txn.delete

    def set_or_delete(key: bytes, value: bytes | None) -> None:
        if value is None:
            delete(key)
        else:
            put(key, value)

    kept = []
    for path, value in batch.nodes.items():
        key = known.get(path) or schema.node_key(path)
        if value is None:
            delete(key)
        else:
            kept.append((key, value))
    with write_txn.cursor() as cursor:
        cursor.putmulti(kept)  # one call for all of them
    for data_id, data in batch.data.items():
        put(schema.data_key(data_id), data)
    for encoded, acl_id in batch.acls.items():
        put_acl(write_txn, encoded, acl_id)
    for session_id, paths_there in batch.ephemerals.items():
        for path, there in paths_there.items():
            set_or_delete(schema.ephemeral_key(session_id, path), path if there else None)
    for path, there in batch.sweep.items():
        set_or_delete(schema.sweep_key(path), path if there else None)
    for session_id, timeout_ms in batch.sessions.items():
        stored = None if timeout_ms is None else timeout_ms.to_bytes(4, "big", signed=True)
        set_or_delete(schema.session_key(session_id), stored)
