"""Sessions: made, resumed, moved, expired, closed.

Owns:   the tracker, and who waits for whose old connection to end.
Invariants:
  1. OneOwner: a session has one connection; the old one is closed before the new ConnectResponse
     leaves.
  2. EphemeralsDie: see session/tracker.py; the ephemerals go in the closeSession txn.
  3. NeverBack: a client that has seen a newer state than this replica's is turned away without a
     word (A9).
Source: ZooKeeperServer.processConnectRequest, SessionTrackerImpl; reference sections A and H.
"""

from __future__ import annotations

import logging
import random
import time
from typing import TYPE_CHECKING

from zkstore.commit.ports import Connection
from zkstore.errors import RemoteProtocolError
from zkstore.observability.log import Limited
from zkstore.observability.metrics import Summary
from zkstore.proto import replies, requests
from zkstore.proto.requests import Connect
from zkstore.records import ipc
from zkstore.records.txn import Txn
from zkstore.session.password import first_session_id, password_of
from zkstore.session.throttle import ConnectionThrottle
from zkstore.session.tracker import Session, Tracker

if TYPE_CHECKING:
    from zkstore.commit.loop import Loop

_log = logging.getLogger("zkstore.sessions")
_STANDALONE_ID = 1  # the server id in the session ids of a server without myid, as in Apache


def monotonic_ms() -> int:
    return int(time.monotonic() * 1000)


