"""The log as the ZAB core sees it, and the Ready that is in the making.

Owns:   what is logged but not applied yet; the epochs; the next Ready.
Invariants:
  1. last_committed <= last_logged <= last_appended, at every `advance`.
  2. Appended is contiguous: in an epoch one by one, a new epoch begins with counter 1.
  3. What is committed is a prefix of what is appended, and is handed out once, in order.
Design: shared by the roles, which come and go; positions are zxids. Txns that are applied are read
        from History; later ones are here in memory, and in the journal.
Not here: who has acknowledged what (leader.py), which part a learner lacks (sync.py).
"""

from __future__ import annotations

from collections import deque
from itertools import chain
from typing import Final, Protocol

from zkstore.errors import RemoteProtocolError
from zkstore.zab.ready import HardState, Proposal, Ready

COUNTER_MAX: Final = 0xFFFFFFFF


def epoch_of(zxid: int) -> int:
    """The upper half: which leader made it."""
    return zxid >> 32


def counter_of(zxid: int) -> int:
    """The lower half; 0 is no txn but the beginning of an epoch."""
    return zxid & COUNTER_MAX


class History(Protocol):
    """The applied log, read only. It may know of later txns too, if they are in the journal."""

    @property
    def first(self) -> int:
        """The log is whole behind this zxid: the oldest txn kept, or where a snapshot stood."""

    @property
    def last(self) -> int:
        """The tree stands here."""

    @property
    def tree_bytes(self) -> int:
        """What a SNAP would send, about."""

    def holds(self, zxid: int) -> bool:
        """Whether this txn is in the log."""

    def last_before(self, zxid: int) -> int:
        """The greatest zxid in the log that is smaller; 0 if there is none."""

    def read(self, after: int, bytes_max: int) -> list[Proposal]:
        """Txns behind `after` (>= first) in order, at least one if there is any."""

    def bytes_after(self, zxid: int) -> int:
        """What a DIFF from there on would send, about."""


