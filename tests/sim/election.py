"""An ensemble that elects: real elections, a network that loses and doubles, members that crash.

What for:   what the election promises, under all that may happen, by seed.
Owns:       a clock of whole milliseconds, the messages under way, who reaches whom.
Checkers:   Genuine          a vote was somebody's own, in that very round
            Better           within a round a vote only becomes better; rounds go up
            QuorumBest       who is elected is not worse than any of a quorum that chose it
            Invited          an election that is over is joined on the leader's own word
            NoVoice          who has no voice never leads
            Settles          when faults have ended, everybody follows one leader with a quorum
Design:     what comes after an election is a few rules (`_attach`): a learner reaches its leader
            within half a second or looks again, never follows who is behind it, and leader and
            learners that lose each other look again. tests/sim/world.py has the real thing.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from zkstore.proto.quorum import NOBODY, Notification, Role
from zkstore.zab.election import Election, Vote
from zkstore.zab.membership import Address, Member, Membership

STEP_MS = 10
DIAL_MS = 500
LIMIT_MS = 1500  # that leader and learners wait for each other
INTERVAL_MS_MAX = 2000
CALM_MS = 60_000  # within which an ensemble without faults must have settled

MakeElection = Callable[[int, Membership], Election]


def make_election(sid: int, membership: Membership) -> Election:
    return Election(sid, membership, interval_ms_max=INTERVAL_MS_MAX)


class Violation(AssertionError):
    """A checker failed; names it and says what it saw."""


@dataclass
class Node:
    """One member; `epoch`, `zxid` and `whole` are what its disk keeps."""

    sid: int
    election: Election
    epoch: int = 0
    zxid: int = 0
    whole: bool = True
    up: bool = False
    alone_ms: int = 0  # since it had its leader, or as leader its quorum
    attached: bool = False  # to its leader; of a leader: it is established
    vote: Vote | None = None  # as the checkers saw it last
    invited: set[int] = field(default_factory=set)  # who told since look() that it leads


class World:
    """One run; the seed decides everything."""

    def __init__(self, seed: int, make: MakeElection = make_election) -> None:
        self.random = random.Random(seed)
        self.membership = self._membership()
        self._make = make
        self.now_ms = 0
        self.elections = 0
        self._order = 0
        self._mail: list[tuple[int, int, int, int, Notification]] = []
        self._cut: set[tuple[int, int]] = set()  # (from, to): nothing gets there
        self.loss = self.doubling = 0.0
        self.delay_ms_max = 30
        self._genuine: set[Vote] = set()
        self._choices: dict[Vote, set[int]] = {}  # vote → voters that had it while looking
        self.nodes = {sid: self._new(sid) for sid in self.membership.members}

    def _membership(self) -> Membership:
        choice = self.random
        voters = choice.choice((1, 2, 3, 3, 3, 4, 5, 5, 7))
        observers = choice.choice((0, 0, 0, 1, 2))
        sids = choice.sample(range(1, 12), voters + observers)
        members = [
            Member(sid, (Address("h", 1, 2),), observer=index >= voters)
            for index, sid in enumerate(sids)
        ]
        if voters < 3 or choice.random() < 0.7:
            return Membership(members)
        groups: dict[int, list[int]] = {}
        for sid in sids[:voters]:
            groups.setdefault(choice.randint(1, 3), []).append(sid)
        weights = {sid: choice.choice((0, 1, 1, 2)) for sid in sids[:voters]}
        weights[sids[0]] = 1
        return Membership(members, groups=groups, weights=weights)

    def _new(self, sid: int) -> Node:
        node = Node(sid, self._make(sid, self.membership))
        node.epoch = self.random.randint(0, 2)
        node.zxid = node.epoch << 32 | self.random.randint(0, 3)
        return node

    # What happens

    def start(self, node: Node) -> None:
        node.up = True
        node.election = self._make(node.sid, self.membership)
        node.vote = None
        self.look(node)

    def look(self, node: Node) -> None:
        node.attached = False
        node.alone_ms = 0
        node.invited.clear()
        before = node.election.round
        node.election.look(node.zxid, node.epoch, whole=node.whole)
        if not node.whole:
            node.vote = None  # it joins the round that others are in, whichever that is
        elif node.election.round <= before:
            raise Violation(f"Better: {node.sid} looks again in round {before}")
        self._look_at(node)

    def crash(self, node: Node) -> None:
        node.up = False

    def cut(self, one: int, other: int) -> None:
        self._cut.add((one, other))

    def heal(self) -> None:
        """No more faults; everybody is up and has its data, or nobody might lead for ever."""
        self._cut.clear()
        self.loss = self.doubling = 0.0
        self.delay_ms_max = 30
        for node in self.nodes.values():
            if not (node.up and node.whole):
                node.whole = True
                self.start(node)

    def reaches(self, one: int, other: int) -> bool:
        return (one, other) not in self._cut and (other, one) not in self._cut

    def run(self, duration_ms: int, until: Callable[[], bool] = lambda: False) -> bool:
        """Let time pass; whether `until` came true."""
        for _ in range(duration_ms // STEP_MS):
            self.now_ms += STEP_MS
            while self._mail and self._mail[0][0] <= self.now_ms:
                _, _, sender, receiver, message = heapq.heappop(self._mail)
                self._deliver(sender, self.nodes[receiver], message)
            for node in self.nodes.values():
                if node.up:
                    node.election.tick(STEP_MS)
                    self._look_at(node)
                    self._attach(node)
                    self._post(node)
            if until():
                return True
        return False

    def _deliver(self, sender: int, node: Node, message: Notification) -> None:
        if not node.up:
            return
        if message.state == Role.LEADING:
            node.invited.add(sender)
        node.election.receive(sender, message)
        self._look_at(node)

    def _post(self, node: Node) -> None:
        for receiver, message in node.election.drain():
            if receiver not in self.nodes:
                continue
            copies = 1 + (self.random.random() < self.doubling)
            for _ in range(copies):
                if (node.sid, receiver) in self._cut or self.random.random() < self.loss:
                    continue
                self._order += 1
                due_ms = self.now_ms + self.random.randint(1, self.delay_ms_max)
                heapq.heappush(self._mail, (due_ms, self._order, node.sid, receiver, message))

    # After an election

    def _attach(self, node: Node) -> None:
        role = node.election.role
        if role is Role.LOOKING:
            return
        if role is Role.LEADING:
            alright = self.membership.is_quorum([node.sid, *self._followers(node)])
            if alright and not node.attached:
                self._establish(node)
        else:
            leader = self.nodes[node.election.vote.leader]
            alright = (
                leader.up
                and self.reaches(node.sid, leader.sid)
                and leader.election.role is Role.LEADING
                and (leader.attached or (node.epoch, node.zxid) <= (leader.epoch, leader.zxid))
            )
            if alright and leader.attached and not node.attached:
                self._catch_up(node, leader)
        node.alone_ms = 0 if alright else node.alone_ms + STEP_MS
        settled = node.attached or role is Role.LEADING
        if node.alone_ms > (LIMIT_MS if settled else DIAL_MS):
            self.look(node)

    def _followers(self, leader: Node) -> list[int]:
        return [
            node.sid
            for node in self.nodes.values()
            if node.up
            and node.election.role is Role.FOLLOWING
            and node.election.vote.leader == leader.sid
            and self.reaches(node.sid, leader.sid)
            and (node.attached or (node.epoch, node.zxid) <= (leader.epoch, leader.zxid))
        ]

    def _establish(self, leader: Node) -> None:
        self.elections += 1
        followers = [self.nodes[sid] for sid in self._followers(leader)]
        leader.epoch = max(node.epoch for node in (leader, *followers)) + 1
        leader.attached = True
        leader.election.establish(leader.epoch)
        leader.zxid = leader.epoch << 32 | self.random.randint(0, 3)
        for node in followers:
            self._catch_up(node, leader)

    def _catch_up(self, node: Node, leader: Node) -> None:
        node.attached = node.whole = True
        node.epoch = leader.epoch
        node.zxid = leader.zxid
        node.election.establish(leader.epoch)

    # What must hold

    def _look_at(self, node: Node) -> None:
        """The checkers' look at one member after each thing that happened to it."""
        if node.election.role is Role.LOOKING:
            self._check_looking(node, node.election.vote)
            node.vote = node.election.vote
        elif node.vote is not None:
            self._check_decided(node, node.election.vote)
            node.vote = None

    def _check_looking(self, node: Node, vote: Vote) -> None:
        before = node.vote
        own = self._own(node)
        if own is not None:
            self._genuine.add(own)
            self._choices.setdefault(vote, set()).add(node.sid)
            if vote.rank < own.rank:
                raise Violation(f"QuorumBest: {node.sid} chose {vote}, and has {own}")
        if vote.leader != NOBODY and vote not in self._genuine:
            raise Violation(f"Genuine: {node.sid} chose {vote}, which was nobody's")
        if before is not None and (vote.election_epoch, vote.rank) < (
            before.election_epoch,
            before.rank,
        ):
            raise Violation(f"Better: {node.sid} changed {before} into {vote}")

    def _own(self, node: Node) -> Vote | None:
        """What this member stands for; computed here, not asked of it."""
        voter = node.sid in self.membership.voters
        if not (node.whole and voter and self.membership.weight(node.sid)):
            return None
        return Vote(node.sid, node.zxid, node.election.round, node.epoch)

    def _check_decided(self, node: Node, vote: Vote) -> None:
        if node.election.role is Role.LEADING and self._own(node) is None:
            raise Violation(f"NoVoice: {node.sid} leads")
        supporters = self._choices.get(vote, set())
        if vote.leader in node.invited or self.membership.is_quorum(supporters):
            return
        if node.sid == vote.leader:
            return  # its followers of an earlier time call it back
        name = "QuorumBest" if supporters else "Invited"
        raise Violation(f"{name}: {node.sid} decided for {vote}, chosen by {supporters}")

    def settled(self) -> bool:
        """Whether everybody follows one established leader."""
        leaders = {node.election.vote.leader for node in self.nodes.values()}
        return len(leaders) == 1 and all(
            node.up and node.attached and node.election.role is not Role.LOOKING
            for node in self.nodes.values()
        )

    def check_settles(self) -> None:
        if not self.run(CALM_MS, self.settled):
            state = {
                sid: (node.election.role.name, node.attached, node.election.vote)
                for sid, node in self.nodes.items()
            }
            raise Violation(f"Settles: not within {CALM_MS} ms: {state}")
        elections = self.elections
        self.run(3000)
        if self.elections != elections or not self.settled():
            raise Violation("Settles: it does not last")


