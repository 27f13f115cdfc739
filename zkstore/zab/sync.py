"""How a learner is brought up to date: by what it lacks, by dropping what only it has, or anew.

Invariants:
  1. After a DIFF or TRUNC the learner's log is a prefix of the leader's, ending at `after`.
  2. A SNAP never takes a learner behind what it may have acknowledged: who stands where our tree
     stands, or later, gets no SNAP for the sake of size.
Design: a pure function of two logs. Why TRUNC finds the right place: who holds a txn of epoch e
        holds the whole history that e began with, and so does each leader since; so of two logs
        either one is a prefix of the other, or both hold the txn before the first that differs.
Source: LearnerHandler.syncFollower, queueCommittedProposals.
"""

from __future__ import annotations

from typing import Final, NamedTuple, Protocol

from zkstore.proto.quorum import DIFF, SNAP, TRUNC
from zkstore.zab.proposals import counter_of

SNAPSHOT_SIZE_FACTOR: Final = 0.33  # of the tree; a longer DIFF is dearer than a SNAP
DIFF_BYTES_MIN: Final = 16 << 20  # below, the tree's size does not matter


class Kept(Protocol):
    """The leader's log, as far as the choice needs it."""

    @property
    def first(self) -> int: ...
    @property
    def applied(self) -> int: ...
    @property
    def tree_bytes(self) -> int: ...
    def holds(self, zxid: int) -> bool: ...
    def last_before(self, zxid: int) -> int: ...
    def bytes_after(self, zxid: int) -> int: ...


class Plan(NamedTuple):
    """`mode` is the type of the packet, `zxid` what it bears; txns behind `after` follow."""

    mode: int
    zxid: int
    after: int


def choose(peer: int, last: int, kept: Kept, *, zkstore: bool, factor: float) -> Plan:
    """The plan for a learner whose log ends at `peer`; ours (as far as it counts) ends at `last`.

    `zkstore`: the learner is one of ours and can drop any txns. `factor`: snapshotSizeFactor,
    negative: a DIFF of any length.
    """
    snap = Plan(SNAP, last, last)
    if peer == last:
        return Plan(DIFF, last, peer)
    if peer > last:
        # An epoch without txns: the tree may stand there by a SNAP, there is nothing to drop.
        return snap if counter_of(peer) == 0 else Plan(TRUNC, last, last)
    # At 0: who has lost everything says so too, and must not take it for its old log.
    if peer == 0 or peer < kept.first or _is_too_long(peer, kept, factor):
        return snap
    before = kept.last_before(peer)
    if peer == kept.first or kept.holds(peer) or (counter_of(peer) == 0 and before >= kept.first):
        return Plan(DIFF, last, peer)
    # Apache's learners drop what another epoch brought only with the whole tree.
    if before >= kept.first and (zkstore or before >= kept.applied):
        return Plan(TRUNC, before, before)
    return snap


def _is_too_long(peer: int, kept: Kept, factor: float) -> bool:
    if factor < 0 or peer >= kept.applied:
        return False
    size = kept.bytes_after(peer)
    return size > DIFF_BYTES_MIN and size > factor * kept.tree_bytes
