"""A znode as it is stored: one immutable run of bytes, the Stat in it as it goes over the wire.

Owns:   the layout of a node's value; nothing else knows it. Pure.
Invariants:
  1. `value[STAT]` is what a client gets, byte for byte: a read copies and builds no object.
  2. `digest` is the node's part of Apache's tree digest, 0 below /zookeeper/; `crc` is crc32(path,
     data), so a change that leaves the data alone costs one more crc32 over 60 bytes, whatever the
     size of the data.
  3. shown cversion == 2 * stored cversion - children: creates + deletes. Source: DataNode.copyStat.
Shape:  HEAD digest u32, flags u8, crc u32, stored cversion i32, owner i64, ACL id i64;
        STAT the 68 bytes of the wire; then, if LONG_NAME, the name (u32 length + bytes);
        then the data, or if APART the 8-byte id that it is stored under.
Design: values are replaced, never edited, so "the node as it was before" is just the old bytes.
Source: DataNode, StatPersisted, DigestCalculator.
"""

from __future__ import annotations

import struct
from typing import Final
from zlib import crc32

from zkstore.tree.paths import ROOT, wrap_int

_NODE: Final = struct.Struct(">IBIiqqqqqqiiiqiiq")
_DIGEST: Final = struct.Struct(">qqqqqiiiq")
_ID: Final = struct.Struct(">Q")
_LENGTH: Final = struct.Struct(">I")
unpack = _NODE.unpack_from  # → the 17 fields in the order of `Shape`
_pack = _NODE.pack
_pack_digest = _DIGEST.pack

HEAD_BYTES: Final = 29
BODY: Final = _NODE.size  # where the data begins, without a long name
STAT: Final = slice(HEAD_BYTES, BODY)
LENGTH: Final = slice(81, 85)  # of the data, in the Stat
assert BODY - HEAD_BYTES == 68, BODY

NULL_DATA: Final = 1
APART: Final = 2
LONG_NAME: Final = 4

# Field numbers of `unpack`.
FLAGS: Final = 1
CVERSION: Final = 3  # as stored: the number of creates so far
OWNER: Final = 4
ACL_ID: Final = 5
CZXID: Final = 6
MZXID: Final = 7
MTIME_MS: Final = 9
VERSION: Final = 10
AVERSION: Final = 12
DATA_LENGTH: Final = 14
CHILDREN: Final = 15
PZXID: Final = 16

CONTAINER_OWNER: Final = -(1 << 63)
_TTL_MARK: Final = 0xFF
_TTL_MASK: Final = (1 << 40) - 1


def ttl_owner(ttl_ms: int) -> int:
    """The stored owner of a TTL node. Source: EphemeralType.TTL."""
    return ((_TTL_MARK << 56) | ttl_ms) - (1 << 64)


def is_ttl(owner: int) -> bool:
    return owner != CONTAINER_OWNER and (owner >> 56) & 0xFF == _TTL_MARK


def ttl_ms_of(owner: int) -> int:
    return owner & _TTL_MASK


def is_ephemeral(owner: int) -> bool:
    """Whether the owner is a session."""
    return owner != 0 and owner != CONTAINER_OWNER and (owner >> 56) & 0xFF != _TTL_MARK


def _digest_path(path: bytes) -> bytes | None:
    """The path as the tree digest counts it; None where it does not."""
    if path == ROOT:
        return b""
    return None if path.startswith(b"/zookeeper/") else path


def _encode(path: bytes, fields: tuple[int, ...], tail: bytes) -> bytes:
    """A value from flags … pzxid (16 fields, no digest) and what follows them."""
    flags, crc, cversion, owner, acl, czxid, mzxid, ctime, mtime, version = fields[:10]
    _, aversion, shown_owner, length, children, pzxid = fields[10:]
    if path.startswith(b"/zookeeper/"):
        digest = 0
    else:
        digest = crc32(
            _pack_digest(czxid, mzxid, pzxid, ctime, mtime, version, cversion, aversion, owner), crc
        )
    shown = wrap_int(2 * cversion - children)
    return (
        _pack(
            digest, flags, crc, cversion, owner, acl, czxid, mzxid, ctime, mtime,
            version, shown, aversion, shown_owner, length, children, pzxid,
        )
        + tail
    )  # fmt: skip


