"""One session: its connection, the next one after a cut, and what becomes of calls meanwhile.

Owns:   session id and password, the task that connects and connects again, the calls not yet sent,
        the table of watches.
Invariants:
  1. Order: calls reach the server in the order in which they were made.
  2. NoStraggler: after a cut no write that was called before it is sent. It fails with
     ConnectionLoss, as the writes before it may have failed; reads are repeated.
  3. Bounded: at most REQUESTS_MAX calls are sent or queued; further ones wait for their turn.
  4. WatchesFirst: on a new connection watches are armed before any call is sent, so that a read
     never shows what a watch will not tell the end of.
  5. The states CLOSED, EXPIRED and AUTH_FAILED are final; every call then raises.
Design: a call is cancelled like any coroutine. What was sent is then still done by the server, and
        its reply dropped. There is no time limit in here: asyncio.timeout is the caller's.
Source: ClientCnxn; reference: sections H, V.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
from collections import deque
from collections.abc import Iterable
from enum import Enum
from typing import Final
from weakref import WeakSet

from zkstore.client.connection import Connection, Request, connection_loss
from zkstore.client.errors import (
    AuthFailed,
    ClientClosed,
    ConnectionLoss,
    SessionExpired,
)
from zkstore.client.hosts import Hosts
from zkstore.client.limits import (
    BACKOFF_SECONDS_MAX,
    BACKOFF_SECONDS_MIN,
    CONNECT_SECONDS_MIN,
    REQUESTS_MAX,
)
from zkstore.client.slots import Slots
from zkstore.client.watches import Watches
from zkstore.constants import PASSWORD_BYTES
from zkstore.errors import Code, ZkstoreError, ZooKeeperError
from zkstore.proto import client_requests as requests
from zkstore.proto import opcodes as op

_log: Final = logging.getLogger(__name__)
Auth = tuple[str, bytes | None]  # scheme, credentials


class State(Enum):
    """Where a session is. An owner of locks acts on them only while CONNECTED."""

    CONNECTING = "connecting"  # for the first time or again; the session may expire meanwhile
    CONNECTED = "connected"
    CLOSED = "closed"
    EXPIRED = "expired"
    AUTH_FAILED = "auth failed"


_NEXT: Final = {
    State.CONNECTING: {State.CONNECTED, State.CLOSED, State.EXPIRED, State.AUTH_FAILED},
    State.CONNECTED: {State.CONNECTING, State.CLOSED, State.AUTH_FAILED},
    State.CLOSED: set(),
    State.EXPIRED: set(),
    State.AUTH_FAILED: set(),
}


class States:
    """An async iterator of a session's states: the present one, then each that it changes to.

    A slow reader may miss states in between, never the latest. It ends behind a final state.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._last: State | None = None
        self._changed = session.notify_of_state()

    def __aiter__(self) -> States:
        return self

    async def __anext__(self) -> State:
        while self._session.state is self._last:
            if not _NEXT[self._last]:
                raise StopAsyncIteration
            self._changed.clear()
            await self._changed.wait()
        self._last = self._session.state
        return self._last


