"""The tree of a live environment as it stood at one zxid, read in short views while it changes.

Owns:   a nameless LMDB file with what nodes were before they changed, while there is any.
Invariants:
  1. Exact: what is handed out is the tree at `zxid`, node by node, each parent before its children.
  2. Short views: none is held longer than it takes to read a few thousand records, and none while
     whoever takes the nodes does something with them.
  3. Bounded: memory holds a piece, the sessions and the table of ACLs; the rest is in files.
Design: keys are walked in their order, piece by piece, each piece of its own view. The log tells
  for each change what was there before: each view is read only when all changes up to it have been
  entered in a file of their own, where the first one that is entered counts. What that file has
  goes before what the view has. So nobody needs the log in memory, or a copy of the tree.
  Keys of nodes deep down hold hashes; those come when their parent has come.
  Rejected: one long view, which pins every page that is freed (hundreds of MB a second at full
  speed); a copy as storage/hotcopy.py makes it, which writes and reads the whole tree once more.
Order:  whoever opens it keeps the log from being trimmed behind `zxid` until it is closed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import lmdb

from zkstore.errors import CorruptionError, LogTrimmed
from zkstore.storage import scan, schema, txnlog
from zkstore.storage.env import FROZEN_NAME, storage_error
from zkstore.storage.scan import Item
from zkstore.storage.still import drop_pages_of
from zkstore.tree import node as nodes
from zkstore.tree.paths import split

_VIEW_ITEMS: Final = 5000
_VIEW_BYTES: Final = 2 << 20
_DROP_BYTES: Final = 32 << 20
# How a node was before: not there; its whole value; all but its data, which has not changed.
_ABSENT: Final = b"\0"
_WHOLE: Final = b"\1"
_HEAD: Final = b"\2"
_MAP_BYTES: Final = 1 << 40


class Node(NamedTuple):
    path: bytes
    value: bytes
    data: bytes | None  # if it is too large to be in the value


class _Range(NamedTuple):
    """Keys that are still to be read."""

    start: bytes
    end: bytes  # not read
    parent: bytes | None  # of all of them, where keys do not tell it


class Frozen:
    """One tree. A context manager; close it."""

    def __init__(self, env: lmdb.Environment, path: Path) -> None:
        """`path`: of the environment's file. Raises: StorageFailed, StorageFull."""
        self._env = env
        self._path = path
        with env.begin() as view:
            self.zxid = schema.zxid_of(scan.last(view)[0])
            self.sessions = [
                (schema.session_of(key), int.from_bytes(value, "big", signed=True))
                for key, value in scan.items(view, schema.SESSION)
            ]
            self.acls = [
                (int.from_bytes(key[1:], "big"), value)
                for key, value in scan.items(view, schema.ACL)
            ]
        self._seen = self.zxid  # changes up to there are in `_before`
        self._before: lmdb.Environment | None = None
        self._unreturned = 0

    def __enter__(self) -> Frozen:
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            self._before.close()

    def nodes(self) -> Iterator[list[Node]]:
        """All nodes, in pieces.

        Raises: LogTrimmed if changes are not known any more; CorruptionError; StorageFull.
        """
        todo = [_Range(b"n/", b"o", None), _Range(b"n\0", b"n\1", None)]
        while todo:
            one = todo.pop()
            try:
                piece, start = self._piece(one)
            except lmdb.Error as e:
                raise storage_error(e, str(self._path)) from e
            if start:
                todo.append(one._replace(start=start))
            for path, value, _ in piece:
                if schema.hashes_children(path) and nodes.unpack(value)[nodes.CHILDREN]:
                    prefix = schema.children_prefix(path)
                    todo.append(_Range(prefix, prefix[:-1] + b"\1", path))
            yield piece

    def _piece(self, wanted: _Range) -> tuple[list[Node], bytes]:
        """Some nodes, and where to go on (empty: nowhere)."""
        while True:
            with self._env.begin() as view:
                if not self._catch_up(view):
                    continue
                items: list[Item] = []
                size = 0
                upto = b""
                for key, value in scan.items(view, b"", since=wanted.start):
                    if key >= wanted.end:
                        break
                    if len(items) >= _VIEW_ITEMS or size >= _VIEW_BYTES:
                        upto = key
                        break
                    items.append((key, value))
                    size += len(value)
                items = self._as_before(items, wanted.start, upto or wanted.end)
                found = _decoded(view, items, wanted.parent)
            self._unreturned += size
            if self._unreturned > _DROP_BYTES:
                drop_pages_of(self._path)
                self._unreturned = 0
            return found, upto

    # ---- what changes meanwhile

    def _catch_up(self, view: lmdb.Transaction) -> bool:
        """Enter the changes up to this view; False if there were too many for one view."""
        rows: list[Item] = []
        size = 0
        for row in scan.items(view, schema.LOG, since=schema.log_key(self._seen + 1)):
            rows.append(row)
            size += len(row[1])
            if size > _VIEW_BYTES:
                break
        newest = schema.zxid_of(scan.last(view)[0])
        if not rows:
            if newest != self._seen:
                raise _lost(self._seen)
            return True
        with self._changes().begin(write=True) as write_txn:
            for key, value in rows:
                if txnlog.previous_of(value) != self._seen:
                    raise _lost(self._seen)
                self._seen = schema.zxid_of(key)
                for _, effects in txnlog.entries(self._seen, value):
                    for at in range(0, len(effects), 6):
                        _, path, _, _, before, parent_before = effects[at : at + 6]
                        if path:
                            _enter(write_txn, path, before, parent_before)
        return newest == self._seen

    def _changes(self) -> lmdb.Environment:
        if self._before is None:
            name = self._path.with_name(f"{FROZEN_NAME}{os.getpid()}")
            self._before = lmdb.open(
                str(name), subdir=False, max_dbs=0, map_size=_MAP_BYTES, sync=False, lock=False,
                readahead=False, mode=0o600,
            )  # fmt: skip
            name.unlink()
        return self._before

    def _as_before(self, items: list[Item], start: bytes, end: bytes) -> list[Item]:
        """What a view holds from one key to before another, put back to how it was."""
        if self._before is None:
            return items
        with self._before.begin() as changes:
            changed = []
            for change in scan.items(changes, b"", since=start):
                if change[0] >= end:
                    break
                changed.append(change)
        if not changed:
            return items
        found = dict(items)
        for key, was in changed:
            if was == _ABSENT:
                found.pop(key, None)
            elif was[:1] == _WHOLE:
                found[key] = was[1:]
            else:
                found[key] = was[1:] + found[key][nodes.BODY :]
        return sorted(found.items())


