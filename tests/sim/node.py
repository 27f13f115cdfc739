"""One simulated replica: the driver that performs Readies, and a small server above it.

The server takes writes and syncs from clients: a leader proposes them, a learner sends them up; the
origin answers when its own tree has got there. A txn is the number of the client's operation.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from tests.sim.disk import Disk, Record
from tests.sim.network import Item, Pipe, Tree
from zkstore.proto import quorum as q
from zkstore.proto.quorum import Notification, Packet, Role
from zkstore.zab.peer import Peer
from zkstore.zab.ready import Proposal, Ready, Snapshot

if TYPE_CHECKING:
    from tests.sim.world import World

SYNC = b"sync"
Answer = Callable[[int], None]  # with the zxid at which the origin answers


class Node:
    """A replica; `life` counts its starts, so that what was scheduled before a crash is void."""

    def __init__(self, world: World, sid: int, disk: Disk) -> None:
        self.world = world
        self.sid = sid
        self.disk = disk
        self.up = False
        self.paused = False
        self.life = 0
        self.skew = 1.0
        self.flush_max = 2000  # µs
        self.cannot_truncate = False  # the next TRUNC fails
        self.peer: Peer

    # ---- start and end

    def start(self) -> None:
        """Recover from disk."""
        assert not self.up
        self.up = True
        self.life += 1
        self.links: dict[int, Pipe] = {}  # by our number: to the other end
        self.inbound: dict[int, Pipe] = {}
        self.tree_links: set[int] = set()  # a tree is being sent or received
        self._tree: tuple[Pipe, Snapshot] | None = None  # being received
        self._writes: dict[bytes, Answer] = {}
        self._syncs: deque[Answer] = deque()  # a learner's, sent up
        self._barriers: deque[tuple[int, int, Answer]] = deque()  # a leader's own
        self._performing = False
        self._pumping = False
        self._ticked_at = self.world.now
        self._later: list[Callable[[], None]] = []  # while paused
        self.peer = Peer(
            self.sid, self.world.membership_of(self.sid), self.world.timing, self.disk,
            self.disk.hard, self.disk.last_logged, self.disk.applied, self.disk.tail(),
        )  # fmt: skip
        self._tick()
        self._touch()

    def crash(self, *, damage: bool = False, disk: Disk | None = None) -> None:
        """Power off; it comes back with `disk` instead of its own."""
        self.up = False
        self.paused = False
        self.life += 1
        self.world.network.crashed(self)
        if disk is not None:
            self.disk = disk
        elif damage:
            self.disk.damage(self.world.random)
        else:
            self.disk.crash(self.world.random)

    def resume(self) -> None:
        """After a pause: what waits is done in any order, and takes a moment."""
        self.paused = False
        later, self._later = self._later, []
        for call in later:
            self.after(self.world.random.randint(0, 20_000), call)
        self.world.network.wake()

    def after(self, delay: int, call: Callable[[], None]) -> None:
        """Do something later in this life; not while paused."""
        life = self.life

        def run() -> None:
            if self.life == life:
                if self.paused:
                    self._later.append(run)
                else:
                    call()

        self.world.schedule(delay, run)

    def _tick(self) -> None:
        elapsed = int((self.world.now - self._ticked_at) * self.skew / 1000)
        self._ticked_at = self.world.now
        self.peer.tick(elapsed)
        if self.world.looks_at_disks:
            self.peer.set_full(self.disk.short or self.disk.full)
        self._touch()
        self.after(self.world.random.randint(30_000, 50_000), self._tick)

    # ---- from the network

    def on_notification(self, sid: int, message: Notification) -> None:
        if self.up:
            self.peer.notification(sid, message)
            self._touch()

    def on_opened(self, link: int, to_there: Pipe) -> None:
        self.links[link] = to_there
        self.peer.opened(link)
        self._touch()

    def on_dial_failed(self, link: int) -> None:
        self.peer.closed(link)
        self._touch()

    def on_packet(self, pipe: Pipe, packet: Packet) -> None:
        if packet.type == q.SNAP:
            pipe.held = True
            self.inbound[pipe.number] = pipe
        self.peer.packet(pipe.number, packet)
        self._touch()

    def on_closed(self, pipe: Pipe) -> None:
        pipe.dead = True
        back = self.links.pop(pipe.number, None)
        if back is not None:
            back.dead = True
            self.peer.closed(pipe.number)
            self._touch()

    def on_writable(self, pipe: Pipe) -> None:
        """A link of ours takes more."""
        assert pipe.reverse is not None
        link = pipe.reverse.number
        if self.paused:
            self.after(0, lambda: self.peer.writable(link))
        elif self.up:
            self.peer.writable(link)
            self._touch()

    # ---- the driver

    def _touch(self) -> None:
        """There may be work; what comes within a moment is one turn."""
        if not self._pumping:
            self._pumping = True
            self.after(self.world.random.choice((0, 0, 100, 500)), self._pump)

    def _pump(self) -> None:
        self._pumping = False
        while not self._performing and (ready := self.peer.ready()) is not None:
            self._perform(ready)
        self._pass_barriers()

    def _perform(self, ready: Ready) -> None:
        world, network = self.world, self.world.network
        self._performing = True
        world.trace(self, "ready", ready)
        for sid, message in ready.notifications:
            network.notify(self, sid, message)
        for link, sid in ready.dial:
            network.dial(self, link, sid)
        for link, why in ready.hang_up:
            world.checkers.hung_up(self, why)
            if (pipe := self.links.pop(link, None)) is not None:
                network.hang_up(pipe)
        self._send(ready.send)
        truncate = ready.truncate_after
        if truncate is not None and not self._can_truncate(truncate):
            self._performing = False
            world.failed_truncations += 1
            self.peer.not_whole("the log does not reach so far back")
            return
        # What does not grow may still fit behind the last record.
        if ready.must_sync and self.disk.full and (ready.append or world.random.random() < 0.5):
            self._performing = False
            world.refusals += 1
            if world.bugs.ack_though_refused:
                self._send(ready.send_after_sync)
            self.peer.refused(ready, "the journal has no room")
            return
        world.truncations += truncate is not None
        if world.bugs.ack_before_flush:
            self._send(ready.send_after_sync)
            ready.send_after_sync.clear()
        if not ready.must_sync:
            self._finish(ready)
            return
        self.disk.write(Record(truncate, ready.append, ready.hard_state, self.disk.applied))
        flush = world.random.randint(100, self.flush_max)

        def flushed() -> None:
            self.disk.flushed()
            self._finish(ready)
            self._touch()

        self.after(flush, flushed)

    def _can_truncate(self, after: int) -> bool:
        fails = self.cannot_truncate and self.world.faults.is_spare(self)
        self.cannot_truncate = False
        return not fails and self.disk.can_roll_back(after)

    def _finish(self, ready: Ready) -> None:
        """Behind the flush."""
        self._send(ready.send_after_sync)
        for proposal in ready.committed:
            self.disk.apply([proposal])
            self.world.checkers.delivered(self, proposal)
        for proposal in ready.committed:
            answer = self._writes.pop(proposal.txn, None)
            if answer is not None:
                answer(proposal.zxid)
        for link, packet in ready.inbox:
            self._serve(link, packet)
        for link in ready.send_snapshot:
            self._send_tree(link)
        if ready.receive_snapshot is not None:
            self._receive_tree(ready.receive_snapshot)
        self._performing = False
        self.peer.advance(ready)
        if ready.role is not None:
            self._become(ready.role, serving=ready.serving)
        self._pass_barriers()

    def _send(self, packets: list[tuple[int, Packet]]) -> None:
        for link, packet in packets:
            if (pipe := self.links.get(link)) is not None:
                pipe.push(self.world.bend(packet))

    # ---- trees

    def tree(self) -> list[Proposal]:
        """What it has applied."""
        return self.disk.log[: self.disk.position(self.disk.applied)]

    def _send_tree(self, link: int) -> None:
        """A helper process sends the tree as it stands now, which takes a while."""
        zxid = self.disk.applied
        tree = Tree(self.disk.log[: self.disk.position(zxid)])
        learner = self.peer.learners.get(link)
        self.world.trees_for_size += learner is not None and self.disk.holds(learner.last)
        self.tree_links.add(link)

        def sent() -> None:
            self.tree_links.discard(link)
            if (pipe := self.links.get(link)) is not None:
                pipe.push(Packet(q.SNAP, zxid))
                pipe.push(tree)
                self.peer.snapshot_sent(link, zxid)
                self._touch()

        self.after(self.world.random.randint(1000, 200_000), sent)

    def _receive_tree(self, snapshot: Snapshot) -> None:
        pipe = self.inbound.get(snapshot.link)
        if pipe is not None and snapshot.link in self.links:
            self._tree = pipe, snapshot
            self.tree_links.add(snapshot.link)
            pipe.held = False
            pipe.wake()

    def on_tree(self, pipe: Pipe, tree: Item) -> None:
        """The stream is complete: build the tree, then switch to it."""
        assert isinstance(tree, Tree)
        if self._tree is None or self._tree[0] is not pipe:
            return
        snapshot = self._tree[1]
        pipe.held = True
        self._tree = None

        def built() -> None:
            self.tree_links.discard(snapshot.link)
            if self.disk.full and snapshot.link in self.links:
                self.hang_up(snapshot.link)
            elif snapshot.link in self.links and self.peer.leader_link == snapshot.link:
                whole = snapshot.whole or self.world.bugs.snap_is_whole
                self.disk.install(tree.log, snapshot.zxid, whole=whole)
                self.world.checkers.installed(self)
                self.peer.snapshot_received(snapshot.link)
            pipe.held = False
            pipe.wake()
            self._touch()

        self.after(self.world.random.randint(1000, 200_000), built)

    def hang_up(self, link: int) -> None:
        """The driver ends a link by itself."""
        self.world.network.hang_up(self.links.pop(link))
        self.peer.closed(link)

    # ---- the server above

    def _become(self, role: Role, *, serving: bool) -> None:
        self._writes.clear()
        self._syncs.clear()
        self._barriers.clear()
        if role is Role.LEADING and serving:
            self.world.checkers.established(self, self.peer.epoch)

    def submit(self, number: int, answer: Answer) -> bool:
        """A client's write. Returns whether it was taken."""
        if not self.up or not self.peer.serving:
            return False
        txn = b"%d" % number
        if self.peer.leading:
            if self.disk.short:
                return False
            self._propose(txn)
        else:
            self.peer.send_up(Packet(q.REQUEST, -1, txn))
        self._writes[txn] = answer
        self._touch()
        return True

    def _propose(self, txn: bytes) -> None:
        proposal = Proposal(self.peer.next_zxid(), txn)
        self.world.checkers.broadcast(self, proposal)
        self.peer.propose(proposal)

    def sync(self, answer: Answer) -> bool:
        """A client's sync. Returns whether it was taken."""
        if not self.up or not self.peer.serving:
            return False
        if self.peer.leading:
            self._barrier(answer)
        else:
            self.peer.send_up(Packet(q.REQUEST, -1, SYNC))
            self._syncs.append(answer)
        self._touch()
        return True

    def _barrier(self, answer: Answer) -> None:
        """The leader's own sync: of its last proposal, once a quorum has confirmed."""
        if self.world.bugs.sync_without_round:
            self._barriers.append((self.peer.confirmed, 0, answer))
        else:
            self._barriers.append((self.peer.confirm(), self.peer.last_proposed, answer))

    def _pass_barriers(self) -> None:
        """Answer the syncs that a quorum has confirmed and whose txns are applied."""
        while self._barriers and self.peer.leading:
            number, upto, answer = self._barriers[0]
            if self.peer.confirmed < number or (self.disk.applied < upto and _is_txn(upto)):
                return
            self._barriers.popleft()
            answer(self.disk.applied)

    def _serve(self, link: int, packet: Packet) -> None:
        peer = self.peer
        if peer.leading and packet.type == q.REQUEST:
            if packet.data == SYNC:
                tell = peer.answer if self.world.bugs.sync_without_round else peer.sync
                tell(link, Packet(q.SYNC, 0))
            elif not self.disk.short:
                assert packet.data is not None
                self._propose(packet.data)
            self._touch()
        elif packet.type == q.PING and peer.role is not Role.LEADING and peer.serving:
            peer.send_up(Packet(q.PING, packet.zxid, b""))
            self._touch()
        elif packet.type == q.SYNC and self._syncs:
            self._syncs.popleft()(self.disk.applied)


def _is_txn(zxid: int) -> bool:
    """Whether it is more than the beginning of an epoch."""
    return bool(zxid & 0xFFFFFFFF)
