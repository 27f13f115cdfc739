"""A member of an ensemble: ties the loop to the ZAB core and the network, and changes roles.

Owns:   the member's core and driver; which role the loop and the sessions play.
Invariants:
  1. As soon as the core does not serve, nobody is served: the loop drops requests, clients are cut,
     new ones are turned away. It begins again when the core's Ready says so, behind the commits
     that belong to it.
  2. Nothing of one role lives on in the next: who waits, what is deferred, what prep has in flight.
  3. A tree that is not the leader's is taken from it anew: at most once since the start if an
     Apache leader says so, as nobody knows which of the two is wrong; if a quorum of the voters has
     another one, every DIGEST_HEAL_INTERVAL_MS at most, and without a vote meanwhile.
Design: roles are set in two places on the loop: who takes a client's request (`Loop.request`), and
        who makes and resumes sessions (`Sessions.upstream`). All the rest of the loop is the same
        for everybody.
Not here: the network (quorum/), what a role does (commit/learners.py, commit/following.py).
Source: QuorumPeer, LeaderZooKeeperServer, FollowerZooKeeperServer.
"""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path
from typing import Final

from zkstore.commit.agreement import Agreement
from zkstore.commit.company import Company
from zkstore.commit.following import Following
from zkstore.commit.learners import Learners
from zkstore.commit.loop import Loop
from zkstore.commit.ports import Connection
from zkstore.commit.standing import Standing
from zkstore.commit.transfers import Transfers
from zkstore.constants import DIGEST_HEAL_INTERVAL_MS, EXTENDED_SID_MAX
from zkstore.errors import LogTrimmed, RemoteProtocolError, ZkstoreError
from zkstore.observability.log import Limited
from zkstore.proto import quorum
from zkstore.proto.quorum import Packet, Role, Told
from zkstore.quorum.driver import Driver
from zkstore.storage.env import Replica
from zkstore.storage.history import StoredHistory
from zkstore.storage.writer import Applied
from zkstore.zab.membership import Membership
from zkstore.zab.peer import Peer
from zkstore.zab.ready import Ready
from zkstore.zab.timing import Timing

_log = logging.getLogger("zkstore.quorum")
# Beside `myid`: an empty replica is new, and votes at once. Source: zkServer-initialize.sh.
_INITIALIZE_NAME: Final = "initialize"