def _enter(
    write_txn: lmdb.Transaction, path: bytes, before: bytes | None, parent_before: bytes | None
) -> None:
    """Enter what one effect says was before; what is known of earlier counts."""
    get = scan.getter(write_txn)
    key = schema.node_key(path)
    known = get(key)
    if known is None:
        write_txn.put(key, _ABSENT if before is None else _WHOLE + before)
    elif known[:1] == _HEAD:
        assert before is not None, path
        write_txn.put(key, _WHOLE + known[1:] + before[nodes.BODY :])
    if parent_before is not None:
        parent_key = schema.node_key(split(path)[0])
        if get(parent_key) is None:
            write_txn.put(parent_key, _HEAD + parent_before)


def _decoded(view: lmdb.Transaction, items: list[Item], parent: bytes | None) -> list[Node]:
    """Records as nodes, with their large data."""
    get = scan.getter(view)
    found = []
    for key, value in items:
        data = None
        if value[4] & nodes.APART:
            data = get(schema.data_key(nodes.data_id_of(value)))
            if data is None:
                raise CorruptionError(f"data {nodes.data_id_of(value)} of a node is not there")
        if parent is None and not value[4] & nodes.LONG_NAME:
            found.append(Node(key[1:].replace(b"\0", b"/"), value, data))
        else:
            above, name = schema.parent_and_name(key)
            if parent is not None:
                # The hash may hold the byte that ends it.
                above, name = parent, key[len(schema.children_prefix(parent)) :]
            if value[4] & nodes.LONG_NAME:
                name = nodes.long_name_of(value)
            found.append(Node(above + b"/" + name, value, data))
    return found


def _lost(zxid: int) -> LogTrimmed:
    return LogTrimmed(f"what changed behind {zxid:#x} was trimmed from the log, or taken back")
