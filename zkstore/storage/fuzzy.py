"""A tree that came in as a snapshot may hold parts of txns behind its zxid: until they have come.

Owns:   one record of the generation's file, so that a crash in between does not forget it.
Invariants:
  1. While `pending`, txns are applied by apache/replay.py, which leads to the true tree whatever
     part of them is there already.
  2. Behind `inexact_upto` the log's effects say exactly what was before; up to it they may not, so
     nothing is taken back to an earlier zxid.
Source: Apache sends its tree while txns are applied to it (SerializeUtils.serializeSnapshot).
"""

from __future__ import annotations

from typing import Final, NamedTuple

import lmdb
import msgpack

from zkstore.apache.replay import UNKNOWN_ACL, Replay
from zkstore.errors import CorruptionError
from zkstore.storage import scan, schema
from zkstore.tree import node as nodes
from zkstore.tree.apply import Batch

_KEY: Final = schema.MARK + b"fuzzy"
NEVER: Final = (1 << 63) - 1


class Mark(NamedTuple):
    """`pending`: parts of later txns may be there; `unknown_acls`: paths whose ACL is one of those
    parts, and was not sent."""

    pending: bool = False
    inexact_upto: int = 0
    unknown_acls: tuple[bytes, ...] = ()


def read(lmdb_txn: lmdb.Transaction) -> Mark:
    value = scan.getter(lmdb_txn)(_KEY)
    return Mark() if value is None else Mark(*msgpack.unpackb(value, use_list=False))


def batch_of(lmdb_txn: lmdb.Transaction) -> type[Batch]:
    """What applies txns to this tree."""
    return Replay if read(lmdb_txn).pending else Batch


def pending(unknown_acls: list[bytes]) -> tuple[bytes, bytes]:
    """The record of a tree that has just come in."""
    return _KEY, msgpack.packb(Mark(True, NEVER, tuple(unknown_acls)))


def end(write_txn: lmdb.Transaction, upto: int) -> None:
    """All txns that the tree may have held parts of, up to this one, are applied.

    Raises: CorruptionError if a node is still without its ACL.
    """
    get = scan.getter(write_txn)
    for path in read(write_txn).unknown_acls:
        value = get(schema.node_key(path))
        if value is not None and nodes.unpack(value)[nodes.ACL_ID] == UNKNOWN_ACL:
            raise CorruptionError(
                f"node {path.decode(errors='replace')}: its ACL was not in the snapshot, and no"
                " txn behind it says it"
            )
    write_txn.put(_KEY, msgpack.packb(Mark(False, upto)))
