"""What the writer keeps in LMDB, in dicts: lends it to apply and prep, and takes in their batches.

Owns:   nodes, data, ACLs, ephemerals, containers and TTL nodes, sessions, as after the last batch.
Not here: a model of ZooKeeper; the values are tree/node.py's own.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import replace
from zlib import crc32

from zkstore.records.txn import Txn
from zkstore.storage import schema
from zkstore.tree import acl as acls
from zkstore.tree import node as nodes
from zkstore.tree import paths
from zkstore.tree.acl import Acl
from zkstore.tree.apply import Batch, Effects, Result, Totals

_DIGESTED = struct.Struct(">qqqqqiiiq")


class DictTree:
    """A tree as storage/writer.py plants it; `commit` is one LMDB transaction."""

    needs_long_name = staticmethod(schema.needs_long_name)

    def __init__(self) -> None:
        self.nodes: dict[bytes, bytes] = {}
        self.apart: dict[int, bytes] = {}
        self.acl_ids: dict[bytes, int] = {acls.OPEN_ENCODED: -1, acls.encode(acls.READ_ALL): 1}
        self.owned: dict[int, dict[bytes, None]] = {}
        self.sweep: set[bytes] = set()
        self.sessions: dict[int, int] = {}
        self.totals = Totals(next_acl_id=2)
        for path, children, acl_id in (
            (paths.ROOT, 1, -1), (paths.ZOOKEEPER, 2, -1), (paths.QUOTA, 0, -1),
            (paths.CONFIG, 0, 1),
        ):  # fmt: skip
            value = nodes.create(path, b"", zxid=0, time_ms=0, owner=0, acl_id=acl_id)
            if path == paths.CONFIG:
                value = nodes.with_acl(value, path, acl_id=acl_id, aversion=-1)
            if children:
                value = nodes.with_children(value, path, cversion=0, children=children, pzxid=0)
            self.nodes[path] = value
        self.totals = replace(self.recount(), next_acl_id=2)

    # What apply and prep ask for

    def node(self, path: bytes) -> bytes | None:
        return self.nodes.get(path or paths.ROOT)

    def session(self, session_id: int) -> int | None:
        return self.sessions.get(session_id)

    def ephemerals(self, session_id: int) -> list[bytes]:
        return list(self.owned.get(session_id, ()))

    def descendants(self, path: bytes) -> Iterator[tuple[bytes, bytes]]:
        below = path.rstrip(b"/") + b"/"
        return ((p, v) for p, v in sorted(self.nodes.items()) if p.startswith(below))

    def find_acl(self, encoded: bytes) -> int | None:
        return self.acl_ids.get(encoded)

    def acl(self, acl_id: int) -> Acl:
        for encoded, known in self.acl_ids.items():
            if known == acl_id:
                return acls.decode(encoded)
        raise AssertionError(f"ACL {acl_id} is not in the table")

    # What the writer does

    def commit(self, txns: Sequence[Txn]) -> list[tuple[Result, Effects]]:
        """Apply them as one batch."""
        batch = Batch(self, replace(self.totals))
        applied = [batch.apply(txn) for txn in txns]
        for path, value in batch.nodes.items():
            if value is not None:
                self.nodes[path] = value
            else:
                self.nodes.pop(path, None)
        self.apart.update(batch.data)
        self.acl_ids.update(batch.acls)
        for session_id, owned in batch.ephemerals.items():
            for path, there in owned.items():
                if there:
                    self.owned.setdefault(session_id, {})[path] = None
                else:
                    self.owned.get(session_id, {}).pop(path, None)
        for path, there in batch.sweep.items():
            (self.sweep.add if there else self.sweep.discard)(path)
        for session_id, timeout_ms in batch.sessions.items():
            if timeout_ms is not None:
                self.sessions[session_id] = timeout_ms
            else:
                self.sessions.pop(session_id, None)
        self.totals = batch.totals
        return applied

    # What the checks need

    def data(self, path: bytes) -> bytes | None:
        value = self.nodes[path]
        data_id = nodes.data_id_of(value)
        return self.apart[data_id] if data_id else nodes.data_of(value)

    def recount(self) -> Totals:
        """The totals from scratch, with a digest of our own; ids as they are."""
        totals = replace(self.totals, nodes=len(self.nodes), ephemerals=0, bytes=0, digest=0)
        for path, value in self.nodes.items():
            data = self.data(path)
            totals.bytes += len(path) + len(data or b"")
            totals.ephemerals += nodes.is_ephemeral(nodes.unpack(value)[nodes.OWNER])
            if not path.startswith(b"/zookeeper/"):
                totals.digest += digest(path, data, value)
        return totals

    def digest(self) -> int:
        """The running tree digest modulo 2**64."""
        return self.totals.digest % (1 << 64)

    def content(self) -> dict[bytes, tuple[bytes, bytes | None, int, int, Acl]]:
        """(Stat, data, stored cversion, owner, ACL) by path: what all replicas must agree on."""
        content = {}
        for path, value in self.nodes.items():
            fields = nodes.unpack(value)
            content[path] = (
                value[nodes.STAT], self.data(path), fields[nodes.CVERSION], fields[nodes.OWNER],
                self.acl(fields[nodes.ACL_ID]),
            )  # fmt: skip
        return content


def digest(path: bytes, data: bytes | None, value: bytes) -> int:
    """One node's part of Apache's tree digest. Source: DigestCalculator, version 2."""
    f = nodes.unpack(value)
    stat = _DIGESTED.pack(f[6], f[7], f[16], f[8], f[9], f[10], f[3], f[12], f[4])
    return crc32((b"" if path == b"/" else path) + (data or b"") + stat)
