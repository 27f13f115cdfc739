"""What goes wrong in a simulated run: each seed chooses which faults, and how often."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Final

from tests.sim.disk import Disk
from tests.sim.network import Weather
from zkstore.proto.quorum import Role
from zkstore.zab.leader import Stage

if TYPE_CHECKING:
    from tests.sim.node import Node
    from tests.sim.world import World

_SECOND: Final = 1_000_000


class Faults:
    """Makes faults until end(), which mends everything."""

    def __init__(self, world: World, kinds: Collection[str] = ()) -> None:
        """`kinds`: names of the faults to make; none: the seed chooses."""
        self._world = world
        random = world.random
        every: list[Callable[[], None]] = [
            self._crash, self._crash_leader, self._behead, self._crash_learner, self._crash_all,
            self._isolate, self._isolate_leader, self._split, self._deafen, self._break_link,
            self._stall_link, self._slow_disk, self._skew, self._pause, self._pause_leader,
            self._storm, self._damage, self._empty, self._restore, self._spoil_truncation,
            self._interrupt_tree, self._fill, self._fill_leader, self._doubt,
        ]  # fmt: skip
        chosen = random.sample(every, random.randint(1, 6))
        self._kinds = [one for one in every if one.__name__ in kinds] if kinds else chosen
        self._gap = random.choice((200_000, 600_000, 1_200_000))
        self._ended = False
        world.schedule(random.randint(0, 2 * _SECOND), self._one)

    def _one(self) -> None:
        world = self._world
        if self._ended:
            return
        world.random.choice(self._kinds)()
        world.schedule(world.random.randint(1000, 2 * self._gap), self._one)

    def end(self) -> None:
        """All is well from now on."""
        self._ended = True
        world = self._world
        world.network.weather = Weather()
        world.network.cut.clear()
        for pipe in world.network.pipes:
            pipe.stalled_until = 0
        for node in world.nodes.values():
            node.skew = 1.0
            node.flush_max = 2000
            node.disk.short = node.disk.full = node.cannot_truncate = False
            if not node.up:
                node.start()
            elif node.paused:
                node.resume()
        world.network.wake()

    def _later(self, call: Callable[[], None]) -> None:
        """Mend something after a while; at the end of all faults it is mended anyhow."""
        longest = self._world.random.choice((_SECOND // 4, _SECOND, 4 * _SECOND))

        def run() -> None:
            if not self._ended:
                call()

        self._world.schedule(self._world.random.randint(1000, longest), run)

    def _any(self) -> Node:
        return self._world.random.choice(list(self._world.nodes.values()))

    def _leader(self) -> Node:
        leading = [n for n in self._world.nodes.values() if n.up and n.peer.leading]
        return leading[0] if leading else self._any()

    # ---- replicas

    def _down(self, node: Node, *, damage: bool = False, disk: Disk | None = None) -> None:
        if not node.up or self._ended:
            return
        self._world.trace(node, "crash", "damaged" * damage + "another disk" * (disk is not None))
        node.crash(damage=damage, disk=disk)
        self._later(lambda: None if node.up else node.start())

    def _crash(self) -> None:
        self._down(self._any())

    def _crash_leader(self) -> None:
        self._down(self._leader())

    def _behead(self, patience: int = 400) -> None:
        """The leader dies with a proposal in its journal that nobody else has got."""
        node = self._leader()
        others = [one.disk.last_logged for one in self._world.nodes.values() if one is not node]
        if node.up and node.peer.leading and node.disk.last_logged > max(others, default=0):
            self._world.network.forget(node)
            self._down(node)
        elif patience and not self._ended:
            # What it sends takes longer than its own flush.
            self._world.network.stall(node, 5000)
            self._world.schedule(500, self._behead, patience - 1)

    def _crash_learner(self, patience: int = 400) -> None:
        """A learner dies while it is being brought up to date."""
        nodes = self._world.nodes
        syncing = [
            nodes[learner.sid]
            for node in nodes.values()
            if node.up
            for learner in node.peer.learners.values()
            if Stage.PROMISING <= learner.stage < Stage.ACKED and learner.sid in nodes
        ]
        if syncing:
            self._down(self._world.random.choice(syncing))
        elif patience and not self._ended:
            self._world.schedule(500, self._crash_learner, patience - 1)

    def _crash_all(self) -> None:
        for node in list(self._world.nodes.values()):
            if self._world.random.random() < 0.8:
                self._down(node)

    def _damage(self) -> None:
        """One replica at a time loses the end of its journal; without it there is a quorum."""
        node = self._spare()
        if node is not None:
            last = node.disk.last_logged
            self._down(node, damage=True)
            if self._world.random.random() < 0.5:
                self._down_from(last)

    def _empty(self) -> None:
        """One replica at a time loses all, its epochs too."""
        node = self._spare()
        if node is not None:
            last = node.disk.last_logged
            self._down(node, disk=node.disk.emptied_copy())
            self._down_from(last)

    def _down_from(self, last: int) -> None:
        """Who has as much is down for a while: others must not do without."""
        for voter in self._world.voters():
            if voter.disk.last_logged >= last:
                self._down(voter)

    def _spare(self) -> Node | None:
        """A voter whose data may be lost, as all the others' is whole, and they form a quorum. One
        that has been of no epoch yet counts as emptied: it cannot tell."""
        node = self._world.random.choice(self._world.voters())
        return node if self.is_spare(node) else None

    def is_spare(self, node: Node) -> bool:
        """Whether the data of this voter may be lost."""
        voters = self._world.voters()
        others = {voter.sid for voter in voters if voter is not node}
        disks = [voter.disk for voter in voters]
        are_whole = all(d.hard.whole and d.hard.current_epoch and not d.outdated for d in disks)
        return node in voters and are_whole and self._world.is_quorum(others)

    def _restore(self) -> None:
        """A voter gets back an old copy of its disk: what it had, its promises too, a quorum of
        others has; nobody could know otherwise."""
        node = self._world.random.choice(self._world.voters())
        copy = node.disk.copy()

        def exchange() -> None:
            if self._ended or not node.up or not self.is_spare(node):
                return
            had = node.disk
            holders = {
                voter.sid
                for voter in self._world.voters()
                if voter is not node
                and voter.disk.hard.accepted_epoch >= had.hard.accepted_epoch
                and voter.disk.hard.current_epoch >= had.hard.current_epoch
                and voter.disk.log[: len(had.log)] == had.log
            }
            if self._world.is_quorum(holders):
                self._world.old_copies += copy.log != had.log
                copy.outdated = True
                self._down(node, disk=copy)

        self._world.schedule(self._world.random.randint(_SECOND // 10, 3 * _SECOND), exchange)

    def _spoil_truncation(self) -> None:
        """The leader dies with a proposal of its own, which it cannot drop when it is back."""
        self._leader().cannot_truncate = True
        self._behead()

    def _interrupt_tree(self) -> None:
        """A replica that lost its data gets a tree, which does not arrive."""
        self._damage()
        self._interrupt(400)

    def _interrupt(self, patience: int) -> None:
        world = self._world
        busy = [node for node in world.nodes.values() if node.up and node.tree_links]
        if self._ended:
            return
        if not busy:
            if patience:
                world.schedule(5000, self._interrupt, patience - 1)
            return
        world.interrupted_trees += 1
        node = world.random.choice(busy)
        link = world.random.choice(sorted(node.tree_links))
        if world.random.random() < 0.5:
            self._down(node)
        elif link in node.links:
            world.network.reset(node.links[link])

    def _doubt(self) -> None:
        """A learner wants the whole tree anew, though it lacks nothing."""
        node = self._any()
        if node.up and not node.paused and node.peer.role is not Role.LEADING:
            node.peer.synchronise_anew("the trees differ")

    def _fill(self) -> None:
        self._fill_disk(self._any())

    def _fill_leader(self) -> None:
        self._fill_disk(self._leader())

    def _fill_disk(self, node: Node) -> None:
        """There is no room, for a while; whatever becomes of the replica."""
        disk = node.disk
        disk.short = self._world.looks_at_disks
        disk.full = not disk.short or self._world.random.random() < 0.5

        def clear() -> None:
            disk.short = disk.full = False

        self._later(clear)

    def _pause(self) -> None:
        self._stop(self._any())

    def _pause_leader(self) -> None:
        self._stop(self._leader())

    def _stop(self, node: Node) -> None:
        if node.up and not node.paused:
            self._world.trace(node, "pause", "")
            node.paused = True
            life = node.life
            self._later(lambda: node.resume() if node.life == life and node.paused else None)

    def _skew(self) -> None:
        self._any().skew = self._world.random.choice((0.7, 0.9, 1.0, 1.1, 1.4))

    def _slow_disk(self) -> None:
        node = self._any()
        node.flush_max = self._world.random.choice((50_000, 300_000, 1_000_000))

        def mend() -> None:
            node.flush_max = 2000

        self._later(mend)

    # ---- the network

    def _cut(self, pairs: set[tuple[int, int]]) -> None:
        network = self._world.network
        network.cut |= pairs

        def heal() -> None:
            network.cut -= pairs
            network.wake()

        self._later(heal)

    def _isolate(self) -> None:
        self._surround(self._any())

    def _isolate_leader(self) -> None:
        self._surround(self._leader())

    def _surround(self, node: Node) -> None:
        others = [sid for sid in self._world.nodes if sid != node.sid]
        self._cut({(node.sid, sid) for sid in others} | {(sid, node.sid) for sid in others})

    def _split(self) -> None:
        sids = list(self._world.nodes)
        part = {sid for sid in sids if self._world.random.random() < 0.5}
        self._cut({(a, b) for a in sids for b in sids if (a in part) != (b in part)})

    def _deafen(self) -> None:
        """One way only."""
        node = self._any()
        others = [sid for sid in self._world.nodes if sid != node.sid]
        self._cut({(sid, node.sid) for sid in others if self._world.random.random() < 0.7})

    def _break_link(self) -> None:
        pipes = self._world.network.pipes
        if pipes:
            self._world.network.reset(self._world.random.choice(pipes))

    def _stall_link(self) -> None:
        pipes = self._world.network.pipes
        if pipes:
            pipe = self._world.random.choice(pipes)
            pipe.stalled_until = self._world.now + self._world.random.randint(1000, 2 * _SECOND)

    def _storm(self) -> None:
        random, network = self._world.random, self._world.network
        network.weather = Weather(
            latency_max=random.choice((1000, 10_000, 100_000)),
            slow=random.choice((0.0, 0.05, 0.3)),
            slow_max=random.choice((50_000, 500_000)),
            loss=random.choice((0.0, 0.1, 0.4)),
            doubled=random.choice((0.0, 0.2)),
        )

        def calm() -> None:
            network.weather = Weather()

        self._later(calm)
