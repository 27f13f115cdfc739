"""ClickHouse Keeper's operations on the wire, 501 to 507, and zkstore's paged list.

Owns:   nothing; pure.
Invariants:
  1. As in proto/requests.py: a body that ends early raises RemoteProtocolError and nothing else.
Shape:  500 FilteredList    path, bool watch, byte which         → names, Stat
        501 CheckNotExists  path, int version                    → nothing
        502 CreateIfNotExists, as create                         → path
        503 RemoveRecursive path, uint limit                     → nothing
        504 CheckStat       path, int version, Stat              → nothing
        505 TryRemove       path, int version                    → nothing
        506 … StatsAndData  path, bool watch, byte which, bool stats, bool data
                                                        → names, Stat, vector<Stat>, vector<buffer>
        507 ListRecursive   path, uint limit                     → paths
        1001 list page      path, ustring after, int limit, bool stats, bool data
                                                  → names, Stat, vector<Stat>, vector<buffer>, bool
Design: no handshake announces them. A client asks for FEATURE_FLAGS_PATH and finds out, as it does
        on a Keeper; whoever does not ask finds ZooKeeper's own operations, and nothing else.
Not here: what the operations do (frontend/keeper_reads.py, tree/keeper_prep.py).
Source: ClickHouse, ZooKeeperCommon.cpp and KeeperFeatureFlags.h.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from zkstore.errors import RemoteProtocolError
from zkstore.jute.codec import pack_int, read_bool, read_buffer, read_int, read_text
from zkstore.proto import opcodes as op
from zkstore.proto import requests
from zkstore.proto.requests import BODY, Create, MultiOp, PathInt

FEATURE_FLAGS_PATH: Final = b"/keeper/feature_flags"
API_VERSION_PATH: Final = b"/keeper/api_version"
ZKSTORE_PATH: Final = b"/keeper/zkstore"  # the version of zkstore's own operations

API_VERSION: Final = b"4"  # for clients older than the flags: remove recursive, and all before it
ZKSTORE_VERSION: Final = b"1"

_FLAGS: Final = (
    "FILTERED_LIST", "MULTI_READ", "CHECK_NOT_EXISTS", "CREATE_IF_NOT_EXISTS", "REMOVE_RECURSIVE",
    "MULTI_WATCHES", "CHECK_STAT", "PERSISTENT_WATCHES", "CREATE_WITH_STATS", "TRY_REMOVE",
    "LIST_WITH_STAT_AND_DATA",
)  # fmt: skip


def _feature_flags() -> bytes:
    """All of them are there: flag n is bit 7 - n % 8 of byte n / 8."""
    count = len(_FLAGS)
    return (((1 << count) - 1) << (-count % 8)).to_bytes((count + 7) // 8, "big")


FEATURE_FLAGS: Final = _feature_flags()

# Which children a list is of.
ALL: Final = 0
PERSISTENT_ONLY: Final = 1
EPHEMERAL_ONLY: Final = 2

# What a client reads to find out, and what it finds.
HIDDEN: Final = {
    FEATURE_FLAGS_PATH: FEATURE_FLAGS,
    API_VERSION_PATH: API_VERSION,
    ZKSTORE_PATH: ZKSTORE_VERSION,
}

_STAT: Final = struct.Struct(">qqqqiiiqiiq")
Stat = tuple[int, ...]


class List(NamedTuple):
    """500 and 506."""

    path: bytes
    watch: bool
    which: int
    stats: bool
    data: bool


class Page(NamedTuple):
    """1001."""

    path: bytes
    after: bytes  # a name, there or not; empty: from the first on
    limit: int
    stats: bool
    data: bool


class CheckStat(NamedTuple):
    """504; -1 in the Stat is any value."""

    path: bytes
    version: int
    stat: Stat


Write = Create | PathInt | CheckStat


def read_list(frame: bytes, kind: int, offset: int) -> tuple[List, int]:
    """500 and 506."""
    path, offset = _read_path(frame, offset)
    watch, offset = read_bool(frame, offset)
    if offset >= len(frame) or frame[offset] > EPHEMERAL_ONLY:
        raise RemoteProtocolError("no type of list")
    which = frame[offset]
    offset += 1
    stats = data = False
    if kind == op.LIST_WITH_STATS_AND_DATA:
        stats, offset = read_bool(frame, offset)
        data, offset = read_bool(frame, offset)
    return List(path, watch, which, stats, data), offset


def read_page(frame: bytes, offset: int) -> Page:
    path, offset = _read_path(frame, offset)
    after, offset = read_text(frame, offset)
    limit, offset = read_int(frame, offset)
    stats, offset = read_bool(frame, offset)
    data, offset = read_bool(frame, offset)
    return Page(path, after, limit, stats, data)


def read_path_limit(frame: bytes, offset: int) -> tuple[tuple[bytes, int], int]:
    """503 and 507; the limit has no sign."""
    path, offset = _read_path(frame, offset)
    limit, offset = read_int(frame, offset)
    return (path, limit & 0xFFFFFFFF), offset


def _read_path(frame: bytes, offset: int) -> tuple[bytes, int]:
    path, offset = read_buffer(frame, offset)
    if path is None:
        raise RemoteProtocolError("null path")
    return path, offset


def read_write(frame: bytes, kind: int, offset: int) -> tuple[Write, int]:
    """501 to 505."""
    if kind == op.CREATE_IF_NOT_EXISTS:
        return requests.read_create(frame, op.CREATE, offset)
    if kind == op.REMOVE_RECURSIVE:
        return read_path_limit(frame, offset)
    if kind == op.CHECK_STAT:
        path, offset = _read_path(frame, offset)
        version, offset = read_int(frame, offset)
        if len(frame) - offset < _STAT.size:
            raise RemoteProtocolError("the Stat ends early")
        return CheckStat(path, version, _STAT.unpack_from(frame, offset)), offset + _STAT.size
    return requests.read_path_int(frame, offset)


def unpack_stat(encoded: bytes) -> Stat:
    """The eleven numbers of a Stat."""
    return _STAT.unpack(encoded)


class MultiWrite(NamedTuple):
    """One operation in a multi: Apache's, or with `own` one of Keeper's."""

    kind: int
    apache: MultiOp | None
    own: Write | None


def read_multi(frame: bytes) -> list[MultiWrite]:
    """The operations of a multi that has Keeper's among them."""
    ops: list[MultiWrite] = []
    offset = BODY
    while (header := _read_header(frame, offset)) is not None:
        kind, offset = header
        if kind in op.KEEPER_WRITES:
            own, offset = read_write(frame, kind, offset)
            ops.append(MultiWrite(kind, None, own))
        elif kind in requests.WRITE_KINDS:
            one, offset = requests.read_sub(frame, kind, offset)
            ops.append(MultiWrite(one.type, one, None))
        else:
            raise RemoteProtocolError(f"operation {kind} in a multi")
    return ops


