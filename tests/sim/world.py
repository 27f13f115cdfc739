"""A simulated ensemble: one clock, one queue of events, one source of randomness.

A seed decides everything: the ensemble, the weather, the faults, the clients, the order of what
happens at one time. Same seed, same program: same run.
"""

from __future__ import annotations

import heapq
from collections import Counter, deque
from collections.abc import Callable, Collection
from random import Random
from typing import Any, Final
from unittest.mock import patch

from tests.sim.bugs import NO_BUG, Bugs
from tests.sim.checkers import Checkers, Violation
from tests.sim.clients import Client
from tests.sim.disk import Disk
from tests.sim.faults import Faults
from tests.sim.network import Network
from tests.sim.node import Node
from zkstore.proto import quorum as q
from zkstore.proto.quorum import LearnerInfo, Packet
from zkstore.zab import leader, sync
from zkstore.zab.membership import Address, Member, Membership
from zkstore.zab.proposals import COUNTER_MAX
from zkstore.zab.timing import Timing

SECOND: Final = 1_000_000
EVENTS_MAX: Final = 1_000_000  # of one run
TRACE_EVENTS: Final = 60
STRANGER: Final = 99
HONEST: Final = Membership.is_quorum
FAULTS_UNTIL: Final = 8 * SECOND
QUIET_UNTIL: Final = 15 * SECOND  # by then all replicas serve and agree
AFTER_QUIET: Final = SECOND // 2  # clients have stopped; all of them catch up


