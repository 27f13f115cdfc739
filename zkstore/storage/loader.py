"""A whole tree, node by node, into a new generation: whatever it was read from.

Owns:   the sorter's temporary file.
Invariants:
  1. A node comes behind its parent, in depth-first order; anything else is refused.
  2. Bounded: memory holds the nodes between the root and the one at hand.
Design: a node's record says how many children it has, so it waits on a stack until the next node is
  not below it. Records are sorted by key and then appended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

from zkstore.apache.replay import UNKNOWN_ACL
from zkstore.apache.snapshot import Znode
from zkstore.errors import CorruptionError
from zkstore.storage import schema
from zkstore.storage.generation import Generation, Intake
from zkstore.storage.sorter import Sorter
from zkstore.tree import acl as acls
from zkstore.tree import paths
from zkstore.tree.apply import Totals

_PROGRESS_NODES: Final = 10_000
# Of /zookeeper/config as every server makes it; its ACL's id comes before.
_CONFIG_FIXED: Final = (0, 0, 0, 0, 0, 0, -1, 0, 0)
_OPEN_ID: Final = -1

Damage = Callable[[str], CorruptionError]


class _Waiting:
    """A node whose children are still to come."""

    __slots__ = ("children", "node")

    def __init__(self, node: Znode) -> None:
        self.node = node
        self.children = 0


class Loader:
    """Gathers a tree's records; `store` writes them. Close it."""

    def __init__(self, directory: Path, progress: Callable[[str, int], None]) -> None:
        self._intake = Intake()
        self._sorter = Sorter(directory)
        self._progress = progress
        self._known = {_OPEN_ID}
        self._ids: dict[bytes, int] = {}
        self.unknown_acls: list[bytes] = []  # paths of nodes whose ACL id is of no ACL
        self.foreign_names = False  # there is a path beyond ASCII

    @property
    def totals(self) -> Totals:
        return self._intake.totals

    def session(self, session_id: int, timeout_ms: int) -> None:
        self._sorter.add(*self._intake.session(session_id, timeout_ms))

    def acl(self, acl_id: int, encoded: bytes) -> None:
        """One entry of the ACL table, under the id that nodes have."""
        self._known.add(acl_id)
        items = self._intake.acl(acl_id, encoded)
        if self._ids.setdefault(encoded, acl_id) != acl_id:
            items = (item for item in items if item[0][:1] == schema.ACL)  # the first one is found
        for item in items:
            self._sorter.add(*item)

    def acl_id(self, encoded: bytes) -> int:
        """The id of an ACL, entered in the table if it is new."""
        if encoded == acls.OPEN_ENCODED:
            return _OPEN_ID
        known = self._ids.get(encoded)
        if known is None:
            known = self._intake.totals.next_acl_id
            self.acl(known, encoded)
        return known

    def nodes(self, found: Iterable[Znode], damage: Damage) -> None:
        """All nodes; `damage(what)` makes the error that says where it is.

        Raises: CorruptionError if they are not a tree.
        """
        add, records, known = self._sorter.add, self._intake.node, self._known
        for count, (one, children) in enumerate(self._counted(found, damage)):
            persisted = one[2:]
            if one.acl_id not in known:
                self.unknown_acls.append(one.path)
                persisted = (UNKNOWN_ACL, *one[3:])
            for key, value in records(one.path, one.data, persisted, children):
                add(key, value)
            if not one.path.isascii():
                self.foreign_names = True
            if count % _PROGRESS_NODES == 0:
                self._progress("znodes read", count)

    def _counted(self, found: Iterable[Znode], damage: Damage) -> Iterator[tuple[Znode, int]]:
        """Every node with the number of its children, parents behind them."""
        stack: list[_Waiting] = []
        has_config = False
        for one in found:
            path = one.path
            if path != paths.ROOT:
                parent, _, name = path.rpartition(b"/")
                parent = parent or paths.ROOT
                while stack and stack[-1].node.path != parent:
                    yield self._popped(stack, has_config)
                if not stack or not name or path[:1] != b"/":
                    raise damage(f"node {path.decode(errors='replace')} without its parent before")
                stack[-1].children += 1
                has_config = has_config or path == paths.CONFIG
            elif stack:
                raise damage("a second root")
            stack.append(_Waiting(one))
        if not stack:
            raise damage("a tree without nodes")
        while stack:
            yield self._popped(stack, has_config)

    def _popped(self, stack: list[_Waiting], has_config: bool) -> tuple[Znode, int]:
        waiting = stack.pop()
        if waiting.node.path == paths.ZOOKEEPER and not has_config:
            # Of a server before 3.5, which has no such node; a newer one makes it when it starts.
            acl_id = self.acl_id(acls.encode(acls.READ_ALL))
            for item in self._intake.node(paths.CONFIG, b"", (acl_id, *_CONFIG_FIXED), 0):
                self._sorter.add(*item)
            waiting.children += 1
        return waiting.node, waiting.children

    def store(self, generation: Generation, zxid: int) -> None:
        """Write everything; the tree stands at `zxid`."""
        self._sorter.add(*self._intake.label(zxid))
        generation.append(self._sorter.items())

    def close(self) -> None:
        self._sorter.close()


def planted(acl_id: Callable[[bytes], int]) -> list[Znode]:
    """The nodes that every tree begins with. Their times and zxids are zero."""
    zero = (0,) * 9
    config = acl_id(acls.encode(acls.READ_ALL))
    return [
        Znode(paths.ROOT, b"", _OPEN_ID, *zero),
        Znode(paths.ZOOKEEPER, b"", _OPEN_ID, *zero),
        Znode(paths.QUOTA, b"", _OPEN_ID, *zero),
        Znode(paths.CONFIG, b"", config, *_CONFIG_FIXED),
    ]