def trouble(world: World, rounds: int) -> None:
    """Crashes, cuts in one direction or both, loss, delays; some replicas lose their data."""
    choice = world.random
    sids = sorted(world.nodes)
    for _ in range(rounds):
        world.loss = choice.choice((0, 0, 0.1, 0.5))
        world.doubling = choice.choice((0, 0.2))
        world.delay_ms_max = choice.choice((5, 30, 300, 1500))
        for node in world.nodes.values():
            if not node.up and choice.random() < 0.5:
                node.whole = node.whole and choice.random() > 0.1
                world.start(node)
            elif node.up and choice.random() < 0.15:
                world.crash(node)
        if choice.random() < 0.4:
            one, other = choice.choice(sids), choice.choice(sids)
            world.cut(one, other)
            if choice.random() < 0.5:
                world.cut(other, one)
        world.run(choice.choice((50, 300, 1000, 4000)))


def live(seed: int, make: MakeElection = make_election) -> World:
    """A whole life: start in some order, trouble, calm. Raises: Violation."""
    world = World(seed, make)
    for node in world.nodes.values():
        if world.random.random() < 0.8:
            world.start(node)
            world.run(world.random.choice((0, 10, 50, 500)))
    trouble(world, world.random.randint(0, 12))
    world.heal()
    world.check_settles()
    return world
