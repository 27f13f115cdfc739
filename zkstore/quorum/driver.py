"""Performs the network's part of a member's Readies, and tells its core what comes in.

Owns:   the ports of the ensemble, the clock of the core.
Invariants:
  1. What comes in reaches the core at once, in the order of each link; what the core wants done is
     performed in turns (commit/loop.py), so that one flush serves all that came meanwhile.
  2. Time that this process could not use is not held against others: after a stall what they sent
     meanwhile is read first, then the core learns how late it is.
Not here: journal and tree (storage/writer.py), what packets mean (zab/), snapshots
          (commit/member.py).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final

from zkstore.constants import LINK_UNSENT_BYTES_MAX
from zkstore.errors import RemoteProtocolError
from zkstore.observability.log import Limited
from zkstore.proto.quorum import INFORM, PROPOSAL, Notification, Packet
from zkstore.quorum.election_port import ElectionPort
from zkstore.quorum.learner_port import LearnerPort
from zkstore.settings import Settings
from zkstore.zab.membership import Membership
from zkstore.zab.peer import Peer
from zkstore.zab.ready import Ready

_log = logging.getLogger("zkstore.quorum")
_TICK_MS_MAX: Final = 50  # between two looks at the clock: an election counts in 200 ms
_LATE_MS: Final = 250
_HOLD_TXNS: Final = (PROPOSAL, INFORM)
_PACKET_BYTES_MORE: Final = 1 << 20  # than two frames: what Apache lets a stored txn have


class Driver:
    """One member's ports and clock."""

    def __init__(
        self,
        settings: Settings,
        membership: Membership,
        peer: Peer,
        aio: asyncio.AbstractEventLoop,
        on_input: Callable[[], None],
        on_closed: Callable[[int], None],
        on_txn: Callable[[int, bytes], None],
    ) -> None:
        """`on_input` is called when the core may have something to do, `on_closed` with each link
        that is gone, `on_txn` with the zxid and the txn of each packet that holds one, before the
        core has it; it raises RemoteProtocolError for a txn that nobody could apply."""
        self.peer = peer
        self._aio = aio
        self._membership = membership
        self._settings = settings
        self._on_input = on_input
        self._on_closed = on_closed
        self._on_txn = on_txn
        tick_ms = settings.tick_time_ms
        limit = settings.connect_to_leader_limit_ticks or settings.init_limit_ticks
        self.links = LearnerPort(
            self,
            packet_bytes_max=2 * settings.frame_size_bytes_max + _PACKET_BYTES_MORE,
            first_packet_s=tick_ms * settings.init_limit_ticks / 1000,
            dial_s=tick_ms * limit / 1000,
            dial_pause_s=settings.leader_connect_delay_ms / 1000,
        )
        self._elections = ElectionPort(settings, membership, self._notified)
        self._tick_s = min(tick_ms / 4, _TICK_MS_MAX) / 1000
        self._ticked = time.monotonic()
        self._timer: asyncio.TimerHandle | None = None
        self._complain = Limited(_log, logging.WARNING)
        self._remark = Limited(_log, logging.WARNING)

    # ---- life

    async def start(self) -> None:
        """Open the ports and begin to look for a leader. Raises: OSError."""
        settings, me = self._settings, self._membership.members[self._settings.server_id]
        for address in me.addresses:
            host = None if settings.quorum_listen_on_all_ips else address.host
            await self.links.listen(host, address.quorum_port, settings.quorum_bind_retries)
        await self._elections.start()
        self._ticked = time.monotonic()
        self._tick()
        self._on_input()

    def close(self) -> None:
        """The end: links are cut, nobody is told."""
        if self._timer is not None:
            self._timer.cancel()
        self.links.close()
        self._elections.close()

    def _tick(self) -> None:
        """Tell the core the time, a moment later if we are late: what has come is read first."""
        late_ms = (time.monotonic() - self._ticked - self._tick_s) * 1000
        if late_ms > _LATE_MS:
            self._timer = self._aio.call_later(0, self._tell_time)
        else:
            self._tell_time()

    def _tell_time(self) -> None:
        now = time.monotonic()
        elapsed_ms = int((now - self._ticked) * 1000)
        self._ticked += elapsed_ms / 1000
        self._timer = self._aio.call_later(self._tick_s, self._tick)
        self.peer.tick(elapsed_ms)
        self._on_input()

    # ---- a Ready

    def before(self, ready: Ready) -> None:
        """What leaves before the flush."""
        for sid, notification in ready.notifications:
            self._elections.send(sid, notification)
        for link, sid in ready.dial:
            addresses = self._membership.members[sid].addresses
            self.links.dial(link, [(one.host, one.quorum_port) for one in addresses])
        for link, why in ready.hang_up:
            self._complain("link to %s ended: %s", self.links.peer_of(link) or link, why)
            self.links.hang_up(link)
        for remark in ready.remarks:
            self._remark("%s", remark)
        self._send(ready.send)

    def after(self, ready: Ready) -> None:
        """What leaves once it is durable."""
        self._send(ready.send_after_sync)

    def _send(self, packets: list[tuple[int, Packet]]) -> None:
        for link, packet in packets:
            self.links.send(link, packet)
        if packets:
            self.links.flush()
            for link in {link for link, _ in packets}:
                unsent_bytes = self.links.unsent_bytes(link)
                if unsent_bytes > LINK_UNSENT_BYTES_MAX:
                    self._complain(
                        "%s has left %d bytes unread; closed",
                        self.links.peer_of(link), unsent_bytes,
                    )  # fmt: skip
                    self.links.hang_up(link)
                elif unsent_bytes == 0:
                    self.link_drained(link)

    # ---- what comes in

    def _notified(self, sid: int, notification: Notification) -> None:
        self.peer.notification(sid, notification)
        self._on_input()

    def link_opened(self, link: int) -> None:
        self.peer.opened(link)
        self._on_input()

    def link_closed(self, link: int) -> None:
        self.peer.closed(link)
        self._on_closed(link)
        self._on_input()

    def link_packets(self, link: int, packets: list[Packet]) -> None:
        try:
            for packet in packets:
                if packet.type in _HOLD_TXNS:
                    self._on_txn(packet.zxid, packet.data or b"")
                self.peer.packet(link, packet)
        except RemoteProtocolError as e:
            self._complain("%s: %s; closed", self.links.peer_of(link), e)
            self.links.hang_up(link)
        self._on_input()

    def link_drained(self, link: int) -> None:
        self.peer.writable(link)
        self._on_input()