class Session:
    def __init__(
        self,
        hosts: Hosts,
        timeout_ms: int,
        auths: Iterable[Auth],
        *,
        accept_read_only: bool = False,
        fail_fast: bool = False,
    ) -> None:
        """`accept_read_only`: a server that answers reads only will do; `fail_fast`: each attempt
        to connect that fails also fails the calls that wait for a connection."""
        self.state = State.CONNECTING
        self.session_id = 0
        self.read_only = False  # whether the server of the present connection is
        self.attempts_failed = 0
        self.timeout_ms = timeout_ms  # asked for; once connected what the server granted
        self.watches = Watches()
        self._asked_timeout_ms = timeout_ms
        self._password = bytes(PASSWORD_BYTES)
        self._hosts = hosts
        self._accept_read_only = accept_read_only
        self._fail_fast = fail_fast
        self._auths = list(auths)
        self._seen_zxid = 0  # the newest that this session has seen of the tree
        self._watched_zxid = 0  # <= seen; up to it every watch has told what it had to tell
        self._cuts = 0
        self._closing = False
        self._crash: BaseException | None = None
        self._connection: Connection | None = None
        self._runner: asyncio.Task[None] | None = None
        self._queue: deque[Request] = deque()
        self._slots = Slots(REQUESTS_MAX)
        self._listeners: WeakSet[asyncio.Event] = WeakSet()

    # ---- life

    @property
    def is_over(self) -> bool:
        """Whether the state is final."""
        return not _NEXT[self.state]

    def start(self) -> None:
        assert self._runner is None, "already started"
        self._runner = asyncio.create_task(self._run(), name="zkstore-client")
        self._runner.add_done_callback(self._on_runner_done)

    async def wait_connected(self) -> None:
        """Raises: SessionExpired, AuthFailed, ClientClosed."""
        async for state in States(self):
            if state is State.CONNECTED:
                return
        raise self.final_error()

    async def settled(self) -> None:
        """Until there is a connection, an attempt to connect has failed, or the session is over."""
        changed = self.notify_of_state()
        failed_before = self.attempts_failed
        while self.state is State.CONNECTING and self.attempts_failed == failed_before:
            changed.clear()
            await changed.wait()

    async def close(self) -> None:
        """End the session at the server, if it can be reached, and the client."""
        self._closing = True
        try:
            if self.state is State.CONNECTED:
                async with asyncio.timeout(self.timeout_ms / 3000):
                    await self.call(op.CLOSE_SESSION, b"", "close", repeatable=False)
        except (TimeoutError, ZkstoreError) as error:
            _log.info("session 0x%x was not closed and has to expire: %s", self.session_id, error)
        finally:
            self._end(State.CLOSED)
            if self._runner is not None:
                self._runner.cancel()
                await asyncio.wait([self._runner])

    def notify_of_state(self) -> asyncio.Event:
        """An event that every change of `state` sets, and every attempt to connect that failed,
        for as long as the caller holds it."""
        changed = asyncio.Event()
        self._listeners.add(changed)
        return changed

    def _set_state(self, state: State) -> None:
        assert state in _NEXT[self.state], (self.state, state)
        _log.debug("session 0x%x: %s", self.session_id, state.value)
        self.state = state
        self._notify()

    def _notify(self) -> None:
        for changed in self._listeners:
            changed.set()

    def _end(self, state: State) -> None:
        if self.is_over:
            return
        self._set_state(state)
        unanswered = []
        if self._connection is not None:
            self._connection.abort(state.value)
            unanswered = self._connection.take_unanswered()
            self._connection = None
        for request in (*unanswered, *self._queue):
            self._fail(request, self.final_error())
        self._queue.clear()
        self.watches.wake_all()

    def _on_runner_done(self, runner: asyncio.Task[None]) -> None:
        """A mistake of ours in the runner must not leave calls waiting for ever."""
        if not runner.cancelled() and runner.exception() is not None:
            self._crash = runner.exception()
            self._end(State.CLOSED)

    def final_error(self) -> ZkstoreError:
        """What every call raises once the session is over."""
        session = f"session 0x{self.session_id:x}"
        if self.state is State.EXPIRED:
            return SessionExpired(Code.SESSION_EXPIRED, session)
        if self.state is State.AUTH_FAILED:
            return AuthFailed(Code.AUTH_FAILED, session)
        error = ClientClosed(f"{session} is closed")
        error.__cause__ = self._crash
        return error

    # ---- calls

    async def call(self, kind: int, body: bytes, detail: str, *, repeatable: bool) -> bytes:
        """Send a request; returns the frame of its reply.

        Raises: what error_of makes of the reply's code; ConnectionLoss for a request that is not
                repeatable; the final state's error; ClientClosed before `start`.
        """
        if self._runner is None:
            raise ClientClosed("not connected: use the client in a with block, or call connect")
        cuts = self._cuts
        await self._slots.acquire()
        request = Request(
            kind, body, detail, repeatable, asyncio.get_running_loop().create_future()
        )
        if self.is_over:
            self._fail(request, self.final_error())
        elif cuts != self._cuts and not repeatable:
            self._fail(request, connection_loss(f"{detail} (was not sent)"))
        else:
            self._queue.append(request)
            self._pump()
        try:
            return await request.reply
        except asyncio.CancelledError:
            if request in self._queue:
                self._queue.remove(request)
                self._slots.release()
            elif not request.reply.cancelled():
                request.reply.exception()  # seen: it came together with the cancellation
            raise

    def _fail(self, request: Request, error: ZkstoreError) -> None:
        if not request.reply.done():
            request.reply.set_exception(error)
        self._slots.release()

    def _pump(self) -> None:
        connection = self._connection
        while self._queue and connection is not None and connection.writable:
            connection.send(self._queue.popleft())

    def _on_room(self, answered: int) -> None:
        for _ in range(answered):
            self._slots.release()
        self._pump()

    async def add_auth(self, scheme: str, credentials: bytes | None) -> None:
        """Add an identity, on this and on every later connection. Raises: AuthFailed."""
        self._auths.append((scheme, credentials))
        if self._connection is not None:
            try:
                await self._connection.auth(scheme, credentials)
            except AuthFailed:
                self._end(State.AUTH_FAILED)
                raise
            except ConnectionLoss:
                _log.debug("credentials go to the next connection")
        await self.wait_connected()

    # ---- connections

    async def _run(self) -> None:
        while not self._closing and not self.is_over:
            connection = await self._connect()
            if connection is None:
                return
            await connection.lost
            if self._connection is connection:
                self._cut(connection)

    def _cut(self, connection: Connection) -> None:
        """The connection is lost: repeat what may be repeated, fail the rest."""
        self._connection = None
        self._seen_zxid = self._watched_zxid = connection.last_zxid
        self._cuts += 1
        kept: deque[Request] = deque()
        for request in (*connection.take_unanswered(), *self._queue):
            if request.repeatable and not request.reply.done():
                kept.append(request)
            else:
                self._fail(request, connection_loss(request.detail))
        self._queue = kept
        self._set_state(State.CONNECTING)

    async def _connect(self) -> Connection | None:
        """The next connection that holds this session; None if there is none any more."""
        bound = BACKOFF_SECONDS_MIN
        for attempt in itertools.count(1):
            connection = await self._attempt()
            if connection is not None or self.is_over:
                return connection
            self._on_attempt_failed()
            if attempt % len(self._hosts) == 0:
                await asyncio.sleep(random.uniform(0, bound))
                bound = min(2 * bound, BACKOFF_SECONDS_MAX)
        raise AssertionError("the count has no end")

    def _on_attempt_failed(self) -> None:
        self.attempts_failed += 1
        while self._fail_fast and self._queue:
            request = self._queue.popleft()
            self._fail(request, connection_loss(request.detail))
        self._notify()

    async def _attempt(self) -> Connection | None:
        """Try one server. Ends the session if it is refused."""
        host, port = self._hosts.turn()
        seconds = max(self.timeout_ms / 1000 / len(self._hosts), CONNECT_SECONDS_MIN)
        connection = self._new_connection()
        try:
            async with asyncio.timeout(seconds):
                await asyncio.get_running_loop().create_connection(lambda: connection, host, port)
                if await self._shake_hands(connection):
                    return self._adopt(connection)
        except AuthFailed:
            self._end(State.AUTH_FAILED)
        except (OSError, ZooKeeperError) as error:  # a TimeoutError is an OSError
            _log.info("no session at %s:%d: %s", host, port, error or type(error).__name__)
        finally:
            self._seen_zxid = max(self._seen_zxid, connection.last_zxid)
            if self._connection is not connection:
                connection.abort("not adopted")
        return None

    def _new_connection(self) -> Connection:
        hello = requests.connect(
            self._seen_zxid,
            self._asked_timeout_ms,
            self.session_id,
            self._password,
            self._accept_read_only,
        )
        return Connection(hello, self._seen_zxid, self.watches.dispatch, self._on_room)

    async def _shake_hands(self, connection: Connection) -> bool:
        """Open or resume the session, with its identities and watches; whether it is accepted."""
        answer = await connection.connected
        if not answer.session_id:
            if self.session_id:
                self._end(State.EXPIRED)
            return False
        self.session_id = answer.session_id
        self._password = answer.password
        self.timeout_ms = answer.timeout_ms
        self.read_only = answer.read_only
        replies = [connection.auth(*auth) for auth in self._auths]
        if self._cuts:
            self.watches.gap()
        for lists in self.watches.armed():
            replies.append(connection.set_watches(self._watched_zxid, lists))
        for reply in replies:
            await reply
        return True

    def _adopt(self, connection: Connection) -> Connection:
        self._connection = connection
        self._set_state(State.CONNECTED)
        self._pump()
        return connection
