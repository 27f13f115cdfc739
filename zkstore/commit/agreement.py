"""Whether the trees of our replicas are the same, and if not, whether ours is the one that differs.

Owns:   what voters told of their trees; which zxids were judged.
Invariants:
  1. Nobody is accused who cannot be known to be wrong: a tree is outvoted when a quorum of the
     voters had one digest behind a txn, and it had another.
  2. Bounded: the digests of ZXIDS_MAX zxids, one for each voter.
Design: the leader tells a digest with its PINGs, learners answer with their own behind that txn,
        and with the next PINGs they learn what a quorum had. So each replica judges itself, the
        leader too. Apache's servers tell nothing, and count neither way.
Not here: the digests (storage/digests.py), what becomes of who is outvoted (commit/member.py).
"""

from __future__ import annotations

from typing import Final

from zkstore.proto.quorum import Digest, Told
from zkstore.storage.digests import Digests
from zkstore.zab.membership import Membership

ZXIDS_MAX: Final = 16  # a leader's PINGs that may be on their way at once


class Agreement:
    """One replica's part."""

    def __init__(self, sid: int, membership: Membership, digests: Digests) -> None:
        self.outvoted: int | None = None  # the zxid behind which our tree was
        self.reached: Digest | None = None  # the last that a quorum is known to have had
        self._sid = sid
        self._membership = membership
        self._digests = digests
        self._told: dict[int, dict[int, int]] = {}  # zxid → sid → digest

    def begin(self) -> None:
        """Another leader, or ourselves."""
        self.outvoted = self.reached = None
        self._told.clear()

    def hear(self, told: Told) -> Digest | None:
        """Our leader has told this; returns what to answer."""
        if told.quorum is not None:
            self._judge(told.quorum)
        if told.tree is None:
            return None
        self._digests.compare(*told.tree)
        zxid, _ = told.tree
        ours = self._digests.at(zxid)
        return None if ours is None else (zxid, ours)

    def answered(self, sid: int, digest: Digest) -> None:
        """A voter that learns from us answers."""
        zxid, theirs = digest
        ours = self._digests.at(zxid)
        if ours is None:
            return
        told = self._told.setdefault(zxid, {self._sid: ours})
        told[sid] = theirs
        if len(self._told) > ZXIDS_MAX:
            del self._told[min(self._told)]
        is_news = self.reached is None or zxid > self.reached[0]
        same = {voter for voter, its in told.items() if its == theirs}
        if is_news and self._membership.is_quorum(same):
            self.reached = digest
            self._judge(digest)

    def _judge(self, digest: Digest) -> None:
        if self._digests.contradicts(*digest):
            self.outvoted = digest[0]
