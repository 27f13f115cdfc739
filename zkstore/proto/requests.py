"""Decoding of requests: one straight function for each body that is not decoded where it is used.

Owns:   nothing; pure. Bodies begin at `BODY`, behind the RequestHeader {int xid, int type}.
Invariants:
  1. A body that ends early raises RemoteProtocolError, and nothing else is ever raised.
Source: zookeeper.jute; reference: section B, section G for multi.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from zkstore.errors import RemoteProtocolError
from zkstore.jute.codec import (
    INT_INT,
    read_bool,
    read_buffer,
    read_int,
    read_long,
    read_text,
    unpack_int,
)
from zkstore.proto import opcodes as op
from zkstore.tree import acl as acls

BODY: Final = 8
SetData = tuple[bytes | None, bytes | None, int]  # path, data, version
PathInt = tuple[bytes | None, int]
RawAcl = list[tuple[int, bytes | None, bytes | None]] | None

_CONNECT: Final = struct.Struct(">iqiq")


class Connect(NamedTuple):
    """A ConnectRequest."""

    protocol_version: int
    last_zxid_seen: int
    timeout_ms: int
    session_id: int
    password: bytes
    read_only: bool | None  # None: the client is of before 3.4 and did not say


class Create(NamedTuple):
    """A create request of any kind; a null path is Apache's to refuse, in its own way."""

    path: bytes | None
    data: bytes | None
    acl: RawAcl
    flags: int
    ttl_ms: int


class MultiOp(NamedTuple):
    """One operation in a multi: its type, and its request decoded as of that type."""

    type: int
    request: Create | SetData | PathInt | tuple[bytes | None]


def read_connect(frame: bytes) -> Connect:
    """Decode the first frame of a connection. Source: ConnectRequest; readOnly since 3.4."""
    if len(frame) < _CONNECT.size:
        raise RemoteProtocolError(f"connect request of {len(frame)} bytes")
    version, last_zxid_seen, timeout_ms, session_id = _CONNECT.unpack_from(frame)
    password, offset = read_buffer(frame, _CONNECT.size)
    read_only = read_bool(frame, offset)[0] if offset < len(frame) else None
    return Connect(version, last_zxid_seen, timeout_ms, session_id, password or b"", read_only)


def read_header(frame: bytes) -> tuple[int, int]:
    """RequestHeader → (xid, type)."""
    try:
        xid, kind = INT_INT.unpack_from(frame)
    except struct.error:
        raise RemoteProtocolError(f"request of {len(frame)} bytes has no header") from None
    return xid, kind


def read_create(frame: bytes, kind: int, offset: int) -> tuple[Create, int]:
    """create, create2, createContainer; createTTL has a long more."""
    path, offset = read_buffer(frame, offset)
    data, offset = read_buffer(frame, offset)
    acl, offset = acls.read(frame, offset)
    flags, offset = read_int(frame, offset)
    ttl_ms = -1
    if kind == op.CREATE_TTL:
        ttl_ms, offset = read_long(frame, offset)
    return Create(path, data, acl, flags, ttl_ms), offset


def read_set_data(frame: bytes, offset: int) -> tuple[SetData, int]:
    """{path, data, version}, read in place: the hottest of the writes."""
    path = data = None
    try:
        size = unpack_int(frame, offset)[0]
        offset += 4
        if size >= 0:
            path = frame[offset : offset + size]
            offset += size
        elif size != -1:
            raise RemoteProtocolError(f"path of {size} bytes")
        size = unpack_int(frame, offset)[0]
        offset += 4
        if size >= 0:
            data = frame[offset : offset + size]
            offset += size
        elif size != -1:
            raise RemoteProtocolError(f"data of {size} bytes")
        version = unpack_int(frame, offset)[0]
    except struct.error:  # also where a slice above was cut short
        raise RemoteProtocolError(f"frame of {len(frame)} bytes ends early") from None
    return (path, data, version), offset + 4


def read_path_int(frame: bytes, offset: int) -> tuple[PathInt, int]:
    """delete and check {path, version}; checkWatches, removeWatches {path, type}; addWatch {path,
    mode}."""
    path, offset = read_buffer(frame, offset)
    number, offset = read_int(frame, offset)
    return (path, number), offset


def read_path_bool(frame: bytes, offset: int) -> tuple[bytes | None, bool, int]:
    """exists, getData, getChildren, getChildren2 {path, watch}."""
    path, offset = read_buffer(frame, offset)
    watch, offset = read_bool(frame, offset)
    return path, watch, offset