class Log:
    """This replica's log and epochs, as they will be when all work in hand is done."""

    def __init__(
        self,
        history: History,
        hard: HardState,
        last_logged: int,
        last_committed: int,
        tail: list[Proposal],
    ) -> None:
        assert last_committed <= last_logged, (last_committed, last_logged)
        assert not tail or tail[-1].zxid == last_logged, (tail[-1].zxid, last_logged)
        assert not tail or tail[0].zxid > last_committed, (tail[0].zxid, last_committed)
        self.history = history
        self.hard = self._hard_logged = hard
        self.last_logged = last_logged  # durable
        self.last_appended = last_logged  # durable, or in a Ready
        self.last_committed = last_committed
        self.outstanding: deque[Proposal] = deque(tail)  # behind last_committed
        self._unapplied: deque[Proposal] = deque()  # committed, not in History yet
        self.next = Ready()
        self.busy: Ready | None = None
        self.dirty = False  # there is something in `next`

    @property
    def quiet(self) -> bool:
        """Nothing waits to be written or applied."""
        ready = self.next
        return self.busy is None and not (ready.must_sync or ready.committed)

    # ---- what the roles do

    def append(self, proposal: Proposal) -> None:
        """Raises: RemoteProtocolError if a txn is left out before this one."""
        zxid, last = proposal.zxid, self.last_appended
        if zxid != last + 1 and (zxid <= last or counter_of(zxid) != 1):
            raise RemoteProtocolError(f"txn {zxid:#x} behind {last:#x}")
        self.last_appended = zxid
        self.next.append.append(proposal)
        self.outstanding.append(proposal)
        self.dirty = True

    def commit(self, upto: int) -> list[Proposal]:
        """All appended up to there is committed; returns what was not before."""
        outstanding = self.outstanding
        committed = []
        while outstanding and outstanding[0].zxid <= upto:
            committed.append(outstanding.popleft())
        if committed:
            self.last_committed = committed[-1].zxid
            self._unapplied += committed
            self.next.committed += committed
            self.dirty = True
        return committed

    def truncate(self, after: int) -> None:
        """Drop what is behind."""
        assert self.quiet, "a synchronisation begins with nothing in hand"
        self.next.truncate_after = self.last_appended = after
        self.last_committed = min(self.last_committed, after)
        for kept in (self.outstanding, self._unapplied):
            while kept and kept[-1].zxid > after:
                kept.pop()
        self.dirty = True

    def replace(self, zxid: int, *, whole: bool) -> None:
        """Another tree stands in place of all this, durably."""
        assert self.quiet, "the tree came behind everything else"
        self.outstanding.clear()
        self._unapplied.clear()
        self.last_logged = self.last_appended = self.last_committed = zxid
        self.hard = self._hard_logged = self.hard._replace(whole=whole)

    def remember(self, hard: HardState) -> None:
        """Epochs that must be durable before what is sent after sync leaves."""
        self.hard = self.next.hard_state = hard
        self.dirty = True

    def remark(self, text: str) -> None:
        """Tell the operator."""
        self.next.remarks.append(text)
        self.dirty = True

    # ---- the round

    def take(self) -> Ready | None:
        """The next work, None if there is none or the last is not done."""
        if self.busy is not None or not self.dirty:
            return None
        self.busy = self.next
        self.next = Ready()
        self.dirty = False
        return self.busy

    def done(self, ready: Ready) -> None:
        """This Ready is durable and applied."""
        assert ready is self.busy
        self.busy = None
        if ready.hard_state is not None:
            self._hard_logged = ready.hard_state
        if ready.truncate_after is not None:
            self.last_logged = ready.truncate_after
        if ready.append:
            self.last_logged = ready.append[-1].zxid
        applied = self.history.last
        unapplied = self._unapplied
        while unapplied and unapplied[0].zxid <= applied:
            unapplied.popleft()

    def undone(self, ready: Ready) -> None:
        """Nothing of this Ready reached journal and tree: forget it, and what was to follow it.

        What was committed and is not applied is outstanding again. Behind a TRUNC that could not
        be done the log is at its old end, but what it holds there is not known here any more.
        """
        assert ready is self.busy
        self.busy = None
        self.next = Ready()
        whole = self.hard.whole and self._hard_logged.whole  # damage stays, journaled or not
        self.hard = self._hard_logged._replace(whole=whole)
        kept = [p for p in chain(self._unapplied, self.outstanding) if p.zxid <= self.last_logged]
        self._unapplied.clear()
        self.outstanding = deque(kept)
        self.last_appended = self.last_logged
        self.last_committed = self.history.last

    # ---- reading

    @property
    def first(self) -> int:
        """DIFFs are possible from here on."""
        history = self.history
        return history.first or history.last

    @property
    def applied(self) -> int:
        """The tree stands here."""
        return self.history.last

    @property
    def tree_bytes(self) -> int:
        """What a SNAP would send, about."""
        return self.history.tree_bytes

    def holds(self, zxid: int) -> bool:
        """Whether this txn is in the log."""
        if zxid <= self.history.last:
            return self.history.holds(zxid)
        return any(p.zxid == zxid for p in chain(self._unapplied, self.outstanding))

    def last_before(self, zxid: int) -> int:
        """The greatest zxid in the log that is smaller; 0 if there is none."""
        found = 0
        for proposal in chain(self._unapplied, self.outstanding):
            if proposal.zxid >= zxid:
                break
            found = proposal.zxid
        return found or self.history.last_before(zxid)

    def bytes_after(self, zxid: int) -> int:
        """What a DIFF from there on would send, about."""
        memory = chain(self._unapplied, self.outstanding)
        applied = self.history.last
        size = sum(len(p.txn) for p in memory if p.zxid > max(zxid, applied))
        return size + (self.history.bytes_after(zxid) if zxid < applied else 0)

    def read(self, after: int, upto: int, bytes_max: int) -> list[Proposal]:
        """Txns in (after, upto], in order, about so many bytes of them."""
        found: list[Proposal] = []
        if after < self.history.last:
            found = [p for p in self.history.read(after, bytes_max) if p.zxid <= upto]
            if not found or found[-1].zxid < self.history.last:
                return found
            after = found[-1].zxid
            bytes_max -= sum(len(p.txn) for p in found)
        for proposal in chain(self._unapplied, self.outstanding):
            if proposal.zxid > upto or bytes_max <= 0:
                break
            if proposal.zxid > after:
                found.append(proposal)
                bytes_max -= len(proposal.txn)
        return found
