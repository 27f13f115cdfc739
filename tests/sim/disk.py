"""The simulated disk of one replica: a journal of atomic records, and the applied tree.

The whole log since the beginning is kept as a shadow: the tree is the fold of it, and the checkers
compare it. What the replica may read of it is bounded by `kept`, as its log is trimmed.
A record is one flush. At a crash the record that was being flushed is there or not, as its checksum
would tell; the tree stands where the last record knew it to be applied, or later.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from random import Random
from typing import NamedTuple

from zkstore.zab.ready import HardState, Proposal


class Record(NamedTuple):
    """What one flush makes durable."""

    truncate_after: int | None
    append: list[Proposal]
    hard_state: HardState | None
    applied: int


class Disk:
    """Durable state, and where the tree stands while the process runs."""

    def __init__(self, kept: int, node_bytes: int, *, emptied: bool = False) -> None:
        self.kept = kept  # txns of the applied log that can be read
        self._node_bytes = node_bytes  # what a txn adds to the tree
        self.log: list[Proposal] = []  # durable
        self.hard = HardState(0, 0)
        self.applied = 0  # of the running process: the tree
        self.gap = 0  # a snapshot stood here: the log begins behind it
        self.short = False  # of room: the server above is told, and lets nothing grow
        self.full = False  # the journal takes no txns, and hardly anything else
        # It takes the place of another, and has not got its data again: an empty one, an old copy.
        self.emptied = emptied
        self.outdated = False
        self._durable_applied = 0
        self._record: Record | None = None  # being flushed

    # ---- the journal

    def write(self, record: Record) -> None:
        """Begin to flush a record."""
        assert self._record is None
        self._record = record

    def flushed(self) -> None:
        """It is durable."""
        record, self._record = self._record, None
        assert record is not None
        if record.truncate_after is not None:
            del self.log[self.position(record.truncate_after) :]
            self.applied = min(self.applied, record.truncate_after)
            self._durable_applied = min(self._durable_applied, record.truncate_after)
        assert not record.append or not self.log or self.log[-1].zxid < record.append[0].zxid
        self.log += record.append
        if record.hard_state is not None:
            self.hard = record.hard_state
            self.emptied &= not self.hard.current_epoch
            # In one epoch with its leader: so it has the leader's history.
            self.outdated &= self.hard.current_epoch != self.hard.accepted_epoch
        self._durable_applied = max(self._durable_applied, min(record.applied, self.applied))

    def install(self, log: list[Proposal], zxid: int, *, whole: bool) -> None:
        """A tree that came as a SNAP takes the place of everything; one record."""
        assert self._record is None
        self.log = list(log)
        self.hard = self.hard._replace(whole=whole)
        self.applied = self._durable_applied = self.gap = zxid

    def copy(self) -> Disk:
        """As it would be found after a crash now."""
        other = Disk(self.kept, self._node_bytes)
        other.log, other.hard, other.gap = list(self.log), self.hard, self.gap
        other.applied = other._durable_applied = self._durable_applied
        return other

    def emptied_copy(self) -> Disk:
        """One that has nothing yet."""
        return Disk(self.kept, self._node_bytes, emptied=True)

    def crash(self, random: Random) -> None:
        """The process or the machine dies."""
        if self._record is not None:
            if random.random() < 0.5:
                self.flushed()
            self._record = None
        if random.random() < 0.5:
            self.applied = self._durable_applied

    def damage(self, random: Random) -> None:
        """The journal's end is gone, and recovery has seen it."""
        self.crash(random)
        keep = random.randint(self.position(self._durable_applied), len(self.log))
        del self.log[keep:]
        self.hard = self.hard._replace(whole=False)

    @property
    def last_logged(self) -> int:
        return max(self.log[-1].zxid if self.log else 0, self.applied)

    def tail(self) -> list[Proposal]:
        """What recovery hands back: journaled, not known to be committed."""
        return self.log[self.position(self.applied) :]

    # ---- the tree

    def apply(self, proposals: Iterable[Proposal]) -> None:
        """Commit to the tree."""
        for proposal in proposals:
            assert proposal.zxid > self.applied
            self.applied = proposal.zxid

    def can_roll_back(self, zxid: int) -> bool:
        """Whether the effects in the log reach so far back."""
        return zxid >= self.applied or zxid >= self.first

    def has(self, proposal: Proposal) -> bool:
        """Whether this txn is durable here."""
        at = self.position(proposal.zxid)
        return at > 0 and self.log[at - 1] == proposal

    def position(self, zxid: int) -> int:
        """How many txns of the log are not behind `zxid`."""
        return bisect_right(self.log, zxid, key=_zxid)

    # ---- History

    def _bounds(self) -> tuple[int, int]:
        """The readable part of the log, as positions."""
        end = self.position(self.applied)
        return max(self.position(self.gap), end - self.kept), end

    @property
    def first(self) -> int:
        since, end = self._bounds()
        if since == self.position(self.gap):
            return self.gap or (self.log[0].zxid if end else 0)
        return self.log[since].zxid if since < end else self.applied

    @property
    def last(self) -> int:
        return self.applied

    @property
    def tree_bytes(self) -> int:
        return self._node_bytes * len(self.log)

    def holds(self, zxid: int) -> bool:
        since, end = self._bounds()
        at = bisect_left(self.log, zxid, since, end, key=_zxid)
        return at < end and self.log[at].zxid == zxid

    def last_before(self, zxid: int) -> int:
        since, end = self._bounds()
        at = bisect_left(self.log, zxid, since, end, key=_zxid)
        return self.log[at - 1].zxid if at > since else 0

    def read(self, after: int, bytes_max: int) -> list[Proposal]:
        since, end = self._bounds()
        at = max(since, self.position(after))
        found = []
        while at < end and bytes_max > 0:
            found.append(self.log[at])
            bytes_max -= len(self.log[at].txn)
            at += 1
        return found

    def bytes_after(self, zxid: int) -> int:
        return sum(len(p.txn) for p in self.log[self.position(zxid) :])


def _zxid(proposal: Proposal) -> int:
    return proposal.zxid
