"""What must hold in every run, watched at every step. Named after ZAB's properties.

Each checker is told of events and raises Violation. `Checkers` hands the events of a world to all.
To deliver is to apply to the tree; to broadcast is to propose.
Source: Junqueira, Reed, Serafini: Zab; zookeeper-specifications, Zab.tla.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Final

from zkstore.zab.proposals import counter_of, epoch_of
from zkstore.zab.ready import Proposal

if TYPE_CHECKING:
    from tests.sim.node import Node
    from tests.sim.world import World

# Why a link may end between members that keep to the protocol, with all faults there are.
LAWFUL: Final = (
    "the leader cannot be reached", "the leader is silent", "silent", "no ACK of",
    "no quorum within initLimit", "not enough followers are in touch", "not leading",
    "nobody leads", "has connected anew", "has promised epoch", "is ahead of us", "was promised",
    "the log does not reach so far back", "the log was trimmed", "are used up",
    "it does not wait for an answer", "this replica is empty", "the journal has no room",
    "the disk is full", "the trees differ", "that asked for the tree",
)  # fmt: skip


class Violation(AssertionError):
    """A property does not hold."""


def check(holds: bool, what: str) -> None:
    if not holds:
        raise Violation(what)


class Integrity:
    """What is delivered was broadcast by a primary, and each zxid once."""

    def __init__(self) -> None:
        self._broadcast: dict[int, bytes] = {}

    def broadcast(self, proposal: Proposal) -> None:
        zxid, txn = proposal
        check(zxid not in self._broadcast, f"Integrity: {zxid:#x} was proposed twice")
        self._broadcast[zxid] = txn

    def delivered(self, proposal: Proposal) -> None:
        zxid, txn = proposal
        check(self._broadcast.get(zxid) == txn, f"Integrity: {zxid:#x} was never proposed")


class TotalOrder:
    """Who delivers b has delivered the same txn just before it as everybody else who did."""

    def __init__(self) -> None:
        self._before: dict[int, int] = {}

    def delivered(self, before: int, zxid: int) -> None:
        known = self._before.setdefault(zxid, before)
        check(known == before, f"TotalOrder: {zxid:#x} behind {before:#x} and {known:#x}")


class Agreement:
    """Of any two replicas' deliveries one is a prefix of the other."""

    def __init__(self) -> None:
        self.order: list[Proposal] = []  # what anybody has delivered

    def delivered(self, position: int, proposal: Proposal) -> bool:
        """Returns whether nobody has delivered it before."""
        check(position <= len(self.order), f"Agreement: {proposal.zxid:#x} leaves txns out")
        if position == len(self.order):
            self.order.append(proposal)
            return True
        known = self.order[position]
        check(known == proposal, f"Agreement: {proposal.zxid:#x} where others have {known.zxid:#x}")
        return False


class PrefixConsistency:
    """The trees of all replicas, compared whole, are prefixes of one order."""

    def compare(self, logs: Collection[list[Proposal]]) -> None:
        longest = max(logs, key=len)
        for log in logs:
            check(log == longest[: len(log)], "PrefixConsistency: two trees differ")


class LocalPrimaryOrder:
    """What one primary broadcast is delivered in its order, nothing left out."""

    def delivered(self, before: int, zxid: int) -> None:
        if epoch_of(before) == epoch_of(zxid):
            holds = zxid == before + 1
        else:
            holds = counter_of(zxid) == 1
        check(holds, f"LocalPrimaryOrder: {zxid:#x} behind {before:#x}")


class GlobalPrimaryOrder:
    """What an earlier primary broadcast is delivered before what a later one did."""

    def delivered(self, before: int, zxid: int) -> None:
        check(zxid > before, f"GlobalPrimaryOrder: {zxid:#x} behind {before:#x}")


class PrimaryIntegrity:
    """A primary has, before it broadcasts, all that anybody ever delivers of earlier epochs."""

    def __init__(self) -> None:
        self._histories: dict[int, set[int]] = {}

    def established(self, epoch: int, history: list[Proposal], order: list[Proposal]) -> None:
        self._histories[epoch] = {p.zxid for p in history}
        for proposal in order:
            self._has(epoch, proposal.zxid)

    def first_delivered(self, zxid: int) -> None:
        for epoch in self._histories:
            if epoch > epoch_of(zxid):
                self._has(epoch, zxid)

    def _has(self, epoch: int, zxid: int) -> None:
        check(
            epoch_of(zxid) >= epoch or zxid in self._histories[epoch],
            f"PrimaryIntegrity: the leader of epoch {epoch} lacks {zxid:#x}",
        )


class OneLeader:
    """No epoch has two established leaders, nor one twice."""

    def __init__(self) -> None:
        self.leaders: dict[int, tuple[int, int]] = {}

    def established(self, epoch: int, sid: int, life: int) -> None:
        known = self.leaders.setdefault(epoch, (sid, life))
        check(known == (sid, life), f"OneLeader: {sid} leads epoch {epoch}, and {known[0]} did")


