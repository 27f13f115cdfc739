"""A follower or observer: takes over its leader's history, then logs and commits what it says.

Owns:   how far it is with its one leader.
Invariants:
  1. The epoch is in the journal before ACKEPOCH leaves; what the synchronisation brought, and the
     current epoch, before ACK(NEWLEADER); a txn before its ACK.
  2. Before UPTODATE nothing is applied and nothing but the above is said.
  3. The log is at each moment a prefix of the leader's: the stream is journaled as it comes.
Design: what was kept at ACKEPOCH and all that was committed by the stream is committed at UPTODATE:
        the leader will not commit it again. A leader of ours takes one ACK for all before it.
        A reconfig of an Apache ensemble is a txn like others: the own membership stays as it was
        configured.
Source: Learner.registerWithLeader, Learner.syncWithLeader; Follower, Observer.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from zkstore.errors import RemoteProtocolError
from zkstore.jute.codec import pack_int
from zkstore.proto import quorum as q
from zkstore.proto.quorum import LearnerInfo, Packet
from zkstore.zab.membership import Membership
from zkstore.zab.proposals import Log, counter_of, epoch_of
from zkstore.zab.ready import Proposal, Snapshot
from zkstore.zab.timing import Timing

_SID_BYTES: Final = 8  # whom a reconfig wants for a leader, in front of its txn


class Stage(IntEnum):
    """How far we have come."""

    DIALLING = 0
    REGISTERED = 1  # FOLLOWERINFO sent
    PROMISED = 2  # ACKEPOCH sent, or being flushed
    SNAPSHOT = 3  # a helper process receives the tree
    SYNCING = 4  # DIFF or TRUNC came; the log is being filled
    SYNCED = 5  # NEWLEADER came
    LIVE = 6  # UPTODATE came: serving


class Learner:
    """The part of a Peer that learns. What it wants done goes to `log.next`.

    `ended` says why it has to give up, if it has to.
    """

    def __init__(
        self,
        sid: int,
        membership: Membership,
        timing: Timing,
        log: Log,
        *,
        link: int,
        leader_sid: int,
        observer: bool,
        anew: bool = False,
    ) -> None:
        """`anew`: take the whole tree, whatever is here."""
        self.anew = anew  # until the leader has answered
        self.ended: str | None = None
        self.stage = Stage.DIALLING
        self.epoch = 0
        self.link = link
        self.zkstore = False  # whether the leader is one of ours
        self._sid = sid
        self._membership = membership
        self._timing = timing
        self._log = log
        self._observer = observer
        self._committed = 0  # by the stream, and what was kept; applied at UPTODATE
        self._settled = 0  # `_committed` at NEWLEADER, whose ACK stands for all up to there
        self._snapshot: Snapshot | None = None
        self._silent_ms = 0
        log.next.dial.append((link, leader_sid))
        log.dirty = True

    @property
    def live(self) -> bool:
        """Whether clients may be served."""
        return self.stage is Stage.LIVE

    @property
    def has_yet_to_ask(self) -> bool:
        """Whether it wants the whole tree and has heard no leader. It asks one at most."""
        return self.anew and self.stage < Stage.PROMISED

    def opened(self) -> None:
        """The leader's port has taken the connection: say who we are."""
        kind = q.OBSERVERINFO if self._observer else q.FOLLOWERINFO
        info = LearnerInfo(self._sid, q.ZKSTORE_PROTOCOL, self._membership.version)
        zxid = self._log.hard.accepted_epoch << 32
        self.send(Packet(kind, zxid, info.encode()))
        self.stage = Stage.REGISTERED
        self._silent_ms = 0

    def send(self, packet: Packet) -> None:
        """At once."""
        self._log.next.send.append((self.link, packet))
        self._log.dirty = True

    def _send_after_sync(self, packet: Packet) -> None:
        self._log.next.send_after_sync.append((self.link, packet))
        self._log.dirty = True

    def packet(self, packet: Packet) -> None:
        """Raises: RemoteProtocolError: the leader is of no use."""
        self._silent_ms = 0
        if packet.type == q.COMMITANDACTIVATE:
            packet = packet._replace(type=q.COMMIT)
        elif packet.type == q.INFORMANDACTIVATE:
            packet = packet._replace(type=q.INFORM, data=(packet.data or b"")[_SID_BYTES:])
        kind = packet.type
        if self.stage is Stage.LIVE:
            self._live(kind, packet)
        elif self.stage is Stage.REGISTERED and kind == q.LEADERINFO:
            self._promise(packet)
        elif self.stage is Stage.PROMISED and kind in (q.DIFF, q.TRUNC, q.SNAP):
            self._begin(kind, packet.zxid)
        elif self.stage >= Stage.SYNCING:
            self._fill(kind, packet)
        else:
            raise RemoteProtocolError(f"{packet.name} from a leader while {self.stage.name}")

    # ---- discovery

    def _promise(self, packet: Packet) -> None:
        epoch = epoch_of(packet.zxid)
        hard = self._log.hard
        self.zkstore = q.decode_int(packet.data) >= q.ZKSTORE_PROTOCOL
        if epoch < hard.accepted_epoch or epoch < 1:
            raise RemoteProtocolError(f"epoch {epoch}, but {hard.accepted_epoch} was promised")
        # Only a leader that leads on is asked for its tree: one that begins needs our promise, and
        # has to see from it whether it lacks what we have.
        self.anew = self.anew and epoch == hard.accepted_epoch
        tells = hard.whole and not self.anew
        # Promised before, perhaps to another leader, or in what was lost: it must not count this
        # promise.
        current = hard.current_epoch if epoch > hard.accepted_epoch and hard.whole else -1
        if epoch > hard.accepted_epoch:
            self._log.remember(hard._replace(accepted_epoch=epoch))
        self.epoch = epoch
        last = self._log.last_logged if tells else 0
        self._send_after_sync(Packet(q.ACKEPOCH, last, pack_int(current)))
        self.stage = Stage.PROMISED

    # ---- synchronisation

    def _begin(self, kind: int, zxid: int) -> None:
        log = self._log
        self.stage = Stage.SYNCING
        anew, self.anew = self.anew, False
        if kind == q.SNAP:
            # Whole at once only if one of ours sends a tree of one zxid that lacks nothing that
            # we may have acknowledged.
            whole = self.zkstore and log.hard.whole and zxid >= log.last_appended
            self._snapshot = log.next.receive_snapshot = Snapshot(self.link, zxid, whole)
            log.dirty = True
            self.stage = Stage.SNAPSHOT
        elif anew and log.hard.whole:
            raise RemoteProtocolError("a DIFF or TRUNC for a replica that asked for the tree")
        elif not log.hard.whole:
            # We said that we have nothing. The leader has nothing either, or sends a SNAP.
            if zxid:
                raise RemoteProtocolError("a DIFF or TRUNC for a replica that lacks what it had")
            if log.last_appended:
                log.truncate(0)
        elif kind == q.TRUNC and zxid != log.last_appended:
            self._truncate(zxid)
        self._committed = log.last_appended

    def _truncate(self, zxid: int) -> None:
        log = self._log
        if zxid > log.last_appended:
            raise RemoteProtocolError(f"TRUNC to {zxid:#x} behind {log.last_appended:#x}")
        # Where the log does not reach, the tree cannot go back either: the driver finds out.
        if counter_of(zxid) and zxid > log.first and not log.holds(zxid):
            raise RemoteProtocolError(f"TRUNC to {zxid:#x}, which is not here")
        log.truncate(zxid)

    def snapshot_received(self) -> None:
        """The tree is installed, as the Snapshot of the Ready said."""
        assert self.stage is Stage.SNAPSHOT, self.stage
        assert self._snapshot is not None
        self._log.replace(self._snapshot.zxid, whole=self._snapshot.whole)
        self._committed = self._snapshot.zxid
        self.stage = Stage.SYNCING
        self._silent_ms = 0

    def _fill(self, kind: int, packet: Packet) -> None:
        """The stream between DIFF, TRUNC or SNAP and UPTODATE."""
        log, zxid = self._log, packet.zxid
        if kind in (q.PROPOSAL, q.INFORM):
            # A SNAP may hold later txns than its leader counted: those come again.
            if zxid > log.last_appended:
                self._append(packet)
            if kind == q.INFORM:
                self._committed = zxid
        elif kind == q.COMMIT:
            if zxid > log.last_appended:
                raise RemoteProtocolError(f"COMMIT {zxid:#x} without its PROPOSAL")
            self._committed = max(self._committed, zxid)
        elif kind == q.NEWLEADER and self.stage is Stage.SYNCING:
            if zxid != self.epoch << 32:
                raise RemoteProtocolError(f"NEWLEADER {zxid:#x} in epoch {self.epoch}")
            if not log.hard.whole:
                log.remark("this replica has all data again, and takes part in votes")
            log.remember(log.hard._replace(current_epoch=self.epoch, whole=True))
            self._send_after_sync(Packet(q.ACK, zxid))
            self._settled = self._committed
            self.stage = Stage.SYNCED
        elif kind == q.UPTODATE and self.stage is Stage.SYNCED:
            self._serve()
        elif kind in (q.NEWLEADER, q.UPTODATE, q.DIFF, q.TRUNC, q.SNAP, q.LEADERINFO):
            raise RemoteProtocolError(f"{packet.name} from a leader while {self.stage.name}")
        # PINGs are for those that are up to date, and what nobody knows is ignored, as Apache does.

    def _serve(self) -> None:
        # An Apache leader waits for each ACK of what it proposed behind NEWLEADER, though it may
        # be committed by now. What the next Ready appends is acknowledged with it.
        log = self._log
        upto = log.next.append[0].zxid - 1 if log.next.append else log.last_appended
        logged = [p.zxid for p in log.outstanding if self._settled < p.zxid <= upto]
        self.stage = Stage.LIVE
        log.commit(self._committed)
        self._send_after_sync(Packet(q.ACK, self.epoch << 32))
        if not self._observer:
            self._acknowledge(logged)

    # ---- broadcast

    def _live(self, kind: int, packet: Packet) -> None:
        log, zxid = self._log, packet.zxid
        if kind == q.PROPOSAL and not self._observer:
            self._append(packet)
        elif kind == q.COMMIT and not self._observer:
            self._commit(zxid)
        elif kind == q.INFORM and self._observer:
            self._append(packet)
            log.commit(zxid)
        elif kind in (q.PING, q.REVALIDATE, q.SYNC):
            log.next.inbox.append((self.link, packet))
            log.dirty = True
        # PROPOSALs and COMMITs to observers, INFORMs to followers: ignored, as Apache does.

    def _append(self, packet: Packet) -> None:
        if not packet.data:
            raise RemoteProtocolError(f"{packet.name} {packet.zxid:#x} without a txn")
        self._log.append(Proposal(packet.zxid, packet.data))

    def _commit(self, zxid: int) -> None:
        log = self._log
        if zxid <= log.last_committed:
            return
        head = log.outstanding[0].zxid if log.outstanding else 0
        if head != zxid:
            raise RemoteProtocolError(f"COMMIT {zxid:#x}, but {head:#x} is next")
        log.commit(zxid)

    def flush(self) -> None:
        """Before a Ready is taken: acknowledge what it will have made durable."""
        if self.live and not self._observer:
            self._acknowledge([p.zxid for p in self._log.next.append])

    def _acknowledge(self, zxids: list[int]) -> None:
        for zxid in zxids[-1:] if self.zkstore else zxids:
            self._send_after_sync(Packet(q.ACK, zxid))

    # ---- time

    def tick(self, elapsed_ms: int) -> None:
        """Time has passed."""
        if self.stage is Stage.SNAPSHOT:  # the helper has its own patience
            return
        self._silent_ms += elapsed_ms
        timing = self._timing
        limit = timing.sync_ms if self.stage >= Stage.SYNCED else timing.init_ms
        if self._silent_ms > limit:
            self.ended = "the leader is silent"