class Ensemble:
    """This replica as a member; the loop's `Member`."""

    def __init__(self, loop: Loop, replica: Replica, aio: asyncio.AbstractEventLoop) -> None:
        settings, writer = loop.settings, loop.writer
        self.membership = Membership.parse(settings.members)
        self._initialize = Path(settings.data_dir) / _INITIALIZE_NAME
        tail = list(writer.tail)
        self.peer = Peer(
            settings.server_id,
            self.membership,
            Timing(
                settings.tick_time_ms,
                settings.init_limit_ticks,
                settings.sync_limit_ticks,
                settings.notification_interval_ms_min,
                settings.notification_interval_ms_max,
            ),
            StoredHistory(writer),
            writer.hard_state,
            tail[-1].zxid if tail else writer.applied,
            writer.applied,
            tail,
            initialize=self._initialize.exists(),
            why_refused=lambda: self.company.why_refused(),
        )
        possible = max(self.membership.members) <= EXTENDED_SID_MAX
        self.company = Company(loop, self.membership, self.peer, possible=possible)
        loop.prep.allows_ttl = self.company.allows_ttl
        self.agreement = Agreement(settings.server_id, self.membership, writer.digests)
        self._outvoted_s = -float("inf")  # when the tree was outvoted last
        self._has_synchronised_anew = False
        self.driver = Driver(
            settings, self.membership, self.peer, aio, self._came_in, self._link_closed,
            writer.received,
        )
        self.standing = Standing(settings, self.membership, self.peer)
        self._transfers = Transfers(loop, replica, self.peer, self.driver.links, aio)
        self._aio = aio
        self._loop = loop
        self._following: Following | None = None
        self._learners: Learners | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._complain = Limited(_log, logging.WARNING)
        loop.join(self, self.peer)
        self._stop_serving()

    async def start(self) -> None:
        """Open the ports. Raises: OSError."""
        await self.driver.start()
        self._watch()

    def _watch(self) -> None:
        self._transfers.watch()
        self._loop.writer.explain_digests()
        self.peer.set_full(self._loop.full)
        self._timer = self._aio.call_later(1, self._watch)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._transfers.close()
        self.driver.close()

    def _came_in(self) -> None:
        """Something happened to the core."""
        loop = self._loop
        if loop.serving and not self.peer.serving:
            self._stop_serving()
        loop.confirmed_round = self.peer.confirmed
        loop.schedule()

    # ---- a Ready

    def before(self, ready: Ready) -> None:
        """What leaves before the flush."""
        self.standing.performed(ready)
        learners = self._learners
        if learners is not None:
            pings = False
            for link, packet in ready.send:
                if packet.type == quorum.PING:
                    pings = True
                    learners.pinged(link)
                elif packet.type == quorum.UPTODATE:
                    learners.opened(link)
                    self._transfers.up_to_date(link)
            if pings:
                self._tell()
        self.driver.before(ready)

    def _tell(self) -> None:
        """What the next PINGs tell our learners."""
        tree = self._loop.writer.digests.last()
        agreed = self.agreement.reached if tree is not None else None
        told = Told(self.company.are_all_ours(), tree, agreed)
        self.peer.set_ping_data(told.encode())

    def refused(self, ready: Ready, why: ZkstoreError) -> None:
        """It could not be performed: nothing was written."""
        self._loop.writer.forget(ready.append)
        if isinstance(why, LogTrimmed):
            self.peer.not_whole(str(why))
        else:
            self.peer.refused(ready, str(why))
        self._came_in()

    def applied(self, applied: list[Applied]) -> None:
        """Txns became visible."""
        if self._following is not None:
            self._following.applied(applied)

    def after(self, ready: Ready) -> None:
        """It is durable and applied."""
        self.driver.after(ready)
        if ready.hard_state is not None and ready.hard_state.current_epoch:
            self._initialize.unlink(missing_ok=True)
        if ready.role is not None:
            self._change(ready.role, serving=ready.serving)
        for link, packet in ready.inbox:
            try:
                self._received(link, packet)
            except RemoteProtocolError as e:
                self._complain("%s: %s; closed", self.driver.links.peer_of(link), e)
                self.driver.links.hang_up(link)
        for link in ready.send_snapshot:
            self._transfers.send(link)
        if ready.receive_snapshot is not None:
            self._transfers.receive(ready.receive_snapshot)
        self._heal()

    def _heal(self) -> None:
        """Take the leader's tree if ours is another."""
        digests, peer = self._loop.writer.digests, self.peer
        outvoted, self.agreement.outvoted = self.agreement.outvoted, None
        if outvoted is not None and peer.serving:
            now_s = time.monotonic()
            if now_s - self._outvoted_s < DIGEST_HEAL_INTERVAL_MS / 1000:
                self._complain("behind txn %#x this tree is still outvoted", outvoted)
                return
            self._outvoted_s = now_s
            peer.not_whole(f"behind txn {outvoted:#x} a quorum has another tree than this replica")
            self._came_in()
        elif digests.unexplained and self._following is not None:
            digests.unexplained = False
            if not peer.leader_is_zkstore and not self._has_synchronised_anew:
                self._has_synchronised_anew = True
                why = "the leader's tree is another: its whole tree is taken, once"
                _log.error("%s", why)
                peer.synchronise_anew(why)
                self._came_in()

    def _hear(self, told: Told) -> quorum.Digest | None:
        """Our leader has told this; returns what to answer."""
        self.company.hear(all_ours=told.all_ours)
        return self.agreement.hear(told)

    def _received(self, link: int, packet: Packet) -> None:
        if self._learners is not None:
            with self._loop.source:
                self._learners.received(link, packet)
        elif self._following is not None:
            self._following.received(packet)

    def confirm(self) -> int:
        """Ask a quorum whether we still lead."""
        asked = self.peer.confirm()
        self._loop.confirmed_round = self.peer.confirmed  # where we are a quorum, it is at once
        return asked

    # ---- roles

    def _change(self, role: Role, *, serving: bool) -> None:
        """The core has another role, or has come to serve in it."""
        if role is Role.LOOKING:
            self._complain("looking for a leader: %s", self.peer.why)
        elif serving:
            _log.info("%s, epoch %#x", role.name.lower(), self.peer.epoch)
        if self._loop.serving:
            self._stop_serving()
        if serving and self.peer.serving:
            self._serve(role)

    def _stop_serving(self) -> None:
        self._following = self._learners = None
        self._loop.sessions.upstream = None
        self._loop.stop_serving()
        self._loop.request = _drop

    def _serve(self, role: Role) -> None:
        loop = self._loop
        self.agreement.begin()
        if role is Role.LEADING:
            self._learners = Learners(loop, self.peer, self.agreement)
            loop.request = loop.order
            for link in self.peer.learners:
                self._learners.opened(link)
            self._tell()
        else:
            self._following = loop.sessions.upstream = Following(loop, self.peer, self._hear)
            loop.request = self._following.request
            if not self.peer.leader_is_zkstore:
                self.company.hear(all_ours=False)
                if why := self.company.why_refused():
                    _log.warning("no Apache server can follow this one should it lead: %s", why)
        loop.serve(leading=role is Role.LEADING, epoch_began=self.peer.epoch << 32)

    def _link_closed(self, link: int) -> None:
        """A link is gone."""
        self._transfers.closed(link)
        if self._learners is not None:
            self._learners.closed(link)

    @property
    def mode(self) -> str | None:
        """What `srvr` calls it; None while nobody is served."""
        if not self._loop.serving:
            return None
        return {Role.LEADING: "leader", Role.FOLLOWING: "follower"}.get(self.peer.role, "observer")


def _drop(connection: Connection, frames: bytes) -> None:
    """Nobody is served: the connection is being closed."""
