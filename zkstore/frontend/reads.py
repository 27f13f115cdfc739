"""Answering reads: one function for each operation, over one view.

Owns:   nothing; each function takes the view, the client and the frame, and returns the reply's
        body.
Invariants:
  1. Nothing here waits or leaves the worker.
  2. A watch is registered at the very view that the reply is made from.
Errors: ZooKeeperError becomes the reply's code; RemoteProtocolError (the body does not parse)
        becomes MarshallingError. Either way the connection stays (reference C-rule 1).
Source: FinalRequestProcessor.processRequest.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

from zkstore.constants import CLIENT_WRITE_BUFFER_BYTES_MAX
from zkstore.errors import Code, RemoteProtocolError, ZooKeeperError
from zkstore.jute.codec import buffer, pack_int, read_buffer, texts, unpack_int, utf8
from zkstore.proto import keeper, replies, requests
from zkstore.proto import opcodes as op
from zkstore.storage.view import View
from zkstore.tree import acl as acls
from zkstore.tree import node as nodes
from zkstore.tree import paths, watches
from zkstore.tree.apply import MULTI_END

if TYPE_CHECKING:
    from zkstore.frontend.client import Client

Handler = Callable[[View, "Client", bytes], bytes]

_PATH: Final = requests.BODY + 4  # where a path begins that is the first field
_OPEN_ID: Final = -1
_BLANK: Final = bytes(range(33))  # what Java's trim takes off a text
# What tells of operations that are not Apache's, where the tree has no such node.
_HIDDEN: Final = {
    path: nodes.create(path, data, zxid=0, time_ms=0, owner=0, acl_id=_OPEN_ID)
    for path, data in keeper.HIDDEN.items()
}


def _path_and_watch(frame: bytes) -> tuple[bytes, bool]:
    """{path, watch}, read in place: the hottest body there is."""
    try:
        end = _PATH + unpack_int(frame, requests.BODY)[0]
        watch = frame[end]
    except (struct.error, IndexError):
        raise RemoteProtocolError("the body ends early") from None
    if end < _PATH:
        raise RemoteProtocolError("null path")
    return frame[_PATH:end], watch != 0


def readable(view: View, client: Client, path: bytes) -> bytes:
    """The node's value. Raises: NO_NODE, NO_AUTH, in this order (reference F)."""
    value = view.node(path)
    if value is None:
        value = _HIDDEN.get(path)
        if value is None:
            raise ZooKeeperError(Code.NO_NODE)
        client.knows_keeper = True
    acl_id = nodes.unpack(value)[nodes.ACL_ID]
    if acl_id != _OPEN_ID:
        client.require(view.acl(acl_id), op.READ)
        if path == paths.CONFIG:
            return _configured(value, client.worker.settings.members.encode())
    return value


def _configured(value: bytes, membership: bytes) -> bytes:
    """/zookeeper/config as a member shows it: each its own membership, whatever a leader's snapshot
    brought. Source: QuorumPeer.initConfigInZKDatabase."""
    if not membership:
        return value
    fields = nodes.unpack(value)
    shown, _ = nodes.with_data(value, fields, paths.CONFIG, membership, 0, 0, -1)
    return shown


def _own(path: bytes) -> bytes:
    """The root's other name is the empty path: for lookups; a watch on it never fires, as in
    Apache."""
    return path or paths.ROOT


def get_data(view: View, client: Client, frame: bytes) -> bytes:
    path, watch = _path_and_watch(frame)
    value = readable(view, client, path)
    if watch:
        client.worker.watches.add_data(client, path)
    data = value[nodes.BODY :] if not value[4] else view.data(value)
    return buffer(data) + value[nodes.STAT]


def exists(view: View, client: Client, frame: bytes) -> bytes:
    path, watch = _path_and_watch(frame)
    if b"\0" in path:
        raise ZooKeeperError(Code.BAD_ARGUMENTS)
    try:
        stat = readable(view, client, path)[nodes.STAT]
    except ZooKeeperError as e:
        if watch and e.code == Code.NO_NODE:
            client.worker.watches.add_data(client, path)
        raise
    if watch:
        client.worker.watches.add_data(client, path)
    return stat


