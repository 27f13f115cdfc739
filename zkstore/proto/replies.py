"""Encoding of replies and events: whole frames, length included.

Owns:   nothing; pure.
Shape:  length i32, then ReplyHeader {int xid, long zxid, int err}, then the body if err is 0.
Source: ReplyHeader, ConnectResponse, WatcherEvent.
"""

from __future__ import annotations

import struct
from typing import Final

from zkstore.constants import PASSWORD_BYTES
from zkstore.jute.codec import buffer
from zkstore.proto.opcodes import SYNC_CONNECTED, XID_NOTIFICATION

_HEADER: Final = struct.Struct(">iiqi")
_EVENT: Final = struct.Struct(">iiqiii")
_CONNECT: Final = struct.Struct(">iiiq")
_pack = _HEADER.pack
HEADER_BYTES: Final = 16


def reply(xid: int, zxid: int, body: bytes) -> bytes:
    """A reply with no error."""
    return _pack(HEADER_BYTES + len(body), xid, zxid, 0) + body


def error(xid: int, zxid: int, code: int) -> bytes:
    """A reply that is only an error."""
    return _pack(HEADER_BYTES, xid, zxid, code)


def event(zxid: int, event_type: int, path: bytes) -> bytes:
    """A WatcherEvent; `zxid` is the causing txn's, -1 for those that setWatches makes."""
    size = HEADER_BYTES + 12 + len(path)
    head = _EVENT.pack(size, XID_NOTIFICATION, zxid, 0, event_type, SYNC_CONNECTED)
    return head + buffer(path)


def connect(session_id: int, timeout_ms: int, password: bytes, read_only: bool | None) -> bytes:
    """A ConnectResponse; with the readOnly byte only if the client sent one (reference A6)."""
    tail = b"" if read_only is None else b"\0"
    body = buffer(password) + tail
    return _CONNECT.pack(16 + len(body), 0, timeout_ms, session_id) + body


def refused(read_only: bool | None) -> bytes:
    """The ConnectResponse of a session that is not (any more) (reference A7)."""
    return connect(0, 0, bytes(PASSWORD_BYTES), read_only)
