"""A member of an ensemble: looks for a leader, then leads or learns, and looks again. Pure.

Owns:   the role; connections that came before it was clear who leads.
Invariants:
  1. At most one of Leader and Learner exists, and none outlives its epoch.
  2. A new election begins only when all that was in hand is in the journal and applied: so a vote
     tells the whole log, and a synchronisation finds nothing in hand.
  3. Packets of links that are gone change nothing.
  4. Never a vote from lost data: a replica that is empty is new, or lost what it had. It votes as
     long as all voters it hears are as empty; once one tells of a history it is not whole.
  5. Who has no room to journal keeps nobody from going on (absence.py).
Design: input by calls, which may come at any time; output as one Ready at a time (ready.py). Links
        are numbers: positive ones the driver's (somebody connected to our quorum port), negative
        ones ours (we dialled). What a link is told to do wrong ends the link, never the process.
Not here: votes (election.py), the leader's side (leader.py), the learner's side (learner.py).
Source: QuorumPeer.run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from zkstore.errors import RemoteProtocolError
from zkstore.proto.quorum import NOBODY, Notification, Packet, Role
from zkstore.zab.absence import Absence
from zkstore.zab.election import Election
from zkstore.zab.leader import Leader, LearnerLink
from zkstore.zab.learner import Learner
from zkstore.zab.membership import Membership
from zkstore.zab.proposals import History, Log
from zkstore.zab.ready import HardState, Proposal, Ready
from zkstore.zab.timing import Timing

WAITING_LINKS_MAX: Final = 256
_HEALS: Final = "This member takes part in no vote until it has a leader's tree"


class _Waiting:
    """A connection that came while nobody led here."""

    def __init__(self) -> None:
        self.packet: Packet | None = None  # a learner says one thing before it hears something
        self.age_ms = 0


class Peer:
    """One member. `hard`, `last_logged`, `last_committed` and `tail` are what recovery found:
    `tail` holds the journal's proposals behind `last_committed`, up to `last_logged`."""

    def __init__(
        self,
        sid: int,
        membership: Membership,
        timing: Timing,
        history: History,
        hard: HardState,
        last_logged: int,
        last_committed: int,
        tail: list[Proposal],
        *,
        initialize: bool = False,
        why_refused: Callable[[], str] = str,
    ) -> None:
        """`initialize`: an empty replica is told to be new, and to vote whatever it hears.
        `why_refused`: asked while we lead and a learner joins that is not one of ours; what it
        says ends the link, unless it is empty."""
        if initialize and not (last_logged or hard.current_epoch):
            hard = hard._replace(whole=True)
        self.role = Role.LOOKING
        self.why = "start"  # why it looks for a leader
        self._sid = sid
        self._membership = membership
        self._timing = timing
        self._log = Log(history, hard, last_logged, last_committed, tail)
        self._initialize = initialize
        self._why_refused = why_refused
        self._anew = False  # the leader's whole tree is wanted
        self._election = Election(
            sid, membership,
            interval_ms_min=timing.interval_ms_min,
            interval_ms_max=timing.interval_ms_max,
        )  # fmt: skip
        self._leader: Leader | None = None
        self._learner: Learner | None = None
        self._waiting: dict[int, _Waiting] = {}
        self._silent: set[int] = set()  # voters that take part in no vote
        self._early: dict[int, Notification] = {}  # by sid; came while work was in hand
        self._settling = True  # LOOKING, but the election has not begun
        self._absence = Absence(timing)  # before it may
        # Role and serving, as the driver knows them; None: it was told, and then could not do it.
        self._told: tuple[Role, bool] | None = (Role.LOOKING, False)
        self._dials = 0
        self._settle()

    # ---- what can be asked

    @property
    def serving(self) -> bool:
        """Established leader, or learner that is up to date."""
        if self._leader is not None:
            return self._leader.established
        return self._learner is not None and self._learner.live

    @property
    def leading(self) -> bool:
        """Whether proposals may be made."""
        return self._leader is not None and self._leader.established

    @property
    def leader_sid(self) -> int | None:
        """Who leads, as far as this member knows; None while it looks."""
        return None if self.role is Role.LOOKING else self._election.vote.leader

    @property
    def leader_link(self) -> int | None:
        """The learner's link to its leader."""
        return None if self._learner is None else self._learner.link

    @property
    def leader_is_zkstore(self) -> bool:
        """Whether the leader we learn from is one of ours."""
        return self._learner is not None and self._learner.zkstore

    @property
    def epoch(self) -> int:
        """The epoch in force, or the last one."""
        return self._log.hard.current_epoch

    @property
    def hard_state(self) -> HardState:
        """The epochs, as they will be when all work in hand is done."""
        return self._log.hard

    @property
    def last_logged(self) -> int:
        return self._log.last_logged

    @property
    def last_committed(self) -> int:
        return self._log.last_committed

    @property
    def outstanding(self) -> int:
        """Proposals that are not committed yet."""
        return len(self._log.outstanding)

    @property
    def learners(self) -> dict[int, LearnerLink]:
        """The leader's learners by link; read only."""
        return {} if self._leader is None else self._leader.learners

    @property
    def pending_syncs(self) -> int:
        """Syncs of learners that are not answered."""
        return 0 if self._leader is None else self._leader.pending_syncs

    @property
    def confirmed(self) -> int:
        """The last round of confirm() in which a quorum still followed."""
        return 0 if self._leader is None else self._leader.confirmed

    # ---- what the server above wants

    @property
    def last_proposed(self) -> int:
        """Of the established leader; epoch << 32 before the first proposal of its epoch."""
        assert self._leader is not None
        return self._leader.last_proposed

    def next_zxid(self) -> int:
        """The zxid that the next proposal must bear."""
        return self.last_proposed + 1

    def propose(self, proposal: Proposal) -> None:
        """Add a proposal; only while `leading`.

        Raises: ZooKeeperError(THROTTLED_OP) with OUTSTANDING_PROPOSALS_MAX of them not committed.
        """
        assert self._leader is not None
        self._leader.propose(proposal)

    def send_up(self, packet: Packet) -> None:
        """A learner's REQUEST, REVALIDATE or answer to a PING; only while `serving`."""
        assert self._learner is not None and self._learner.live
        self._learner.send(packet)

    def answer(self, link: int, packet: Packet) -> None:
        """The leader's SYNC or REVALIDATE for one learner, behind the COMMITs so far."""
        assert self._leader is not None
        self._leader.answer(link, packet)

    def sync(self, link: int, packet: Packet) -> None:
        """The leader's SYNC for one learner: behind the COMMITs of all that was proposed so far,
        before any later one, and once a quorum has confirmed that no other leads."""
        assert self._leader is not None
        self._leader.sync(link, packet)

    def confirm(self) -> int:
        """Ask the learners whether they still follow: the number that `confirmed` has to reach.

        When it has, no later leader had been established when this was called.
        """
        assert self._leader is not None
        return self._leader.confirm()

    def set_ping_data(self, data: bytes | None) -> None:
        """What PINGs to learners of ours carry: zxid and digest of the tree."""
        if self._leader is not None:
            self._leader.ping_data = data

    # ---- what happens

    def notification(self, sid: int, message: Notification) -> None:
        """A message of the election port."""
        if self._settling:
            self._early[sid] = message
        elif self._may_have_lost(sid, message):
            self._lose_voice(
                f"this replica is empty, and server {sid} tells of a history: if it is not new, it"
                " has lost its data"
            )
        else:
            self._heed_silence(sid, message)
            self._election.receive(sid, message)
            self._react()

    def opened(self, link: int) -> None:
        """Somebody has connected to our quorum port (link > 0), or our dial succeeded."""
        if self._leader is not None:
            self._leader.opened(link)
        elif self._learner is not None and link == self._learner.link:
            self._learner.opened()
        elif self.role is Role.LOOKING and len(self._waiting) < WAITING_LINKS_MAX:
            self._waiting[link] = _Waiting()
        else:
            self._hang_up(link, "not leading")

    def closed(self, link: int) -> None:
        """A link is gone, or our dial failed."""
        self._waiting.pop(link, None)
        if self._leader is not None:
            self._leader.closed(link)
        elif self._learner is not None and link == self._learner.link:
            self._look("the leader cannot be reached")

    def packet(self, link: int, packet: Packet) -> None:
        """A packet has come."""
        if self._leader is not None:
            try:
                self._leader.packet(link, packet)
            except RemoteProtocolError as e:
                self._leader.drop(link, str(e))
        elif self._learner is not None:
            if link == self._learner.link:
                try:
                    self._learner.packet(packet)
                except RemoteProtocolError as e:
                    self._look(str(e))
        elif (waiting := self._waiting.get(link)) is not None:
            if waiting.packet is None:
                waiting.packet = packet
            else:
                del self._waiting[link]
                self._hang_up(link, "it does not wait for an answer")
        self._react()

    def snapshot_sent(self, link: int, zxid: int) -> None:
        """The tree, as it was at `zxid`, has left on this link."""
        if self._leader is not None:
            self._leader.snapshot_sent(link, zxid)

    def snapshot_received(self, link: int) -> None:
        """The tree of Ready.receive_snapshot is installed, durably. Not to be called, and nothing
        to be installed, once the link is gone."""
        assert self._learner is not None and self._learner.link == link
        self._learner.snapshot_received()

    def writable(self, link: int) -> None:
        """The link has taken most of what it was given; to be told behind each `send`."""
        if self._leader is not None:
            self._leader.writable(link)

    def tick(self, elapsed_ms: int) -> None:
        """Time has passed: to be told several times a tick."""
        self._absence.tick(elapsed_ms)
        if self._leader is not None:
            self._leader.tick(elapsed_ms)
            if self._leader.dispensable and self._absence.gives_way(elapsed_ms):
                self._stay_away("the disk is full, and the others can go on")
        elif self._learner is not None:
            self._learner.tick(elapsed_ms)
        elif not self._settling:
            self._election.tick(elapsed_ms)
        else:
            self._settle()
        for link, waiting in list(self._waiting.items()):
            waiting.age_ms += elapsed_ms
            if waiting.age_ms > self._timing.init_ms:
                del self._waiting[link]
                self._hang_up(link, "nobody leads")
        self._react()

    # ---- the round

    def ready(self) -> Ready | None:
        """The next work, None if there is none or the last is not done."""
        log = self._log
        if log.busy is not None:
            return None
        if self._leader is not None:
            self._leader.flush()
        elif self._learner is not None:
            self._learner.flush()
        self._react()
        if notifications := self._election.drain():
            log.next.notifications = notifications
            log.dirty = True
        told = (self.role, self.serving)
        if told != self._told:
            self._told = told
            log.next.role, log.next.serving = told
            log.dirty = True
            if self.serving:
                self._election.establish(self.epoch)
        return log.take()

    def advance(self, done: Ready) -> None:
        """What this Ready asked for is durable and applied."""
        self._log.done(done)
        if self._leader is not None:
            self._leader.advanced(done)
        self._settle()

    def refused(self, ready: Ready, why: str) -> None:
        """Instead of advance(): the journal had no room, nothing was written; what was sent is
        sent."""
        self._undo(ready)
        self._stay_away(why)

    def set_full(self, full: bool) -> None:
        """Whether the disk has no room for writes that grow; to be told every second or so."""
        self._absence.set_full(full)
        self._settle()

    def not_whole(self, why: str) -> None:
        """Data is damaged or missing; or, instead of advance(), a TRUNC cannot be done.

        This replica votes no more until it has synchronised by SNAP.
        """
        if self._log.busy is not None:
            self._undo(self._log.busy)
        self._lose_voice(why)

    def synchronise_anew(self, why: str) -> None:
        """Leave the leader, and if it leads on without us, take its whole tree. The vote stays:
        nothing that was acknowledged is missing."""
        self._look(why)
        self._anew = True

    # ---- roles

    def _hang_up(self, link: int, why: str) -> None:
        self._log.next.hang_up.append((link, why))
        self._log.dirty = True

    def _react(self) -> None:
        """Take the consequences of what came in."""
        if self._leader is not None:
            if self._leader.ended is not None:
                self._look(self._leader.ended)
        elif self._learner is not None:
            if self._learner.ended is not None:
                self._look(self._learner.ended)
        elif not self._settling and self._election.role is not Role.LOOKING:
            self._decide()

    def _look(self, why: str) -> None:
        """Leave the role."""
        ready = self._log.next
        links = list(self.learners) if self._learner is None else [self._learner.link]
        self._anew = self._learner is not None and self._learner.has_yet_to_ask
        self._leader = self._learner = None
        # What was to be logged or applied still is; nobody is told any more.
        for unsaid in (ready.send, ready.send_after_sync, ready.inbox):
            unsaid.clear()
        ready.send_snapshot.clear()
        ready.receive_snapshot = None
        for link in links:
            self._hang_up(link, why)
        self.role = Role.LOOKING
        self.why = why
        self._settling = True
        self._settle()

    def _undo(self, ready: Ready) -> None:
        self._log.undone(ready)
        if ready.role is not None:
            self._told = None

    def _stay_away(self, why: str) -> None:
        self._absence.begin()
        self._look(why)

    def _lose_voice(self, why: str) -> None:
        self._log.remember(self._log.hard._replace(whole=False))
        self._log.remark(f"{why}. {_HEALS}")
        self._look(why)

    def _heed_silence(self, sid: int, message: Notification) -> None:
        """A voter that votes for nobody lacks data: who waits for a leader has to know."""
        silent = message.leader == NOBODY and message.state == Role.LOOKING
        if sid not in self._membership.voters or silent == (sid in self._silent):
            return
        if silent and self._membership.weight(sid) > 0:
            self._silent.add(sid)
            self._log.remark(f"server {sid} takes part in no vote: it lacks data, its log says why")
        else:
            self._silent.discard(sid)

    def _may_have_lost(self, sid: int, message: Notification) -> bool:
        """Whether a voter tells of a history while we, a voter, have none.

        Who has promised an epoch did so with a voice: it was there when the ensemble was new.
        """
        log, voters = self._log, self._membership.voters
        if self._initialize or log.last_appended or log.hard != HardState(0, 0):
            return False
        is_history = message.zxid > 0 or message.peer_epoch > 0
        return is_history and sid in voters and self._sid in voters

    def _settle(self) -> None:
        """Begin the election when nothing is in hand any more."""
        if not self._settling or self._absence.left_ms or not self._log.quiet:
            return
        self._settling = False
        hard = self._log.hard
        self._election.look(self._log.last_logged, hard.current_epoch, whole=hard.whole)
        early, self._early = self._early, {}
        for sid, message in early.items():
            self.notification(sid, message)

    def _decide(self) -> None:
        """The election is over."""
        self.role = self._election.role
        log, waiting = self._log, self._waiting
        self._waiting = {}
        anew, self._anew = self._anew, False
        if self.role is Role.LEADING:
            self._leader = Leader(
                self._sid, self._membership, self._timing, log, self._why_refused
            )
            for link, one in waiting.items():
                self.opened(link)
                if one.packet is not None:
                    self.packet(link, one.packet)
            return
        for link in waiting:
            self._hang_up(link, "not leading")
        self._dials += 1
        self._learner = Learner(
            self._sid, self._membership, self._timing, log,
            link=-self._dials,
            leader_sid=self._election.vote.leader,
            observer=self.role is Role.OBSERVING,
            anew=anew,
        )  # fmt: skip
