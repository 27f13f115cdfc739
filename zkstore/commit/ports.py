"""The commit process's side of its workers: ports, and the connections behind each.

Owns:   what this turn sends to each worker; how many clients each address has.
Invariants:
  1. A worker gets at most one message a turn: replies to its own clients, or the bare doorbell if
     it has watches and something was committed.
Not here: what the items mean (records/ipc.py), sessions (commit/sessions.py).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

from zkstore.messaging import Channel
from zkstore.records import ipc
from zkstore.session.tracker import Session
from zkstore.tree.auth import Identity


class Connection:
    """One client's connection, somewhere behind a port."""

    __slots__ = (
        "address", "behind", "deferred", "identities", "leaving", "number", "port", "session",
    )  # fmt: skip

    def __init__(self, port: Port, number: int, address: str) -> None:
        self.port = port
        self.number = number
        self.address = address
        self.identities: tuple[Identity, ...] = ((b"ip", address.encode()),)
        self.session: Session | None = None
        self.behind = 0  # the zxid that its last answer waits for; answered if it is applied
        self.deferred = 0  # answers without a txn that are not given yet
        self.leaving = False  # its closeSession is under way, or it was told to go

    @property
    def reported_ms(self) -> int:
        """Up to when its worker has told which sessions it heard."""
        return self.port.reported_ms


class Port:
    """One worker."""

    def __init__(self, channel: Channel, pid: int) -> None:
        self.channel = channel
        self.pid = pid  # 0: not known, or this very process
        self.silent_beats = 0  # heartbeats of ours since it last reported
        self.connections: dict[int, Connection] = {}
        self.outbox: ipc.Message = []
        self._frames: list[bytes] | None = None  # of the last item, if that is a REPLY
        self.watching = False
        self.alive = True
        self.reported_ms = int(time.monotonic() * 1000)  # touches up to then have arrived

    def put(self, kind: int, number: int, zxid: int, payload: object) -> None:
        """Add an item to this turn's message; a REPLY by `reply`."""
        self._frames = None
        self.outbox += (kind, number, zxid, payload)

    def reply(self, number: int, zxid: int, frame: bytes) -> None:
        """Add a reply; those that follow each other go as one item."""
        outbox = self.outbox
        if self._frames is not None and outbox[-3] == number:
            self._frames.append(frame)
            outbox[-2] = zxid
        else:
            self._frames = frames = [frame]
            outbox += (ipc.REPLY, number, zxid, frames)

    def taken(self, applied: int) -> ipc.Message:
        """This turn's message; the next one begins."""
        outbox, self.outbox = self.outbox, []
        self._frames = None
        outbox.insert(0, applied)
        return outbox


class Answer:
    """A reply that is deferred; while it is, the connection's later answers wait as well."""

    __slots__ = ("_connection", "_frame", "_kind")

    def __init__(
        self, connection: Connection, frame: Callable[[int], bytes], kind: int = ipc.REPLY
    ) -> None:
        """`frame` makes it, of the zxid that its header bears."""
        self._connection = connection
        self._frame = frame
        self._kind = kind
        connection.deferred += 1

    def __call__(self, zxid: int) -> None:
        connection = self._connection
        connection.deferred -= 1
        if self._kind == ipc.REPLY:
            connection.port.reply(connection.number, zxid, self._frame(zxid))
        else:
            connection.port.put(self._kind, connection.number, zxid, self._frame(zxid))


class Ports:
    """All workers that are connected."""

    def __init__(self, *, per_address_max: int, total_max: int) -> None:
        self.limit(per_address_max, total_max)
        self._addresses: Counter[str] = Counter()
        self._rung = 0  # the zxid that watching workers were last told of
        self.ports: list[Port] = []
        self.total = 0
        self.rejected = 0

    def limit(self, per_address_max: int, total_max: int) -> None:
        """How many may be connected from now on; who is connected stays. 0: no limit."""
        self._per_address_max = per_address_max
        self._total_max = total_max

    def add(self, channel: Channel, pid: int) -> Port:
        port = Port(channel, pid)
        self.ports.append(port)
        return port

    def remove(self, port: Port) -> list[Connection]:
        """The worker is gone, and with it these connections."""
        port.alive = False
        self.ports.remove(port)
        return list(port.connections.values())

    def open(self, port: Port, number: int, address: str) -> Connection | None:
        """A client connected; None if its address, or the server, has too many (reference R2,
        R3)."""
        if (0 < self._per_address_max <= self._addresses[address]) or (
            0 < self._total_max <= self.total
        ):
            self.rejected += 1
            return None
        self._addresses[address] += 1
        self.total += 1
        connection = Connection(port, number, address)
        port.connections[number] = connection
        return connection

    def why_refused(self, address: str) -> str:
        """For the log: which limit a client from this address met."""
        if 0 < self._per_address_max <= self._addresses[address]:
            return f"too many connections from {address}: maxClientCnxns={self._per_address_max}"
        return f"too many connections: maxCnxns={self._total_max}"

    def close(self, connection: Connection) -> None:
        """The connection is gone."""
        if connection.port.connections.pop(connection.number, None) is None:
            return
        self.total -= 1
        self._addresses[connection.address] -= 1
        if not self._addresses[connection.address]:
            del self._addresses[connection.address]

    def send(self, applied: int) -> None:
        """The end of a turn: replies, and the doorbell."""
        news = applied != self._rung
        self._rung = applied
        for port in self.ports:
            if port.outbox:
                port.channel.send(port.taken(applied))
            elif news and port.watching:
                port.channel.send([applied])

    def reopen(self, applied: int) -> None:
        """The data are in another file: nothing newer is told to a worker before this."""
        for port in self.ports:
            port.channel.send([applied, ipc.REOPEN, 0, 0, None])

    def beat(self, applied: int) -> None:
        """A sign of life to every worker, so that it answers pings for us."""
        for port in self.ports:
            port.silent_beats += 1
            port.channel.send([applied])