READ_KINDS: Final = frozenset(
    (
        op.EXISTS, op.GET_DATA, op.GET_CHILDREN, op.GET_CHILDREN2, op.FILTERED_LIST,
        op.LIST_WITH_STATS_AND_DATA,
    )
)  # fmt: skip


def read_multi_read(frame: bytes) -> list[tuple[int, bytes]]:
    """The operations of a multiRead: type, and the body as a request's frame has it.

    Shape:  each body begins at BODY of its own bytes, for the handler of that read.
    """
    ops: list[tuple[int, bytes]] = []
    offset = BODY
    while (header := _read_header(frame, offset)) is not None:
        kind, start = header
        if kind in (op.FILTERED_LIST, op.LIST_WITH_STATS_AND_DATA):
            _, offset = read_list(frame, kind, start)
        elif kind in READ_KINDS:
            _, _, offset = requests.read_path_bool(frame, start)
        else:
            raise RemoteProtocolError(f"operation {kind} in a multiRead")
        ops.append((kind, bytes(4) + pack_int(kind) + frame[start:offset]))
    return ops


def _read_header(frame: bytes, offset: int) -> tuple[int, int] | None:
    """A MultiHeader {int type, bool done, int err}; None at the end."""
    kind, offset = read_int(frame, offset)
    done, offset = read_bool(frame, offset)
    _, offset = read_int(frame, offset)
    return None if done else (kind, offset)
