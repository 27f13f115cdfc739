"""Who watches what: the two tables of one worker, and who is told of a change.

Owns:   the data and the child watches of this worker's connections. Pure: a connection is any
        object with a set `watched_paths`.
Invariants:
  1. A connection in a table under a path has that path in its `watched_paths`, so that its end can
     clear it.
  2. One trigger tells a connection once, whatever modes it has on matching paths (reference D12).
  3. A one-shot watch is gone once it has fired, even if its connection may not read the node (D13).
Design: modes are bits, as one connection may hold several on one path (D3). Ancestors are walked
        only while somebody holds a recursive watch (D10). Source: WatchManager, WatchMode.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Protocol

from zkstore.proto import opcodes as op
from zkstore.tree.paths import ROOT, split

STANDARD: Final = 1
PERSISTENT: Final = 2
RECURSIVE: Final = 4
ANY: Final = STANDARD | PERSISTENT | RECURSIVE

# addWatch's modes (reference B29).
ADD_MODES: Final = {0: PERSISTENT, 1: RECURSIVE}
# removeWatches' and checkWatches' types → (modes in the data table, modes in the child table)
# (D17).
KINDS: Final = {
    1: (0, STANDARD),
    2: (STANDARD, 0),
    3: (ANY, ANY),
    4: (PERSISTENT, PERSISTENT),
    5: (RECURSIVE, RECURSIVE),
}


class Watcher(Protocol):
    """A connection, as the tables see it."""

    watched_paths: set[bytes]


# A change of one node, as watchers are told of it: event type, path, ACL id to check READ against,
# watchers.
Event = tuple[int, bytes, int, list[Watcher]]
Table = dict[bytes, dict[Watcher, int]]


class Watches:
    """The watches of one worker."""

    def __init__(self) -> None:
        self._data: Table = {}
        self._child: Table = {}
        self._recursive = 0  # how many recursive watches there are

    def __bool__(self) -> bool:
        return bool(self._data) or bool(self._child)

    # ---- registering

    def add_data(self, watcher: Watcher, path: bytes, mode: int = STANDARD) -> None:
        """exists and getData."""
        self._add(self._data, watcher, path, mode)

    def add_child(self, watcher: Watcher, path: bytes) -> None:
        """getChildren and getChildren2."""
        self._add(self._child, watcher, path, STANDARD)

    def add(self, watcher: Watcher, path: bytes, mode: int) -> None:
        """addWatch: PERSISTENT goes to both tables, RECURSIVE to the data table only (D5, D6)."""
        self._add(self._data, watcher, path, mode)
        if mode == PERSISTENT:
            self._add(self._child, watcher, path, mode)

    def _add(self, table: Table, watcher: Watcher, path: bytes, mode: int) -> None:
        watchers = table.setdefault(path, {})
        before = watchers.get(watcher, 0)
        if mode & RECURSIVE and not before & RECURSIVE:
            self._recursive += 1
        watchers[watcher] = before | mode
        watcher.watched_paths.add(path)

    # ---- removing

    def has(self, watcher: Watcher, path: bytes, kind: int) -> bool:
        """checkWatches: whether the connection holds such a watch."""
        data, child = KINDS[kind]
        return bool(
            self._data.get(path, {}).get(watcher, 0) & data
            or self._child.get(path, {}).get(watcher, 0) & child
        )

    def remove(self, watcher: Watcher, path: bytes, kind: int) -> bool:
        """removeWatches: drop such watches; False if there were none."""
        data, child = KINDS[kind]
        in_data = self._drop(self._data, watcher, path, data)
        in_child = self._drop(self._child, watcher, path, child)
        return in_data or in_child

    def _drop(self, table: Table, watcher: Watcher, path: bytes, modes: int) -> bool:
        watchers = table.get(path)
        before = watchers.get(watcher, 0) if watchers is not None else 0
        if watchers is None or not before & modes:
            return False
        if before & modes & RECURSIVE:
            self._recursive -= 1
        after = before & ~modes
        if after:
            watchers[watcher] = after
            return True
        del watchers[watcher]
        if not watchers:
            del table[path]
        if watcher not in self._data.get(path, ()) and watcher not in self._child.get(path, ()):
            watcher.watched_paths.discard(path)
        return True

    def forget(self, watcher: Watcher) -> None:
        """The connection is gone."""
        for path in list(watcher.watched_paths):
            self.remove(watcher, path, 3)

    # ---- firing

    def created(self, path: bytes, acl_id: int, parent_acl_id: int) -> Iterator[Event]:
        """D7: the node's data watches, then its parent's child watches."""
        told = self._trigger_data(path)
        if told:
            yield op.NODE_CREATED, path, acl_id, told
        yield from self._children_changed(path, parent_acl_id)

    def deleted(self, path: bytes, acl_id: int, parent_acl_id: int) -> Iterator[Event]:
        """D8: data watches, then child watches of those not told yet, then the parent's."""
        told = self._trigger_data(path)
        if told:
            yield op.NODE_DELETED, path, acl_id, told
        known = set(told)
        further = [one for one in self._trigger(self._child, path) if one not in known]
        if further:
            yield op.NODE_DELETED, path, acl_id, further
        yield from self._children_changed(path, parent_acl_id)

    def changed(self, path: bytes, acl_id: int) -> Iterator[Event]:
        """D9: setData."""
        told = self._trigger_data(path)
        if told:
            yield op.NODE_DATA_CHANGED, path, acl_id, told

    def _children_changed(self, path: bytes, parent_acl_id: int) -> Iterator[Event]:
        parent, _ = split(path)
        told = self._trigger(self._child, parent)
        if told:
            yield op.NODE_CHILDREN_CHANGED, parent, parent_acl_id, told

    def _trigger_data(self, path: bytes) -> list[Watcher]:
        told = self._trigger(self._data, path)
        if not self._recursive:
            return told
        ancestors = dict.fromkeys(told)
        while path != ROOT:
            path, _ = split(path)
            for watcher, modes in self._data.get(path, {}).items():
                if modes & RECURSIVE:
                    ancestors[watcher] = None
        return list(ancestors)

    def _trigger(self, table: Table, path: bytes) -> list[Watcher]:
        """Who watches this very path in the table; takes the one-shot watches away."""
        watchers = table.get(path)
        if watchers is None:
            return []
        told = list(watchers)
        for watcher in told:
            if watchers[watcher] & STANDARD:
                self._drop(table, watcher, path, STANDARD)
        return told

    # ---- counting

    def data_watches(self) -> Iterator[tuple[bytes, Watcher]]:
        """All of the data table; wchs and its kin look at no other."""
        for path, watchers in self._data.items():
            for watcher in watchers:
                yield path, watcher

    def counts(self) -> tuple[int, int]:
        """(watches in both tables, paths with a data watch)."""
        total = sum(map(len, self._data.values())) + sum(map(len, self._child.values()))
        return total, len(self._data)