def get_children(view: View, client: Client, frame: bytes) -> bytes:
    path, watch = _path_and_watch(frame)
    value = readable(view, client, path)
    if watch:
        client.worker.watches.add_child(client, path)
    return texts(children(view, path, value))


def get_children2(view: View, client: Client, frame: bytes) -> bytes:
    path, watch = _path_and_watch(frame)
    value = readable(view, client, path)
    if watch:
        client.worker.watches.add_child(client, path)
    return texts(children(view, path, value)) + value[nodes.STAT]


def children(view: View, path: bytes, value: bytes) -> list[bytes]:
    return view.children(_own(path)) if nodes.unpack(value)[nodes.CHILDREN] else []


def get_acl(view: View, client: Client, frame: bytes) -> bytes:
    path, _ = read_buffer(frame, requests.BODY)
    if path is None:
        raise RemoteProtocolError("null path")
    value = view.node(path)
    if value is None:
        raise ZooKeeperError(Code.NO_NODE)
    acl = view.acl(nodes.unpack(value)[nodes.ACL_ID])
    client.require(acl, op.READ | op.ADMIN)
    shown = acls.shown(acl, client.identities, client.worker.providers)
    return acls.encode(shown) + value[nodes.STAT]


def get_ephemerals(view: View, client: Client, frame: bytes) -> bytes:
    prefix, _ = read_buffer(frame, requests.BODY)
    owned = view.ephemerals(client.session_id)
    if prefix and prefix.strip(_BLANK) not in (b"", paths.ROOT):
        owned = [path for path in owned if path.startswith(prefix)]  # W14: not by component
    return texts(sorted(owned))


def get_all_children_number(view: View, client: Client, frame: bytes) -> bytes:
    path, _ = read_buffer(frame, requests.BODY)
    if path is None:
        raise RemoteProtocolError("null path")
    readable(view, client, path)
    if _own(path) == paths.ROOT:
        total = view.label().totals.nodes
        return pack_int(total - 1 if path else total)  # under its other name the root counts itself
    return pack_int(view.count_below(path))


def _given(listed: list[bytes | None]) -> Iterator[bytes]:
    """The paths up to a null. Raises: RemoteProtocolError there; what was before it stays done."""
    for path in listed:
        if path is None:
            raise RemoteProtocolError("null path")
        yield path


def set_watches(view: View, client: Client, frame: bytes) -> bytes:
    """D15, for both opcodes: what changed meanwhile fires at once, with zxid -1; the rest is
    registered."""
    _, kind = requests.read_header(frame)
    vectors = 5 if kind == op.SET_WATCHES2 else 3
    relative_zxid, lists = requests.read_set_watches(frame, requests.BODY, vectors)
    table = client.worker.watches

    def tell(event_type: int, path: bytes) -> None:
        client.send(replies.event(-1, event_type, utf8(path)))

    for path in _given(lists[0]):
        value = view.node(path)
        if value is None:
            tell(op.NODE_DELETED, path)
        elif nodes.unpack(value)[nodes.MZXID] > relative_zxid:
            tell(op.NODE_DATA_CHANGED, path)
        else:
            table.add_data(client, path)
    for path in _given(lists[1]):
        if view.node(path) is not None:
            tell(op.NODE_CREATED, path)
        else:
            table.add_data(client, path)
    for path in _given(lists[2]):
        value = view.node(path)
        if value is None:
            tell(op.NODE_DELETED, path)
        elif nodes.unpack(value)[nodes.PZXID] > relative_zxid:
            tell(op.NODE_CHILDREN_CHANGED, path)
        else:
            table.add_child(client, path)
    for mode, listed in zip((watches.PERSISTENT, watches.RECURSIVE), lists[3:], strict=False):
        for anything in listed:  # as addWatch
            table.add(client, anything or b"", mode)
    return b""


