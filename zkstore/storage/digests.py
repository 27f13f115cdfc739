"""Digests of the tree at some zxids, and whether those that a leader tells are ours.

Owns:   the last DIGESTS_MAX digests, one each DIGEST_INTERVAL zxids; how many did not agree.
Invariants:
  1. A difference is counted and told, and changes nothing: whose tree is wrong nobody knows here.
Source: DataTree.compareDigest, DigestWatcher.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import Final

from zkstore.apache import log as apache_log
from zkstore.constants import DIGESTS_MAX
from zkstore.observability.log import Limited

_U64: Final = (1 << 64) - 1
# Where a txn may bear the digest of the tree behind it, and how that begins (apache/log.py).
_AT: Final = slice(-12, -8)
_MARK: Final = b"\0\0\0\2"


class Digests:
    """Of one replica's tree."""

    def __init__(self) -> None:
        self.kept: deque[tuple[int, int]] = deque(maxlen=DIGESTS_MAX)  # (zxid, digest)
        self.mismatches = 0
        self._compared = 0  # the last zxid at which a zkstore leader told its own
        self._differs = Limited(logging.getLogger("zkstore.storage"), logging.ERROR)

    def cut(self, upto: int) -> None:
        """The tree goes back to `upto`."""
        self.kept = deque((one for one in self.kept if one[0] <= upto), maxlen=DIGESTS_MAX)

    def compare_txn(self, encoded: bytes, digest: int) -> None:
        """A txn that is applied, with the tree's digest behind it: Apache's may bear the
        leader's."""
        if encoded[_AT] != _MARK:
            return
        _, txn, told = apache_log.split(encoded)
        if told is not None:
            self._check(txn.zxid, told, digest)

    def compare(self, zxid: int, told: int) -> None:
        """A zkstore leader tells the digest that its tree had behind a txn."""
        if zxid <= self._compared:
            return
        self._compared = zxid
        for at, digest in reversed(self.kept):
            if at <= zxid:
                if at == zxid:
                    self._check(zxid, told, digest)
                return

    def last(self) -> tuple[int, int] | None:
        """(zxid, digest) to tell others, the digest unsigned."""
        if not self.kept:
            return None
        zxid, digest = self.kept[-1]
        return zxid, digest & _U64

    def _check(self, zxid: int, told: int, ours: int) -> None:
        if told == ours & _U64:
            return
        self.mismatches += 1
        self._differs(
            "behind txn %#x the leader's tree has digest %#x, ours %#x (a JVM that does not run"
            " with UTF-8 counts other digests for paths that are not ASCII)",
            zxid, told, ours & _U64,
        )  # fmt: skip