class Sessions:
    """The session side of the commit process."""

    def __init__(self, loop: Loop, server_id: int) -> None:
        settings = loop.settings
        self._loop = loop
        self._bounds = settings.session_timeout_ms_bounds
        self.tracker = Tracker(settings.tick_time_ms)
        self.throttle = ConnectionThrottle(settings, monotonic_ms(), random.random)
        self.token_deficit = Summary()
        self._next_id = first_session_id(server_id or _STANDALONE_ID, time.time_ns() // 1_000_000)
        self._connecting: dict[int, tuple[Connection, Connect]] = {}  # zxid of createSession → who
        self._resuming: dict[Connection, tuple[Connection, Connect]] = {}  # old connection → new
        self._complain = Limited(_log, logging.WARNING)

    def load(self, stored: list[tuple[int, int]]) -> None:
        """The sessions that the tree knows; each has its full timeout again."""
        now_ms = monotonic_ms()
        for session_id, timeout_ms in stored:
            self.tracker.add(session_id, timeout_ms, now_ms)
            # Ids of other servers (imported data) do not count: the top byte is the server's.
            if session_id >> 56 == self._next_id >> 56 and session_id >= self._next_id:
                self._next_id = session_id + 1

    # ---- connecting

    def connect(self, connection: Connection, frame: bytes) -> None:
        """A ConnectRequest came."""
        try:
            request = requests.read_connect(frame)
        except RemoteProtocolError as e:
            self.dismiss(connection, str(e))
            return
        if not self.throttle.admits(monotonic_ms(), renewed=request.session_id != 0):
            self._loop.ports.rejected += 1
            self.dismiss(
                connection, "refused: too many connect at once (connection_throttle_tokens)"
            )
            return
        self.token_deficit.add(1, self.throttle.deficit)
        self._loop.counters["connection_request_count"] += 1
        applied = self._loop.writer.applied
        if request.last_zxid_seen > applied:
            self.dismiss(
                connection,
                f"has seen zxid {request.last_zxid_seen:#x}, this server is at {applied:#x}",
            )
        elif request.session_id == 0 and self._loop.writer.stalled:
            self.dismiss(connection, "disk full: no new session")
        elif request.session_id == 0:
            self._create(connection, request)
        else:
            self._resume(connection, request)

    def _timeout_ms(self, request: Connect) -> int:
        least, greatest = self._bounds
        return max(least, min(greatest, request.timeout_ms))

    def _create(self, connection: Connection, request: Connect) -> None:
        session_id = self._next_id
        self._next_id += 1
        zxid = self._loop.next_zxid()
        txn = self._loop.prep.create_session(zxid, session_id, self._timeout_ms(request))
        self._loop.propose(txn)
        self._connecting[zxid] = (connection, request)

    def created(self, txn: Txn) -> None:
        """The createSession txn is applied."""
        session = self.tracker.add(txn.session_id, txn.body[0], monotonic_ms())
        waiting = self._connecting.pop(txn.zxid, None)
        if waiting is not None:
            connection, request = waiting
            if connection.port.connections.get(connection.number) is connection:
                self._attach(connection, session, request, txn.zxid)

    def withdrawn(self, zxid: int) -> None:
        """The createSession txn could not be logged."""
        connection, _ = self._connecting.pop(zxid)
        self.dismiss(connection, "no room for a new session")

    def _resume(self, connection: Connection, request: Connect) -> None:
        self._loop.counters["connection_revalidate_count"] += 1
        session = self.tracker.sessions.get(request.session_id)
        if (
            session is None
            or session.closing
            or request.password != password_of(request.session_id)
        ):
            connection.leaving = True
            frame = replies.refused(request.read_only)
            self._put(connection, ipc.SESSION, 0, [frame, 0, 0])
            return
        old = session.place
        if not isinstance(old, Connection) or old is connection:
            self._attach(connection, session, request, 0)
            return
        if old in self._resuming:  # it is being closed already: the latest one gets the session
            self.dismiss(self._resuming[old][0], None)
        else:
            old.session = None
            self.dismiss(old, None)
        self._resuming[old] = (connection, request)

    def _attach(
        self, connection: Connection, session: Session, request: Connect, zxid: int
    ) -> None:
        """The session lives on this connection now: tell the client."""
        timeout_ms = self._timeout_ms(request)
        self.tracker.renegotiate(session, timeout_ms, monotonic_ms())
        session.place = connection
        connection.session = session
        password = password_of(session.session_id)
        frame = replies.connect(session.session_id, timeout_ms, password, request.read_only)
        self._put(connection, ipc.SESSION, zxid, [frame, session.session_id, timeout_ms])

    # ---- ending

    def disconnected(self, connection: Connection) -> None:
        """The connection is gone; its session stays until it expires (H9)."""
        session = connection.session
        waiting = self._resuming.pop(connection, None)
        if waiting is not None:
            session = self.tracker.sessions.get(waiting[1].session_id)
        if session is not None and session.place is connection:
            session.place = None
        if waiting is not None:
            newer, request = waiting
            if newer.port.connections.get(newer.number) is newer and not newer.leaving:
                self._resume(newer, request)

    def dismiss(self, connection: Connection, why: str | None) -> None:
        """Close a connection; its worker logs why."""
        connection.leaving = True
        self._put(connection, ipc.CLOSE, 0, why)

    def expire(self) -> None:
        """Close the sessions that were not heard for their timeout."""
        if self._loop.writer.stalled:
            return  # their deletions could not be written
        now_ms = monotonic_ms()
        for session in self.tracker.expired(now_ms, _reported_ms):
            self._loop.counters["stale_sessions_expired"] += 1
            self._complain(
                "session %#x expired: not heard for %d ms",
                session.session_id, now_ms - session.heard_ms,
            )  # fmt: skip
            with self._loop.source:
                self._close(session, 0)
            if self._loop.batch_is_full():
                self._loop.turn()

    def _close(self, session: Session, cxid: int) -> int:
        """Propose the closeSession txn; returns its zxid."""
        session.closing = True
        zxid = self._loop.next_zxid()
        self._loop.propose(self._loop.prep.close_session(zxid, session.session_id, cxid))
        return zxid

    def close(self, connection: Connection, xid: int) -> int:
        """A client's closeSession; returns the txn's zxid."""
        assert connection.session is not None
        connection.leaving = True
        return self._close(connection.session, xid)

    def closed(self, txn: Txn, *, answered: bool) -> None:
        """The closeSession txn is applied."""
        session = self.tracker.sessions.get(txn.session_id)
        self.tracker.remove(txn.session_id)
        if session is not None and isinstance(session.place, Connection):
            session.place.session = None
            if not answered:
                self.dismiss(session.place, None)
            session.place = None

    def reopened(self, txn: Txn) -> None:
        """The closeSession txn could not be logged: the session may be closed again later."""
        session = self.tracker.sessions[txn.session_id]
        session.closing = False
        self.tracker.renegotiate(session, session.timeout_ms, monotonic_ms())

    def _put(self, connection: Connection, kind: int, zxid: int, payload: object) -> None:
        connection.port.put(kind, connection.number, zxid, payload)


def _reported_ms(place: object) -> int:
    """Up to when the worker of this connection has told which sessions it heard."""
    assert isinstance(place, Connection)
    return place.port.reported_ms