def _body(path: bytes, data: bytes | None, data_id: int) -> tuple[int, int, int, bytes]:
    """(flags, crc, length, stored data) of a node's data; data_id > 0: it lives apart."""
    crc = crc32(_digest_path(path) or b"")
    if data is None:
        return NULL_DATA, crc, 0, b""
    crc = crc32(data, crc)
    if data_id:
        return APART, crc, len(data), _ID.pack(data_id)
    return 0, crc, len(data), data


def create(
    path: bytes,
    data: bytes | None,
    *,
    zxid: int,
    time_ms: int,
    owner: int,
    acl_id: int,
    data_id: int = 0,
    long_name: bytes | None = None,
) -> bytes:
    """A new node's value."""
    flags, crc, length, tail = _body(path, data, data_id)
    if long_name is not None:
        flags |= LONG_NAME
        tail = _LENGTH.pack(len(long_name)) + long_name + tail
    shown_owner = owner if is_ephemeral(owner) else 0
    fields = (
        flags, crc, 0, owner, acl_id, zxid, zxid, time_ms, time_ms, 0,
        0, 0, shown_owner, length, 0, zxid,
    )  # fmt: skip
    return _encode(path, fields, tail)


def with_data(
    value: bytes,
    fields: tuple[int, ...],
    path: bytes,
    data: bytes | None,
    zxid: int,
    time_ms: int,
    version: int,
    data_id: int = 0,
) -> tuple[bytes, int]:
    """(value, digest) after setData; `fields` are `unpack(value)`. The hot one: straight code."""
    (_, flags, _, cversion, owner, acl_id, czxid, _, ctime, _,
     _, shown, aversion, shown_owner, _, children, pzxid) = fields  # fmt: skip
    in_digest = not path.startswith(b"/zookeeper/")
    counted = path if in_digest and path != ROOT else b""
    if data is None:
        crc, kept, length, tail = crc32(counted), NULL_DATA, 0, b""
    elif data_id:
        crc, kept, length, tail = crc32(data, crc32(counted)), APART, len(data), _ID.pack(data_id)
    else:
        crc, kept, length, tail = crc32(counted + data), 0, len(data), data
    if flags & LONG_NAME:
        kept |= LONG_NAME
        tail = value[BODY : _tail_start(value)] + tail
    digest = 0
    if in_digest:
        stat = _pack_digest(czxid, zxid, pzxid, ctime, time_ms, version, cversion, aversion, owner)
        digest = crc32(stat, crc)
    head = _pack(
        digest, kept, crc, cversion, owner, acl_id, czxid, zxid, ctime, time_ms,
        version, shown, aversion, shown_owner, length, children, pzxid,
    )  # fmt: skip
    return head + tail, digest


def with_acl(value: bytes, path: bytes, *, acl_id: int, aversion: int) -> bytes:
    """The value after setACL."""
    f = unpack(value)
    return _encode(path, (*f[1:5], acl_id, *f[6:12], aversion, *f[13:]), value[BODY:])


def with_children(value: bytes, path: bytes, *, cversion: int, children: int, pzxid: int) -> bytes:
    """The value after a child came or went."""
    f = unpack(value)
    fields = (f[1], f[2], cversion, *f[4:15], children, pzxid)
    return _encode(path, fields, value[BODY:])


# ---- as a snapshot keeps it

# Of a Znode, behind the data: ACL id, czxid, mzxid, ctime, mtime (8 bytes each), version, cversion
# as stored, aversion (4 each), owner, pzxid (8 each). Source: StatPersisted.
FIXED: Final = struct.Struct(">qqqqqiiiqq")
_FIXED_OWNER: Final = slice(52, 60)
_RESTORED: Final = struct.Struct(">IBI4s8s44s4s4s8sii8s").pack
_NO_INT: Final = bytes(4)
_NO_OWNER: Final = bytes(8)
_INT: Final = struct.Struct(">i")


