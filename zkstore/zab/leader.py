"""A leader: brings learners to one epoch and one history, then orders what is proposed.

Owns:   the links of its learners; who has promised the epoch, taken over the history and
        acknowledged which txn.
Invariants:
  1. Only voters count, each once, and the leader itself only for what its own journal holds.
  2. LEADERINFO leaves when the epoch is in our journal; UPTODATE when a quorum has our history.
  3. A learner gets each txn once and in order, and COMMIT only behind its PROPOSAL.
  4. A txn is committed when a quorum that took over this epoch's history has journaled it, and all
     before it.
Design: an acknowledgement belongs to a link and dies with it: a follower that comes back may have
        been told to drop what it had acknowledged.
        ACK(z) stands for all txns up to z: a follower logs in order.
Not here: which of DIFF, TRUNC and SNAP (sync.py), elections (election.py).
Source: Leader, LearnerHandler.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final, NamedTuple

from zkstore.constants import OUTSTANDING_PROPOSALS_MAX
from zkstore.errors import Code, RemoteProtocolError, ZooKeeperError
from zkstore.jute.codec import pack_int
from zkstore.proto import quorum as q
from zkstore.proto.quorum import LearnerInfo, Packet
from zkstore.zab.membership import Membership
from zkstore.zab.proposals import COUNTER_MAX, Log, counter_of, epoch_of
from zkstore.zab.ready import Proposal, Ready
from zkstore.zab.sync import SNAPSHOT_SIZE_FACTOR, choose
from zkstore.zab.timing import Timing

COUNTERS_KEPT: Final = 1 << 16  # the end of an epoch is met between two batches, not in one
PINGS_MAX: Final = 10_000  # that a learner may owe
PIECE_BYTES: Final = 1 << 20  # of a long DIFF, before the link has taken what it was given
EPOCH_MAX: Final = 0x7FFFFFFE
_UPTODATE: Final = Packet(q.UPTODATE, -1)


class Stage(IntEnum):
    """How far a learner has come."""

    GREETING = 0  # connected
    WAITING = 1  # it has said who it is
    PROMISING = 2  # LEADERINFO sent
    PROMISED = 3  # ACKEPOCH received; until a quorum has done so
    SNAPSHOT = 4  # a helper process sends the tree
    SYNCING = 5  # gets committed txns
    SYNCED = 6  # NEWLEADER sent; gets what others get
    ACKED = 7  # has our history in its journal
    LIVE = 8  # UPTODATE sent


@dataclass(slots=True)
class LearnerLink:
    """One learner's link."""

    link: int
    stage: Stage = Stage.GREETING
    sid: int = 0  # negative: it does not say
    observer: bool = False
    zkstore: bool = False
    voter: bool = False
    last: int = 0  # of its log, as it said with ACKEPOCH
    position: int = 0  # SYNCING: sent up to here
    acked: int = 0
    silent_ms: int = 0
    owes: int = 0  # a txn proposed to it that it had not acknowledged when it was looked at last
    owes_ms: int = 0  # since when
    pings: deque[int] = field(default_factory=deque)  # rounds that it has not answered
    answered: int = 0  # the last round that it has


class _Sync(NamedTuple):
    """A learner's sync that is not answered: due behind the COMMIT of `after`, before any later one
    (the learner tells answers by their order), and once round `round` has confirmed us. That a
    later txn is committed says as much."""

    link: int
    packet: Packet
    after: int
    round: int


