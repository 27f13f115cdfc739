"""Digests of the tree at some zxids, and whether those that a leader tells are ours.

Owns:   the last DIGESTS_MAX digests, one each DIGEST_INTERVAL zxids; how many did not agree; what
        the digest is to a JVM that knows no character but ASCII's, while that may be why.
Invariants:
  1. A difference is counted and told, and changes nothing here: who does what about it is said in
     commit/member.py.
  2. What a JVM's character set explains is no difference.
Design: an Apache leader tells the digest behind each txn, one of ours that behind some. Java hashes
        paths in the JVM's character set, and there is no telling which that is. Without UTF-8 it
        is ASCII, with '?' for all else. So the first digest that differs has all nodes looked at,
        a piece at a time; what would be counted otherwise is added up and kept up to date with
        each txn. Until that is done nothing is known, and nothing is counted.
Source: DataTree.compareDigest, DigestWatcher, DigestCalculator.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import Final

import lmdb

from zkstore.apache import log as apache_log
from zkstore.constants import DIGESTS_MAX
from zkstore.observability.log import Limited
from zkstore.storage import scan, schema
from zkstore.tree import node as nodes
from zkstore.tree.apply import Effects
from zkstore.tree.paths import split

Look = Callable[[bytes], bytes | None]  # the node at a path

_log = logging.getLogger("zkstore.storage")
_U64: Final = (1 << 64) - 1
# Where a txn may bear the digest of the tree behind it, and how that begins (apache/log.py).
_AT: Final = slice(-12, -8)
_MARK: Final = b"\0\0\0\2"
NODES_LOOKED_AT: Final = 20_000  # in one piece, some 5 ms; a name beyond ASCII counts for several
_FOREIGN: Final = 10
_FOREIGN_BYTES: Final = 1000  # of its data, which count for one more


class Ascii:
    """What the digest of a tree is more to a JVM whose character set is ASCII.

    Names whose key is a hash are left out: one cannot tell which they are.
    """

    def __init__(self) -> None:
        self.more = 0  # of the nodes that were looked at
        self.complete = False
        self._next = schema.NODE  # the key from which on none was

    def look(self, lmdb_txn: lmdb.Transaction) -> None:
        """Look at the next nodes of the tree as it is applied."""
        get = scan.getter(lmdb_txn)
        left = NODES_LOOKED_AT
        for key in scan.keys(lmdb_txn, schema.NODE, self._next):
            if left <= 0:
                self._next = key
                return
            left -= 1
            if not key.isascii() and schema.HASHED not in key:
                parent, name = schema.parent_and_name(key)
                value = get(key)
                assert value is not None, key
                self.more += _more(parent + b"/" + name, value)
                left -= _FOREIGN + nodes.unpack(value)[nodes.DATA_LENGTH] // _FOREIGN_BYTES
        self.complete = True

    def changed(self, effects: Effects, node: Look) -> None:
        """A txn has these effects; `node` gives what is there now."""
        before: dict[bytes, bytes | None] = {}
        for at in range(0, len(effects), 6):
            path, old, old_parent = effects[at + 1], effects[at + 4], effects[at + 5]
            assert isinstance(path, bytes) and not isinstance(old, int)
            if path.isascii():
                continue
            before.setdefault(path, old)
            parent = split(path)[0]
            if isinstance(old_parent, bytes) and not parent.isascii():
                before.setdefault(parent, old_parent)
        for path, old in before.items():
            key = schema.node_key(path)
            if schema.HASHED not in key and (self.complete or key < self._next):
                self.more += _more(path, node(path)) - _more(path, old)


def _more(path: bytes, value: bytes | None) -> int:
    return 0 if value is None else nodes.ascii_digest(value, path) - nodes.digest_of(value)


class Digests:
    """Of one replica's tree."""

    def __init__(self) -> None:
        self.kept: deque[tuple[int, int]] = deque(maxlen=DIGESTS_MAX)  # (zxid, digest)
        self.mismatches = 0
        self.unexplained = False  # an Apache leader's tree is not ours
        self.ascii: Ascii | None = None  # since the first digest that differed
        self._says_ascii = False  # it was told that this is why
        self._compared = 0  # the last zxid at which a zkstore leader told its own
        self._differs = Limited(_log, logging.ERROR)

    def cut(self, upto: int) -> None:
        """The tree goes back to `upto`."""
        self.kept = deque((one for one in self.kept if one[0] <= upto), maxlen=DIGESTS_MAX)
        self.ascii = None

    def replaced(self) -> None:
        """Another tree stands in its place."""
        self.kept.clear()
        self.forget()

    def forget(self) -> None:
        """What was found out about the tree counts no more."""
        self.ascii = None
        self.unexplained = False

    def compare_txn(self, encoded: bytes, digest: int, effects: Effects, node: Look) -> None:
        """A txn that is applied, with the tree's digest behind it: Apache's may bear the
        leader's."""
        if self.ascii is not None:
            self.ascii.changed(effects, node)
        if encoded[_AT] != _MARK:
            return
        _, txn, told = apache_log.split(encoded)
        if told is None or told == digest & _U64:
            return
        if self.ascii is None:
            self.ascii = Ascii()
        elif self.ascii.complete:
            if told != digest + self.ascii.more & _U64:
                self.unexplained = True
                self._count(txn.zxid, told, digest)
            elif not self._says_ascii:
                self._says_ascii = True
                _log.warning("the leader's JVM has no UTF-8: it counts '?' in its tree's digest")

    def compare(self, zxid: int, told: int) -> None:
        """A zkstore leader tells the digest that its tree had behind a txn."""
        if zxid > self._compared:
            self._compared = zxid
            if self.contradicts(zxid, told):
                self._count(zxid, told, self.at(zxid) or 0)

    def contradicts(self, zxid: int, told: int) -> bool:
        """Whether our tree is known to have had another digest."""
        ours = self.at(zxid)
        return ours is not None and ours != told

    def at(self, zxid: int) -> int | None:
        """The digest behind a txn, unsigned, if it was kept."""
        for at, digest in reversed(self.kept):
            if at <= zxid:
                return digest & _U64 if at == zxid else None
        return None

    def last(self) -> tuple[int, int] | None:
        """(zxid, digest) to tell others, the digest unsigned."""
        if not self.kept:
            return None
        zxid, digest = self.kept[-1]
        return zxid, digest & _U64

    def _count(self, zxid: int, told: int, ours: int) -> None:
        self.mismatches += 1
        self._differs(
            "behind txn %#x the leader's tree has digest %#x, ours %#x", zxid, told, ours & _U64
        )
