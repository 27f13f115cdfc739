"""Answering ClickHouse Keeper's reads, and the page of a children list.

Owns:   nothing, as frontend/reads.py.
Invariants:
  1. Hidden: the nodes that tell of the operations (proto/keeper.py) are in no list and have no
     parent; a read of their very path finds them where the tree itself has no such node.
  2. A multiRead takes more than Apache's, and sets watches, only on a connection that has asked for
     the flags; for all others it is Apache's.
Design: in a list that shows more than names, READ on every child is required, or nothing is told.
Source: ClickHouse, KeeperStorage.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from zkstore.constants import CLIENT_WRITE_BUFFER_BYTES_MAX, LIST_RECURSIVE_NODES_MAX
from zkstore.errors import Code, RemoteProtocolError, ZooKeeperError
from zkstore.frontend import reads
from zkstore.jute.codec import buffer, pack_int, texts, vector
from zkstore.proto import keeper
from zkstore.proto import opcodes as op
from zkstore.proto.requests import BODY
from zkstore.storage.view import View
from zkstore.tree import node as nodes
from zkstore.tree import paths
from zkstore.tree.apply import MULTI_END

if TYPE_CHECKING:
    from zkstore.frontend.client import Client


def _child(path: bytes, name: bytes) -> bytes:
    return b"/" + name if path in (b"", paths.ROOT) else path + b"/" + name


class _Shown:
    """Names of children with what is to be shown of each."""

    def __init__(self, view: View, client: Client, *, stats: bool, data: bool) -> None:
        self._view = view
        self._client = client
        self._with_stats = stats
        self._with_data = data
        self.names: list[bytes] = []
        self._stats: list[bytes] = []
        self._data: list[bytes] = []
        self._size = 0

    def add(self, path: bytes, name: bytes, which: int = keeper.ALL) -> None:
        """Raises: NO_AUTH; RemoteProtocolError if it gets more than a client may be sent."""
        value = reads.readable(self._view, self._client, _child(path, name))
        if which != keeper.ALL:
            ephemeral = nodes.is_ephemeral(nodes.unpack(value)[nodes.OWNER])
            if ephemeral != (which == keeper.EPHEMERAL_ONLY):
                return
        self.names.append(name)
        self._size += len(name)
        if self._with_stats:
            self._stats.append(value[nodes.STAT])
            self._size += len(self._stats[-1])
        if self._with_data:
            self._data.append(buffer(self._view.data(value)))
            self._size += len(self._data[-1])
        if self._size > CLIENT_WRITE_BUFFER_BYTES_MAX:
            raise RemoteProtocolError(f"a list of more than {CLIENT_WRITE_BUFFER_BYTES_MAX} bytes")

    def encode(self) -> bytes:
        """vector<Stat>, vector<buffer>."""
        return vector(self._stats) + vector(self._data)


def filtered_list(view: View, client: Client, frame: bytes) -> bytes:
    """500 and 506."""
    kind = int.from_bytes(frame[4:BODY], "big")
    request, _ = keeper.read_list(frame, kind, BODY)
    path, watch, which, stats, data = request
    value = reads.readable(view, client, path)
    names = reads.children(view, path, value)
    shown = _Shown(view, client, stats=stats, data=data)
    if which == keeper.ALL and not stats and not data:
        shown.names = names
    else:
        for name in names:
            shown.add(path, name, which)
    if watch:
        client.worker.watches.add_child(client, path)
    body = texts(shown.names) + value[nodes.STAT]
    return body if kind == op.FILTERED_LIST else body + shown.encode()


def list_page(view: View, client: Client, frame: bytes) -> bytes:
    """1001: the children behind a name, in the order of their keys; whether there are more."""
    path, after, limit, stats, data = keeper.read_page(frame, BODY)
    if limit <= 0 or b"/" in after:
        raise ZooKeeperError(Code.BAD_ARGUMENTS)
    value = reads.readable(view, client, path)
    names = view.children_after(path or paths.ROOT, after, limit + 1)
    shown = _Shown(view, client, stats=stats, data=data)
    if stats or data:
        for name in names[:limit]:
            shown.add(path, name)
    else:
        shown.names = names[:limit]
    more = b"\1" if len(names) > limit else b"\0"
    return texts(shown.names) + value[nodes.STAT] + shown.encode() + more


def list_recursive(view: View, client: Client, frame: bytes) -> bytes:
    """507: what is below a node, level by level; what may not be read is left out, with all below.

    Raises: BAD_ARGUMENTS if that means a look at more than LIST_RECURSIVE_NODES_MAX nodes.
    """
    (path, limit), _ = keeper.read_path_limit(frame, BODY)
    found: list[bytes] = []
    size = looked_at = 0
    waiting = deque([(path, reads.readable(view, client, path))])
    while waiting:
        parent, value = waiting.popleft()
        for name in reads.children(view, parent, value):
            looked_at += 1
            if looked_at > LIST_RECURSIVE_NODES_MAX:
                raise ZooKeeperError(Code.BAD_ARGUMENTS)
            child = _child(parent, name)
            try:
                value = reads.readable(view, client, child)
            except ZooKeeperError as e:
                assert e.code == Code.NO_AUTH, (child, e)
                continue
            if len(found) >= limit:
                return texts(found)
            found.append(child)
            size += len(child)
            if size > CLIENT_WRITE_BUFFER_BYTES_MAX:
                raise RemoteProtocolError("a list with too long paths")
            if nodes.unpack(value)[nodes.CHILDREN]:
                waiting.append((child, value))
    return texts(found)


def multi_read(view: View, client: Client, frame: bytes) -> bytes:
    """22 for those who know what it can do; see invariant 2.

    Shape:  a read that failed keeps its type, and has no body: ClickHouse takes Apache's type -1
            there for another kind of result than the one it asked for, and gives up.
    """
    if not client.knows_keeper:
        return reads.multi_read(view, client, frame)
    parts: list[bytes] = []
    size = 0
    for kind, body in keeper.read_multi_read(frame):
        try:
            result = _IN_MULTI[kind](view, client, body)
        except ZooKeeperError as e:
            parts.append(pack_int(kind) + b"\0" + pack_int(int(e.code)))
            continue
        parts.append(pack_int(kind) + b"\0" + pack_int(0) + result)
        size += len(result)
        if size > CLIENT_WRITE_BUFFER_BYTES_MAX:
            raise RemoteProtocolError(f"a multiRead of more than {CLIENT_WRITE_BUFFER_BYTES_MAX}")
    return b"".join(parts) + MULTI_END


_IN_MULTI: Final[dict[int, reads.Handler]] = {
    op.EXISTS: reads.exists,
    op.GET_DATA: reads.get_data,
    op.GET_CHILDREN: reads.get_children,
    op.GET_CHILDREN2: reads.get_children2,
    op.FILTERED_LIST: filtered_list,
    op.LIST_WITH_STATS_AND_DATA: filtered_list,
}
assert frozenset(_IN_MULTI) == keeper.READ_KINDS

HANDLERS: Final[dict[int, reads.Handler]] = {
    **reads.HANDLERS,
    op.MULTI_READ: multi_read,
    op.FILTERED_LIST: filtered_list,
    op.LIST_WITH_STATS_AND_DATA: filtered_list,
    op.LIST_RECURSIVE: list_recursive,
    op.LIST_PAGE: list_page,
}
