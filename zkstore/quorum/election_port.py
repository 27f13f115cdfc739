"""Connections for votes: one with each member, over which the last notification gets there.

Owns:   the listening sockets of the election port, one connection a member, its last message.
Invariants:
  1. Of two members the one with the greater sid dials. The other may dial to say that it is there;
     it is hung up on, and dialled.
  2. Only the newest message to a member waits, and what was sent last is sent again over a new
     connection: it may have been lost with the old one.
  3. Bounded: what breaks the protocol, does not greet in time, or comes when too many strangers are
     here, is closed with one line in the log; nobody else is hurt.
Design: who has sent the last word is dialled again and again, at growing intervals and not for
        ever; every new message begins that anew. A connection that is to be replaced is kept until
        the new one stands. Names are resolved at each attempt, as addresses of members change.
Not here: what notifications mean (zab/election.py).
Source: QuorumCnxManager.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable
from typing import Final, cast

from zkstore.constants import ELECTION_STRANGERS_MAX
from zkstore.errors import RemoteProtocolError
from zkstore.observability.log import Limited
from zkstore.proto.quorum import (
    ElectionDecoder,
    Hello,
    Notification,
    encode_hello,
    encode_notification,
)
from zkstore.settings import Settings
from zkstore.zab.membership import Membership

_log = logging.getLogger("zkstore.quorum")
_BIND_PAUSE_S: Final = 1.0
# A message is tried for a minute; a member that is looking says it again within that.
_DIAL_PAUSE_S: Final = 0.2  # doubled after each try
_DIAL_PAUSE_S_MAX: Final = 3.0
_DIALS_MAX: Final = 24
_WILDCARDS: Final = frozenset(("0.0.0.0", "::", "0:0:0:0:0:0:0:0"))

Listener = Callable[[int, Notification], None]


class _Peer:
    """What is kept for one server."""

    def __init__(self, sid: int, addresses: tuple[tuple[str, int], ...]) -> None:
        self.sid = sid
        self.addresses = addresses  # (host, election port)
        self.connection: _Connection | None = None
        self.unsent: bytes | None = None
        self.last: bytes | None = None
        self.dialling: asyncio.Task[None] | None = None
        self.dials = 0  # since the newest message
        self.is_there = asyncio.Event()  # it has dialled: no need to wait for the next try


class _Connection(asyncio.Protocol):
    """One socket, accepted or `dialled`; `peer` is known once it is ours to use."""

    def __init__(self, port: ElectionPort, dialled: _Peer | None = None) -> None:
        self._port = port
        self._dialled = dialled
        self._decoder = ElectionDecoder(accepted=dialled is None)
        self._silence: asyncio.TimerHandle | None = None
        self.transport: asyncio.Transport | None = None
        self.peer: _Peer | None = None
        self.name = ""
        self.clogged = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=0)
        self._port.configure(transport.get_extra_info("socket"))
        address = transport.get_extra_info("peername")
        self.name = f"{address[0]}:{address[1]}" if address else "unknown"
        if self._dialled is not None:
            self._port.reached(self, self._dialled)
        else:
            self._silence = asyncio.get_running_loop().call_later(
                self._port.greeting_timeout_s, self.fail, "it did not say who it is"
            )
            self._port.arrived(self)

    def data_received(self, data: bytes) -> None:
        try:
            notifications = self._decoder.feed(data)
        except RemoteProtocolError as error:
            self.fail(str(error))
            return
        if self._silence is not None and self._decoder.hello is not None:
            self._hush()
            self._port.greeted(self, self._decoder.hello)
        for notification in notifications:
            if self.peer is None:
                return  # it was hung up on
            self._port.listener(self.peer.sid, notification)

    def connection_lost(self, error: Exception | None) -> None:
        self._hush()
        self.transport = None
        self._port.lost(self)

    def pause_writing(self) -> None:
        self.clogged = True

    def resume_writing(self) -> None:
        self.clogged = False
        if self.peer is not None:
            self._port.push(self.peer)

    def write(self, data: bytes) -> None:
        if self.transport is not None:
            self.transport.write(data)

    def fail(self, why: str) -> None:
        """Close the connection of a peer that is at fault."""
        self._port.complain("election port: %s: %s; closed", self.name, why)
        self.close()

    def close(self) -> None:
        """Close behind what is written; nothing more is heard of it."""
        self._hush()
        self.peer = None
        if self.transport is not None and self.clogged:
            self.transport.abort()
        elif self.transport is not None:
            self.transport.close()

    def _hush(self) -> None:
        if self._silence is not None:
            self._silence.cancel()
            self._silence = None


class ElectionPort:
    """The election port of one member. Source: QuorumCnxManager."""

    def __init__(self, settings: Settings, membership: Membership, listener: Listener) -> None:
        """`listener` is given the sid of the sender and its message."""
        self.listener = listener
        self.complain = Limited(_log, logging.WARNING)
        # Two servers with one id replace each other's connections as fast as they can.
        self._tell = Limited(_log, logging.INFO, per_minute=30)
        self._settings = settings
        self._sid = settings.server_id
        self._members = membership.members
        timeout_ms = settings.election_greeting_timeout_ms
        if timeout_ms < 0:
            timeout_ms = settings.tick_time_ms * settings.sync_limit_ticks
        self.greeting_timeout_s = timeout_ms / 1000
        self._peers: dict[int, _Peer] = {}
        self._connections: set[_Connection] = set()
        self._servers: list[asyncio.Server] = []
        self._closed = False

    # ---- life

    async def start(self) -> None:
        """Listen. Raises: OSError if the port cannot be had."""
        hosts = dict.fromkeys(
            (None if self._settings.quorum_listen_on_all_ips else a.host, a.election_port)
            for a in self._members[self._sid].addresses
        )
        for host, port in hosts:
            self._servers.append(await self._listen(host, port))

    async def _listen(self, host: str | None, port: int) -> asyncio.Server:
        loop = asyncio.get_running_loop()
        tries = self._settings.quorum_bind_retries
        while True:
            try:
                return await loop.create_server(lambda: _Connection(self), host, port)
            except OSError:
                tries -= 1
                if tries == 0:
                    raise
            await asyncio.sleep(_BIND_PAUSE_S)

    def close(self) -> None:
        self._closed = True
        for server in self._servers:
            server.close()
        for peer in self._peers.values():
            if peer.dialling is not None:
                peer.dialling.cancel()
        for connection in list(self._connections):
            connection.close()

    def configure(self, sock: socket.socket) -> None:
        """Small messages leave at once; a peer that acknowledges nothing is given up in seconds,
        because after a partition TCP may stay silent for two minutes."""
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        timeout_ms = self._settings.election_connect_timeout_ms
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, timeout_ms)
        if self._settings.quorum_tcp_keep_alive:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    # ---- messages

    def send(self, sid: int, notification: Notification) -> None:
        """Tell a server; an older message that waits for it is dropped."""
        peer = self._peer(sid)
        if peer is None:
            return  # a stranger who has left
        peer.unsent = encode_notification(notification)
        peer.dials = 0
        self.push(peer)

    def push(self, peer: _Peer) -> None:
        """Send what waits, or see to it that it can be sent."""
        if peer.unsent is None or self._closed:
            return
        if peer.connection is None:
            self._dial(peer)
        elif not peer.connection.clogged:
            peer.last, peer.unsent = peer.unsent, None
            peer.connection.write(peer.last)

    def _peer(self, sid: int, hello: Hello | None = None) -> _Peer | None:
        """Who has this sid; a stranger is remembered only while it is here."""
        peer = self._peers.get(sid)
        if peer is not None:
            return peer
        member = self._members.get(sid)
        if member is not None:
            addresses = tuple((a.host, a.election_port) for a in member.addresses)
        elif hello is not None and self._has_room():
            addresses = tuple(a for a in hello.addresses if a[0] not in _WILDCARDS)
            if sid < self._sid and not addresses:
                return None
        else:
            return None
        peer = self._peers[sid] = _Peer(sid, addresses)
        return peer

    def _has_room(self) -> bool:
        return len(self._peers.keys() - self._members.keys()) < ELECTION_STRANGERS_MAX

    # ---- who comes

    def arrived(self, connection: _Connection) -> None:
        """Somebody has dialled us, and says who it is next."""
        waiting = sum(other.peer is None for other in self._connections)
        if self._closed or waiting >= len(self._members) + ELECTION_STRANGERS_MAX:
            connection.fail(f"{waiting} connections wait to be greeted")
        else:
            self._connections.add(connection)

    def greeted(self, connection: _Connection, hello: Hello) -> None:
        if hello.sid == self._sid:
            connection.fail(f"it says that it is {hello.sid}, as we are: look at its myid")
            return
        peer = self._peer(hello.sid, hello)
        if peer is None:
            connection.fail(f"server {hello.sid} is a stranger without address, or one too many")
        elif hello.sid > self._sid:
            self._use(peer, connection)
        else:
            connection.close()
            peer.dials = 0
            peer.is_there.set()
            self._dial(peer)

    def lost(self, connection: _Connection) -> None:
        """A connection has ended; who has something to say dials again."""
        self._connections.discard(connection)
        peer = connection.peer
        if peer is None or peer.connection is not connection:
            return
        self._tell("election port: server %d has gone", peer.sid)
        peer.connection = None
        if peer.sid not in self._members:
            self._forget(peer)
        else:
            self.push(peer)

    def _forget(self, peer: _Peer) -> None:
        if peer.connection is None and self._peers.get(peer.sid) is peer:
            del self._peers[peer.sid]

    def _use(self, peer: _Peer, connection: _Connection) -> None:
        """This is the connection with `peer` from now on."""
        old, peer.connection = peer.connection, connection
        connection.peer = peer
        if old is not None:
            old.close()
        self._tell("election port: server %d is at %s", peer.sid, connection.name)
        if peer.unsent is None:
            peer.unsent = peer.last
        self.push(peer)

    # ---- whom we dial

    def _dial(self, peer: _Peer) -> None:
        if peer.dialling is None and not self._closed:
            peer.dialling = asyncio.get_running_loop().create_task(self._keep_dialling(peer))

    async def _keep_dialling(self, peer: _Peer) -> None:
        """Dial until there is a new connection or it has taken too long."""
        before = peer.connection
        pause_s = _DIAL_PAUSE_S
        while peer.connection is before and peer.dials < _DIALS_MAX:
            peer.dials += 1
            peer.is_there.clear()
            for host, port in peer.addresses:
                if await self._reach(peer, host, port):
                    break
            if before is not None:
                break  # it was there a moment ago; if that was no lie it dials again
            if peer.connection is before:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(peer.is_there.wait(), pause_s)
                pause_s = min(2 * pause_s, _DIAL_PAUSE_S_MAX)
        peer.dialling = None
        if peer.sid not in self._members:
            self._forget(peer)

    async def _reach(self, peer: _Peer, host: str, port: int) -> bool:
        loop = asyncio.get_running_loop()
        connecting = loop.create_connection(lambda: _Connection(self, peer), host, port)
        try:
            await asyncio.wait_for(connecting, self._settings.election_connect_timeout_ms / 1000)
        except (OSError, TimeoutError, ValueError) as error:
            # ValueError: a stranger's idea of a host name.
            why = str(error) or "it does not answer"
            self.complain("election port: server %d at %s:%d: %s", peer.sid, host, port, why)
            return False
        return True

    def reached(self, connection: _Connection, peer: _Peer) -> None:
        """Say who we are; whose sid is greater dials us then."""
        address = self._members[self._sid].addresses[0]
        connection.write(encode_hello(self._sid, address.host, address.election_port))
        if peer.sid > self._sid or self._closed:
            connection.close()
        else:
            self._connections.add(connection)
            self._use(peer, connection)
