"""What a member tells of its ensemble: the rows of `mntr`, `srvr` and `conf` that a lone server has
not.

Owns:   the counts since the start, the sizes of proposals.
Invariants:
  1. True, as observability/metrics.py: what is told was counted or is so at this moment.
Source: QuorumZooKeeperServer.dumpConf, LeaderZooKeeperServer.registerMetrics, BufferStats;
        reference N and P.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import Final

from zkstore.proto import quorum
from zkstore.proto.quorum import Role
from zkstore.settings import Settings
from zkstore.zab.leader import Stage
from zkstore.zab.membership import Membership
from zkstore.zab.peer import Peer
from zkstore.zab.ready import Ready

# Counted from packets that leave: by their type.
_SENT: Final = {quorum.DIFF: "diff_count", quorum.TRUNC: "diff_count"}
_COUNTERS: Final = (
    "commit_count",
    "diff_count",
    "learner_commit_received_count",
    "learner_proposal_received_count",
    "looking_count",
    "proposal_count",
    "snap_count",
)
_STATES: Final = {
    Role.LOOKING: "leaderelection",
    Role.LEADING: "leading - broadcast",
    Role.FOLLOWING: "following - broadcast",
    Role.OBSERVING: "observing - broadcast",
}
_ELECTION_ALGORITHM: Final = 3  # the only one there is


class Standing:
    """One member's."""

    def __init__(self, settings: Settings, membership: Membership, peer: Peer) -> None:
        self._settings = settings
        self._membership = membership
        self._peer = peer
        self._counters = Counter(dict.fromkeys(_COUNTERS, 0))
        self._leads_since = 0.0
        self._sizes = (-1, -1, -1)  # last, least, greatest proposal, in bytes

    # ---- what is counted

    def performed(self, ready: Ready) -> None:
        """A Ready is being performed."""
        counters, leading = self._counters, self._peer.leading
        for _, packet in ready.send:
            if packet.type in _SENT:
                counters[_SENT[packet.type]] += 1
        counters["snap_count"] += len(ready.send_snapshot)
        prefix = "" if leading else "learner_"
        suffix = "" if leading else "_received"
        counters[f"{prefix}proposal{suffix}_count"] += len(ready.append)
        counters[f"{prefix}commit{suffix}_count"] += len(ready.committed)
        if leading and ready.append:
            sizes = [len(proposal.txn) for proposal in ready.append]
            _, least, greatest = self._sizes
            least = min(sizes) if least < 0 else min(least, *sizes)
            self._sizes = sizes[-1], least, max(greatest, *sizes)
        if ready.role is Role.LOOKING:
            counters["looking_count"] += 1
        elif ready.role is Role.LEADING and ready.serving:
            self._leads_since = time.monotonic()
            self._sizes = -1, -1, -1

    # ---- what is told

    @property
    def state(self) -> str:
        """mntr's peer_state."""
        return _STATES[self._peer.role]

    @property
    def proposal_sizes(self) -> tuple[int, int, int] | None:
        """(last, least, greatest) of a leader; -1: none yet. None: we do not lead."""
        return self._sizes if self._peer.leading else None

    def rows(self) -> dict[str, object]:
        """mntr's rows, by their names."""
        rows: dict[str, object] = {"quorum_size": len(self._membership.voters)}
        rows |= self._counters
        if self._peer.leading:
            learners = list(self._peer.learners.values())
            live = [one for one in learners if one.stage is Stage.LIVE]
            last, least, greatest = self._sizes
            rows |= {
                "learners": sum(one.stage > Stage.GREETING for one in learners),
                "synced_followers": sum(one.voter for one in live),
                "synced_non_voting_followers": sum(
                    not one.voter and not one.observer for one in live
                ),
                "synced_observers": sum(one.observer for one in live),
                "pending_syncs": self._peer.pending_syncs,
                "leader_uptime": int((time.monotonic() - self._leads_since) * 1000),
                "last_proposal_size": last,
                "min_proposal_size": least,
                "max_proposal_size": greatest,
            }
        elif self._peer.role is Role.FOLLOWING:
            rows["synced_observers"] = 0  # none takes its history from a follower
        return rows

    def conf(self) -> dict[str, object]:
        """conf's rows."""
        settings = self._settings
        sid = settings.server_id
        address = self._membership.members[sid].addresses[0]
        return {
            "initLimit": settings.init_limit_ticks,
            "syncLimit": settings.sync_limit_ticks,
            "electionAlg": _ELECTION_ALGORITHM,
            "electionPort": address.election_port,
            "quorumPort": address.quorum_port,
            "peerType": int(sid in self._membership.observers),
        }

    @property
    def membership(self) -> str:
        """conf's last line and the text behind it."""
        return f"membership: \n{self._membership.text().decode()}"