class Durable:
    """What is delivered anywhere is in the journals of a quorum by then."""

    def first_delivered(
        self, zxid: int, holders: Collection[int], is_quorum: Callable[[Collection[int]], bool]
    ) -> None:
        check(is_quorum(holders), f"Durable: only {sorted(holders)} have {zxid:#x}")


class Linearizable:
    """A write or sync that begins behind an acknowledgement comes behind what was acknowledged."""

    def __init__(self) -> None:
        self.acknowledged: set[int] = set()
        self.last = 0

    def write_done(self, floor: int, zxid: int) -> None:
        """`floor`: `last` when the write was asked for."""
        check(zxid > floor, f"Linearizable: a write became {zxid:#x}, behind {floor:#x} was asked")
        check(zxid not in self.acknowledged, f"Linearizable: {zxid:#x} was acknowledged twice")
        self.acknowledged.add(zxid)
        self.last = max(self.last, zxid)

    def sync_done(self, floor: int, zxid: int) -> None:
        check(zxid >= floor, f"Linearizable: a sync at {zxid:#x} does not see {floor:#x}")


class NothingLost:
    """Each acknowledged write is in each tree when all is quiet."""

    def compare(self, acknowledged: Collection[int], logs: Collection[list[Proposal]]) -> None:
        for log in logs:
            lost = set(acknowledged) - {p.zxid for p in log}
            check(not lost, f"NothingLost: {sorted(map(hex, lost))[:3]} acknowledged and gone")


class Lawful:
    """No member finds that another breaks the protocol."""

    def hung_up(self, sid: int, why: str) -> None:
        check(any(text in why for text in LAWFUL), f"Lawful: {sid} hangs up: {why}")


class Checkers:
    """All of them, fed by one world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._last: dict[tuple[int, int], int] = {}  # (sid, life) → what it delivered last
        self.integrity = Integrity()
        self.total_order = TotalOrder()
        self.agreement = Agreement()
        self.local_order = LocalPrimaryOrder()
        self.global_order = GlobalPrimaryOrder()
        self.primary_integrity = PrimaryIntegrity()
        self.one_leader = OneLeader()
        self.durable = Durable()
        self.linearizable = Linearizable()
        self.lawful = Lawful()
        self.snapshots = 0
        self.deliveries = 0

    def hung_up(self, node: Node, why: str) -> None:
        self._world.trace(node, "hangs up", why)
        self._world.whys[why.split("0x")[0]] += 1
        self.lawful.hung_up(node.sid, why)

    def broadcast(self, node: Node, proposal: Proposal) -> None:
        self.integrity.broadcast(proposal)

    def delivered(self, node: Node, proposal: Proposal) -> None:
        """`node` has applied it."""
        self.deliveries += 1
        zxid = proposal.zxid
        position = node.disk.position(zxid) - 1
        before = node.disk.log[position - 1].zxid if position else 0
        check(node.disk.log[position] == proposal, f"Durable: {zxid:#x} is applied, not journaled")
        self.integrity.delivered(proposal)
        self.total_order.delivered(before, zxid)
        if before or epoch_of(zxid) == 1:
            self.local_order.delivered(before, zxid)
        self.global_order.delivered(self._last.get((node.sid, node.life), 0), zxid)
        self._last[node.sid, node.life] = zxid
        if self.agreement.delivered(position, proposal):
            self.primary_integrity.first_delivered(zxid)
            self._is_durable(proposal)

    def _is_durable(self, proposal: Proposal) -> None:
        # A replica that lost its data counts as holding it: only so many are damaged that the
        # others suffice.
        holders = {
            sid
            for sid, node in self._world.nodes.items()
            if not node.disk.hard.whole or node.disk.emptied or node.disk.has(proposal)
        }
        self.durable.first_delivered(proposal.zxid, holders, self._world.is_quorum)

    def installed(self, node: Node) -> None:
        """`node` has a new tree."""
        self.snapshots += 1
        for position, proposal in enumerate(node.disk.log):
            if self.agreement.delivered(position, proposal):
                self._is_durable(proposal)
        self._last[node.sid, node.life] = node.disk.applied

    def established(self, node: Node, epoch: int) -> None:
        """`node` leads."""
        self.one_leader.established(epoch, node.sid, node.life)
        self.primary_integrity.established(epoch, node.disk.log, self.agreement.order)

    def compare(self) -> None:
        """All trees, whole."""
        PrefixConsistency().compare([node.tree() for node in self._world.nodes.values()])

    def at_rest(self) -> None:
        """Faults have ended, and all replicas have caught up."""
        logs = [node.tree() for node in self._world.nodes.values()]
        NothingLost().compare(self.linearizable.acknowledged, logs)
        check(len(set(map(len, logs))) == 1, "Agreement: not all replicas have caught up")
