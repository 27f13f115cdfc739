"""Sessions: made, resumed, moved, expired, closed.

Owns:   the tracker, and who waits for whose old connection to end.
Design: the leader's tracker decides which sessions live, and knows where each is connected: at a
        connection of its own, or at a learner (commit/learners.py). A learner asks it for each
        session that comes back (`upstream`), and has a tracker only to know its own.
        With localSessionsEnabled a member makes local sessions: its own alone to expire, without a
        txn, and gone with its role. One that is to own a node becomes a global one (`upgrade`).
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
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, cast

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


class Upstream(Protocol):
    """A learner's way to its leader."""

    def create_session(self, session_id: int, timeout_ms: int) -> None:
        """The txn that makes the session will come."""

    def revalidate(self, session_id: int, timeout_ms: int) -> None:
        """`Sessions.revalidated` will be called."""

    def sync(self, give: Callable[[int], None]) -> None:
        """Have something given behind all that was committed before; see `Loop.defer`."""


class Place(Protocol):
    """Where a session's clients are heard."""

    @property
    def reported_ms(self) -> int:
        """Up to when we know which sessions were heard there."""


class Sessions:
    """The session side of the commit process."""

    def __init__(self, loop: Loop, server_id: int) -> None:
        settings = loop.settings
        self._loop = loop
        self.tracker = Tracker(settings.tick_time_ms)
        self.local = Tracker(settings.tick_time_ms)
        self.throttle = ConnectionThrottle(settings, monotonic_ms(), random.random)
        self.token_deficit = Summary()
        self._next_id = first_session_id(server_id or _STANDALONE_ID, time.time_ns() // 1_000_000)
        self.upstream: Upstream | None = None  # while this server is a learner
        self._connecting: dict[int, tuple[Connection, Connect]] = {}  # session made for whom
        self._resuming: dict[Connection, tuple[Connection, Connect]] = {}  # old connection → new
        # session → who came back with it; the leader is asked
        self._asking: dict[int, deque[tuple[Connection, Connect]]] = {}
        self._complain = Limited(_log, logging.WARNING)

    def load(self, stored: list[tuple[int, int]]) -> None:
        """The sessions that the tree knows, in place of all others; each has its full timeout."""
        now_ms = monotonic_ms()
        self.tracker = Tracker(self._loop.settings.tick_time_ms)
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
        if not self._loop.serving:
            self.dismiss(connection, "there is no leader: nobody is served")
            return
        renewed = request.session_id != 0
        if not self.throttle.admits(monotonic_ms(), renewed=renewed, local=self.makes_local):
            self._loop.ports.rejected += 1
            self.dismiss(
                connection, "refused: too many connect at once (connection_throttle_tokens)"
            )
            return
        self.token_deficit.add(1, self.throttle.deficit)
        self._loop.counters["connection_request_count"] += 1
        newest = self._loop.newest
        if request.last_zxid_seen > newest:
            self.dismiss(
                connection,
                f"has seen zxid {request.last_zxid_seen:#x}, this server is at {newest:#x}",
            )
        elif request.session_id == 0 and self._loop.writer.stalled:
            self.dismiss(connection, "disk full: no new session")
        elif request.session_id == 0:
            self._create(connection, request)
        else:
            self._resume(connection, request)

    @property
    def makes_local(self) -> bool:
        """Whether new sessions are local: never on a standalone server, as in Apache."""
        return self._loop.settings.local_sessions_enabled and self._loop.member is not None

    def find(self, session_id: int) -> Session | None:
        """A session of this server, local or global."""
        return self.local.sessions.get(session_id) or self.tracker.sessions.get(session_id)

    def touch(self, session_id: int, heard_ms: int) -> None:
        """A client was heard."""
        self.tracker.touch(session_id, heard_ms)
        self.local.touch(session_id, heard_ms)

    def _timeout_ms(self, request: Connect) -> int:
        least, greatest = self._loop.settings.session_timeout_ms_bounds
        return max(least, min(greatest, request.timeout_ms))

    def _create(self, connection: Connection, request: Connect) -> None:
        session_id = self._next_id
        self._next_id += 1
        timeout_ms = self._timeout_ms(request)
        if self.makes_local:
            session = self.local.add(session_id, timeout_ms, monotonic_ms())
            session.local = True
            self._attach(connection, session, request, self._loop.newest)
            return
        self._connecting[session_id] = (connection, request)
        if self.upstream is not None:
            self.upstream.create_session(session_id, timeout_ms)
        else:
            self._loop.propose(
                self._loop.prep.create_session(self._loop.next_zxid(), session_id, timeout_ms)
            )

    def created(self, txn: Txn) -> None:
        """The createSession txn is applied."""
        session = self.tracker.sessions.get(txn.session_id)
        if session is None:  # else it is a learner's, and was entered when that asked for it
            session = self.tracker.add(txn.session_id, txn.body[0], monotonic_ms())
        waiting = self._connecting.pop(txn.session_id, None)
        if waiting is not None and _lives(waiting[0]):
            self._attach(waiting[0], session, waiting[1], txn.zxid)

    def withdrawn(self, session_id: int) -> None:
        """The createSession txn could not be logged."""
        connection, _ = self._connecting.pop(session_id)
        self.dismiss(connection, "no room for a new session")

    def _resume(self, connection: Connection, request: Connect) -> None:
        self._loop.counters["connection_revalidate_count"] += 1
        session_id = request.session_id
        if request.password != password_of(session_id):
            self._refuse(connection, request)
        elif self.upstream is not None and session_id not in self.local.sessions:
            self._asking.setdefault(session_id, deque()).append((connection, request))
            self.upstream.revalidate(session_id, self._timeout_ms(request))
        else:
            self._take_over(connection, request)

    def revalidated(self, session_id: int, *, valid: bool) -> None:
        """The leader says whether a session lives that came back to this learner."""
        asking = self._asking.get(session_id)
        if asking is None:
            return
        connection, request = asking.popleft()
        if not asking:
            del self._asking[session_id]
        if not _lives(connection):
            return
        if not valid:
            self._refuse(connection, request)
            return
        if session_id not in self.tracker.sessions:
            self.tracker.add(session_id, self._timeout_ms(request), monotonic_ms())
        self._take_over(connection, request)

    def _refuse(self, connection: Connection, request: Connect) -> None:
        """There is no such session (A7)."""
        connection.leaving = True
        self._put(connection, ipc.SESSION, 0, [replies.refused(request.read_only), 0, 0])

    def _take_over(self, connection: Connection, request: Connect) -> None:
        """Give the session to this connection, once the old one is closed."""
        session = self.find(request.session_id)
        if session is None or session.closing:
            self._refuse(connection, request)
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
        tracker = self.local if session.local else self.tracker
        tracker.renegotiate(session, timeout_ms, monotonic_ms())
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
            session = self.find(waiting[1].session_id)
        if session is not None and session.place is connection:
            session.place = None
        if waiting is not None:
            newer, request = waiting
            if _lives(newer):
                self._take_over(newer, request)

    def moved(self, session_id: int, timeout_ms: int, place: Place) -> bool:
        """A learner asks for a session that came back to it; returns whether the session lives."""
        session = self.tracker.sessions.get(session_id)
        if session is None or session.closing:
            return False
        old = session.place
        if isinstance(old, Connection):
            if old in self._resuming:
                self.dismiss(self._resuming.pop(old)[0], None)
            old.session = None
            self.dismiss(old, None)
        session.place = place
        self.tracker.renegotiate(session, timeout_ms, monotonic_ms())
        return True

    def dismiss_all(self) -> None:
        """This server does not serve any more: clients go elsewhere with their sessions."""
        for port in self._loop.ports.ports:
            for connection in port.connections.values():
                if not connection.leaving:
                    self.dismiss(connection, None)
                connection.session = None
        self.local = Tracker(self._loop.settings.tick_time_ms)
        self._connecting.clear()
        self._resuming.clear()
        self._asking.clear()

    def dismiss(self, connection: Connection, why: str | None) -> None:
        """Close a connection; its worker logs why."""
        connection.leaving = True
        self._put(connection, ipc.CLOSE, 0, why)

    def expire(self) -> None:
        """Close the sessions that were not heard for their timeout."""
        for session in self.local.expired(monotonic_ms(), _reported_ms):
            self._tell_expired(session)
            self.end_local(session)
        if not self._leads():
            self.tracker.tidy(monotonic_ms())
            return  # it is the leader who closes them
        if self._loop.writer.stalled:
            return  # their deletions could not be written
        now_ms = monotonic_ms()
        for session in self.tracker.expired(now_ms, _reported_ms):
            if not self._leads():
                return  # not any more, since the last turn
            self._tell_expired(session)
            with self._loop.source:
                self._close(session, 0)
            if self._loop.batch_is_full():
                self._loop.turn()

    def _tell_expired(self, session: Session) -> None:
        self._loop.counters["stale_sessions_expired"] += 1
        self._complain(
            "session %#x expired: not heard for %d ms",
            session.session_id, monotonic_ms() - session.heard_ms,
        )  # fmt: skip

    # ---- local sessions

    def upgrade(self, session: Session) -> None:
        """A local session is to own a node: it becomes a global one, under the same id. The loop's
        source is open."""
        session_id, timeout_ms = session.session_id, session.timeout_ms
        self.local.remove(session_id)
        session.local = False
        self.tracker.adopt(session)
        if self.upstream is not None:
            self.upstream.create_session(session_id, timeout_ms)
        else:
            self._loop.propose(
                self._loop.prep.create_session(self._loop.next_zxid(), session_id, timeout_ms)
            )

    def end_local(self, session: Session) -> None:
        """A local session expired or was terminated."""
        self.local.remove(session.session_id)
        if isinstance(session.place, Connection):
            session.place.session = None
            self.dismiss(session.place, None)
        session.place = None

    def close_local(self, connection: Connection, session: Session) -> None:
        """A client's closeSession; its reply needs no txn."""
        self.local.remove(session.session_id)
        session.place = connection.session = None
        connection.leaving = True

    def _leads(self) -> bool:
        return self._loop.leading

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

    def terminate(self, session: Session) -> None:
        """Close a session for the administrator, as if it had expired."""
        if session.local:
            self.end_local(session)
        elif not session.closing:
            with self._loop.source:
                self._close(session, 0)

    def reopened(self, txn: Txn) -> None:
        """The closeSession txn could not be logged: the session may be closed again later."""
        session = self.tracker.sessions[txn.session_id]
        session.closing = False
        self.tracker.renegotiate(session, session.timeout_ms, monotonic_ms())

    def _put(self, connection: Connection, kind: int, zxid: int, payload: object) -> None:
        connection.port.put(kind, connection.number, zxid, payload)


def _lives(connection: Connection) -> bool:
    """Whether it can still be given a session."""
    return (
        connection.port.connections.get(connection.number) is connection and not connection.leaving
    )


def _reported_ms(place: object) -> int:
    """Up to when it is known which sessions were heard there."""
    return cast(Place, place).reported_ms