def add_watch(view: View, client: Client, frame: bytes) -> bytes:
    (path, mode), _ = requests.read_path_int(frame, requests.BODY)
    if mode not in watches.ADD_MODES:
        raise RemoteProtocolError(f"addWatch mode {mode}")
    client.worker.watches.add(client, path or b"", watches.ADD_MODES[mode])
    return pack_int(0)


def check_watches(view: View, client: Client, frame: bytes) -> bytes:
    (path, kind), _ = requests.read_path_int(frame, requests.BODY)
    if kind not in watches.KINDS:
        raise RemoteProtocolError(f"watch type {kind}")
    if not client.worker.watches.has(client, path or b"", kind):
        raise ZooKeeperError(Code.NO_WATCHER)
    return b""


def remove_watches(view: View, client: Client, frame: bytes) -> bytes:
    (path, kind), _ = requests.read_path_int(frame, requests.BODY)
    if kind not in watches.KINDS:
        raise RemoteProtocolError(f"watch type {kind}")
    if not client.worker.watches.remove(client, path or b"", kind):
        raise ZooKeeperError(Code.NO_WATCHER)
    return b""


def multi_read(view: View, client: Client, frame: bytes) -> bytes:
    """Each operation has its own result or error; watch flags are ignored (reference B22, G10).

    Raises: RemoteProtocolError if it asks for more than a client's write buffer may hold.
    """
    parts: list[bytes] = []
    size = 0
    for kind, request in requests.read_multi(frame, reads=True):
        path = request[0]
        assert not isinstance(path, int)
        try:
            if path is None:
                raise ZooKeeperError(Code.MARSHALLING_ERROR)
            value = readable(view, client, path)
        except ZooKeeperError as e:
            code = pack_int(int(e.code))
            parts.append(pack_int(op.ERROR) + b"\0" + code + code)
            continue
        if kind == op.GET_DATA:
            body = buffer(view.data(value)) + value[nodes.STAT]
        else:
            body = texts(children(view, path, value))
        parts.append(pack_int(kind) + b"\0" + pack_int(0) + body)
        size += len(body)
        if size > CLIENT_WRITE_BUFFER_BYTES_MAX:
            raise RemoteProtocolError(f"a multiRead of more than {CLIENT_WRITE_BUFFER_BYTES_MAX}")
    return b"".join(parts) + MULTI_END


def who_am_i(view: View, client: Client, frame: bytes) -> bytes:
    infos = []
    for scheme, identity in client.identities:
        provider = client.worker.providers.get(scheme)
        name = provider.user_name(identity) if provider is not None else identity
        infos.append(buffer(scheme) + buffer(name))
    return pack_int(len(infos)) + b"".join(infos)


HANDLERS: Final[dict[int, Handler]] = {
    op.GET_DATA: get_data,
    op.EXISTS: exists,
    op.GET_CHILDREN: get_children,
    op.GET_CHILDREN2: get_children2,
    op.GET_ACL: get_acl,
    op.GET_EPHEMERALS: get_ephemerals,
    op.GET_ALL_CHILDREN_NUMBER: get_all_children_number,
    op.SET_WATCHES: set_watches,
    op.SET_WATCHES2: set_watches,
    op.ADD_WATCH: add_watch,
    op.CHECK_WATCHES: check_watches,
    op.REMOVE_WATCHES: remove_watches,
    op.MULTI_READ: multi_read,
    op.WHO_AM_I: who_am_i,
}


def answer(handler: Handler, view: View, client: Client, frame: bytes, xid: int) -> bytes:
    """The reply to a read, as a whole frame."""
    try:
        return replies.reply(xid, view.applied, handler(view, client, frame))
    except ZooKeeperError as e:
        return replies.error(xid, view.applied, e.code)
    except RemoteProtocolError:
        return replies.error(xid, view.applied, Code.MARSHALLING_ERROR)