def read_set_acl(frame: bytes, offset: int) -> tuple[bytes | None, RawAcl, int]:
    path, offset = read_buffer(frame, offset)
    acl, offset = acls.read(frame, offset)
    version, _ = read_int(frame, offset)
    return path, acl, version


def read_reconfig(frame: bytes, offset: int) -> None:
    """ReconfigRequest {ustring joiningServers, leavingServers, newMembers; long curConfigId}: only
    whether it is one."""
    for _ in range(3):
        _, offset = read_buffer(frame, offset)
    read_long(frame, offset)


def read_auth(frame: bytes, offset: int) -> tuple[bytes, bytes | None]:
    """AuthPacket {int type, ustring scheme, buffer auth} → (scheme, auth)."""
    _, offset = read_int(frame, offset)
    scheme, offset = read_text(frame, offset)
    auth, _ = read_buffer(frame, offset)
    return scheme, auth


def has_token(frame: bytes, offset: int) -> bool:
    """Whether it is a GetSASLRequest {buffer token}, and not a null one."""
    try:
        return read_buffer(frame, offset)[0] is not None
    except RemoteProtocolError:
        return False


Paths = list[bytes | None]


def read_set_watches(frame: bytes, offset: int, vectors: int) -> tuple[int, list[Paths]]:
    """setWatches (3 vectors) and setWatches2 (5) → (relative zxid, the vectors).

    A null is kept, for whoever comes to it to stumble over as Apache does; so is a null vector, as
    one with a null in it.
    """
    relative_zxid, offset = read_long(frame, offset)
    lists = []
    for _ in range(vectors):
        count, offset = read_int(frame, offset)
        paths: Paths = [None] if count == -1 else []
        if count > (len(frame) - offset) // 4:
            raise RemoteProtocolError(f"vector of {count} paths in a frame of {len(frame)} bytes")
        for _ in range(count):
            path, offset = read_buffer(frame, offset)
            paths.append(path)
        lists.append(paths)
    return relative_zxid, lists


WRITE_KINDS: Final = op.CREATES | {op.DELETE, op.SET_DATA, op.CHECK}
_READ_KINDS: Final = frozenset((op.GET_DATA, op.GET_CHILDREN))


def read_sub(frame: bytes, kind: int, offset: int) -> tuple[MultiOp, int]:
    """One operation in a multi, of the types that Apache has there."""
    if kind in op.CREATES:
        create, offset = read_create(frame, kind, offset)
        if kind != op.CREATE_TTL and not 0 <= create.flags <= op.CONTAINER:
            raise RemoteProtocolError(f"create flags {create.flags} in a multi")
        if create.path is None:
            raise RemoteProtocolError("null path in a multi")
        if kind in (op.CREATE, op.CREATE2) and create.flags == op.CONTAINER:
            kind = op.CREATE_CONTAINER  # here the flag makes it one, outside of a multi it does not
        return MultiOp(kind, create), offset
    if kind == op.SET_DATA:
        set_data, offset = read_set_data(frame, offset)
        if set_data[0] is None:
            raise RemoteProtocolError("null path in a multi")
        return MultiOp(kind, set_data), offset
    if kind in _READ_KINDS:
        path, _, offset = read_path_bool(frame, offset)
        return MultiOp(kind, (path,)), offset
    path_int, offset = read_path_int(frame, offset)
    if path_int[0] is None:
        raise RemoteProtocolError("null path in a multi")
    return MultiOp(kind, path_int), offset


def read_multi(frame: bytes, *, reads: bool) -> list[MultiOp]:
    """The operations of a multi (reads=False) or a multiRead (reads=True).

    Shape:  repeat MultiHeader {int type, bool done, int err} and the record; the end has done set.
    Raises: RemoteProtocolError for a type that may not be there: the reply is MarshallingError.
    """
    allowed = _READ_KINDS if reads else WRITE_KINDS
    ops: list[MultiOp] = []
    offset = BODY
    while True:
        kind, offset = read_int(frame, offset)
        done, offset = read_bool(frame, offset)
        _, offset = read_int(frame, offset)
        if done:
            return ops
        if kind not in allowed:
            raise RemoteProtocolError(f"operation {kind} in a multi")
        one, offset = read_sub(frame, kind, offset)
        ops.append(one)
