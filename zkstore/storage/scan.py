"""Ranges of LMDB's table, with their types: what py-lmdb hands out is bytes, as no transaction asks
for buffers.

Owns:   nothing; a cursor lives as long as the iteration.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import cast

import lmdb

Item = tuple[bytes, bytes]


def getter(lmdb_txn: lmdb.Transaction) -> Callable[[bytes], bytes | None]:
    """The transaction's get."""
    return cast("Callable[[bytes], bytes | None]", lmdb_txn.get)


def items(lmdb_txn: lmdb.Transaction, prefix: bytes, since: bytes = b"") -> Iterator[Item]:
    """(key, value) of all keys that begin with the prefix, in order, from `since` on."""
    with lmdb_txn.cursor() as cursor:
        if not cursor.set_range(since or prefix):
            return
        for item in cursor.iternext():
            key, value = cast(Item, item)
            if not key.startswith(prefix):
                return
            yield key, value


def keys(lmdb_txn: lmdb.Transaction, prefix: bytes, since: bytes = b"") -> Iterator[bytes]:
    """The keys alone, from `since` on: their values are not read."""
    with lmdb_txn.cursor() as cursor:
        if not cursor.set_range(since or prefix):
            return
        for one in cursor.iternext(keys=True, values=False):
            key = cast(bytes, one)
            if not key.startswith(prefix):
                return
            yield key


def first(lmdb_txn: lmdb.Transaction, prefix: bytes) -> Item:
    """The first item with the prefix; there is one."""
    for item in items(lmdb_txn, prefix):
        return item
    raise AssertionError(f"no key begins with {prefix!r}")


def backwards(lmdb_txn: lmdb.Transaction, prefix: bytes) -> Iterator[Item]:
    """(key, value) from the table's end on, while keys begin with the prefix."""
    with lmdb_txn.cursor() as cursor:
        if not cursor.last():
            return
        for item in cursor.iterprev():
            key, value = cast(Item, item)
            if not key.startswith(prefix):
                return
            yield key, value


def last(lmdb_txn: lmdb.Transaction) -> Item:
    """The last item of the table."""
    with lmdb_txn.cursor() as cursor:
        found = cursor.last()
        assert found, "the table is empty"
        return cast(Item, cursor.item())
