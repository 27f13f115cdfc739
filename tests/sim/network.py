"""The simulated network: datagrams of the election ports, links of the quorum ports.

Datagrams are lost, doubled, delayed and overtake each other. Links are first in, first out, as TCP
is: what a partition holds up arrives later or, if the link breaks, never.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from zkstore.proto.quorum import Notification, Packet

if TYPE_CHECKING:
    from tests.sim.node import Node
    from tests.sim.world import World

LOW_MARK: Final = 4  # packets under way on a link: below, it takes more


class Eof:
    """The other end has hung up."""


class Tree:
    """The stream behind a SNAP: a copy of the leader's log up to some zxid."""

    def __init__(self, log: list) -> None:
        self.log = log


Item = Packet | Eof | Tree


class Pipe:
    """One direction of a link."""

    def __init__(self, network: Network, source: Node, target: Node, number: int) -> None:
        self.network = network
        self.source = source
        self.target = target
        self.number = number  # the link, as the target calls it
        self.reverse: Pipe | None = None
        self.items: deque[tuple[int, Item]] = deque()
        self.stalled_until = 0
        self.held = False  # the target is taking in a tree
        self.dead = False
        self._last_at = 0
        self._pumped_at = -1

    def push(self, item: Item) -> None:
        """Send something; it arrives behind everything sent before."""
        self._last_at = max(self._last_at, self.network.world.now + self.network.latency())
        self.items.append((self._last_at, item))
        self.wake()

    def wake(self) -> None:
        """Have the next item delivered when its time comes."""
        if self.items and not self.dead:
            now = self.network.world.now
            at = max(self.items[0][0], self.stalled_until, now)
            if at != self._pumped_at:
                self._pumped_at = at
                self.network.world.schedule(at - now, self.pump)

    def pump(self) -> None:
        """Deliver what is due."""
        world = self.network.world
        self._pumped_at = -1
        while self.items and not self.dead:
            if self.held or self.target.paused or self.network.is_cut(self.source, self.target):
                return  # whoever ends this wakes us
            at, item = self.items[0]
            if max(at, self.stalled_until) > world.now:
                self.wake()
                return
            self.items.popleft()
            if isinstance(item, Packet):
                self.target.on_packet(self, item)
                if len(self.items) < LOW_MARK:
                    self.source.on_writable(self)
            elif isinstance(item, Tree):
                self.target.on_tree(self, item)
            else:
                self.target.on_closed(self)


@dataclass
class Weather:
    """How bad the network is just now; times in µs."""

    latency_min: int = 200
    latency_max: int = 3000
    slow: float = 0.01  # share of messages that take
    slow_max: int = 60_000
    loss: float = 0.0
    doubled: float = 0.0


class Network:
    """All connections between the nodes of a world."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.weather = Weather()
        self.pipes: list[Pipe] = []
        self.cut: set[tuple[int, int]] = set()  # (from, to): nothing arrives
        self._numbers = 0

    def latency(self) -> int:
        """Of one message, in µs."""
        weather, random = self.weather, self.world.random
        if random.random() < weather.slow:
            return random.randint(weather.latency_min, weather.slow_max)
        return random.randint(weather.latency_min, weather.latency_max)

    def is_cut(self, source: Node, target: Node) -> bool:
        return (source.sid, target.sid) in self.cut

    # ---- election ports

    def notify(self, source: Node, sid: int, message: Notification) -> None:
        """One datagram."""
        target = self.world.nodes.get(sid)
        random = self.world.random
        if target is None or random.random() < self.weather.loss:
            return
        for _ in range(2 if random.random() < self.weather.doubled else 1):
            self.world.schedule(self.latency(), self._arrive, source, target, message)

    def _arrive(self, source: Node, target: Node, message: Notification) -> None:
        if not self.is_cut(source, target) and not target.paused:
            target.on_notification(source.sid, message)

    # ---- quorum ports

    def dial(self, source: Node, link: int, sid: int) -> None:
        """Connect, or tell the dialler that it failed."""
        self.world.schedule(
            self.latency() + self.latency(), self._dialled, source, source.life, link, sid
        )

    def _dialled(self, source: Node, life: int, link: int, sid: int) -> None:
        target = self.world.nodes.get(sid)
        if source.life != life or not source.up:
            return
        cut = target is not None and (self.is_cut(source, target) or self.is_cut(target, source))
        if target is None or not target.up or cut:
            source.on_dial_failed(link)
            return
        self._numbers += 1
        there = Pipe(self, source, target, self._numbers)
        back = Pipe(self, target, source, link)
        there.reverse, back.reverse = back, there
        self.pipes += [there, back]
        source.on_opened(link, there)
        target.on_opened(there.number, back)

    def hang_up(self, pipe: Pipe) -> None:
        """The source of `pipe` closes the link: the target reads what is under way, then the
        end."""
        assert pipe.reverse is not None
        pipe.reverse.dead = True
        pipe.push(Eof())

    def reset(self, pipe: Pipe) -> None:
        """The link breaks: what is under way is lost; each end learns it by itself."""
        assert pipe.reverse is not None
        for one in (pipe, pipe.reverse):
            if not one.dead:
                one.items.clear()
                one.held = False
                one.push(Eof())

    def stall(self, node: Node, duration: int) -> None:
        """What it sends arrives later."""
        for pipe in self.pipes:
            if pipe.source is node:
                pipe.stalled_until = self.world.now + duration

    def forget(self, node: Node) -> None:
        """What it has sent is lost: it was still in its own buffers."""
        for pipe in self.pipes:
            if pipe.source is node:
                pipe.items.clear()

    def crashed(self, node: Node) -> None:
        """All its links end; what has left is still under way."""
        for pipe in self.pipes:
            if pipe.target is node:
                pipe.dead = True
            elif pipe.source is node and not pipe.dead:
                pipe.push(Eof())
        self.pipes = [pipe for pipe in self.pipes if not pipe.dead]

    def wake(self) -> None:
        """Partitions or pauses have ended."""
        for pipe in self.pipes:
            pipe.wake()
