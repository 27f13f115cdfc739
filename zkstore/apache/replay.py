"""Applying a log over a fuzzy snapshot: one that was written while txns were applied.

Owns:   nothing; pure. What tree/apply.py does, for a tree that may already hold a txn's effect.
Invariants:
  1. After the txns up to the end of the writing the tree is what the server had, whatever part of
     their effects the snapshot held.
Design: a later txn's node may be there already when an earlier one is applied: a create that finds
        its node sees only to the parent and to the ACL (the table was written before the nodes, so
        the snapshot's id may be of no ACL); a delete that finds children takes them along, as a
        node is only deleted when it is empty, so they are of a later life and come again.
        Apache corrects the parent for `create` alone; the server's tree had it for all kinds.
Source: FileTxnSnapLog.processTransaction, DataTree.setCversionPzxid.
"""

from __future__ import annotations

from typing import Final, Protocol

from zkstore.errors import Code
from zkstore.proto import opcodes as op
from zkstore.records.txn import Body
from zkstore.tree import node as nodes
from zkstore.tree import quota
from zkstore.tree.apply import Batch, Result, Source, Totals
from zkstore.tree.paths import split

UNKNOWN_ACL: Final = 0  # stands in a node whose ACL the snapshot does not hold; no id is 0


class ReplaySource(Source, Protocol):
    def children(self, path: bytes) -> list[bytes]: ...


class Replay(Batch):
    """A batch over a tree that may be newer than the txns."""

    def __init__(
        self, source: ReplaySource, totals: Totals, quotas: quota.Prefixes | None = None
    ) -> None:
        super().__init__(source, totals, quotas)
        self._children = source.children

    def _create(self, zxid: int, session_id: int, time_ms: int, kind: int, body: Body) -> Result:
        result = super()._create(zxid, session_id, time_ms, kind, body)
        if result[0] == Code.NODE_EXISTS:
            path, acl = body[0], body[2]
            parent_cversion = body[3] if kind in (op.CREATE_CONTAINER, op.CREATE_TTL) else body[4]
            parent_path, _ = split(path)
            parent = self.node(parent_path)
            assert parent is not None, path
            fields = nodes.unpack(parent)
            if parent_cversion > fields[nodes.CVERSION]:
                pzxid = max(zxid, fields[nodes.PZXID])
                children = fields[nodes.CHILDREN]
                self._set_parent(parent_path, parent, parent_cversion, children, pzxid)
                self.effects += (0, parent_path, 0, 0, parent, None)
            old = self.node(path)
            assert old is not None, path
            if nodes.unpack(old)[nodes.ACL_ID] == UNKNOWN_ACL:
                aversion = nodes.unpack(old)[nodes.AVERSION]
                self.nodes[path] = nodes.with_acl(
                    old, path, acl_id=self.acl_id(acl), aversion=aversion
                )
                self.effects += (0, path, 0, 0, old, None)
        return result

    def _delete(self, zxid: int, path: bytes) -> Result:
        old = self.node(path)
        parent_path, _ = split(path)
        if old is not None:
            if nodes.unpack(old)[nodes.CHILDREN]:
                for name in self._names(path):
                    self._delete(zxid, path + b"/" + name)
            return super()._delete(zxid, path)
        parent = self.node(parent_path)
        if parent is not None:
            fields = nodes.unpack(parent)
            if zxid > fields[nodes.PZXID]:
                cversion, children = fields[nodes.CVERSION], fields[nodes.CHILDREN]
                self._set_parent(parent_path, parent, cversion, children, zxid)
                self.effects += (0, parent_path, 0, 0, parent, None)
        return int(Code.NO_NODE), b""

    def _names(self, path: bytes) -> list[bytes]:
        """The children as this batch sees them."""
        names = set(self._children(path))
        prefix = path + b"/"
        for changed, value in self.nodes.items():
            if changed.startswith(prefix) and b"/" not in changed[len(prefix) :]:
                name = changed[len(prefix) :]
                names.discard(name) if value is None else names.add(name)
        return sorted(names)

    def _multi(
        self, zxid: int, session_id: int, time_ms: int, subs: list[tuple[int, Body]]
    ) -> Result:
        if not any(kind == op.ERROR for kind, _ in subs):
            for kind, body in subs:
                self._apply(zxid, session_id, time_ms, kind, body)
        return int(Code.OK), b""
