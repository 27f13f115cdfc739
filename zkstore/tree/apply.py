"""Applying committed transactions to the tree: the one function that leader, follower and recovery
share.

Owns:   the changes of one batch, in memory, until storage writes them in one LMDB transaction.
Invariants:
  1. Deterministic: the same txns over the same tree give the same values, whoever applies them.
  2. A txn that does not fit the tree changes nothing and gives its error: nothing is half applied.
  3. Each change leaves one effect: what watchers are told, and what was there before.
Shape:  an effect is six values in a row: event type (0: none), path, ACL id of the node, ACL id of
        the parent, the node's value before (None: it was not there), the parent's value before
        (None: unchanged). One with an empty path tells the timeout that the txn's session had
        before, if it was there. A result is (error code, reply body).
Design: values are immutable bytes (tree/node.py), so "before" is free; a node changed often in one
        batch is written once. Source: DataTree.processTxn.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from typing import Final, Protocol

from zkstore.constants import INLINE_DATA_BYTES_MAX
from zkstore.errors import Code
from zkstore.jute.codec import buffer, pack_int
from zkstore.proto import opcodes as op
from zkstore.records.txn import Body, Txn
from zkstore.tree import node as nodes
from zkstore.tree import quota
from zkstore.tree.paths import split, wrap_int

Result = tuple[int, bytes]
Effects = list[int | bytes | None]

_UNSEEN: Final = b""  # no value of a node is empty
_OK: Final = int(Code.OK)
_NO_NODE: Final[Result] = (int(Code.NO_NODE), b"")
_NODE_EXISTS: Final[Result] = (int(Code.NODE_EXISTS), b"")


@dataclass(slots=True)
class Totals:
    """The aggregates of a tree; kept with each batch, never recomputed at start."""

    nodes: int = 0
    ephemerals: int = 0
    bytes: int = 0  # lengths of paths and data. Source: DataTree.approximateDataSize
    digest: int = 0  # sum of the nodes' digests modulo 2**64
    next_acl_id: int = 1
    next_data_id: int = 1


class Source(Protocol):
    """What storage lends to a batch: the tree as it was before it."""

    def node(self, path: bytes) -> bytes | None: ...

    def session(self, session_id: int) -> int | None: ...

    def ephemerals(self, session_id: int) -> list[bytes]: ...

    def find_acl(self, encoded: bytes) -> int | None: ...

    def needs_long_name(self, path: bytes) -> bool: ...

    def descendants(self, path: bytes) -> Iterable[tuple[bytes, bytes]]: ...


class Batch:
    """The changes of some committed txns. Fields are what storage has to write; None deletes."""

    def __init__(
        self, source: Source, totals: Totals, quotas: quota.Prefixes | None = None
    ) -> None:
        """`quotas`: the prefixes that have limits, where the caller knows them."""
        self._source = source
        self._look = source.node
        self.quotas = quota.registered(source) if quotas is None else quotas
        self.totals = totals
        self.nodes: dict[bytes, bytes | None] = {}
        self.data: dict[int, bytes] = {}  # by data id: what lives apart
        self.acls: dict[bytes, int] = {}  # new ACLs: encoded → id
        self.ephemerals: dict[int, dict[bytes, bool]] = {}  # session → path → there or gone
        self.sweep: dict[bytes, bool] = {}  # containers and TTL nodes: there or gone
        self.sessions: dict[int, int | None] = {}  # → timeout_ms
        self.last_uses = 0  # large data that only the effects still refer to
        self.effects: Effects = []  # of the txn at hand

    def node(self, path: bytes) -> bytes | None:
        """The node's value as this batch sees it."""
        value = self.nodes.get(path, _UNSEEN)
        return self._look(path) if value is _UNSEEN else value

    def apply(self, txn: Txn) -> tuple[Result, Effects]:
        """Apply one txn; returns what its client is told and the effects."""
        zxid, session_id, _, time_ms, kind, body = txn
        effects: Effects = []
        self.effects = effects
        if kind == op.SET_DATA:
            return self._set_data(zxid, time_ms, body), effects
        return self._apply(zxid, session_id, time_ms, kind, body), effects

    def _apply(self, zxid: int, session_id: int, time_ms: int, kind: int, body: Body) -> Result:
        if kind == op.SET_DATA or kind == op.RECONFIG:
            return self._set_data(zxid, time_ms, body)
        if kind in op.CREATES:
            return self._create(zxid, session_id, time_ms, kind, body)
        if kind == op.DELETE or kind == op.DELETE_CONTAINER:
            return self._delete(zxid, body[0])
        if kind == op.SET_ACL:
            return self._set_acl(body)
        if kind == op.MULTI:
            return self._multi(zxid, session_id, time_ms, body[0])
        if kind == op.CREATE_SESSION:
            self._set_session(session_id, body[0])
            return _OK, b""
        if kind == op.CLOSE_SESSION:
            return self._close_session(zxid, session_id, body[0])
        if kind == op.ERROR:
            return body[0], b""
        assert kind == op.CHECK, kind
        return _OK, b""

    def _set_data(self, zxid: int, time_ms: int, body: Body) -> Result:
        path, data, version = body
        old = self.nodes.get(path, _UNSEEN)
        if old is _UNSEEN:
            old = self._look(path)
        if old is None:
            return _NO_NODE
        fields = nodes.unpack(old)
        data_id = length = 0
        if data is not None:
            length = len(data)
            if length > INLINE_DATA_BYTES_MAX:
                data_id = self._apart(data)
        new, digest = nodes.with_data(
            old, fields, path, data, zxid, time_ms, version, data_id
        )
        totals = self.totals
        totals.bytes += length - fields[nodes.DATA_LENGTH]
        totals.digest += digest - fields[0]
        self.nodes[path] = new
        if fields[nodes.FLAGS] & nodes.APART:
            self.last_uses += 1
        self.effects += (op.NODE_DATA_CHANGED, path, fields[nodes.ACL_ID], 0, old, None)
        if self.quotas:
            self._use(path, 0, length - fields[nodes.DATA_LENGTH])
        return _OK, new[nodes.STAT]

    def _apart(self, data: bytes | None) -> int:
        """A new id if the data is too large to live in its node, else 0."""
        if data is None or len(data) <= INLINE_DATA_BYTES_MAX:
            return 0
        data_id = self.totals.next_data_id
        self.totals.next_data_id = data_id + 1
        self.data[data_id] = data
        return data_id

    def _create(self, zxid: int, session_id: int, time_ms: int, kind: int, body: Body) -> Result:
        path, data, acl = body[:3]
        if kind == op.CREATE_CONTAINER:
            parent_cversion, owner = body[3], nodes.CONTAINER_OWNER
        elif kind == op.CREATE_TTL:
            parent_cversion, owner = body[3], nodes.ttl_owner(body[4])
        else:
            parent_cversion, owner = body[4], session_id if body[3] else 0
        parent_path, name = split(path)
        parent = self.node(parent_path)
        if parent is None:
            return _NO_NODE
        if self.node(path) is not None:
            return _NODE_EXISTS
        acl_id = self.acl_id(acl)
        new = nodes.create(
            path, data, zxid=zxid, time_ms=time_ms, owner=owner, acl_id=acl_id,
            data_id=self._apart(data),
            long_name=name if self._source.needs_long_name(path) else None,
        )  # fmt: skip
        self.nodes[path] = new
        fields = nodes.unpack(parent)
        cversion, pzxid = fields[nodes.CVERSION], fields[nodes.PZXID]
        if parent_cversion == -1:
            parent_cversion = wrap_int(cversion + 1)
        if parent_cversion > cversion:  # false after a replay, and past 2147483647, as in Apache
            cversion, pzxid = parent_cversion, zxid
        self._set_parent(parent_path, parent, cversion, fields[nodes.CHILDREN] + 1, pzxid)
        self._count(path, new, owner, session_id)
        self.effects += (
            op.NODE_CREATED, path, acl_id, fields[nodes.ACL_ID], None, parent[: nodes.BODY],
        )  # fmt: skip
        if path.startswith(quota.BELOW):
            self._quota_came(path)
        if self.quotas:
            self._use(path, 1, 0 if data is None else len(data))
        if kind == op.CREATE:
            return _OK, buffer(path)
        return _OK, buffer(path) + new[nodes.STAT]

    def _count(self, path: bytes, new: bytes, owner: int, session_id: int) -> None:
        """Enter a new node in the aggregates."""
        totals = self.totals
        totals.nodes += 1
        totals.bytes += len(path) + nodes.unpack(new)[nodes.DATA_LENGTH]
        totals.digest += nodes.digest_of(new)
        if owner:
            if nodes.is_ephemeral(owner):
                totals.ephemerals += 1
                self.ephemerals.setdefault(session_id, {})[path] = True
            else:
                self.sweep[path] = True

    def _set_parent(
        self, path: bytes, parent: bytes, cversion: int, children: int, pzxid: int
    ) -> None:
        new = nodes.with_children(parent, path, cversion=cversion, children=children, pzxid=pzxid)
        self.totals.digest += nodes.digest_of(new) - nodes.digest_of(parent)
        self.nodes[path] = new

    def _delete(self, zxid: int, path: bytes) -> Result:
        old = self.node(path)
        if old is None:
            return _NO_NODE
        parent_path, _ = split(path)
        parent = self.node(parent_path)
        assert parent is not None, path
        fields = nodes.unpack(parent)
        self._set_parent(
            parent_path, parent, fields[nodes.CVERSION], fields[nodes.CHILDREN] - 1,
            max(fields[nodes.PZXID], zxid),
        )  # fmt: skip
        mine = nodes.unpack(old)
        self.nodes[path] = None
        totals = self.totals
        totals.nodes -= 1
        totals.bytes -= len(path) + mine[nodes.DATA_LENGTH]
        totals.digest -= mine[0]
        if mine[nodes.FLAGS] & nodes.APART:
            self.last_uses += 1
        owner = mine[nodes.OWNER]
        if owner:
            if nodes.is_ephemeral(owner):
                totals.ephemerals -= 1
                self.ephemerals.setdefault(owner, {})[path] = False
            else:
                self.sweep[path] = False
        self.effects += (
            op.NODE_DELETED, path, mine[nodes.ACL_ID], fields[nodes.ACL_ID],
            old, parent[: nodes.BODY],
        )  # fmt: skip
        if self.quotas:
            if path.startswith(quota.BELOW):
                self.quotas -= {quota.limited_by(path)}
            self._use(path, -1, -mine[nodes.DATA_LENGTH])
        return _OK, b""

    # ---- quotas (tree/quota.py)

    def _use(self, path: bytes, count: int, size: int) -> None:
        """Enter a change in the usage of the quota that the path counts for."""
        prefix = quota.covering(self.quotas, path)
        stats_path = quota.stats_path(prefix)
        old = self.node(stats_path) if prefix else None
        new = quota.used(old, stats_path, count, size) if old is not None else None
        if old is not None and new is not None:
            self._set_usage(stats_path, old, new)

    def _set_usage(self, path: bytes, old: bytes, new: bytes) -> None:
        """An effect that no watch sees, so that copies and histories have the usage, too."""
        self.totals.bytes += nodes.unpack(new)[nodes.DATA_LENGTH]
        self.totals.bytes -= nodes.unpack(old)[nodes.DATA_LENGTH]
        self.nodes[path] = new
        self.effects += (0, path, 0, 0, old, None)

    def _quota_came(self, path: bytes) -> None:
        """K3: limits register their prefix; a new usage node is filled in."""
        limited, counted = quota.limited_by(path), quota.counted_by(path)
        if limited:
            self.quotas |= {limited}
        if counted:
            self._recount(counted)

    def recount_quotas(self) -> None:
        """Fill in every usage node anew."""
        for prefix in self.quotas:
            self._recount(prefix)

    def _recount(self, prefix: bytes) -> None:
        path = quota.stats_path(prefix)
        old = self.node(path)
        if old is not None and not nodes.data_id_of(old):
            count, size = self._usage(prefix)
            text = quota.encode({b"count": count, b"bytes": size})
            self._set_usage(path, old, quota.with_text(old, path, text))

    def _usage(self, top: bytes) -> tuple[int, int]:
        """(nodes, bytes of data) of a subtree as this batch sees it."""
        below = top + b"/"
        own = {p: v for p, v in self.nodes.items() if p == top or p.startswith(below)}
        if top not in own:
            own[top] = self.node(top)
        stored = (v for p, v in self._source.descendants(top) if p not in own)
        count = size = 0
        for value in chain(own.values(), stored):
            if value:
                count += 1
                size += nodes.unpack(value)[nodes.DATA_LENGTH]
        return count, size

    def _set_acl(self, body: Body) -> Result:
        path, acl, aversion = body
        old = self.node(path)
        if old is None:
            return _NO_NODE
        new = nodes.with_acl(old, path, acl_id=self.acl_id(acl), aversion=aversion)
        self.nodes[path] = new
        self.totals.digest += nodes.digest_of(new) - nodes.digest_of(old)
        self.effects += (0, path, 0, 0, old, None)
        return _OK, new[nodes.STAT]

    def acl_id(self, encoded: bytes) -> int:
        """The id of an ACL; a new one gets a new id, and no id is ever used again."""
        known = self.acls.get(encoded)
        if known is None:
            known = self._source.find_acl(encoded)
        if known is None:
            known = self.totals.next_acl_id
            self.totals.next_acl_id = known + 1
            self.acls[encoded] = known
        return known

    def _multi(
        self, zxid: int, session_id: int, time_ms: int, subs: list[tuple[int, Body]]
    ) -> Result:
        """All or nothing: with an error among the sub-txns (prep found one) none is applied."""
        if any(kind == op.ERROR for kind, _ in subs):
            return _OK, _failed_multi(subs)
        parts = []
        for kind, body in subs:
            error, reply = self._apply(zxid, session_id, time_ms, kind, body)
            # A sub-txn fails here only if prep and apply disagree about the tree.
            assert error == _OK, (zxid, kind, error)
            # All creates but the first kind come back as create2. Source: MultiResponse.
            shown = op.CREATE2 if kind in op.CREATES and kind != op.CREATE else kind
            parts.append(pack_int(shown) + b"\0" + pack_int(0) + reply)
        return _OK, b"".join(parts) + MULTI_END

    def _close_session(self, zxid: int, session_id: int, paths: list[bytes]) -> Result:
        """Delete what the session owns: the paths that prep listed, and any that it did not."""
        there = dict.fromkeys(self._source.ephemerals(session_id), True)
        there.update(self.ephemerals.get(session_id, {}))
        for path in dict.fromkeys((*paths, *(path for path in there if there[path]))):
            self._delete(zxid, path)
        self._set_session(session_id, None)
        return _OK, b""

    def _set_session(self, session_id: int, timeout_ms: int | None) -> None:
        known = session_id in self.sessions
        old = self.sessions[session_id] if known else self._source.session(session_id)
        if old is not None:
            self.effects += (0, b"", 0, 0, pack_int(old), None)
        self.sessions[session_id] = timeout_ms


MULTI_END: Final = pack_int(-1) + b"\1" + pack_int(-1)


def _failed_multi(subs: list[tuple[int, Body]]) -> bytes:
    """Before the failing sub-txn 0, then its code, then runtime inconsistency (prep wrote both)."""
    parts = []
    for kind, body in subs:
        code = body[0] if kind == op.ERROR else 0
        parts.append(pack_int(op.ERROR) + b"\0" + pack_int(code) + pack_int(code))
    return b"".join(parts) + MULTI_END
