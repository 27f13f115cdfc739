"""A view: the tree and the log as they stand at one zxid, read from the memory map.

Owns:   one LMDB read transaction, for the length of one turn; the process's cache of decoded ACLs.
Invariants:
  1. A view ends in the turn that began it: one that is kept pins every page that is freed
     meanwhile.
  2. Tree and log are of the same zxid, `applied`.
Design: methods hand out the stored bytes; decoding is tree/node.py's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, Final

import lmdb

from zkstore.constants import LOOKED_NODES_MAX
from zkstore.errors import CorruptionError
from zkstore.storage import scan, schema, txnlog
from zkstore.tree import acl as acls
from zkstore.tree import node as nodes
from zkstore.tree.acl import Acl

_ACL_CACHE_MAX: Final = 10_000
_OPEN_ID: Final = -1
_UNSEEN: Final = b""  # no value of a node is empty


class Looked:
    """Nodes as they were looked up at one of LMDB's states.

    What prep has looked up a moment ago is what applying its txn asks for next: the keys need not
    be made again, nor LMDB be searched. Nothing is remembered from one state to the next.
    """

    __slots__ = ("_get", "_state", "keys", "values")

    def __init__(self) -> None:
        self._state = -1
        self._get: Callable[[bytes], bytes | None] = lambda _: None
        self.keys: dict[bytes, bytes] = {}  # by path
        self.values: dict[bytes, bytes | None] = {}

    def at(self, state: int, get: Callable[[bytes], bytes | None]) -> None:
        """Look up by `get`, which reads the state with this number: LMDB's id of its commit."""
        self._get = get
        if state != self._state:
            self.forget()
            self._state = state

    def forget(self) -> None:
        """Forget all: the numbers of states begin anew."""
        self._state = -1
        self.keys.clear()
        self.values.clear()

    def node(self, path: bytes) -> bytes | None:
        """The node's stored value, None if there is none."""
        value = self.values.get(path, _UNSEEN)
        if value is _UNSEEN:
            key = schema.node_key(path)
            value = self._get(key)
            if len(self.keys) < LOOKED_NODES_MAX:
                self.keys[path] = key
                self.values[path] = value
        return value


class Views:
    """Opens views of one environment, and remembers what does not change between them."""

    def __init__(self, env: lmdb.Environment) -> None:
        self._env = env
        self._acls: dict[int, Acl] = {_OPEN_ID: acls.OPEN}
        self._labelled: tuple[int, int] = (-1, 0)  # LMDB's transaction id and its `applied`
        self.looked = Looked()  # of the commit process: by prep, and by applying what it made

    def reopen(self, env: lmdb.Environment) -> None:
        """From now on views are of another file; no view is open."""
        self._env = env
        self._acls = {_OPEN_ID: acls.OPEN}
        self._labelled = (-1, 0)
        self.looked.forget()

    def open(self) -> View:
        """A view of the newest state. Close it before the turn ends."""
        lmdb_txn = self._env.begin()
        return View(self, lmdb_txn, self._applied_of(lmdb_txn))

    def committed(self, lmdb_id: int, applied: int) -> None:
        """What the writer knows already: the zxid of the commit it has just made."""
        self._labelled = (lmdb_id, applied)

    def _applied_of(self, lmdb_txn: lmdb.Transaction) -> int:
        """The zxid a read transaction stands at; looked up once for each LMDB commit."""
        lmdb_id = lmdb_txn.id()
        known, applied = self._labelled
        if known != lmdb_id:
            applied = schema.zxid_of(scan.last(lmdb_txn)[0])
            self._labelled = (lmdb_id, applied)
        return applied

    def acl(self, lmdb_txn: lmdb.Transaction, acl_id: int) -> Acl:
        """The ACL of this id; ids are never reused, so what was read once stays true."""
        acl = self._acls.get(acl_id)
        if acl is None:
            encoded = scan.getter(lmdb_txn)(schema.acl_key(acl_id))
            if encoded is None:
                raise CorruptionError(f"ACL {acl_id} is not in the table")
            acl = acls.decode(encoded)
            if len(self._acls) >= _ACL_CACHE_MAX:
                self._acls = {_OPEN_ID: acls.OPEN}
            self._acls[acl_id] = acl
        return acl


