"""LMDB's keys: one table, one byte of prefix for each kind of record.

Owns:   the key layout; nothing else builds a key. Part of the on-disk format (format_version.py).
Invariants:
  1. The children of a node are one key range, in the order of their names, readable without their
     values.
  2. The log's prefix is the greatest, so that its end is the table's end (LMDB appends there).
Shape:  n + pk(parent) + \\0 + name   a node: tree/node.py's value
            pk(P) is P if it has at most 255 bytes ("" for the root), else \\1 + blake2b-160(P);
            a name of more than 250 bytes is \\1 + blake2b-160(name), and is kept in the value
        d + id (8)                    data too large for its node
        a + id (8)                    an ACL, encoded;   A + blake2b-128(ACL) → its id
        e + session (8) + blake2b-128(path) → path   an ephemeral of a session
        m + word                      what is to be remembered of the generation (storage/fuzzy.py)
        s + session (8) → timeout_ms  a session
        t + blake2b-128(path) → path  a container or TTL node
        z + zxid (8)                  a batch of the log, by its last zxid (storage/txnlog.py)
Design: one unnamed table: a batch dirties a page less than with a table each, as measured for the
        prototype.
"""

from __future__ import annotations

import struct
from hashlib import blake2b
from typing import Final

from zkstore.constants import LMDB_KEY_BYTES_MAX

_LONG: Final = struct.Struct(">q")
pack_long = _LONG.pack

_PARENT_BYTES_MAX: Final = 255
_NAME_BYTES_MAX: Final = 250
assert 1 + _PARENT_BYTES_MAX + 1 + _NAME_BYTES_MAX <= LMDB_KEY_BYTES_MAX

NODE: Final = b"n"
DATA: Final = b"d"
ACL: Final = b"a"
ACL_HASH: Final = b"A"
EPHEMERAL: Final = b"e"
MARK: Final = b"m"
SESSION: Final = b"s"
SWEEP: Final = b"t"
LOG: Final = b"z"
HASHED: Final = b"\1"  # begins a hashed parent or name; no path has this byte


def _hashed(text: bytes) -> bytes:
    return HASHED + blake2b(text, digest_size=20).digest()


def _digest(text: bytes) -> bytes:
    return blake2b(text, digest_size=16).digest()


def node_key(path: bytes) -> bytes:
    """The key of a node; a path that no node can have gets a key that no node has."""
    parent, slash, name = path.rpartition(b"/")
    # "a" must not be taken for "/a", nor a hash that a client sends for the path it stands for.
    if HASHED in path or (not slash and name):
        return b"n" + HASHED
    if len(path) > _NAME_BYTES_MAX:
        if len(parent) > _PARENT_BYTES_MAX:
            parent = _hashed(parent)
        if len(name) > _NAME_BYTES_MAX:
            name = _hashed(name)
    return b"n" + parent + b"\0" + name


def needs_long_name(path: bytes) -> bool:
    """Whether the node's key holds only a hash of its name."""
    return len(path) > _NAME_BYTES_MAX and len(path) - path.rfind(b"/") - 1 > _NAME_BYTES_MAX


def children_prefix(path: bytes) -> bytes:
    """What the keys of a node's children begin with."""
    parent = b"" if path == b"/" else path
    if len(parent) > _PARENT_BYTES_MAX:
        parent = _hashed(parent)
    return b"n" + parent + b"\0"


def deeper_prefix(path: bytes) -> bytes:
    """What the keys of all deeper descendants begin with, but for those behind a hash."""
    return b"n/" if path == b"/" else b"n" + path + b"/"


def hashes_children(path: bytes) -> bool:
    """Whether the keys of the node's children hold only a hash of its path."""
    return len(path) > _PARENT_BYTES_MAX


def tells_paths(key: bytes) -> bool:
    """Whether a node's key tells its path, and the keys of its children theirs: no hashes."""
    return len(key) <= 1 + _PARENT_BYTES_MAX and HASHED not in key


def parent_and_name(key: bytes) -> tuple[bytes, bytes]:
    """A node's parent and name as they are in its key, hashed or not; a parent "" is the root."""
    parent, _, name = key[1:].partition(b"\0")
    return parent, name


def data_key(data_id: int) -> bytes:
    return b"d" + pack_long(data_id)


def acl_key(acl_id: int) -> bytes:
    return b"a" + pack_long(acl_id)


def acl_hash_key(encoded: bytes) -> bytes:
    return b"A" + _digest(encoded)


def ephemerals_prefix(session_id: int) -> bytes:
    return b"e" + pack_long(session_id)


def ephemeral_key(session_id: int, path: bytes) -> bytes:
    return b"e" + pack_long(session_id) + _digest(path)


def session_key(session_id: int) -> bytes:
    return b"s" + pack_long(session_id)


def session_of(key: bytes) -> int:
    session_id: int = _LONG.unpack_from(key, 1)[0]
    return session_id


def sweep_key(path: bytes) -> bytes:
    return b"t" + _digest(path)


def log_key(zxid: int) -> bytes:
    return b"z" + pack_long(zxid)


def zxid_of(key: bytes) -> int:
    zxid: int = _LONG.unpack_from(key, 1)[0]
    return zxid
