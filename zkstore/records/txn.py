"""Transactions as they are replicated, journaled and logged: Apache's own bytes.

Owns:   nothing; pure. `Txn` is the decoded form that prep makes and apply takes; `encode`/`decode`
        its bytes.
Invariants:
  1. decode(encode(txn)) == txn for every txn that prep can make, and the bytes are those an Apache
     leader would propose (without the optional trailing digest).
Shape:  TxnHeader {long session, int cxid, long zxid, long time, int type}, then the type's body.
        Bodies as tuples, in the order of their jute fields; an ACL stays an encoded vector:
          create, create2  (path, data, acl, ephemeral, parent_cversion)
          createContainer  (path, data, acl, parent_cversion)
          createTTL        (path, data, acl, parent_cversion, ttl_ms)
          delete, deleteContainer (path,)             setData, reconfig (path, data, version)
          setACL (path, acl, version)                 check (path, version)
          createSession (timeout_ms,)                 closeSession (paths,)
          error (code,)                               multi ([(type, body), …],)
Source: SerializeUtils.deserializeTxn, zookeeper.jute; reference: transaction encoding.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from zkstore.errors import RemoteProtocolError
from zkstore.jute.codec import (
    buffer,
    pack_int,
    pack_long,
    read_bool,
    read_buffer,
    read_int,
    read_long,
    read_text,
    read_texts,
    texts,
)
from zkstore.proto import opcodes as op
from zkstore.tree import acl as acls

Body = tuple[Any, ...]

_HEADER: Final = struct.Struct(">qiqqi")
_SET_DATA: Final = struct.Struct(">qiqqii")  # the header and the path's length


class Txn(NamedTuple):
    """One transaction; see the module's head for the bodies."""

    zxid: int
    session_id: int
    cxid: int
    time_ms: int
    type: int
    body: Body


def _encode_create(body: Body) -> bytes:
    path, data, acl, ephemeral, parent_cversion = body
    flag = b"\1" if ephemeral else b"\0"
    return buffer(path) + buffer(data) + bytes(acl) + flag + pack_int(parent_cversion)


def _encode_container(body: Body) -> bytes:
    path, data, acl, parent_cversion = body
    return buffer(path) + buffer(data) + bytes(acl) + pack_int(parent_cversion)


def _encode_ttl(body: Body) -> bytes:
    return _encode_container(body[:4]) + pack_long(body[4])


def _encode_path(body: Body) -> bytes:
    return buffer(body[0])


def _encode_set_data(body: Body) -> bytes:
    path, data, version = body
    return pack_int(len(path)) + bytes(path) + buffer(data) + pack_int(version)


def _encode_set_acl(body: Body) -> bytes:
    return buffer(body[0]) + bytes(body[1]) + pack_int(body[2])


def _encode_check(body: Body) -> bytes:
    return buffer(body[0]) + pack_int(body[1])


def _encode_int(body: Body) -> bytes:
    return pack_int(body[0])


def _encode_close_session(body: Body) -> bytes:
    return texts(body[0])


def _encode_multi(body: Body) -> bytes:
    parts = [pack_int(len(body[0]))]
    for kind, sub in body[0]:
        parts += (pack_int(kind), buffer(_ENCODE[kind](sub)))
    return b"".join(parts)


_ENCODE: Final[dict[int, Callable[[Body], bytes]]] = {
    op.CREATE: _encode_create,
    op.CREATE2: _encode_create,
    op.CREATE_CONTAINER: _encode_container,
    op.CREATE_TTL: _encode_ttl,
    op.DELETE: _encode_path,
    op.DELETE_CONTAINER: _encode_path,
    op.SET_DATA: _encode_set_data,
    op.RECONFIG: _encode_set_data,
    op.SET_ACL: _encode_set_acl,
    op.CHECK: _encode_check,
    op.CREATE_SESSION: _encode_int,
    op.CLOSE_SESSION: _encode_close_session,
    op.ERROR: _encode_int,
    op.MULTI: _encode_multi,
}


def encode(txn: Txn) -> bytes:
    """The txn's bytes."""
    zxid, session_id, cxid, time_ms, kind, body = txn
    if kind == op.SET_DATA and body[1] is not None:  # the hot one, in one piece
        path, data, version = body
        head = _SET_DATA.pack(session_id, cxid, zxid, time_ms, kind, len(path))
        encoded: bytes = head + path + pack_int(len(data)) + data + pack_int(version)
        return encoded
    return _HEADER.pack(session_id, cxid, zxid, time_ms, kind) + _ENCODE[kind](body)


