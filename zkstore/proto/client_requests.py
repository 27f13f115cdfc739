"""Encoding of requests, for the side that asks: one straight function for each body.

Owns:   nothing; pure. Paths are UTF-8 bytes as everywhere on the wire, and come without chroot
        rules: the client has applied them.
Shape:  frame = length i32, RequestHeader {int xid, int type}, body.
Not here: the server's side of the same bytes (requests.py, replies.py).
Source: zookeeper.jute; reference: sections A, B, G.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import Final

from zkstore.jute.codec import buffer, pack_int, pack_long, texts, vector
from zkstore.proto import opcodes as op

AclEntry = tuple[int, bytes, bytes]  # perms, scheme, id

_HEADER: Final = struct.Struct(">iii")
_CONNECT: Final = struct.Struct(">iiqiq")
_MULTI_HEADER: Final = struct.Struct(">i?i")
_MULTI_END: Final = _MULTI_HEADER.pack(-1, True, -1)
_FALSE: Final = b"\0"
_TRUE: Final = b"\1"


def frame(xid: int, kind: int, body: bytes) -> bytes:
    """A whole request."""
    return _HEADER.pack(8 + len(body), xid, kind) + body


def connect(
    last_zxid_seen: int,
    timeout_ms: int,
    session_id: int,
    password: bytes,
    read_only: bool = False,
) -> bytes:
    """The first frame of a connection: protocol version 0; `read_only`: content with a server that
    has lost the others and answers reads only."""
    tail = buffer(password) + (_TRUE if read_only else _FALSE)
    size = _CONNECT.size - 4 + len(tail)
    return _CONNECT.pack(size, 0, last_zxid_seen, timeout_ms, session_id) + tail


def path_bool(path: bytes, watch: bool) -> bytes:
    """exists, getData, getChildren2."""
    return buffer(path) + (_TRUE if watch else _FALSE)


def path_int(path: bytes, number: int) -> bytes:
    """delete and check {path, version}, removeWatches {path, type}, addWatch {path, mode}."""
    return buffer(path) + pack_int(number)


def acl(entries: Sequence[AclEntry]) -> bytes:
    """vector<ACL>."""
    return vector(
        pack_int(perms) + buffer(scheme) + buffer(identity) for perms, scheme, identity in entries
    )


def create(
    path: bytes, data: bytes | None, entries: Sequence[AclEntry], flags: int, ttl_ms: int | None
) -> bytes:
    """create, create2, createContainer; with a ttl createTTL, which has a long more."""
    body = buffer(path) + buffer(data) + acl(entries) + pack_int(flags)
    return body if ttl_ms is None else body + pack_long(ttl_ms)


def set_data(path: bytes, data: bytes, version: int) -> bytes:
    return buffer(path) + buffer(data) + pack_int(version)


def set_acl(path: bytes, entries: Sequence[AclEntry], version: int) -> bytes:
    return buffer(path) + acl(entries) + pack_int(version)


def reconfig(
    joining: bytes | None, leaving: bytes | None, members: bytes | None, version: int
) -> bytes:
    """ReconfigRequest {ustring joiningServers, leavingServers, newMembers; long curConfigId}."""
    return buffer(joining) + buffer(leaving) + buffer(members) + pack_long(version)


def auth(scheme: bytes, credentials: bytes | None) -> bytes:
    """AuthPacket; its type is 0 and ignored."""
    return pack_int(0) + buffer(scheme) + buffer(credentials)


def set_watches(relative_zxid: int, lists: Sequence[Sequence[bytes]]) -> tuple[int, bytes]:
    """(opcode, body) that arm watches again on a new connection.

    `lists`: paths of data, exist, child, persistent and recursive watches. Without any of the last
    two it is setWatches, which servers before 3.6 know as well.
    """
    assert len(lists) == 5, len(lists)
    old = not lists[3] and not lists[4]
    kind = op.SET_WATCHES if old else op.SET_WATCHES2
    return kind, pack_long(relative_zxid) + b"".join(map(texts, lists[:3] if old else lists))


def multi(operations: Iterable[tuple[int, bytes]]) -> bytes:
    """multi; `operations` are (opcode, the body that it would have alone)."""
    parts = []
    for kind, body in operations:
        parts += [_MULTI_HEADER.pack(kind, False, -1), body]
    return b"".join(parts) + _MULTI_END