class Leader:
    """The part of a Peer that leads. What it wants done goes to `log.next`.

    `ended` says why it has to give up, if it has to.
    """

    def __init__(
        self,
        sid: int,
        membership: Membership,
        timing: Timing,
        log: Log,
        why_refused: Callable[[], str],
    ) -> None:
        self.ended: str | None = None
        self.epoch = 0  # 0: not agreed on yet
        self.established = False
        self.learners: dict[int, LearnerLink] = {}
        self.confirmed = 0  # the last round of pings that a quorum has answered
        self.ping_data: bytes | None = None  # for learners of ours
        self.snapshot_size_factor = SNAPSHOT_SIZE_FACTOR
        self._sid = sid
        self._membership = membership
        self._timing = timing
        self._log = log
        self._why_refused = why_refused  # a learner that is not one of ours
        self._epoch_min = log.hard.accepted_epoch + 1
        self._summary = (log.hard.current_epoch, log.last_logged)
        self._promised = {sid}  # who has promised the epoch, and is not ahead of us
        self._agreed = False  # a quorum has: learners are brought up to date
        self._own_history = False  # our current epoch is durable
        self._unsent: list[Proposal] = []  # proposed, not sent
        self.last_proposed = 0
        self._phase_ms = 0  # since the last phase ended
        self._ping_ms = 0
        self._tick_ms = 0
        self._round = 0
        self._round_sent_with: Ready | None = None
        self._syncs: deque[_Sync] = deque()
        self._had: dict[int, int] = {}  # by voter: what links that are gone had acknowledged
        self._anonymous = 0
        self._acks = False  # news since commits were looked at
        self._agree_on_epoch()

    # ---- links

    def opened(self, link: int) -> None:
        """Somebody has connected."""
        self.learners[link] = LearnerLink(link)

    def closed(self, link: int) -> None:
        """Gone; with it what it acknowledged."""
        self._forget(link)

    def drop(self, link: int, why: str) -> None:
        """End a link."""
        if self._forget(link):
            self._log.next.hang_up.append((link, why))
            self._log.dirty = True

    def _forget(self, link: int) -> bool:
        """Returns whether it was there."""
        learner = self.learners.pop(link, None)
        if learner is not None and learner.voter and learner.stage >= Stage.ACKED:
            self._had[learner.sid] = max(learner.acked, self._had.get(learner.sid, 0))
        return learner is not None

    def _send(self, learner: LearnerLink, packet: Packet) -> None:
        self._log.next.send.append((learner.link, packet))
        self._log.dirty = True

    def packet(self, link: int, packet: Packet) -> None:
        """Raises: RemoteProtocolError: the link is of no use."""
        learner = self.learners.get(link)
        if learner is None:
            return
        learner.silent_ms = 0
        kind, stage = packet.type, learner.stage
        if stage is Stage.GREETING:
            self._greet(learner, packet)
        elif stage is Stage.PROMISING and kind == q.ACKEPOCH:
            self._promise(learner, packet)
        elif stage >= Stage.SYNCED and kind == q.ACK:
            self._ack(learner, packet.zxid)
        elif stage is not Stage.LIVE:
            raise RemoteProtocolError(f"{packet.name} from a learner that is {stage.name}")
        elif kind == q.PING:
            self._answered(learner)
            self._to_server(link, packet)
        elif kind in (q.REQUEST, q.REVALIDATE):
            self._to_server(link, packet)
        # What nobody knows is ignored, as Apache does.

    def _to_server(self, link: int, packet: Packet) -> None:
        self._log.next.inbox.append((link, packet))
        self._log.dirty = True

    # ---- discovery: one epoch

    def _greet(self, learner: LearnerLink, packet: Packet) -> None:
        if packet.type not in (q.FOLLOWERINFO, q.OBSERVERINFO):
            raise RemoteProtocolError(f"{packet.name} instead of FOLLOWERINFO")
        info = LearnerInfo.decode(packet.data)
        if info is None:
            self._anonymous -= 1
            info = LearnerInfo(self._anonymous)
        if info.protocol_version < q.JAVA_PROTOCOL:
            raise RemoteProtocolError("a learner older than ZooKeeper 3.4")
        if info.config_version > self._membership.version:
            raise RemoteProtocolError(f"server {info.sid} has a later membership")
        if info.sid == self._sid:
            raise RemoteProtocolError("a learner with our own id")
        learner.sid = info.sid
        learner.observer = packet.type == q.OBSERVERINFO
        learner.zkstore = info.protocol_version >= q.ZKSTORE_PROTOCOL
        if not learner.zkstore and (why := self._why_refused()):
            raise RemoteProtocolError(f"server {info.sid} is refused: {why}")
        learner.voter = not learner.observer and info.sid in self._membership.voters
        if info.sid not in self._membership.members:
            self._log.remark(f"server {info.sid} is no member: it learns, and counts for nothing")
        learner.stage = Stage.WAITING
        accepted = epoch_of(packet.zxid)
        if not 0 <= accepted < EPOCH_MAX:
            raise RemoteProtocolError(f"accepted epoch {accepted:#x}")
        if not self.epoch:
            self._epoch_min = max(self._epoch_min, accepted + 1)
            self._agree_on_epoch()
        elif learner.voter and accepted > self.epoch:
            # It can follow nobody below its promise, and would stay away for ever.
            self.ended = f"server {info.sid} has promised epoch {accepted}, this is {self.epoch}"
        else:
            self._tell_epoch(learner)

    def _voters(self, stage: Stage) -> set[int]:
        return {one.sid for one in self.learners.values() if one.voter and one.stage >= stage}

    @property
    def dispensable(self) -> bool:
        """Whether its followers are a quorum without it."""
        return self.established and self._membership.is_quorum(self._voters(Stage.LIVE))

    def _agree_on_epoch(self) -> None:
        if not self._membership.is_quorum(self._voters(Stage.WAITING) | {self._sid}):
            return
        self.epoch = self._epoch_min
        self._phase_ms = 0
        self._log.remember(self._log.hard._replace(accepted_epoch=self.epoch))
        for learner in self.learners.values():
            if learner.stage is Stage.WAITING:
                self._tell_epoch(learner)
        self._begin_sync()

    def _tell_epoch(self, learner: LearnerLink) -> None:
        learner.stage = Stage.PROMISING
        version = q.ZKSTORE_PROTOCOL if learner.zkstore else q.JAVA_PROTOCOL
        info = Packet(q.LEADERINFO, self.epoch << 32, pack_int(version))
        self._log.next.send_after_sync.append((learner.link, info))
        self._log.dirty = True

    def _promise(self, learner: LearnerLink, packet: Packet) -> None:
        # Not before: who only says another's name does not end the other's link.
        for older in [other for other in self.learners.values() if other.sid == learner.sid]:
            if older is not learner and older.stage is not Stage.GREETING:
                self.drop(older.link, f"server {learner.sid} has connected anew")
        current = q.decode_int(packet.data)
        if not self._agreed and current != -1:
            if (current, packet.zxid) > self._summary:
                raise RemoteProtocolError(
                    f"server {learner.sid} at {current:#x}, {packet.zxid:#x} is ahead of us"
                )
            if learner.voter:
                self._promised.add(learner.sid)
        learner.last = packet.zxid
        had = self._had.get(learner.sid, 0)
        if learner.last < had:
            self._log.remark(
                f"server {learner.sid} has lost data, or has an old copy of it: it is back at"
                f" {learner.last:#x}, and had acknowledged {had:#x}"
            )
        learner.stage = Stage.PROMISED
        if self._agreed:
            self._sync(learner)
        else:
            self._begin_sync()

    # ---- synchronisation: one history

    def _begin_sync(self) -> None:
        if self._agreed or not self._membership.is_quorum(self._promised):
            return
        self._agreed = True
        self._phase_ms = 0
        self._log.remember(self._log.hard._replace(current_epoch=self.epoch))
        for learner in list(self.learners.values()):
            if learner.stage is Stage.PROMISED:
                self._sync(learner)

    def _end(self) -> int:
        """Up to where our history counts: all of our log, until proposals of this epoch follow."""
        return self._log.last_committed if self.established else self._log.last_logged

    def _sync(self, learner: LearnerLink) -> None:
        plan = choose(
            learner.last, self._end(), self._log,
            zkstore=learner.zkstore, factor=self.snapshot_size_factor,
        )  # fmt: skip
        if plan.mode == q.SNAP:
            learner.stage = Stage.SNAPSHOT
            self._log.next.send_snapshot.append(learner.link)
            self._log.dirty = True
            return
        self._send(learner, Packet(plan.mode, plan.zxid))
        self._follow_up(learner, plan.after)

    def snapshot_sent(self, link: int, zxid: int) -> None:
        """The learner's tree stands at `zxid`; the link is ours again."""
        learner = self.learners.get(link)
        if learner is not None:
            assert learner.stage is Stage.SNAPSHOT, learner
            learner.silent_ms = 0
            self._follow_up(learner, zxid)

    def _follow_up(self, learner: LearnerLink, after: int) -> None:
        learner.position = after
        learner.stage = Stage.SYNCING
        self._send_piece(learner)

    def writable(self, link: int) -> None:
        """The link has taken what it was given: go on with a long DIFF."""
        learner = self.learners.get(link)
        if learner is not None and learner.stage is Stage.SYNCING:
            learner.silent_ms = 0
            self._send_piece(learner)

    def _send_piece(self, learner: LearnerLink) -> None:
        end = self._end()
        if learner.position < end:
            if learner.position < self._log.first:
                self.drop(learner.link, "the log was trimmed behind what it has got")
                return
            for zxid, txn in self._log.read(learner.position, end, PIECE_BYTES):
                self._send(learner, Packet(q.PROPOSAL, zxid, txn))
                self._send(learner, Packet(q.COMMIT, zxid))
                learner.position = zxid
        if learner.position >= end:
            self._go_live(learner)

    def _go_live(self, learner: LearnerLink) -> None:
        """From here on it gets what all get."""
        self._propose_to_all()
        if self.established and not learner.observer:
            for zxid, txn in self._log.outstanding:
                self._send(learner, Packet(q.PROPOSAL, zxid, txn))
        text = self._membership.text()
        self._send(learner, Packet(q.NEWLEADER, self.epoch << 32, text))
        learner.acked = learner.position
        learner.stage = Stage.SYNCED

    def _ack(self, learner: LearnerLink, zxid: int) -> None:
        if zxid != self.epoch << 32:
            if zxid > self._log.last_appended:
                raise RemoteProtocolError(f"ACK of {zxid:#x}, which was not proposed")
            learner.acked = max(learner.acked, zxid)
            self._acks = True
        elif learner.stage is Stage.SYNCED:
            learner.stage = Stage.ACKED
            self._acks = True
            if self.established:
                self._greet_live(learner)
            else:
                self._establish()

    def _greet_live(self, learner: LearnerLink) -> None:
        learner.stage = Stage.LIVE
        self._send(learner, _UPTODATE)

    def _establish(self) -> None:
        if not self._own_history:
            return
        if not self._membership.is_quorum(self._voters(Stage.ACKED) | {self._sid}):
            return
        self.established = True
        self._log.commit(self._log.last_appended)
        self.last_proposed = self.epoch << 32
        for learner in self.learners.values():
            if learner.stage is Stage.ACKED:
                self._greet_live(learner)

    # ---- broadcast

    def propose(self, proposal: Proposal) -> None:
        """Add a proposal.

        Raises: ZooKeeperError(THROTTLED_OP) with OUTSTANDING_PROPOSALS_MAX of them not committed.
        """
        assert self.established
        assert proposal.zxid == self.last_proposed + 1, (proposal.zxid, self.last_proposed)
        if len(self._log.outstanding) >= OUTSTANDING_PROPOSALS_MAX:
            raise ZooKeeperError(Code.THROTTLED_OP, "too many proposals outstanding")
        self._log.append(proposal)
        self._unsent.append(proposal)
        self.last_proposed = proposal.zxid

    def flush(self) -> None:
        """Before a Ready is taken: send what was proposed, commit what was acknowledged."""
        self._propose_to_all()
        if self._acks and self.established:
            self._acks = False
            self._commit()
        if counter_of(self.last_proposed) > COUNTER_MAX - COUNTERS_KEPT:
            self.ended = "the zxids of this epoch are used up"

    def advanced(self, done: Ready) -> None:
        """What this Ready appended is in our journal."""
        if done.append:
            self._acks = True
        if done.hard_state is not None and done.hard_state.current_epoch == self.epoch:
            self._own_history = True
            if not self.established:
                self._establish()

    def _propose_to_all(self) -> None:
        if not self._unsent:
            return
        packets = [Packet(q.PROPOSAL, zxid, txn) for zxid, txn in self._unsent]
        self._unsent.clear()
        for learner in self.learners.values():
            if learner.stage >= Stage.SYNCED and not learner.observer:
                self._log.next.send += [(learner.link, packet) for packet in packets]

    def _commit(self) -> None:
        acked = {one.sid: one.acked for one in self._counted()}
        # Followers may be faster than our own journal; what it lacks is not applied here.
        acked[self._sid] = own = self._log.last_logged
        committed = self._log.commit(min(self._reached(acked), own))
        if not committed:
            return
        while self._syncs and self._syncs[0].after < committed[-1].zxid:
            sync = self._syncs.popleft()
            before = [proposal for proposal in committed if proposal.zxid <= sync.after]
            self._tell(before)
            del committed[: len(before)]
            self.answer(sync.link, sync.packet)
        self._tell(committed)
        self._answer_syncs()

    def _tell(self, committed: list[Proposal]) -> None:
        """COMMIT these."""
        commits = [Packet(q.COMMIT, zxid) for zxid, _ in committed]
        informs = [Packet(q.INFORM, zxid, txn) for zxid, txn in committed]
        for learner in self.learners.values():
            if learner.stage >= Stage.SYNCED:
                packets = informs if learner.observer else commits
                self._log.next.send += [(learner.link, packet) for packet in packets]

    def _counted(self) -> list[LearnerLink]:
        """Voters that took over this epoch's history."""
        return [one for one in self.learners.values() if one.voter and one.stage >= Stage.ACKED]

    def _reached(self, values: Mapping[int, int]) -> int:
        """The greatest value that a quorum of these servers has reached; 0: none."""
        for value in sorted(set(values.values()), reverse=True):
            if self._membership.is_quorum({sid for sid, v in values.items() if v >= value}):
                return value
        return 0

    def answer(self, link: int, packet: Packet) -> None:
        """The server's answer to one learner, behind the COMMITs so far."""
        learner = self.learners.get(link)
        if learner is not None:
            self._send(learner, packet)

    def sync(self, link: int, packet: Packet) -> None:
        """The answer to a learner's sync, when it is due."""
        self._syncs.append(_Sync(link, packet, self.last_proposed, self.confirm()))
        self._answer_syncs()

    @property
    def pending_syncs(self) -> int:
        """Those that are not due yet."""
        return len(self._syncs)

    def _answer_syncs(self) -> None:
        """Those that are due although nothing later is committed."""
        while self._syncs and self._syncs[0].round <= self.confirmed:
            if self._syncs[0].after > max(self._log.last_committed, self.epoch << 32):
                return
            sync = self._syncs.popleft()
            self.answer(sync.link, sync.packet)

    # ---- time

    def confirm(self) -> int:
        """Ask the learners whether they still follow: the round that `confirmed` has to reach."""
        if self._round_sent_with is not self._log.next:
            self._ping()
        return self._round

    def _ping(self) -> None:
        self._round += 1
        self._round_sent_with = self._log.next
        zxid = max(self.last_proposed, self.epoch << 32)
        for learner in list(self.learners.values()):
            if learner.stage >= Stage.SYNCED:
                data = self.ping_data if learner.zkstore else None
                self._send(learner, Packet(q.PING, zxid, data))
                # Before UPTODATE nobody answers.
                if learner.stage is Stage.LIVE:
                    learner.pings.append(self._round)
                if len(learner.pings) > PINGS_MAX:
                    self.drop(learner.link, "it does not answer pings")
        self._count_answers()

    def _answered(self, learner: LearnerLink) -> None:
        if learner.pings:
            learner.answered = learner.pings.popleft()
            self._count_answers()

    def _count_answers(self) -> None:
        answered = {one.sid: one.answered for one in self._counted()}
        answered[self._sid] = self._round
        self.confirmed = max(self.confirmed, self._reached(answered))
        self._answer_syncs()

    def tick(self, elapsed_ms: int) -> None:
        """Time has passed."""
        timing = self._timing
        if not any(one.voter and one.stage is Stage.SNAPSHOT for one in self.learners.values()):
            self._phase_ms += elapsed_ms  # a large tree may take longer than initLimit
        if not self.established and self._phase_ms > timing.init_ms:
            self.ended = "no quorum within initLimit"
        for learner in list(self.learners.values()):
            self._look_after(learner, elapsed_ms)
        self._ping_ms += elapsed_ms
        if self._ping_ms >= timing.tick_ms // 2:
            self._ping_ms = 0
            self._ping()
        self._tick_ms += elapsed_ms
        if self._tick_ms >= timing.tick_ms:
            self._tick_ms = 0
            if self.established and not self._membership.is_quorum(
                {one.sid for one in self._counted()} | {self._sid}
            ):
                self.ended = "not enough followers are in touch"

    def _look_after(self, learner: LearnerLink, elapsed_ms: int) -> None:
        timing = self._timing
        if learner.stage is not Stage.SNAPSHOT:  # the helper has its own patience
            learner.silent_ms += elapsed_ms
        limit = timing.sync_ms if learner.stage >= Stage.ACKED else timing.init_ms
        if learner.silent_ms > limit:
            self.drop(learner.link, "silent")
        elif learner.stage is Stage.LIVE and not learner.observer:
            if learner.owes <= learner.acked:
                learner.owes, learner.owes_ms = self._log.last_appended, 0
            else:
                learner.owes_ms += elapsed_ms
                if learner.owes_ms > timing.sync_ms:
                    self.drop(learner.link, f"no ACK of {learner.owes:#x}")