def from_fixed(
    path: bytes, data: bytes | None, fixed: bytes, data_id: int = 0, long_name: bytes | None = None
) -> bytes:
    """A value from a snapshot, with no children; `adopted` enters them. Hot: straight code."""
    in_digest = not path.startswith(b"/zookeeper/")
    crc = crc32(path) if in_digest and path != ROOT else 0
    if data is None:
        flags, length, tail = NULL_DATA, 0, b""
    else:
        crc = crc32(data, crc)
        length = len(data)
        flags, tail = (APART, _ID.pack(data_id)) if data_id else (0, data)
    if long_name is not None:
        flags |= LONG_NAME
        tail = _LENGTH.pack(len(long_name)) + long_name + tail
    digest = crc32(fixed[8:24] + fixed[60:] + fixed[24:60], crc) if in_digest else 0
    cversion, owner = fixed[44:48], fixed[_FIXED_OWNER]
    shown_owner = owner
    if owner != _NO_OWNER and not is_ephemeral(int.from_bytes(owner, "big", signed=True)):
        shown_owner = _NO_OWNER
    shown = _NO_INT if cversion == _NO_INT else _INT.pack(wrap_int(2 * _INT.unpack(cversion)[0]))
    head = _RESTORED(
        digest, flags, crc, cversion, owner, fixed[:44], shown, fixed[48:52], shown_owner,
        length, 0, fixed[60:],
    )  # fmt: skip
    return head + tail


def adopted(value: bytes, children: int) -> bytes:
    """A value from a snapshot with so many children."""
    shown = wrap_int(2 * unpack(value)[CVERSION] - children)
    return value[:65] + _INT.pack(shown) + value[69:85] + _INT.pack(children) + value[89:]


def fixed_of(value: bytes) -> bytes:
    """The inverse of `from_fixed`: what a snapshot keeps of a node beside its path and data."""
    return value[21:65] + value[9:13] + value[69:73] + value[13:21] + value[89:97]


def restored(
    path: bytes, data: bytes | None, persisted: tuple[int, ...], *, children: int
) -> bytes:
    """A value from the numbers of a snapshot; `persisted` in the order of `FIXED`."""
    return adopted(from_fixed(path, data, FIXED.pack(*persisted)), children)


def persisted_of(value: bytes) -> tuple[int, ...]:
    """The numbers that a snapshot keeps of a node, in the order of `FIXED`."""
    return FIXED.unpack(fixed_of(value))


def digest_of(value: bytes) -> int:
    """The node's part of the tree digest."""
    digest: int = _LENGTH.unpack_from(value)[0]
    return digest


def ascii_digest(value: bytes, path: bytes) -> int:
    """`digest_of` in a JVM whose character set is ASCII: it hashes a path with '?' for each other
    character. Of the value the first BODY bytes will do."""
    f = unpack(value)
    if path.startswith(b"/zookeeper/"):
        return 0
    asked = path.decode(errors="replace").encode("ascii", "replace")
    # What follows the path is the same, so that the two crcs differ by what becomes of the
    # difference of the paths' crcs behind as many zeros.
    zeros = bytes(f[DATA_LENGTH])
    crc = f[2] ^ crc32(zeros, crc32(path) ^ crc32(asked)) ^ crc32(zeros)
    return crc32(_pack_digest(f[6], f[7], f[16], f[8], f[9], f[10], f[3], f[12], f[4]), crc)


def intact(value: bytes, path: bytes, data: bytes | None) -> bool:
    """Whether path, data and Stat are those that crc and digest were made of."""
    f = unpack(value)
    crc = crc32(data or b"", crc32(_digest_path(path) or b""))
    digest = crc32(_pack_digest(f[6], f[7], f[16], f[8], f[9], f[10], f[3], f[12], f[4]), crc)
    return crc == f[2] and (path.startswith(b"/zookeeper/") or digest == f[0])


def _tail_start(value: bytes) -> int:
    """Where the data begins, behind a long name."""
    if value[4] & LONG_NAME:
        length: int = _LENGTH.unpack_from(value, BODY)[0]
        return BODY + 4 + length
    return BODY


def data_of(value: bytes) -> bytes | None:
    """The inline data; of a node whose data lives apart ask `data_id_of` first."""
    flags = value[4]
    if not flags:
        return value[BODY:]
    assert not flags & APART, "data lives apart"
    return None if flags & NULL_DATA else value[_tail_start(value) :]


def data_id_of(value: bytes) -> int:
    """The id that the data is stored under, 0 if it is inline."""
    if not value[4] & APART:
        return 0
    data_id: int = _ID.unpack_from(value, _tail_start(value))[0]
    return data_id


def long_name_of(value: bytes) -> bytes:
    """The name of a node whose key holds only its hash."""
    assert value[4] & LONG_NAME
    return value[BODY + 4 : _tail_start(value)]
