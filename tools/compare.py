"""Comparing two trees: which nodes, data, Stats and ACLs differ.

Invariants:
  1. One pass over both trees, side by side in the order of their keys; memory holds the levels
     between the root and the node at hand.
Not here: where the trees come from (snapshots.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from zkstore.storage import schema
from zkstore.storage.offline import Item, Offline
from zkstore.tree import acl as acls
from zkstore.tree import node as nodes
from zkstore.tree.paths import ROOT

_STAT: Final = (
    "czxid", "mzxid", "ctime", "mtime", "version", "cversion", "aversion", "owner", "pzxid",
)  # fmt: skip


@dataclass(slots=True)
class Difference:
    """One node that is not the same on both sides."""

    path: bytes
    kind: str  # "left": only there; "right"; "changed"
    fields: tuple[str, ...] = ()  # of "changed": data, acl, children, and the Stat's


@dataclass(slots=True)
class Level:
    """A node on the way down, and what its part of the tree weighs: right minus left."""

    path: bytes
    pairs: Iterator[tuple[Item | None, Item | None]]
    nodes: int = 0
    size: int = 0


@dataclass(slots=True)
class Delta:
    """A part of the tree that grew or shrank."""

    path: bytes
    nodes: int
    size: int


class Comparison:
    """Two trees, side by side. Iterate `differences`; `deltas` are there afterwards."""

    def __init__(self, left: Offline, right: Offline, nodes_over: int, bytes_over: int) -> None:
        self._left, self._right = left, right
        self._acls = (_table(left), _table(right))
        self._limits = (nodes_over, bytes_over)
        self.deltas: list[Delta] = []
        self.compared = 0

    def differences(self) -> Iterator[Difference]:
        """Every node that differs, parents first."""
        left, right = self._left.node(ROOT), self._right.node(ROOT)
        pair = (
            None if left is None else (ROOT, left),
            None if right is None else (ROOT, right),
        )
        levels = [Level(b"", iter([pair]))]
        while levels:
            found = next(levels[-1].pairs, None)
            if found is None:
                self._leave(levels)
                continue
            path = (found[0] or found[1] or (b"", b""))[0]
            self.compared += 1
            level = Level(path, self._children(found))
            self._weigh(level, found)
            difference = self._differ(path, found)
            if difference is not None:
                yield difference
            levels.append(level)

    def _children(
        self, found: tuple[Item | None, Item | None]
    ) -> Iterator[tuple[Item | None, Item | None]]:
        left, right = found
        return _joined(_children(self._left, left), _children(self._right, right))

    @staticmethod
    def _weigh(level: Level, found: tuple[Item | None, Item | None]) -> None:
        for sign, item in zip((-1, 1), found, strict=True):
            if item is not None:
                level.nodes += sign
                level.size += sign * nodes.unpack(item[1])[nodes.DATA_LENGTH]

    def _leave(self, levels: list[Level]) -> None:
        level = levels.pop()
        if levels:
            levels[-1].nodes += level.nodes
            levels[-1].size += level.size
            if abs(level.nodes) > self._limits[0] or abs(level.size) > self._limits[1]:
                self.deltas.append(Delta(level.path, level.nodes, level.size))

    def _differ(self, path: bytes, found: tuple[Item | None, Item | None]) -> Difference | None:
        left, right = found
        if left is None:
            return Difference(path, "right")
        if right is None:
            return Difference(path, "left")
        mine, other = nodes.unpack(left[1]), nodes.unpack(right[1])
        fields = []
        # The crc is of path and data; large data is not read where it is the same.
        null = (mine[nodes.FLAGS] ^ other[nodes.FLAGS]) & nodes.NULL_DATA
        if null or mine[2] != other[2] or mine[nodes.DATA_LENGTH] != other[nodes.DATA_LENGTH]:
            fields.append("data")
        if self._acls[0].get(mine[nodes.ACL_ID]) != self._acls[1].get(other[nodes.ACL_ID]):
            fields.append("acl")
        if mine[nodes.CHILDREN] != other[nodes.CHILDREN]:
            fields.append("children")
        stats = zip(
            _STAT, nodes.persisted_of(left[1])[1:], nodes.persisted_of(right[1])[1:], strict=True
        )
        fields += [name for name, one, two in stats if one != two]
        return Difference(path, "changed", tuple(fields)) if fields else None


def _children(tree: Offline, item: Item | None) -> Iterator[Item]:
    if item is None or not nodes.unpack(item[1])[nodes.CHILDREN]:
        return iter(())
    return tree.children(item[0])


def _joined(
    left: Iterator[Item], right: Iterator[Item]
) -> Iterator[tuple[Item | None, Item | None]]:
    """Children of one parent on both sides, in the order of their keys."""
    mine, other = next(left, None), next(right, None)
    while mine is not None or other is not None:
        if mine is None:
            yield None, other
            other = next(right, None)
        elif other is None:
            yield mine, None
            mine = next(left, None)
        elif mine[0] == other[0]:
            yield mine, other
            mine, other = next(left, None), next(right, None)
        elif schema.node_key(mine[0]) < schema.node_key(other[0]):
            yield mine, None
            mine = next(left, None)
        else:
            yield None, other
            other = next(right, None)


def _table(tree: Offline) -> dict[int, Any]:
    table: dict[int, Any] = {acl_id: acls.decode(encoded) for acl_id, encoded in tree.acls()}
    table[-1] = acls.OPEN
    return table
