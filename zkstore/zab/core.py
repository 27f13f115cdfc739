"""The ensemble of one: which proposals are logged and committed. No I/O, no clock.

Owns:   the proposals of a standalone server that are not committed.
Invariants:
  1. last_committed == last_logged <= last_proposed, always: its own journal is the quorum.
  2. There is one Ready at a time; what it appends is committed with it, so that one flush and one
     LMDB transaction do both.
Design: the part of a member's Peer (zab/peer.py) that is left where nobody else votes, behind the
        same Ready, so that all else is the same.
Source: Leader.propose, Leader.tryToCommit; design after etcd's raft.
"""

from __future__ import annotations

from zkstore.constants import OUTSTANDING_PROPOSALS_MAX
from zkstore.errors import Code, ZooKeeperError
from zkstore.zab.ready import Proposal, Ready


class Core:
    """A standalone server's proposals."""

    def __init__(self, *, last_logged: int) -> None:
        self.last_proposed = last_logged
        self.last_committed = last_logged
        self._unlogged: list[Proposal] = []  # proposed, in no Ready yet
        self._busy: Ready | None = None

    def next_zxid(self) -> int:
        """The zxid that the next proposal must bear (its txn's header holds it)."""
        return self.last_proposed + 1

    @property
    def outstanding(self) -> int:
        """Proposals that are not committed yet."""
        return self.last_proposed - self.last_committed

    def propose(self, proposal: Proposal) -> None:
        """Add a proposal.

        Raises: ZooKeeperError(THROTTLED_OP) with OUTSTANDING_PROPOSALS_MAX of them not committed.
        """
        zxid = proposal[0]
        assert zxid == self.last_proposed + 1, (zxid, self.last_proposed)
        if zxid - self.last_committed > OUTSTANDING_PROPOSALS_MAX:
            raise ZooKeeperError(Code.THROTTLED_OP, f"{self.outstanding} proposals outstanding")
        self.last_proposed = zxid
        self._unlogged.append(proposal)

    def ready(self) -> Ready | None:
        """The next work, None if there is none or the last is not done."""
        if self._busy is not None or not self._unlogged:
            return None
        self._busy = ready = Ready(append=self._unlogged, committed=self._unlogged)
        self._unlogged = []
        return ready

    def advance(self, done: Ready) -> None:
        """What this Ready asked for is durable and applied."""
        assert done is self._busy
        self._busy = None
        self.last_committed = done.append[-1].zxid

    def withdraw(self, refused: Ready) -> list[Proposal]:
        """The journal had no room: nothing of this Ready was written; take its proposals back, and
        those made since."""
        assert refused is self._busy
        self._busy = None
        taken_back = refused.append + self._unlogged
        self._unlogged = []
        self.last_proposed = self.last_committed
        return taken_back
