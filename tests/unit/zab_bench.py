"""One member's core on a bench: what comes in is put in by hand, every Ready is done at once."""

from __future__ import annotations

from collections.abc import Callable

from zkstore.jute.codec import pack_int
from zkstore.proto import quorum as q
from zkstore.proto.quorum import LearnerInfo, Notification, Packet, Role
from zkstore.zab.membership import Address, Member, Membership
from zkstore.zab.peer import Peer
from zkstore.zab.ready import HardState, Proposal, Ready
from zkstore.zab.timing import Timing

TICK_MS = 100
TIMING = Timing(tick_ms=TICK_MS, init_limit=10, sync_limit=5)
LEADER, SECOND, THIRD, OBSERVER, STRANGER = 3, 1, 2, 4, 77
ZKSTORE, JAVA = q.ZKSTORE_PROTOCOL, q.JAVA_PROTOCOL


def members(*voters: int) -> Membership:
    address = (Address("host", 1, 2),)
    return Membership(
        [*(Member(sid, address) for sid in voters), Member(OBSERVER, address, observer=True)]
    )


OF_THREE = members(1, 2, 3)


def log(epoch: int, count: int) -> list[Proposal]:
    return [Proposal(epoch << 32 | n, b"txn") for n in range(1, count + 1)]


class Applied:
    """A history in memory."""

    tree_bytes = 1 << 30

    def __init__(self, proposals: list[Proposal]) -> None:
        self.log = list(proposals)
        self.at = self.log[-1].zxid if self.log else 0

    @property
    def first(self) -> int:
        return self.log[0].zxid if self.log else 0

    @property
    def last(self) -> int:
        return self.at

    def holds(self, zxid: int) -> bool:
        return any(p.zxid == zxid for p in self.log)

    def last_before(self, zxid: int) -> int:
        return max((p.zxid for p in self.log if p.zxid < zxid), default=0)

    def read(self, after: int, bytes_max: int) -> list[Proposal]:
        return [p for p in self.log if p.zxid > after][: max(1, bytes_max // 3)]

    def bytes_after(self, zxid: int) -> int:
        return 3 * sum(p.zxid > zxid for p in self.log)


class Bench:
    """A member, and what it said and did since `take`."""

    def __init__(
        self,
        sid: int,
        *,
        applied: list[Proposal] | None = None,
        tail: list[Proposal] | None = None,
        hard: HardState | None = None,
        membership: Membership = OF_THREE,
        why_refused: Callable[[], str] = str,
    ) -> None:
        self.history = Applied(applied or [])
        last = self.history.last
        epoch = last >> 32
        self.peer = Peer(
            sid, membership, TIMING, self.history, hard or HardState(epoch, epoch),
            tail[-1].zxid if tail else last, last, tail or [], why_refused=why_refused,
        )  # fmt: skip
        self.sid = sid
        self.done: list[Ready] = []
        self.perform()

    def perform(self) -> list[Ready]:
        """Do what it wants; returns the Readies of this call."""
        since = len(self.done)
        while (ready := self.peer.ready()) is not None:
            self.finish(ready)
        return self.done[since:]

    def finish(self, ready: Ready) -> None:
        if ready.truncate_after is not None:
            self.history.log = [p for p in self.history.log if p.zxid <= ready.truncate_after]
            self.history.at = min(self.history.at, ready.truncate_after)
        self.history.log += ready.committed
        if ready.committed:
            self.history.at = ready.committed[-1].zxid
        self.done.append(ready)
        self.peer.advance(ready)

    def take(self) -> list[tuple[int, Packet]]:
        """All packets since the last call, performed before."""
        self.perform()
        sent = [one for ready in self.done for one in ready.send + ready.send_after_sync]
        self.done.clear()
        return sent

    def said(self, link: int) -> list[tuple[int, int]]:
        """(type, zxid) of what was sent on a link since the last call, but PINGs."""
        return [(p.type, p.zxid) for at, p in self.take() if at == link and p.type != q.PING]

    def hung_up(self) -> dict[int, str]:
        """Why links were ended since the last `take`."""
        self.perform()
        return {link: why for ready in self.done for link, why in ready.hang_up}

    def pass_ms(self, elapsed_ms: int) -> None:
        for _ in range(elapsed_ms // 10):
            self.peer.tick(10)
            self.perform()

    # ---- the others

    def vote(self, sid: int, leader: int, *, rounds: int = 0) -> None:
        """`sid` is for `leader`, with an epoch and zxid that nobody beats, so many rounds later."""
        election_epoch = self.peer._election.round + rounds
        message = Notification(Role.LOOKING, leader, 1 << 60, election_epoch, 1 << 20)
        self.peer.notification(sid, message)
        self.perform()

    def elect(self, leader: int) -> None:
        """The others vote for `leader`, and time passes."""
        own = self.peer._election.vote
        for sid in OF_THREE.voters - {self.sid}:
            if leader == self.sid:
                self.peer.notification(
                    sid,
                    Notification(
                        Role.LOOKING, leader, own.zxid, own.election_epoch, own.peer_epoch
                    ),
                )
            else:
                self.vote(sid, leader)
        self.pass_ms(250)

    def learner(
        self, link: int, sid: int, *, accepted: int = 0, protocol: int = ZKSTORE, kind: int = 0
    ) -> None:
        """Somebody connects and says who it is."""
        self.peer.opened(link)
        info = LearnerInfo(sid, protocol, 0).encode()
        self.hear(link, kind or q.FOLLOWERINFO, accepted << 32, info)

    def hear(self, link: int, kind: int, zxid: int, data: bytes | None = None) -> None:
        self.peer.packet(link, Packet(kind, zxid, data))
        self.perform()

    def promise(self, link: int, zxid: int = 0, *, current: int = 0) -> None:
        self.hear(link, q.ACKEPOCH, zxid, pack_int(current))

    def join(self, link: int, sid: int, zxid: int = 0, *, protocol: int = ZKSTORE) -> None:
        """A follower goes all the way to ACK(NEWLEADER)."""
        self.learner(link, sid, protocol=protocol)
        self.promise(link, zxid)
        self.hear(link, q.ACK, self.peer.epoch << 32)
