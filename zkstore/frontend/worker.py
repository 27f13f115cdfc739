"""A worker: its clients, its watches, and its conversation with the commit process.

Owns:   the clients by number, the watch tables, the batch of requests that goes to the commit
        process this turn.
Invariants:
  1. WatchFirst: before anything newer than `position` is shown to a client, all events up to it
     have been queued; among the replies to a client's own writes they stand in the order of zxids.
  2. A view never outlives the call that opened it.
  3. ReadYourReplica: every read opens a view of its own turn, so it sees all that any reply has
     told of.
  4. Limits are the replica's: what the other workers have in hand counts here (frontend/board.py).
Design: the log is the bus. A worker with watches walks the log's effects from `position` to its
        view; one without skips it. The commit process rings only workers that said they have
        watches.
Not here: a client's bytes (frontend/client.py), who waits for room (frontend/line.py), processes
          and sockets (frontend/process.py).
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Final

from zkstore.constants import IPC_PIECE_BYTES_MAX, TOUCH_INTERVAL_MS
from zkstore.frontend.barriers import Barriers
from zkstore.frontend.board import LARGE, WAITING, Board
from zkstore.frontend.client import CLOSED, NEW, Client
from zkstore.frontend.line import Line
from zkstore.messaging import Channel
from zkstore.observability.log import Limited
from zkstore.observability.metrics import TOLD_NAMES, Distribution, Summary
from zkstore.proto import fourletter, replies
from zkstore.proto import opcodes as op
from zkstore.records import ipc
from zkstore.session.throttle import RequestThrottle
from zkstore.settings import Settings
from zkstore.storage.view import View, Views
from zkstore.tree.auth import Providers
from zkstore.tree.watches import Watches

_SESSIONLESS_CHECK_S: Final = 1.0
_SLACKS: Final = 64  # in globalOutstandingLimit
_TOLD: Final = dict(
    zip(
        (op.NODE_CREATED, op.NODE_DELETED, op.NODE_DATA_CHANGED, op.NODE_CHILDREN_CHANGED),
        TOLD_NAMES,
        strict=True,
    )
)
_WATCH_WORDS: Final = frozenset(("wchs", "wchc", "wchp"))


class Worker:
    """All that one worker process does between its sockets and the commit process."""

    def __init__(
        self,
        settings: Settings,
        providers: Providers,
        views: Views,
        loop: asyncio.AbstractEventLoop,
        board: Board | None = None,
    ) -> None:
        self.settings = settings
        self.providers = providers
        self.watches = Watches()
        self.applied = 0  # as the commit process said last
        self.position = 0  # the zxid up to which watchers have been told
        self.in_process = 0  # requests that the commit process has
        self.queued = 0  # requests that wait here, each behind others of its session or for room
        self.outstanding_bytes = 0  # of both
        self.dirty: list[Client] = []  # clients with something to send this turn
        self.holding: dict[Client, None] = {}  # clients whose events wait for their replies
        self._views = views
        self._loop = loop
        self.on_count: Callable[[int], None] = lambda _: None  # of how many clients there are
        self.on_reopen: Callable[[], None] = lambda: None  # the data are in another file
        self.auth_failed = 0
        self._board = board or Board.of_one()
        self._told_load = 0  # what the other workers know of our requests
        self._given_up_bytes = 0  # of clients that went, and may be in the outbox
        self._with_large: dict[Client, None] = {}  # clients that have sent large requests
        self.line = Line(self._board, loop, self._stalled)
        # A server alone acknowledges no write that it does not show.
        linearizable = settings.linearizable_reads and bool(settings.members)
        self.barriers = Barriers(self._ask_for_barrier, on=linearizable)
        self._adopt(settings)
        self.reset()
        self._channel: Channel | None = None
        self._clients: dict[int, Client] = {}
        self._numbers = 0
        self._outbox: ipc.Message = []
        self._scheduled = False
        self._watching = False
        self._heartbeat = time.monotonic()
        self._reported_ms = 0  # when all that were heard were last reported
        self._log = Limited(logging.getLogger("zkstore.worker"), logging.WARNING)
        self.stopping = False

    # ---- limits

    def _adopt(self, settings: Settings) -> None:
        """Take settings that may change while it runs."""
        self.settings = settings
        self.line.throttle = RequestThrottle(settings)
        # A larger frame is looked at twice: it may be too large, or a large request.
        self.plain_bytes_max = settings.frame_size_bytes_max
        if settings.large_request_threshold:
            self.plain_bytes_max = min(self.plain_bytes_max, settings.large_request_threshold)
        self.outstanding_max = settings.global_outstanding_limit
        # With the throttle on, each request has to ask `finds_room`.
        throttled = self.line.throttle.requests_max > 0
        self.in_process_max = -1 if throttled else sys.maxsize
        # So few requests are not worth telling the others of, or asking after theirs.
        self._slack = 0 if throttled else settings.global_outstanding_limit // _SLACKS
        if self._board.rows == 1:
            self._slack = sys.maxsize

    def _exchange(self) -> None:
        """Tell the other workers what this one has in hand; what they have, it may not."""
        load = self.in_process + self.queued
        if load <= self._slack >= self._told_load and not self._with_large:
            return
        self._told_load = load
        board = self._board
        outstanding, _ = board.exchange_load(load, self.in_process)
        self.outstanding_max = self.settings.global_outstanding_limit
        if load > self._slack:
            self.outstanding_max -= outstanding
        if self._with_large:
            board.put(LARGE, self._large_bytes())

    def finds_room(self) -> bool:
        """Reference R5: whether one more request may be in process, of the whole replica's."""
        board, in_process = self._board, self.in_process
        self._told_load = load = in_process + self.queued
        _, elsewhere = board.exchange_load(load, in_process + 1)
        if in_process < self.line.throttle.room(elsewhere, board.elsewhere(WAITING)):
            return True
        board.exchange_load(load, in_process)
        return False

    def _large_bytes(self) -> int:
        """Bytes of the large requests that are not answered."""
        threshold = self.settings.large_request_threshold
        sizes = {client: client.large_bytes(threshold) for client in self._with_large}
        self._with_large = {client: None for client, size in sizes.items() if size}
        return sum(sizes.values())

    def bears(self, client: Client, size: int) -> bool:
        """Reference R7: whether there is room for this client's large request."""
        here = self._large_bytes() + size
        if here + self._board.elsewhere(LARGE) > self.settings.large_request_bytes_max:
            self.counters["large_requests_rejected"] += 1
            return False
        self._with_large[client] = None
        self._board.put(LARGE, here)
        return True

    def _stalled(self) -> None:
        """Other workers may have left room for those who stand in line."""
        self._exchange()
        self.line.drop_stale()
        self._serve_line()
        self.flush()

    def _serve_line(self) -> None:
        """Let the clients in line use the room that there is, one turn each."""
        view: View | None = None
        try:
            for _ in range(len(self.line)):
                if self.in_process >= self.in_process_max and not self.finds_room():
                    break
                view = self.line.next().go_on(view)
        finally:
            if view is not None:
                view.close()

    # ---- life

    def start(self, channel: Channel) -> None:
        """Begin to talk to the commit process."""
        self._channel = channel
        self._report_touches()
        self._check_sessionless()

    def stop(self) -> None:
        """Close every client; their sessions live on."""
        self.stopping = True
        for client in list(self._clients.values()):
            client.close()
        self.flush()

    def client(self) -> Client:
        """The protocol of a connection that was accepted."""
        self._numbers += 1
        return Client(self, self._numbers)

    def opened(self, client: Client) -> None:
        """A client connected."""
        self._clients[client.number] = client
        self.on_count(len(self._clients))
        # It goes with what follows: its ConnectRequest, as a rule, else the next report.
        self._outbox += (ipc.OPEN, client.number, client.address)

    def closed(self, client: Client) -> None:
        """A client's connection is gone."""
        if self._forget(client):
            if client.session_id:
                self._touched([client])
            self.submit(ipc.CLOSED, client, None)

    def _forget(self, client: Client) -> bool:
        """The commit process has no more to say to this client; returns whether it might have."""
        if self._clients.pop(client.number, None) is None:
            return False
        self.on_count(len(self._clients))
        self.watches.forget(client)
        self.holding.pop(client, None)
        return True

    # ---- to the commit process

    def gave_up(self, in_process: int, queued: int, size: int) -> None:
        """A client went before so many of its requests were answered."""
        self.in_process -= in_process
        self.queued -= queued
        self.outstanding_bytes -= size
        self._given_up_bytes += size

    def submit(self, kind: int, client: Client, payload: object) -> None:
        """Add an item to this turn's message."""
        self._add(kind, client.number, payload)

    def _add(self, kind: int, number: int, payload: object) -> None:
        self._outbox += (kind, number, payload)
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._send)

    def _ask_for_barrier(self, number: int) -> None:
        self._add(ipc.BARRIER, 0, number)

    def _send(self) -> None:
        self._scheduled = False
        self.barriers.sent()
        outbox, self._outbox = self._outbox, []
        assert self._channel is not None
        if self.outstanding_bytes + self._given_up_bytes <= IPC_PIECE_BYTES_MAX:
            self._channel.send(outbox)
        else:
            for piece in _pieces(outbox):
                self._channel.send(piece)
        self._given_up_bytes = 0
        self._exchange()

    def _touched(self, clients: list[Client], complete_ms: int = 0) -> None:
        """Tell which sessions were heard when, and that nothing up to `complete_ms` is missing."""
        payload = [complete_ms]
        for client in clients:
            payload += (client.session_id, client.heard_ms)
        self._add(ipc.TOUCHES, 0, payload)

    def _report_touches(self) -> None:
        """Tell what was heard since the last report; by now all is read that had come by then."""
        since_ms, self._reported_ms = self._reported_ms, int(time.monotonic() * 1000)
        heard = [c for c in self._clients.values() if c.heard_ms >= since_ms and c.session_id]
        self._touched(heard, since_ms)
        self._loop.call_later(TOUCH_INTERVAL_MS / 1000, self._report_touches)

    def _check_sessionless(self) -> None:
        """Reference A11: a connection without a handshake is dropped."""
        oldest = time.monotonic() - self.settings.sessionless_timeout_ms / 1000
        for client in list(self._clients.values()):
            if client.state == NEW and client.since < oldest:
                self.counters["sessionless_connections_expired"] += 1
                client.fail("no connect request in time")
        self.flush()
        self._loop.call_later(_SESSIONLESS_CHECK_S, self._check_sessionless)

    def commit_process_is_alive(self, timeout_ms: int) -> bool:
        """Whether its heartbeat is young enough to answer a ping for it."""
        limit_ms = min(self.settings.sync_limit_ticks * self.settings.tick_time_ms, timeout_ms / 3)
        return (time.monotonic() - self._heartbeat) * 1000 < max(limit_ms, 1000)

    # ---- views and watches

    def view(self) -> View:
        """A view of the newest state, after everybody was told of what led to it."""
        view = self._views.open()
        applied = view.applied
        assert applied >= self.applied, (applied, self.applied)
        if applied != self.position:
            if self.watches:
                self._walk(view)
            self.position = applied
        return view

    def _walk(self, view: View) -> None:
        """Fire the watches up to the view."""
        if not view.log_covers(self.position):
            self._lost_track()
            return
        watches = self.watches
        for zxid, effects in view.log(self.position):
            for effect in range(0, len(effects), 6):
                kind, path, acl_id, parent_acl_id = effects[effect : effect + 4]
                if kind == op.NODE_DATA_CHANGED:
                    events = watches.changed(path, acl_id)
                elif kind == op.NODE_CREATED:
                    events = watches.created(path, acl_id, parent_acl_id)
                elif kind == op.NODE_DELETED:
                    events = watches.deleted(path, acl_id, parent_acl_id)
                else:
                    continue
                for event_type, changed, event_acl_id, watchers in events:
                    self._tell(view, zxid, event_type, changed, event_acl_id, watchers)

    def _tell(
        self, view: View, zxid: int, kind: int, path: bytes, acl_id: int, watchers: list[Any]
    ) -> None:
        """Queue one event to each watcher that may read the node (reference D13)."""
        frame = replies.event(zxid, kind, path)
        self.counters["watch_bytes"] += len(frame) * len(watchers)
        self.told[_TOLD[kind]].add(1, len(watchers))
        acl = None if acl_id == -1 else view.acl(acl_id)
        for client in watchers:
            if acl is None or client.allowed(acl, op.READ):
                client.notify(zxid, frame)

    def _lost_track(self) -> None:
        """The log no longer reaches back to where the watches stand: their clients must start
        anew."""
        for client in list(self._clients.values()):
            if client.watched_paths:
                client.fail("its watches fell behind the log")

    # ---- from the commit process

    def on_message(self, message: ipc.Message) -> None:
        """Replies and news: events first, then the replies, in the order of their zxids."""
        self._heartbeat = now = time.monotonic()
        self.applied = message[0]
        if len(message) > 1 and message[1] == ipc.REOPEN:
            self.on_reopen()
        if self.watches and self.applied > self.position:
            self.view().close()
        moved: dict[Client, None] = {}
        clients = self._clients
        items = iter(message)
        next(items)
        for kind, number, zxid, payload in zip(items, items, items, items, strict=True):
            client = clients.get(number) if kind == ipc.REPLY else None
            if client is not None:
                client.answered(zxid, payload, now)
            else:
                client = self._deliver(kind, number, zxid, payload)
            if client is not None and client.waiting():
                moved[client] = None
        if self.holding:
            self.holding = {c: None for c in self.holding if c.release(self.applied)}
        self._exchange()
        if self.line:
            self._serve_line()  # before those who have just had an answer would take their room
        self._go_on(moved)
        self.flush()

    def _go_on(self, clients: dict[Client, None]) -> None:
        """Let queues move on, all over one view."""
        view: View | None = None
        try:
            for client in clients:
                view = client.go_on(view)
        finally:
            if view is not None:
                view.close()

    def _deliver(self, kind: int, number: int, zxid: int, payload: Any) -> Client | None:
        """Hand one item of a message to its client, which is returned. Of replies, the stale."""
        if kind == ipc.GATHER:
            self._add(ipc.GATHERED, number, self.report(payload))
            return None
        if kind == ipc.REOPEN:
            return None
        if kind == ipc.PASSED:
            self._go_on({c: None for c in self.barriers.passes(payload) if c.waiting()})
            return None
        if kind == ipc.SETTINGS:
            self._adopt(self.settings.altered(payload))
            self._stalled()
            return None
        client = self._clients.get(number)
        if client is None:
            self.counters["stale_replies"] += len(payload) if kind == ipc.REPLY else 0
            return None
        if kind == ipc.SESSION:
            frame, session_id, timeout_ms = payload
            if session_id:
                client.connected(session_id, timeout_ms, frame, zxid)
            else:
                client.send(frame)
                client.close()
        elif kind == ipc.LAST:
            client.answered(zxid, [payload], self._heartbeat)
            client.close()
            self._forget(client)
        elif kind == ipc.TEXT:
            client.send(payload)
            client.close()
        else:
            if payload:
                self.complain(client, payload)
            client.drop()
        return client

    # ---- the end of a turn

    def flush(self) -> None:
        """Send what the turn produced."""
        dirty, self.dirty = self.dirty, []
        for client in dirty:
            client.flush()
        if bool(self.watches) != self._watching:
            self._watching = not self._watching
            self._add(ipc.WATCHING, 0, self.position if self._watching else None)

    def soon(self, client: Client) -> None:
        """Let a client go on in the next turn."""
        self._loop.call_soon(self._resume, client)

    def after(self, delay_ms: int, action: Callable[[], object]) -> asyncio.TimerHandle:
        """Do something later."""
        return self._loop.call_later(delay_ms / 1000, action)

    def _resume(self, client: Client) -> None:
        client.resume()
        self.flush()

    # ---- counting and talking

    def count_sent(self, frames: list[bytes], size: int) -> None:
        """Count what one client gets in a turn: the frames and their bytes in all."""
        self.sent += len(frames)
        self.response_bytes += size
        shortest = longest = last = size
        if len(frames) > 1:
            shortest, longest = len(min(frames, key=len)), len(max(frames, key=len))
            last = len(frames[-1])
        sizes = self.response_sizes
        sizes[0] = last
        if shortest < sizes[1] or sizes[1] < 0:
            sizes[1] = shortest
        if longest > sizes[2]:
            sizes[2] = longest

    def complain(self, client: Client, why: str) -> None:
        """Log what a client did, a few times a minute at most."""
        self._log("%s:%s session %#x: %s", client.address, client.port, client.session_id, why)

    def argument_bytes(self, word: str) -> int:
        """How many bytes behind a four-letter word belong to it; none do where it is refused."""
        return fourletter.ARGUMENT_BYTES.get(word, 0) if self._allows(word) else 0

    def _allows(self, word: str) -> bool:
        allowed = self.settings.fourletter_whitelist
        return "*" in allowed or word in allowed

    def four_letter(self, client: Client, word: str, argument: bytes) -> None:
        """Answer a four-letter word; what concerns the whole replica goes through the commit
        process."""
        if not self._allows(word):
            client.send(fourletter.refused(word))
        elif word == "ruok":
            client.send(b"imok")
        else:
            self.submit(ipc.ADMIN, client, [word, int.from_bytes(argument, "big", signed=True)])
            return
        client.close()

    def report(self, what: str) -> dict[str, Any]:
        """This worker's part of `stat`, `cons`, `mntr` and their kin."""
        clients = [c for c in self._clients.values() if c.state != CLOSED or c.outstanding == 0]
        if what == "srst":
            self.reset()
        elif what == "crst":
            for client in clients:
                client.stats.reset()
        elif what == "latency":
            self.read_latency, self.update_latency = Distribution(), Distribution()
        elif what == "max-latency":
            for latency in (self.read_latency, self.update_latency):
                latency.greatest = latency.least
        elif what == "auth-failed":
            self.auth_failed = 0
        watches, _ = self.watches.counts()
        return {
            "connections": [fourletter.connection(c) for c in clients],
            "read_latency": self.read_latency.part(),
            "update_latency": self.update_latency.part(),
            "told": [one.part() for one in self.told.values()],
            "outstanding": self.in_process + self.queued,
            "waited_for_room": self.line.waited_ms.part(),
            "watches": watches,
            "watches_by_session": self._watches_by_session() if what in _WATCH_WORDS else [],
            "response_sizes": self.response_sizes,
            "auth_failed": self.auth_failed,
            "received": self.received,
            "sent": self.sent,
            "counters": {
                "bytes_received_count": self.bytes_received,
                "response_bytes": self.response_bytes,
                **self.counters,
                **self.line.counters,
            },
        }

    def _watches_by_session(self) -> list[int | list[bytes]]:
        """session, its paths, session, its paths, …: of the data watches only."""
        found: dict[int, list[bytes]] = {}
        for path, client in self.watches.data_watches():
            assert isinstance(client, Client)
            found.setdefault(client.session_id, []).append(path)
        return [one for pair in found.items() for one in pair]

    def reset(self) -> None:
        """What `srst` resets."""
        self.read_latency = Distribution()  # ms
        self.update_latency = Distribution()
        self.told = {name: Summary() for name in TOLD_NAMES}  # watchers that one change told
        self.received = 0
        self.sent = 0
        self.bytes_received = 0
        self.response_bytes = 0
        self.response_sizes = [-1, -1, -1]  # last, least, greatest, in bytes
        self.counters: Counter[str] = Counter()
        self.line.reset()


def _pieces(outbox: ipc.Message) -> Iterator[ipc.Message]:
    """A turn's items as messages of which none is too large for the channel."""
    begin = size = 0
    for stop in range(ipc.TO_COMMIT_WIDTH, len(outbox) + 1, ipc.TO_COMMIT_WIDTH):
        payload = outbox[stop - 1]
        size += len(payload) if isinstance(payload, bytes) else 0
        if size >= IPC_PIECE_BYTES_MAX or stop == len(outbox):
            yield outbox[begin:stop]
            begin, size = stop, 0
