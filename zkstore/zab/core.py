"""The ZAB core: which proposals are logged, acknowledged and committed. No I/O, no clock.

Owns:   the leader's outstanding proposals and who has acknowledged each.
Invariants:
  1. last_committed <= last_logged <= last_proposed, always.
  2. A proposal is committed only when a quorum has it in its journal, and only after all before it.
  3. `advance(ready)` is how a server counts its own acknowledgement: "done is durable".
Design: one single-threaded object; input by calls, output as one `Ready` at a time (zab/ready.py).
        A standalone server is the ensemble of one: its own vote is the quorum, nothing else
        differs.
Source: Leader.propose, Leader.processAck, Leader.tryToCommit; design after etcd's raft.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from zkstore.constants import OUTSTANDING_PROPOSALS_MAX
from zkstore.errors import Code, ZooKeeperError
from zkstore.zab.ready import HardState, Proposal, Ready

Quorum = Callable[[frozenset[int]], bool]


class Core:
    """A leader's proposals. `voters` decides what a quorum is: a predicate over sets of server
    ids."""

    def __init__(
        self, *, sid: int, quorum: Quorum, last_logged: int, last_committed: int, hard: HardState
    ) -> None:
        assert last_committed <= last_logged, (last_committed, last_logged)
        self._sid = sid
        self._quorum = quorum
        self.hard_state = hard
        self.last_proposed = last_logged
        self.last_logged = last_logged
        self.last_committed = last_committed
        self.outstanding = 0  # proposals that are not committed yet
        self._unlogged: list[Proposal] = []  # proposed, in no Ready yet
        self._outstanding: deque[Proposal] = deque()  # logged or being so
        self._acked: dict[int, int] = {}  # server id → the last zxid that is in its journal
        self._committed: list[Proposal] = []  # of a quorum, in no Ready yet
        self._busy: Ready | None = None

    def next_zxid(self) -> int:
        """The zxid that the next proposal must bear (its txn's header holds it)."""
        return self.last_proposed + 1

    def propose(self, proposal: Proposal) -> None:
        """Add a proposal.

        Raises: ZooKeeperError(THROTTLED_OP) with OUTSTANDING_PROPOSALS_MAX of them not committed.
        """
        assert proposal.zxid == self.last_proposed + 1, (proposal.zxid, self.last_proposed)
        if self.outstanding >= OUTSTANDING_PROPOSALS_MAX:
            raise ZooKeeperError(Code.THROTTLED_OP, f"{self.outstanding} proposals outstanding")
        self.last_proposed = proposal.zxid
        self.outstanding += 1
        self._unlogged.append(proposal)

    def ready(self) -> Ready | None:
        """The next work, None if there is none or the last is not done."""
        if self._busy is not None or not (self._unlogged or self._committed):
            return None
        ready = Ready(append=self._unlogged, committed=self._committed)
        self._outstanding.extend(self._unlogged)
        self._unlogged, self._committed = [], []
        self._busy = ready
        return ready

    def advance(self, done: Ready) -> None:
        """What this Ready asked for is durable and applied."""
        assert done is self._busy
        self._busy = None
        if done.append:
            self.last_logged = done.append[-1].zxid
            self.acknowledge(self._sid, self.last_logged)

    def acknowledge(self, sid: int, zxid: int) -> None:
        """A voter has everything up to `zxid` in its journal."""
        self._acked[sid] = max(zxid, self._acked.get(sid, 0))
        for candidate in sorted(set(self._acked.values()), reverse=True):
            if candidate <= self.last_committed:
                break
            if self._quorum(frozenset(s for s, z in self._acked.items() if z >= candidate)):
                # Followers may be faster than our own journal; what it lacks is not applied here.
                self._commit(min(candidate, self.last_logged))
                break
        assert self.last_committed <= self.last_logged <= self.last_proposed

    def _commit(self, upto: int) -> None:
        outstanding = self._outstanding
        while outstanding and outstanding[0].zxid <= upto:
            self._committed.append(outstanding.popleft())
            self.outstanding -= 1
        self.last_committed = upto

    def withdraw(self, refused: Ready) -> list[Proposal]:
        """The journal had no room: nothing of this Ready's `append` was written; take its proposals
        back, and those made since.

        Only legal while no other server has seen them: for an ensemble of one, or before they were
        sent.
        """
        assert refused is self._busy and not refused.committed
        self._busy = None
        assert len(self._outstanding) == len(refused.append), "older proposals are outstanding"
        taken_back = refused.append + self._unlogged
        self._outstanding.clear()
        self._unlogged = []
        self.outstanding = 0
        self.last_proposed = self.last_logged
        return taken_back