def _acl_span(data: bytes, offset: int) -> tuple[bytes, int]:
    """The encoded ACL vector at offset, and what follows it."""
    _, end = acls.read(data, offset)
    return data[offset:end], end


def _decode_create(data: bytes, offset: int) -> Body:
    path, offset = read_text(data, offset)
    content, offset = read_buffer(data, offset)
    acl, offset = _acl_span(data, offset)
    ephemeral, offset = read_bool(data, offset)
    if len(data) - offset < 4:
        return path, content, acl, ephemeral, -1  # CreateTxnV0, before 3.3.3
    return path, content, acl, ephemeral, read_int(data, offset)[0]


def _decode_container(data: bytes, offset: int) -> Body:
    path, offset = read_text(data, offset)
    content, offset = read_buffer(data, offset)
    acl, offset = _acl_span(data, offset)
    return path, content, acl, read_int(data, offset)[0]


def _decode_ttl(data: bytes, offset: int) -> Body:
    path, offset = read_text(data, offset)
    content, offset = read_buffer(data, offset)
    acl, offset = _acl_span(data, offset)
    parent_cversion, offset = read_int(data, offset)
    return path, content, acl, parent_cversion, read_long(data, offset)[0]


def _decode_path(data: bytes, offset: int) -> Body:
    return (read_text(data, offset)[0],)


def _decode_set_data(data: bytes, offset: int) -> Body:
    path, offset = read_text(data, offset)
    content, offset = read_buffer(data, offset)
    return path, content, read_int(data, offset)[0]


def _decode_set_acl(data: bytes, offset: int) -> Body:
    path, offset = read_text(data, offset)
    acl, offset = _acl_span(data, offset)
    return path, acl, read_int(data, offset)[0]


def _decode_check(data: bytes, offset: int) -> Body:
    path, offset = read_text(data, offset)
    return path, read_int(data, offset)[0]


def _decode_int(data: bytes, offset: int) -> Body:
    return (read_int(data, offset)[0],)


def _decode_close_session(data: bytes, offset: int) -> Body:
    try:
        return (read_texts(data, offset)[0],)
    except RemoteProtocolError:
        # Without a body: closeSessionTxn.enabled=false, or 3.5 and older. A digest may follow.
        return ([],)


def _decode_multi(data: bytes, offset: int) -> Body:
    count, offset = read_int(data, offset)
    subs = []
    for _ in range(count):
        kind, offset = read_int(data, offset)
        encoded, offset = read_buffer(data, offset)
        subs.append((kind, _decode_body(kind, encoded or b"", 0)))
    return (subs,)


_DECODE: Final[dict[int, Callable[[bytes, int], Body]]] = {
    op.CREATE: _decode_create,
    op.CREATE2: _decode_create,
    op.CREATE_CONTAINER: _decode_container,
    op.CREATE_TTL: _decode_ttl,
    op.DELETE: _decode_path,
    op.DELETE_CONTAINER: _decode_path,
    op.SET_DATA: _decode_set_data,
    op.RECONFIG: _decode_set_data,
    op.SET_ACL: _decode_set_acl,
    op.CHECK: _decode_check,
    op.CREATE_SESSION: _decode_int,
    op.CLOSE_SESSION: _decode_close_session,
    op.ERROR: _decode_int,
    op.MULTI: _decode_multi,
}


def _decode_body(kind: int, data: bytes, offset: int) -> Body:
    decoder = _DECODE.get(kind)
    if decoder is None:
        raise RemoteProtocolError(f"txn of unknown type {kind}")
    return decoder(data, offset)


def decode(encoded: bytes) -> Txn:
    """The txn of these bytes; a trailing digest is passed over.

    Raises: RemoteProtocolError if they are no txn.
    """
    if len(encoded) < _HEADER.size:
        raise RemoteProtocolError(f"txn of {len(encoded)} bytes")
    session_id, cxid, zxid, time_ms, kind = _HEADER.unpack_from(encoded)
    return Txn(zxid, session_id, cxid, time_ms, kind, _decode_body(kind, encoded, _HEADER.size))


def zxid_of(encoded: bytes) -> int:
    """The zxid alone."""
    zxid: int = _HEADER.unpack_from(encoded)[2]
    return zxid


def session_and_type_of(encoded: bytes) -> tuple[int, int]:
    """The session id and the type alone."""
    session_id, _, _, _, kind = _HEADER.unpack_from(encoded)
    return session_id, kind


def encode_body(kind: int, body: Body) -> bytes:
    """The bytes of a sub-txn of a multi."""
    return _ENCODE[kind](body)
