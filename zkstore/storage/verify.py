"""Everything that can be wrong with a stored tree: each record, and each record against the others.

Owns:   nothing; reads one tree that stands still.
Invariants:
  1. Damage is named: the path, the table, the batch.
  2. Memory: one path of the tree, and the owners of ephemerals.
Not here: the quick check of a suspect replica before it serves (storage/scrub.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from zkstore.errors import CorruptionError
from zkstore.storage import txnlog
from zkstore.storage.offline import Offline
from zkstore.tree import node as nodes
from zkstore.tree.paths import ROOT

_U64: Final = 0xFFFFFFFFFFFFFFFF
_PROGRESS_NODES: Final = 10_000


class _Level:
    """A node on the way down, and what its children have shown so far."""

    __slots__ = ("children", "czxid_max", "path", "value")

    def __init__(self, path: bytes, value: bytes) -> None:
        self.path = path
        self.value = value
        self.children = 0
        self.czxid_max = 0


class Verification:
    """One pass over a tree. Iterate `run`."""

    def __init__(self, tree: Offline, progress: Callable[[str, int], None]) -> None:
        self._tree = tree
        self._progress = progress
        self._acls = {-1, *(acl_id for acl_id, _ in tree.acls())}
        self._sessions = tree.sessions()
        self.nodes = 0
        self._ephemerals = 0
        self._sweep = 0
        self._bytes = 0
        self._digest = 0

    def run(self) -> Iterator[str]:
        """Every damage there is, a line each."""
        if self._tree.journal_damage:
            yield f"journal: {self._tree.journal_damage}"
        yield from self._nodes()
        yield from self._aggregates()
        yield from self._tables()
        yield from self._log()

    def _nodes(self) -> Iterator[str]:
        levels: list[_Level] = []
        for path, value in self._tree.walk():
            parent = path[: path.rfind(b"/")] or ROOT
            while levels and (levels[-1].path != parent or path == ROOT):
                yield from _left(levels.pop())
            fields = nodes.unpack(value)
            if levels:
                levels[-1].children += 1
                levels[-1].czxid_max = max(levels[-1].czxid_max, fields[nodes.CZXID])
            levels.append(_Level(path, value))
            for what in self._node(path, value, fields):
                yield f"node {_text(path)}: {what}"
            self.nodes += 1
            if self.nodes % _PROGRESS_NODES == 0:
                self._progress("znodes checked", self.nodes)
        while levels:
            yield from _left(levels.pop())

    def _node(self, path: bytes, value: bytes, fields: tuple[int, ...]) -> Iterator[str]:
        """What is wrong with one node by itself, and with what it refers to."""
        self._digest += fields[0]
        self._bytes += len(path) + fields[nodes.DATA_LENGTH]
        try:
            data = self._tree.data(value)
        except CorruptionError as e:
            yield str(e)
            return
        if not nodes.intact(value, path, data):
            yield "wrong crc32"
        if (len(data) if data else 0) != fields[nodes.DATA_LENGTH]:
            said = fields[nodes.DATA_LENGTH]
            yield f"its Stat says {said} bytes of data, it has {len(data or b'')}"
        if fields[nodes.ACL_ID] not in self._acls:
            yield f"its ACL {fields[nodes.ACL_ID]} is not in the table"
        newest = max(fields[nodes.CZXID], fields[nodes.MZXID], fields[nodes.PZXID])
        if newest > self._tree.applied:
            yield f"it is of zxid {newest:#x}, the tree of {self._tree.applied:#x}"
        if fields[nodes.MZXID] < fields[nodes.CZXID]:
            yield "modified before it was created"
        owner = fields[nodes.OWNER]
        if not owner:
            return
        if not nodes.is_ephemeral(owner):
            self._sweep += 1
            return
        self._ephemerals += 1
        if owner not in self._sessions:
            yield f"its session {owner & _U64:#x} is not among the sessions"
        if fields[nodes.CHILDREN]:
            yield "an ephemeral with children"

    def _aggregates(self) -> Iterator[str]:
        totals = self._tree.totals
        for what, found, said in (
            ("nodes", self.nodes, totals.nodes),
            ("ephemerals", self._ephemerals, totals.ephemerals),
            ("bytes", self._bytes, totals.bytes),
            ("digest", self._digest & _U64, totals.digest & _U64),
        ):
            if found != said:
                yield f"aggregates: {what}: {found} in the tree, the log says {said}"

    def _tables(self) -> Iterator[str]:
        count = 0
        for session_id, path in self._tree.ephemerals():
            count += 1
            value = self._tree.node(path)
            if value is None or nodes.unpack(value)[nodes.OWNER] != session_id:
                yield f"table of ephemerals: {_text(path)} is not of session {session_id & _U64:#x}"
        if count != self._ephemerals:
            yield f"table of ephemerals: {count} entries for {self._ephemerals} nodes"
        count = 0
        for path in self._tree.sweep():
            count += 1
            value = self._tree.node(path)
            owner = 0 if value is None else nodes.unpack(value)[nodes.OWNER]
            if not owner or nodes.is_ephemeral(owner):
                yield f"table of containers and TTL nodes: {_text(path)} is none"
        if count != self._sweep:
            yield f"table of containers and TTL nodes: {count} entries for {self._sweep} nodes"

    def _log(self) -> Iterator[str]:
        previous = -1
        for zxid, value in self._tree.batches():
            try:
                txnlog.check(zxid, value)
                before = txnlog.previous_of(value)
            except CorruptionError as e:
                yield str(e)
                continue
            if before != previous >= 0:
                yield f"log: the batch behind zxid {before:#x} comes behind {previous:#x}"
            previous = zxid


def _left(level: _Level) -> Iterator[str]:
    """What is wrong with a node, now that all its children are known."""
    fields = nodes.unpack(level.value)
    if level.children != fields[nodes.CHILDREN]:
        yield (
            f"node {_text(level.path)}: its Stat says {fields[nodes.CHILDREN]} children, it has"
            f" {level.children}"
        )
    if level.czxid_max > fields[nodes.PZXID] and fields[nodes.CVERSION] >= 0:
        yield (
            f"node {_text(level.path)}: pzxid {fields[nodes.PZXID]:#x}, a child is of"
            f" {level.czxid_max:#x}"
        )


def _text(path: bytes) -> str:
    return path.decode("utf-8", "backslashreplace")