class View:
    """One state of tree and log. Use as a context manager, or close it."""

    __slots__ = ("_get", "_txn", "_views", "applied")

    def __init__(self, views: Views, lmdb_txn: lmdb.Transaction, applied: int) -> None:
        self._views = views
        self._txn = lmdb_txn
        self.applied = applied  # the zxid that this view stands at
        self._get = scan.getter(lmdb_txn)

    def __enter__(self) -> View:
        return self

    def __exit__(self, *_: object) -> None:
        self._txn.abort()

    def close(self) -> None:
        self._txn.abort()

    def lend(self) -> None:
        """Have nodes looked up in this view, as long as it is open."""
        self._views.looked.at(self._txn.id(), self._get)

    def node(self, path: bytes) -> bytes | None:
        """The node's stored value (tree/node.py), None if there is none."""
        return self._get(schema.node_key(path))

    def data(self, value: bytes) -> bytes | None:
        """The data of a node's value, wherever it lives."""
        data_id = nodes.data_id_of(value)
        if not data_id:
            return nodes.data_of(value)
        data = self._get(schema.data_key(data_id))
        if data is None:
            raise CorruptionError(f"data {data_id} of a node is not in the table")
        return data

    def acl(self, acl_id: int) -> Acl:
        return self._views.acl(self._txn, acl_id)

    def children(self, path: bytes) -> list[bytes]:
        """The names of a node's children, in order; no value is read but that of a very long
        name."""
        prefix = schema.children_prefix(path)
        skip = len(prefix)
        names = []
        hashed = False
        for key in scan.keys(self._txn, prefix):
            name = key[skip:]
            if name.startswith(schema.HASHED):
                hashed = True
                value = self._get(key)
                assert value is not None
                name = nodes.long_name_of(value)
            if name:  # the root's own key is the empty name below itself
                names.append(name)
        if hashed:
            names.sort()
        return names

    def children_after(self, path: bytes, after: bytes, count: int) -> list[bytes]:
        """So many names of a node's children behind a name, which need not be there.

        In the order of their keys: names so long that their keys hold hashes come first.
        """
        prefix = schema.children_prefix(path)
        skip = len(prefix)
        base = b"" if path == b"/" else path
        since = schema.node_key(base + b"/" + after) if after else b""
        names: list[bytes] = []
        for key in scan.keys(self._txn, prefix, since):
            name = key[skip:]
            if key == since or not name:
                continue  # the root's own key is the empty name below itself
            if name.startswith(schema.HASHED):
                value = self._get(key)
                assert value is not None
                name = nodes.long_name_of(value)
            names.append(name)
            if len(names) == count:
                break
        return names

    def descendants(self, path: bytes) -> Iterator[tuple[bytes, bytes]]:
        """All (path, value) below a node, parents first."""
        return descendants(self.children, self.node, path)

    def count_below(self, path: bytes) -> int:
        """How many nodes are below a node. Only keys are read, where they tell the paths."""
        if schema.hashes_children(path):
            return sum(1 for _ in self.descendants(path))
        count = 0 if path != b"/" else -1  # the root's own key is the empty name below itself
        for prefix in (schema.children_prefix(path), schema.deeper_prefix(path)):
            for key in scan.keys(self._txn, prefix):
                count += 1
                if schema.tells_paths(key):
                    continue
                parent, name = schema.parent_and_name(key)
                if name.startswith(schema.HASHED):
                    value = self._get(key)
                    assert value is not None, key
                    name = nodes.long_name_of(value)
                below = parent + b"/" + name
                if schema.hashes_children(below):
                    count += self.count_below(below)
        return count

    def ephemerals(self, session_id: int) -> list[bytes]:
        """The paths that a session owns."""
        return self._values(schema.ephemerals_prefix(session_id))

    def sweep_candidates(self, since: bytes, count: int) -> list[scan.Item]:
        """(key, path) of some containers and TTL nodes, from a key on (empty: the first)."""
        return list(islice(scan.items(self._txn, schema.SWEEP, since=since), count))

    def _values(self, prefix: bytes) -> list[bytes]:
        return [value for _, value in scan.items(self._txn, prefix)]

    def sessions(self) -> list[tuple[int, int]]:
        """All (session id, timeout_ms)."""
        return [
            (schema.session_of(key), int.from_bytes(value, "big", signed=True))
            for key, value in scan.items(self._txn, schema.SESSION)
        ]

    def ephemerals_by_session(self) -> dict[int, list[bytes]]:
        """Every session that owns ephemerals, and their paths."""
        owned: dict[int, list[bytes]] = {}
        for key, path in scan.items(self._txn, schema.EPHEMERAL):
            owned.setdefault(schema.session_of(key), []).append(path)
        return owned

    def label(self) -> txnlog.Label:
        """What the state says of itself: `applied` and the totals."""
        key, value = scan.last(self._txn)
        return txnlog.label_of(schema.zxid_of(key), value)

    def log(self, after: int) -> Iterator[tuple[int, list[Any]]]:
        """(zxid, effects) of every txn behind `after`, in order; see `log_covers`."""
        for key, value in scan.items(self._txn, schema.LOG, since=schema.log_key(after + 1)):
            for encoded, effects in txnlog.entries(schema.zxid_of(key), value):
                zxid = txnlog.txn_zxid(encoded)
                if zxid > after:
                    yield zxid, effects

    def damaged_batches(self) -> Iterator[str]:
        """Every batch of the log whose checksum is wrong, named."""
        for key, value in scan.items(self._txn, schema.LOG):
            try:
                txnlog.check(schema.zxid_of(key), value)
            except CorruptionError as e:
                yield str(e)

    def log_covers(self, after: int) -> bool:
        """Whether the log still has every txn behind `after`."""
        return txnlog.previous_of(scan.first(self._txn, schema.LOG)[1]) <= after


def descendants(
    children: Callable[[bytes], list[bytes]], node: Callable[[bytes], bytes | None], top: bytes
) -> Iterator[tuple[bytes, bytes]]:
    """All (path, value) below a node, parents first."""
    stack = [top]
    while stack:
        parent = stack.pop()
        base = b"" if parent == b"/" else parent
        for name in children(parent):
            child = base + b"/" + name
            value = node(child)
            assert value is not None, child
            yield child, value
            if nodes.unpack(value)[nodes.CHILDREN]:
                stack.append(child)
