"""Decoding of replies and events, for the side that asked.

Owns:   nothing; pure. Bodies begin at `BODY`, behind the ReplyHeader {int xid, long zxid, int err}.
Invariants:
  1. A frame that ends early raises RemoteProtocolError, and nothing else is ever raised.
Not here: the server's side of the same bytes (requests.py, replies.py).
Source: zookeeper.jute; reference: sections A, B, G.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from zkstore.errors import RemoteProtocolError
from zkstore.jute.codec import (
    read_bool,
    read_buffer,
    read_int,
    read_text,
    read_texts,
)
from zkstore.proto import opcodes as op

_HEADER: Final = struct.Struct(">iqi")
_CONNECT: Final = struct.Struct(">iiq")
_STAT: Final = struct.Struct(">qqqqiiiqiiq")
BODY: Final = _HEADER.size


class Stat(NamedTuple):
    """What a server tells of a node beside its data, in the order of the wire."""

    czxid: int
    mzxid: int
    ctime_ms: int
    mtime_ms: int
    version: int
    cversion: int
    aversion: int
    ephemeral_owner: int  # a session id; 0 for all that is not ephemeral
    data_length: int
    num_children: int
    pzxid: int


class Connected(NamedTuple):
    """A ConnectResponse; session_id 0 means that the session is refused: it has expired."""

    timeout_ms: int
    session_id: int
    password: bytes
    read_only: bool  # the server answers reads only


class MultiResult(NamedTuple):
    """One operation's result: its code, and what its kind gives."""

    code: int
    path: bytes | None  # of a create
    # Of create2 and its kin, which servers before 3.9 answer like create; of setData.
    stat: Stat | None


def read_header(frame: bytes) -> tuple[int, int, int]:
    """ReplyHeader → (xid, zxid, err)."""
    if len(frame) < BODY:
        raise RemoteProtocolError(f"reply of {len(frame)} bytes has no header")
    xid, zxid, code = _HEADER.unpack_from(frame)
    return xid, zxid, code


def read_connected(frame: bytes) -> Connected:
    """The first frame of a connection; old servers leave out the readOnly byte at its end."""
    if len(frame) < _CONNECT.size:
        raise RemoteProtocolError(f"connect response of {len(frame)} bytes")
    _, timeout_ms, session_id = _CONNECT.unpack_from(frame)
    password, offset = read_buffer(frame, _CONNECT.size)
    read_only = frame[offset : offset + 1] == b"\1"
    return Connected(timeout_ms, session_id, password or b"", read_only)


def read_stat(frame: bytes, offset: int) -> tuple[Stat, int]:
    end = offset + _STAT.size
    if end > len(frame):
        raise RemoteProtocolError(f"frame of {len(frame)} bytes ends in a Stat at {offset}")
    return Stat._make(_STAT.unpack_from(frame, offset)), end


def read_data(frame: bytes) -> tuple[bytes | None, Stat]:
    """getData, reconfig; None is null data."""
    data, offset = read_buffer(frame, BODY)
    return data, read_stat(frame, offset)[0]


def read_created(frame: bytes, offset: int) -> tuple[bytes, Stat, int]:
    """create2, createContainer, createTTL → (path, Stat, the offset behind them)."""
    path, offset = read_text(frame, offset)
    stat, offset = read_stat(frame, offset)
    return path, stat, offset


def read_children(frame: bytes) -> tuple[list[bytes], Stat]:
    """getChildren2 → (names in no order, the parent's Stat)."""
    names, offset = read_texts(frame, BODY)
    return names, read_stat(frame, offset)[0]


def read_acl(frame: bytes) -> tuple[list[tuple[int, bytes, bytes]], Stat]:
    """getACL → (entries of perms, scheme, id; Stat)."""
    count, offset = read_int(frame, BODY)
    if count > (len(frame) - offset) // 12:
        raise RemoteProtocolError(f"vector of {count} ACLs in a frame of {len(frame)} bytes")
    entries = []
    for _ in range(count):
        perms, offset = read_int(frame, offset)
        scheme, offset = read_text(frame, offset)
        identity, offset = read_text(frame, offset)
        entries.append((perms, scheme, identity))
    return entries, read_stat(frame, offset)[0]


def read_identities(frame: bytes) -> list[tuple[bytes, bytes]]:
    """whoAmI → (scheme, user) of each identity."""
    count, offset = read_int(frame, BODY)
    if count > (len(frame) - offset) // 8:
        raise RemoteProtocolError(f"vector of {count} in a frame of {len(frame)} bytes")
    identities = []
    for _ in range(count):
        scheme, offset = read_text(frame, offset)
        user, offset = read_text(frame, offset)
        identities.append((scheme, user))
    return identities


def read_event(frame: bytes) -> tuple[int, bytes]:
    """WatcherEvent {int type, int state, ustring path} → (type, path)."""
    kind, offset = read_int(frame, BODY)
    _, offset = read_int(frame, offset)
    path, _ = read_text(frame, offset)
    return kind, path


def read_multi(frame: bytes) -> list[MultiResult]:
    """The results of a multi, one for each operation.

    Shape:  repeat MultiHeader {int type, bool done, int err} and the record; the end has done set.
            In a multi that failed every type is -1 with the operation's code as record: 0 before
            the one that failed, its own code, RUNTIME_INCONSISTENCY behind it.
    """
    results: list[MultiResult] = []
    offset = BODY
    while True:
        kind, offset = read_int(frame, offset)
        done, offset = read_bool(frame, offset)
        _, offset = read_int(frame, offset)
        if done:
            return results
        code, path, stat = 0, None, None
        if kind == op.ERROR:
            code, offset = read_int(frame, offset)
        elif kind == op.CREATE:
            path, offset = read_text(frame, offset)
        elif kind in op.CREATES:
            path, stat, offset = read_created(frame, offset)
        elif kind == op.SET_DATA:
            stat, offset = read_stat(frame, offset)
        elif kind not in (op.DELETE, op.CHECK):
            raise RemoteProtocolError(f"result of type {kind} in a multi")
        results.append(MultiResult(code, path, stat))
