"""Links between a leader and its learners: the quorum port, accepted and dialled.

Owns:   the listening socket of the quorum port, the sockets of all links, the bytes that a turn
        gathers for each.
Invariants:
  1. A link is a number for its whole life: positive if it was accepted here, negative if the core
     dialled it. `on_closed` is called exactly once for each number, whatever ended it, and nothing
     is heard of the number after that.
  2. One write a link and turn: `send` gathers, `flush` writes.
  3. A link that is lent (a snapshot is going over it) is not read or written here.
  4. Bounded: a peer that breaks the protocol, says nothing at all, or comes when LINKS_MAX are
     open is closed with one line in the log; nobody else is hurt.
Design: a learner may dial before its leader knows that it leads, so the port listens always and
        the core decides what a link is for.
Not here: what packets mean (zab/), who is dialled and when (the core's Ready), snapshots.
Source: Leader.LearnerCnxAcceptor, Learner.connectToLeader.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Sequence
from typing import Final, Protocol, cast

from zkstore.constants import LINKS_MAX
from zkstore.errors import RemoteProtocolError
from zkstore.observability.log import Limited
from zkstore.proto import quorum
from zkstore.proto.quorum import Decoder, Packet

_log = logging.getLogger("zkstore.quorum")
_DIALS: Final = 5
_LISTEN_PAUSE_S: Final = 1.0


class Owner(Protocol):
    """Who is told what happens to links."""

    def link_opened(self, link: int) -> None: ...

    def link_closed(self, link: int) -> None: ...

    def link_packets(self, link: int, packets: list[Packet]) -> None: ...

    def link_drained(self, link: int) -> None:
        """All that was sent has left, after it had not."""


class _Link(asyncio.Protocol):
    """One connection."""

    def __init__(self, port: LearnerPort, number: int, first_packet_s: float) -> None:
        self._port = port
        self.number = number
        self.peer = ""
        self.transport: asyncio.Transport | None = None
        self.out: list[bytes] = []
        self.lent = False
        self.when_drained: list[Callable[[], None]] = []
        self._decoder = Decoder(port.packet_bytes_max)
        self._silent: asyncio.TimerHandle | None = None
        self._first_packet_s = first_packet_s

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=0)
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        peer = transport.get_extra_info("peername")
        self.peer = f"{peer[0]}:{peer[1]}" if peer else "unknown"
        if self.number > 0:
            self._silent = asyncio.get_running_loop().call_later(
                self._first_packet_s, self.fail, "sent nothing"
            )
        self._port.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._hush()
        self.transport = None
        self._port.closed(self)

    def data_received(self, data: bytes) -> None:
        self._hush()
        try:
            packets = self._decoder.feed(data)
        except RemoteProtocolError as e:
            self.fail(str(e))
            return
        if self._decoder.stopped and self.transport is not None:
            self.transport.pause_reading()  # a snapshot follows: it is for who takes the socket
        if packets:
            self._port.owner.link_packets(self.number, packets)

    def resume_writing(self) -> None:
        for action in self.when_drained:
            action()
        self.when_drained.clear()
        self._port.owner.link_drained(self.number)

    def _hush(self) -> None:
        """The peer has said something."""
        if self._silent is not None:
            self._silent.cancel()
            self._silent = None

    def fail(self, why: str) -> None:
        """The peer broke the rules."""
        self._port.complain("quorum port: %s: %s; closed", self.peer, why)
        self.end()

    def end(self) -> None:
        """Close; `closed` follows in a later turn."""
        if self.transport is not None:
            self.transport.abort()

    def write(self) -> None:
        out, self.out = self.out, []
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(b"".join(out))

    @property
    def unsent_bytes(self) -> int:
        waiting = 0 if self.transport is None else self.transport.get_write_buffer_size()
        return waiting + sum(map(len, self.out))

    # ---- lent to a helper process

    def lend(self) -> tuple[int, bytes]:
        """A duplicate of the socket, blocking, and the bytes that were read and not decoded."""
        assert self.transport is not None and not self.lent and not self.unsent_bytes
        self.lent = True
        self.transport.pause_reading()
        fd = os.dup(self.transport.get_extra_info("socket").fileno())
        os.set_blocking(fd, True)
        return fd, self._decoder.rest() if self._decoder.stopped else b""

    def take_back(self, rest: bytes) -> None:
        """The helper is done; `rest` is what it read beyond its part."""
        assert self.lent
        self.lent = False
        if self.transport is None or self.transport.is_closing():
            return
        os.set_blocking(self.transport.get_extra_info("socket").fileno(), False)
        self.transport.resume_reading()
        if rest:
            self.data_received(rest)
        if self.out:
            self.write()


class LearnerPort:
    """All links of one server."""

    def __init__(
        self,
        owner: Owner,
        *,
        packet_bytes_max: int,
        first_packet_s: float,
        dial_s: float,
        dial_pause_s: float,
    ) -> None:
        """`first_packet_s`: within which one that comes must speak; `dial_s`: within which a leader
        must be reached, in a few tries with a pause between them."""
        self.owner = owner
        self.packet_bytes_max = packet_bytes_max
        self._first_packet_s = first_packet_s
        self._dial_s = dial_s
        self._dial_pause_s = dial_pause_s
        self._aio = asyncio.get_running_loop()
        self._links: dict[int, _Link] = {}
        self._dialling: dict[int, asyncio.Task[None]] = {}
        self._accepted = 0
        self._written: dict[_Link, None] = {}  # with something to send this turn
        self._servers: list[asyncio.AbstractServer] = []
        self.complain = Limited(_log, logging.WARNING)
        self._closing = False

    # ---- life

    async def listen(self, host: str | None, port: int, tries: int) -> None:
        """Accept learners. `tries` 0: for ever. Raises: OSError if the port cannot be had."""
        failed = 0
        while True:
            try:
                self._servers.append(await self._aio.create_server(self._accept, host, port))
                return
            except OSError:
                failed += 1
                if failed == tries:
                    raise
            await asyncio.sleep(_LISTEN_PAUSE_S)

    def close(self) -> None:
        """End all links; nobody is told."""
        self._closing = True
        for server in self._servers:
            server.close()
        for task in self._dialling.values():
            task.cancel()
        for link in list(self._links.values()):
            link.end()

    def _accept(self) -> _Link:
        self._accepted += 1
        return _Link(self, self._accepted, self._first_packet_s)

    # ---- links

    def opened(self, link: _Link) -> None:
        if self._closing or len(self._links) >= LINKS_MAX:
            self.complain("quorum port: %s: %d links are open; closed", link.peer, len(self._links))
            link.end()
            return
        self._links[link.number] = link
        self.owner.link_opened(link.number)

    def closed(self, link: _Link) -> None:
        if self._links.pop(link.number, None) is not None and not self._closing:
            self.owner.link_closed(link.number)

    def peer_of(self, link: int) -> str:
        """host:port of the other side, for the log; empty if the link is gone."""
        one = self._links.get(link)
        return "" if one is None else one.peer

    def dial(self, link: int, addresses: Sequence[tuple[str, int]]) -> None:
        """Try to reach a leader at its addresses, one after the other; `link_opened` or
        `link_closed` follows."""
        assert link < 0 and link not in self._links, link
        self._dialling[link] = self._aio.create_task(self._dial(link, addresses))

    async def _dial(self, link: int, addresses: Sequence[tuple[str, int]]) -> None:
        deadline = self._aio.time() + self._dial_s
        why: Exception | None = None
        for attempt in range(_DIALS * len(addresses)):
            host, port = addresses[attempt % len(addresses)]
            if attempt and attempt % len(addresses) == 0:
                await asyncio.sleep(self._dial_pause_s)
            left_s = deadline - self._aio.time()
            if left_s <= 0:
                break
            # One that does not answer may not use up the time of the others.
            wait_s = left_s / max(1, len(addresses) - attempt)
            connecting = self._aio.create_connection(lambda: _Link(self, link, 0), host, port)
            try:
                await asyncio.wait_for(connecting, wait_s)
                self._dialling.pop(link, None)
                return
            except (OSError, TimeoutError) as e:
                why = e
        self.complain("leader at %s is not reached: %s", addresses, why or "it does not answer")
        self._dialling.pop(link, None)
        self.owner.link_closed(link)

    def hang_up(self, link: int) -> None:
        """End a link, or the attempt to make one; `link_closed` follows unless it is under way."""
        one = self._links.get(link)
        if one is not None:
            one.end()
        elif link in self._dialling:
            self._dialling.pop(link).cancel()
            self._aio.call_soon(self.owner.link_closed, link)

    # ---- packets

    def send(self, link: int, packet: Packet) -> None:
        """Add a packet to what the next flush writes; a link that is gone takes none."""
        one = self._links.get(link)
        if one is not None:
            one.out.append(quorum.encode(packet))
            self._written[one] = None

    def flush(self) -> None:
        """Write what was gathered; a link that is lent keeps it until it is back."""
        written, self._written = self._written, {}
        for link in written:
            if not link.lent:
                link.write()

    def unsent_bytes(self, link: int) -> int:
        """What the peer has not taken yet."""
        one = self._links.get(link)
        return 0 if one is None else one.unsent_bytes

    # ---- lending

    def when_drained(self, link: int, action: Callable[[], None]) -> None:
        """Do something as soon as the peer has all that was sent; never, if the link ends first."""
        one = self._links.get(link)
        if one is not None and one.unsent_bytes:
            one.when_drained.append(action)
        elif one is not None:
            action()

    def lend(self, link: int) -> tuple[int, bytes] | None:
        """Hand a link's socket to somebody else: (file descriptor to be closed by the taker, bytes
        read already). None if the link is gone. All that was sent must have left."""
        one = self._links.get(link)
        return None if one is None or one.transport is None else one.lend()

    def is_ended(self, link: int) -> bool:
        """Whether the peer of a lent link has ended it, which is not noticed while it is lent."""
        one = self._links.get(link)
        if one is None or one.transport is None or one.transport.is_closing():
            return True
        fd = os.dup(one.transport.get_extra_info("socket").fileno())
        with socket.socket(fileno=fd) as sock:
            try:
                return not sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
            except BlockingIOError:
                return False
            except OSError:
                return True

    def take_back(self, link: int, rest: bytes = b"") -> None:
        """Read and write the link here again, beginning with `rest`."""
        one = self._links.get(link)
        if one is not None:
            one.take_back(rest)