class World:
    """One run."""

    def __init__(self, seed: int, bugs: Bugs = NO_BUG, faults: Collection[str] = ()) -> None:
        self.seed = seed
        self.random = random = Random(seed)
        self.bugs = bugs
        self.now = 0  # µs
        self.operations = 0
        self.truncations = self.failed_truncations = self.refusals = 0
        self.interrupted_trees = self.trees_for_size = self.old_copies = 0
        self.clients_run = True
        self.whys: Counter[str] = Counter()
        self._events: list[tuple[int, float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._scheduled = 0
        self._trace: deque[tuple[int, int, str, object]] = deque(maxlen=TRACE_EVENTS)
        self.membership = _membership(random)
        self.timing = Timing(
            tick_ms=200, init_limit=8, sync_limit=random.choice((3, 5)), interval_ms_max=3000
        )
        self.plain = random.random() < 0.4  # members do not know each other as zkstore's
        self.pause_max = random.choice((40_000, 100_000, 300_000))  # between a client's operations
        kept = random.choice((10, 40, 1_000_000))
        # Of a long DIFF; and how many zxids an epoch has less than it might.
        self._piece_bytes = random.choice((20, leader.PIECE_BYTES))
        self._diff_bytes_min = random.choice((20, sync.DIFF_BYTES_MIN))
        self.looks_at_disks = random.random() < 0.5  # else a full one is found by writing
        self._kept = COUNTER_MAX - random.choice((50, 300, 1_000_000, 1_000_000))
        self.network = Network(self)
        self.checkers = Checkers(self)
        # One that nobody else knows takes itself for a voter.
        has_stranger = random.random() < 0.2 and len(self.membership.voters) >= 3
        self._foreign = _with_stranger(self.membership) if has_stranger else None
        sids = (self._foreign or self.membership).members
        node_bytes = random.choice((0, 100))  # 0: a SNAP is always the cheaper way
        self.nodes = {sid: Node(self, sid, Disk(kept, node_bytes)) for sid in sids}
        self.clients = [Client(self) for _ in range(random.randint(2, 5))]
        self.faults = Faults(self, faults)
        for node in self.nodes.values():
            self.schedule(random.randint(0, SECOND // 4), node.start)

    # ---- the clock

    def schedule(self, delay: int, call: Callable[..., None], *args: Any) -> None:
        """Do something later; what falls on one time is done in random order."""
        self._scheduled += 1
        event = (self.now + delay, self.random.random(), self._scheduled, call, args)
        heapq.heappush(self._events, event)

    def run_until(self, end: int) -> None:
        """Let time pass."""
        events = self._events
        while events and events[0][0] <= end:
            self.now, _, _, call, args = heapq.heappop(events)
            call(*args)
            assert self._scheduled < EVENTS_MAX, "the run does not come to rest"
        self.now = end

    def run(self) -> None:
        """Faults, then peace; raises Violation."""
        with (
            patch.object(leader, "PIECE_BYTES", self._piece_bytes),
            patch.object(sync, "DIFF_BYTES_MIN", self._diff_bytes_min),
        ):
            with patch.object(leader, "COUNTERS_KEPT", self._kept):
                self.run_until(FAULTS_UNTIL)
            self._mend()

    def _mend(self) -> None:
        """All is well from now on."""
        self.faults.end()
        self.checkers.compare()
        self.run_until(QUIET_UNTIL)
        done = len(self.checkers.linearizable.acknowledged)
        self._all_serve()
        self.run_until(QUIET_UNTIL + 2 * SECOND)
        if len(self.checkers.linearizable.acknowledged) == done:
            raise Violation("Progress: no write is acknowledged though all is well")
        self.clients_run = False
        self.run_until(QUIET_UNTIL + 2 * SECOND + AFTER_QUIET)
        self._all_serve()
        self.checkers.compare()
        self.checkers.at_rest()

    def _all_serve(self) -> None:
        idle = [sid for sid, node in self.nodes.items() if not node.peer.serving]
        if idle:
            states = {sid: (node.peer.role.name, node.peer.why) for sid, node in self.nodes.items()}
            raise Violation(f"Progress: {idle} do not serve though all is well: {states}")

    # ---- helpers

    def is_quorum(self, sids: Collection[int]) -> bool:
        """Whatever a seeded bug makes of it."""
        return HONEST(self.membership, sids)

    def membership_of(self, sid: int) -> Membership:
        """As this member knows it."""
        if self._foreign is not None and sid == STRANGER:
            return self._foreign
        return self.membership

    def voters(self) -> list[Node]:
        return [node for node in self.nodes.values() if node.sid in self.membership.voters]

    def bend(self, packet: Packet) -> Packet:
        """In some runs nobody says that it is one of ours."""
        if self.plain and packet.type in (q.FOLLOWERINFO, q.OBSERVERINFO):
            info = LearnerInfo.decode(packet.data)
            assert info is not None
            return packet._replace(data=info._replace(protocol_version=q.JAVA_PROTOCOL).encode())
        return packet

    def trace(self, node: Node, what: str, detail: object) -> None:
        """Remember what happened, for a failure's report."""
        self._trace.append((self.now, node.sid, what, detail))

    def tale(self) -> str:
        """The last events, one a line."""
        lines = [f"seed {self.seed}: members {self.membership.text().decode().splitlines()}"]
        for at, sid, what, detail in self._trace:
            lines.append(f"{at / SECOND:10.6f} {sid:3} {what} {_short(detail)}")
        return "\n".join(lines)


def run_seed(seed: int) -> None:
    """Run one; a failure tells its last events."""
    world = World(seed)
    try:
        world.run()
    except AssertionError as e:
        raise AssertionError(f"{world.tale()}\nseed {seed}: {e}") from e


def _short(detail: object) -> str:
    text = str(detail)
    return text if len(text) < 600 else text[:600] + "…"


def _with_stranger(membership: Membership) -> Membership:
    stranger = Member(STRANGER, (Address("host", 1, 2),))
    return Membership([*membership.members.values(), stranger])


def _membership(random: Random) -> Membership:
    """3 or 5 voters, sometimes in groups or with weights, and up to two observers."""
    voters = random.choice((1, 3, 3, 3, 4, 5, 5))
    observers = random.choice((0, 0, 1, 2))
    address = (Address("host", 1, 2),)
    members = [Member(sid, address, sid > voters) for sid in range(1, voters + observers + 1)]
    groups: dict[int, list[int]] | None = None
    weights: dict[int, int] | None = None
    if voters == 5 and random.random() < 0.3:
        groups = {1: [1, 2, 3], 2: [4, 5]}
        weights = random.choice((None, {1: 2}, {5: 0}, {1: 0, 2: 0, 3: 0}))
    elif voters == 3 and random.random() < 0.2:
        groups, weights = {1: [1, 2, 3]}, random.choice(({1: 3}, {3: 0}, {1: 2}))
    return Membership(members, groups=groups, weights=weights)
