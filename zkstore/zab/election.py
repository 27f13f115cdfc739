"""Fast leader election: members tell each other their votes until a quorum agrees on a leader.

Owns:   this member's round, its vote, and what the voters said in this round. No I/O, no clock.
Invariants:
  1. Within a round a vote only ever becomes better: greater in (epoch, zxid, sid).
  2. Who has no voice (an observer, a voter of no weight, a replica that lost data) votes for
     nobody, counts nobody's vote for itself, and does not count itself; it learns who leads.
  3. An election that is over is joined only if a quorum names one leader and the leader itself
     says that it leads.
  4. Whatever a message says, it is used or ignored; none makes this member stop.
Design: the election decides nothing for good. A leader is established, or not, by the epochs on the
        quorum port; a wrong choice costs a new round. So votes are kept in memory alone, and
        messages may be lost, doubled, old.
        One rule differs from Apache's: 200 ms after a quorum agreed the round ends, unless a better
        vote comes; Apache waits for 200 ms without any message.
Not here: connections (quorum/election_port.py); what follows a decision (peer.py).
Source: FastLeaderElection.lookForLeader, WorkerReceiver.run; Vote.equals.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from zkstore.proto.quorum import NOBODY, Notification, Role
from zkstore.zab.membership import Membership

FINALIZE_MS: Final = 200  # how long a quorum's choice waits for a better vote
INTERVAL_MS_MIN: Final = 200  # between two tellings of the same vote; doubled each time
INTERVAL_MS_MAX: Final = 60_000
# A round never comes here by counting; a message that says more is nonsense, and believing it would
# use up the numbers.
ROUND_MAX: Final = 1 << 62
# The last zxid of an Apache server that has no database and may not make one; it has no voice.
NO_DATABASE: Final = -1


class Vote(NamedTuple):
    """For whom, and why."""

    leader: int  # sid; NOBODY
    zxid: int  # the last one that it has
    election_epoch: int  # the round
    peer_epoch: int  # its current epoch

    @property
    def rank(self) -> tuple[int, int, int]:
        """The greater one is the better leader."""
        return self.peer_epoch, self.zxid, self.leader


class _Heard(NamedTuple):
    """What a voter said last."""

    vote: Vote
    state: int
    version: int  # of the message; 0 compares like one from 3.4

    def agrees(self, other: _Heard) -> bool:
        """Whether both are for the same leader.

        Behind an election only leader and epoch count: zxid and round are those of each one's own
        election. Messages of 3.4 tell an epoch that does not move on with the leader's.
        """
        if Role.LOOKING in (self.state, other.state):
            return self.vote == other.vote
        comparable = (self.version > 0) == (other.version > 0)
        return self.vote.leader == other.vote.leader and not (
            comparable and self.vote.peer_epoch != other.vote.peer_epoch
        )


class Election:
    """One member's part; `role` is LOOKING from look() until the round is decided."""

    def __init__(
        self,
        sid: int,
        membership: Membership,
        *,
        interval_ms_min: int = INTERVAL_MS_MIN,
        interval_ms_max: int = INTERVAL_MS_MAX,
    ) -> None:
        self._sid = sid
        self._membership = membership
        self._config = membership.text()
        self._interval_ms_min = interval_ms_min
        self._interval_ms_max = interval_ms_max
        self.role = Role.LOOKING
        self.round = 0
        # While LOOKING the best one of this round, else the one that was decided for.
        self.vote = Vote(NOBODY, NOBODY, 0, NOBODY)
        self._own = self.vote  # for oneself; NOBODY's without a voice
        self._votes: dict[int, _Heard] = {}  # of voters, in this round
        self._outside: dict[int, _Heard] = {}  # of voters whose election is over
        self._out: dict[int, Notification] = {}
        self._answered: set[int] = set()  # of those without a vote, since the last tick
        self._owed: set[int] = set()  # another answer at the next
        self._interval_ms = interval_ms_min
        self._resend_ms = 0.0  # left until the vote is told again
        self._finalize_ms: float | None = None  # left until the round ends; None: no quorum yet

    # What is put in

    def look(self, zxid: int, epoch: int, *, whole: bool = True) -> None:
        """Begin a round.

        `zxid` and `epoch` are this replica's last logged zxid and its current epoch; a replica that
        is not `whole` has lost part of its history and can only follow.
        """
        # Who is not whole joins the round that others have: its own would make it deaf to theirs.
        self.round = self.round + 1 if whole else 0
        self.role = Role.LOOKING
        voice = whole and self._sid in self._membership.voters
        if voice and self._membership.weight(self._sid) > 0:
            self._own = Vote(self._sid, zxid, self.round, epoch)
        else:
            self._own = Vote(NOBODY, NOBODY, self.round, NOBODY)
        self._votes.clear()
        self._outside.clear()
        self._interval_ms = self._interval_ms_min
        self._choose(self._own)
        self._tell_all()
        self._count()

    def receive(self, sid: int, notification: Notification) -> None:
        """A message of the member `sid`."""
        state, leader, zxid, election_epoch, peer_epoch, version, _ = notification
        if not Role.LOOKING <= state <= Role.OBSERVING or not 0 <= election_epoch <= ROUND_MAX:
            return
        vote = Vote(leader, zxid, election_epoch, peer_epoch)
        if sid == self._sid:
            return
        if sid not in self._membership.voters:
            self._answer(sid)  # an observer, or a stranger who may become one
        elif self.role is not Role.LOOKING:
            if state == Role.LOOKING:
                self._tell(sid)
        elif state == Role.LOOKING and election_epoch < self.round:
            if self._has_voice:  # else the two would answer each other without end
                self._tell(sid)
        elif leader not in self._membership.voters or self._is_hopeless(vote):
            return
        elif state == Role.LOOKING:
            self._looking(sid, vote)
        elif state in (Role.FOLLOWING, Role.LEADING):
            self._settled(sid, _Heard(vote, state, version))

    def tick(self, elapsed_ms: float) -> None:
        """Time has passed."""
        if self.role is not Role.LOOKING:
            return
        self._answer_owed()
        if self._finalize_ms is not None:
            self._finalize_ms -= elapsed_ms
            if self._finalize_ms <= 0:
                self._decide(self.vote)
                return
        self._resend_ms -= elapsed_ms
        if self._resend_ms <= 0:
            self._interval_ms = min(2 * self._interval_ms, self._interval_ms_max)
            self._tell_all()

    def establish(self, epoch: int) -> None:
        """The leader that was chosen is established with a new epoch, and this member with it.

        All of them tell this epoch from now on; who comes later needs a quorum of equal answers.
        """
        assert self.role is not Role.LOOKING
        self.vote = self.vote._replace(peer_epoch=epoch)

    # What comes out

    def drain(self) -> list[tuple[int, Notification]]:
        """(sid, message) to be sent: the last one to each; a later one makes it needless."""
        out = list(self._out.items())
        self._out.clear()
        return out

    # The rules

    def _looking(self, sid: int, vote: Vote) -> None:
        """A voter of this round or a later one tells its vote."""
        if vote.election_epoch > self.round:
            self.round = vote.election_epoch
            self._own = self._own._replace(election_epoch=self.round)
            self._votes.clear()
            self._choose(vote if self._beats(vote, self._own) else self._own)
            self._speak()
        elif self._beats(vote, self.vote):
            self._choose(vote)
            self._speak()
        self._votes[sid] = _Heard(vote, Role.LOOKING, 0)
        self._count()

    def _settled(self, sid: int, heard: _Heard) -> None:
        """A voter for whom the election is over tells whom it follows.

        In one's own round the leader alone is compared (version 0): some of its followers have
        moved on to its epoch, some have not.
        """
        if heard.vote.election_epoch == self.round:
            self._votes[sid] = heard._replace(version=0)
            if self._is_led(self._votes, heard):
                self._decide(heard.vote)
                return
        self._outside[sid] = heard
        if self._is_led(self._outside, heard):
            self._decide(heard.vote)

    def _is_led(self, votes: dict[int, _Heard], heard: _Heard) -> bool:
        """Whether a quorum agrees with `heard`, and its leader says that it leads."""
        leader = heard.vote.leader
        if leader == self._sid:
            # We were it and lost it: our followers do not know yet.
            confirmed = heard.vote.election_epoch == self.round
        else:
            confirmed = leader in votes and votes[leader].state == Role.LEADING
        return confirmed and self._membership.is_quorum(
            [sid for sid, other in votes.items() if heard.agrees(other)]
        )

    def _count(self) -> None:
        """Let the round end if a quorum has the same vote as we."""
        mine = _Heard(self.vote, Role.LOOKING, 0)
        agreeing = [sid for sid, other in self._votes.items() if mine.agrees(other)]
        if self._finalize_ms is None and self._membership.is_quorum(agreeing):
            self._finalize_ms = FINALIZE_MS

    def _decide(self, vote: Vote) -> None:
        self.vote = vote
        self.round = vote.election_epoch
        if vote.leader == self._sid:
            self.role = Role.LEADING
        elif self._sid in self._membership.voters:
            self.role = Role.FOLLOWING
        else:
            self.role = Role.OBSERVING
        self._answer_owed()

    def _beats(self, vote: Vote, other: Vote) -> bool:
        return vote.rank > other.rank and self._membership.weight(vote.leader) > 0

    def _is_hopeless(self, vote: Vote) -> bool:
        """Whether nobody can become leader by this vote."""
        return vote.zxid == NO_DATABASE or (vote.leader == self._sid and not self._has_voice)

    # Votes and messages of our own

    @property
    def _has_voice(self) -> bool:
        return self._own.leader != NOBODY

    def _choose(self, vote: Vote) -> None:
        self.vote = vote._replace(election_epoch=self.round)
        self._finalize_ms = None
        if self._has_voice:
            self._votes[self._sid] = _Heard(self.vote, Role.LOOKING, 0)

    def _speak(self) -> None:
        """Our vote has changed; one for nobody never does."""
        if self._has_voice:
            self._tell_all()

    def _answer(self, sid: int) -> None:
        """At once; while LOOKING once a tick, as a stranger may answer answers without end."""
        if sid in self._answered and self.role is Role.LOOKING:
            self._owed.add(sid)
        else:
            self._answered.add(sid)
            self._tell(sid)

    def _answer_owed(self) -> None:
        for sid in self._owed:
            self._tell(sid)
        self._answered, self._owed = self._owed, set()

    def _tell_all(self) -> None:
        self._resend_ms = self._interval_ms
        for sid in self._membership.voters:
            if sid != self._sid:
                self._tell(sid)

    def _tell(self, sid: int) -> None:
        vote = self.vote
        if self.role is Role.LOOKING and not self._has_voice:
            vote = self._own
        self._out[sid] = Notification(self.role, *vote, config=self._config)
