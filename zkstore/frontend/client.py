"""One client's connection: frames in, replies and events out.

Owns:   the socket's transport, the bytes not parsed yet, the requests that wait, what is to be
        sent.
Invariants:
  1. SessionOrder: replies leave in the order of the requests. A read waits behind its own session's
     writes, a write behind the reads before it: a pipelined read sees exactly the writes that
     precede it. Exempt, as in Apache: auth packets (handled as they come) and pings (design:
     answered by the worker).
  2. Bounded: parsing stops while replies pile up unsent or too many requests are outstanding; a
     client that never reads is closed at CLIENT_WRITE_BUFFER_BYTES_MAX.
Design: while writes are in flight, further writes follow them at once and the first read begins a
        queue; the queue moves on when the writes are answered. So does a write for which there is
        no room in process (request_throttle_max_requests), in the worker's line of such clients.
Not here: answering reads (frontend/reads.py) and what waits for nobody (direct.py), the worker's
          other half (frontend/worker.py).
Source: NIOServerCnxn, CommitProcessor.
"""

from __future__ import annotations

import asyncio
import struct
import time
from collections import deque
from typing import TYPE_CHECKING, Final, cast

from zkstore.constants import (
    CLIENT_WRITE_BUFFER_BYTES_HIGH,
    CLIENT_WRITE_BUFFER_BYTES_MAX,
    CLOSE_LINGER_MS,
    CONNECT_FRAME_BYTES_MAX,
    DROP_LINGER_MS,
    READS_TURN_S,
    REQUEST_BYTES_OUTSTANDING_MAX,
)
from zkstore.errors import Code, ZooKeeperError
from zkstore.frontend import direct, keeper_reads, reads
from zkstore.frontend.in_flight import InFlight
from zkstore.frontend.stats import Stats
from zkstore.jute.codec import INT_INT, unpack_int, unpack_long
from zkstore.observability.metrics import Summary
from zkstore.proto import fourletter, replies
from zkstore.proto import opcodes as op
from zkstore.records import ipc
from zkstore.storage.view import View
from zkstore.tree import acl as acls
from zkstore.tree.acl import Acl
from zkstore.tree.auth import Identity, written_out

if TYPE_CHECKING:
    from zkstore.frontend.worker import Worker

# States, in this order only.
NEW: Final = 0  # nothing understood yet: a four-letter word or a ConnectRequest comes
CONNECTING: Final = 1  # the commit process has the ConnectRequest; nothing is parsed meanwhile
UP: Final = 2
CLOSED: Final = 3  # nothing more is read; what is to be sent is sent

_XID_TYPE = INT_INT.unpack_from
_HEAD = struct.Struct(">iii").unpack_from  # length, xid, type
_READS = keeper_reads.HANDLERS.get
# Reads whose work grows with the tree: after some ms of them the other clients have a turn.
_LONG: Final = frozenset(keeper_reads.HANDLERS) - {op.GET_DATA, op.EXISTS, op.GET_ACL}
_AUTH_REQUIRED: Final = Code.SESSION_CLOSED_REQUIRE_SASL_AUTH


class Client(asyncio.Protocol):
    """A connection and, once it is up, its session."""

    def __init__(self, worker: Worker, number: int) -> None:
        self.worker = worker
        self.number = number
        self.state = NEW
        self.session_id = 0
        self.timeout_ms = 0
        self.address = ""
        self.port = 0
        self.identities: tuple[Identity, ...] = ()
        self.watched_paths: set[bytes] = set()
        self.knows_keeper = False  # it has asked for Keeper's feature flags
        self.heard_ms = 0
        self.since = time.monotonic()
        self.stats = Stats()
        # enforce.auth.enabled: nothing but auth is served before an enforced scheme is proven
        # (J17).
        self._barred = worker.settings.enforce_auth_enabled
        self._indirect = self._barred or worker.barriers.on  # reads have more to them
        self._transport: asyncio.Transport | None = None
        self._chunks: list[bytes] = []  # bytes that are not parsed
        self._have = 0
        self._need = 4  # no use in parsing before so many bytes are there
        self._in_flight = InFlight()  # writes
        # frames that wait, from the first read on
        self._queue: deque[tuple[bytes, float, int]] = deque()  # frame, since, its barrier
        self._lined = False  # what is in the queue waits, or has waited, for room in process
        self._held: deque[tuple[int, bytes]] = deque()  # (zxid, event), see `notify`
        self._out: list[bytes] = []
        self._stalled = False  # the transport's buffer is full
        self._paused = False  # reading from the socket is off
        self._lingering: asyncio.TimerHandle | None = None  # closed, but not all is read
        self._discards = False  # what the client still sends is read, and thrown away

    # ---- the transport's calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=CLIENT_WRITE_BUFFER_BYTES_HIGH)
        peer = transport.get_extra_info("peername") or ("", 0)
        self.address = written_out(peer[0])
        self.port = peer[1]
        self.identities = ((b"ip", self.address.encode()),)
        self.worker.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.state != CLOSED:
            self.worker.counters["connection_drop_count"] += 1
        self.state = CLOSED
        self._transport = None
        if self._lingering is not None:
            self._lingering.cancel()
        if self._lined:
            self._leave_line()
        size = self._in_flight.bytes + self._queued_bytes()
        self.worker.gave_up(self._in_flight.count, len(self._queue), size)
        self._in_flight.clear()
        self._queue.clear()
        self._chunks.clear()
        self.worker.closed(self)

    def eof_received(self) -> bool:
        """Whether to keep the other direction: `echo stat | nc` wants an answer after its end."""
        return self.state == CLOSED and not self._discards

    def pause_writing(self) -> None:
        self._stalled = True

    def resume_writing(self) -> None:
        self._stalled = False
        self.resume()
        self._regulate()
        self.worker.flush()

    def data_received(self, data: bytes) -> None:
        now = time.monotonic()
        self.heard_ms = int(now * 1000)
        self._advance(data, now)
        if self.worker.dirty:
            self.worker.flush()

    # ---- parsing

    def _advance(self, data: bytes, now: float) -> None:
        """Take in bytes and serve all that can be served now."""
        if self._chunks:
            if data:
                self._chunks.append(data)
                self._have += len(data)
            if self._have < self._need and self.state != CLOSED:
                self._regulate()  # what made it pause may be over, and half a frame is here
                return
            data = b"".join(self._chunks)
            self._chunks.clear()
        if self.state == UP:
            offset = self._serve(data, now)
        elif self.state == NEW:
            offset = self._greet(data)
        else:
            offset = 0 if self.state == CONNECTING else len(data)
        if offset < len(data):
            self._keep(data[offset:] if offset else data)
        self._regulate()

    def _keep(self, rest: bytes) -> None:
        self._chunks.append(rest)
        self._have = len(rest)
        self._need = 4 + unpack_int(rest)[0] if self._have >= 4 else 4
        worker = self.worker
        unseen = self._have < 12 and self._need > 4 + worker.plain_bytes_max
        if unseen or self._need > 4 + worker.settings.frame_size_bytes_max:
            self._need = 12  # a large frame: its header is enough to refuse it

    def _regulate(self) -> None:
        """Read from the socket only while the client's requests can be taken in."""
        unserved = bool(self._chunks) and self._have >= self._need
        pause = self.state == CONNECTING or self._stalled or unserved or self._crowded()
        if pause != self._paused and self._transport is not None and self.state != CLOSED:
            self._paused = pause
            if pause:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    def _crowded(self) -> bool:
        """Reference R1: over the limit, a connection that has requests outstanding is not read."""
        if not self._in_flight.count and not self._queue:
            return False
        worker = self.worker
        return (
            worker.in_process + worker.queued >= worker.outstanding_max
            or worker.outstanding_bytes >= REQUEST_BYTES_OUTSTANDING_MAX
        )

    def _greet(self, data: bytes) -> int:
        """The first bytes of a connection. Returns how many were used."""
        if len(data) < 4:
            return 0
        word = fourletter.WORDS.get(data[:4])
        if word is not None:
            end = 4 + self.worker.argument_bytes(word)
            if len(data) < end:
                return 0
            self.state = CLOSED
            self.stats.received += 1
            self.worker.received += 1
            self.worker.four_letter(self, word, data[4:end])
            return len(data)
        size: int = unpack_int(data)[0]
        if not 0 <= size <= CONNECT_FRAME_BYTES_MAX:
            self.fail(f"length {size} where a connect request was expected")
            return len(data)
        if len(data) < 4 + size:
            return 0
        self.state = CONNECTING
        self.stats.received += 1
        self.worker.received += 1
        self.worker.submit(ipc.CONNECT, self, data[4 : 4 + size])
        return 4 + size

    def _serve(self, data: bytes, now: float) -> int:
        """Serve the requests in `data`; returns where the unserved rest begins. The hot loop."""
        offset: int = 0
        end = len(data)
        worker = self.worker
        plain_max = worker.plain_bytes_max
        in_flight, queue = self._in_flight, self._queue
        flows = not self._barred and worker.in_process_max > 0  # writes have nothing to wait for
        view: View | None = None
        served = read = produced = 0
        try:
            while end - offset >= 12:
                size, xid, kind = _HEAD(data, offset)
                stop = offset + 4 + size
                if not 8 <= size <= plain_max and not self._bears(size):
                    break
                if stop > end or self._stalled or produced > CLIENT_WRITE_BUFFER_BYTES_HIGH:
                    return offset
                if flows and kind in op.WRITES and not queue:
                    offset, count = self._pass_on(data, offset, stop, kind, now)
                    served += count
                    continue
                frame = data[offset + 4 : stop]
                offset = stop
                served += 1
                handler = _READS(kind)
                if handler is None or in_flight.count or queue or self._indirect:
                    self._dispatch(frame, xid, kind, now)
                    if self.state == CLOSED:
                        return end
                    continue
                if view is None:
                    view = worker.view()
                reply = reads.answer(handler, view, self, frame, xid)
                read += 1
                produced += len(reply)
                self.send(reply)
                self.stats.last(kind, xid, view.applied)
                if kind in _LONG and time.monotonic() - now > READS_TURN_S:
                    return offset  # other clients of this worker are waiting; `flush` goes on
        finally:
            self.stats.received += served
            worker.received += served
            worker.bytes_received += offset
            if view is not None:
                view.close()
                self.count(read, now, worker.read_latency)
        if self.state == CLOSED:
            return end
        return self._refuse_frame(data, offset) if end - offset >= 4 else offset

    def _bears(self, size: int) -> bool:
        """Whether a frame that is not plain is a large request for which there is room (R7)."""
        if not 8 <= size <= self.worker.settings.frame_size_bytes_max:
            return False
        if self.worker.bears(self, size):
            return True
        self.fail(
            f"large request of {size} bytes refused:"
            f" largeRequestMaxBytes={self.worker.settings.large_request_bytes_max}"
        )
        return False

    def _refuse_frame(self, data: bytes, offset: int) -> int:
        """A frame too long or too short: an error with its xid, as far as that came, then the end.

        The error is what a client reports when Apache just closes, and what programs look for.
        Returns where the unserved rest begins: here, while it is not yet its turn.
        """
        size: int = unpack_int(data, offset)[0]
        if size >= 8 and len(data) - offset < 12:
            return offset
        if 8 <= size <= self.worker.settings.frame_size_bytes_max:
            return offset
        if self.outstanding:
            return offset  # what was sent before it is answered first
        if size >= 8:
            xid = unpack_int(data, offset + 4)[0]
            self.send(replies.error(xid, -1, Code.CONNECTION_LOSS))
        self._discards = True
        self.fail(f"frame of {size} bytes, limit {self.worker.settings.frame_size_bytes_max}")
        return len(data)

    # ---- requests

    def _pass_on(
        self, data: bytes, begin: int, stop: int, kind: int, now: float
    ) -> tuple[int, int]:
        """Pass on a write, and with it those of its kind that follow at once; never a large one
        with others. Returns where they end, and how many there are."""
        plain_max = self.worker.plain_bytes_max
        last = len(data) - 12 if stop - begin - 4 <= plain_max else -1
        count = 1
        while stop <= last and count < ipc.RUN_MAX:
            size, _, following = _HEAD(data, stop)
            if following != kind or not 8 <= size <= plain_max or stop + 4 + size > len(data):
                break
            stop += 4 + size
            count += 1
        self._submit(data[begin:stop], kind, count, now)
        return stop, count

    def _dispatch(self, frame: bytes, xid: int, kind: int, now: float) -> None:
        """Whatever is not a read that can be answered at once."""
        if self._barred and kind not in direct.PROVING:
            self.send(replies.error(xid, 0, _AUTH_REQUIRED))
            self.fail("a request before the enforced authentication")
        elif (
            kind in op.WRITES
            and not self._queue
            and (self.worker.in_process < self.worker.in_process_max or self.worker.finds_room())
        ):
            self._submit(ipc.with_length(frame), kind, 1, now)
        elif kind in direct.KINDS:
            direct.answer(self, frame, xid, kind)
        elif kind in op.WRITES or self.outstanding or self._indirect:
            if kind in op.WRITES and not self._queue:
                self._stand_in_line()
            self._queue.append((frame, now, self.worker.barriers.behind(self, kind)))
            self.worker.queued += 1
            self.worker.outstanding_bytes += len(frame)
        else:
            self._refuse(xid, kind)

    def _submit(self, frames: bytes, kind: int, count: int, now: float) -> None:
        worker = self.worker
        size = len(frames) - 4 * count
        self._in_flight.add(now, kind, count, size)
        worker.in_process += count
        worker.outstanding_bytes += size
        worker.submit(ipc.REQUEST, self, frames)

    def _stand_in_line(self) -> None:
        """There is no room in process for the write at the head of the queue."""
        self._lined = True
        self.worker.line.join(self)

    def _leave_line(self) -> None:
        """The connection is gone; what waited goes with it, or is done all the same (R5)."""
        worker = self.worker
        worker.line.leave(self, len(self._queue))
        if not worker.line.throttle.drops_closed:
            for frame, _, _ in self._queue:
                if _XID_TYPE(frame)[1] in op.WRITES:
                    worker.submit(ipc.REQUEST, self, ipc.with_length(frame))

    def waits_s(self, now: float) -> float:
        """For how long its oldest request that is not in process has waited."""
        return now - self._queue[0][1] if self._queue else 0.0

    def _refuse(self, xid: int, kind: int) -> None:
        """What is no request ends the connection (reference B34)."""
        self.send(replies.error(xid, -1, Code.UNIMPLEMENTED))
        self.fail(f"unknown operation {kind}")

    def identified(self, identities: tuple[Identity, ...], *, enforced: bool) -> None:
        """More is proven of who it is, `enforced`: by a scheme that has to be."""
        self.identities = identities
        self._barred = self._barred and not enforced
        self._indirect = self._barred or self.worker.barriers.on
        flat = [text for identity in identities for text in identity]
        self.worker.submit(ipc.IDENTITIES, self, flat)

    def require(self, acl: Acl, perm: int) -> None:
        """Raises: ZooKeeperError(NO_AUTH)."""
        if not self.allowed(acl, perm):
            raise ZooKeeperError(Code.NO_AUTH)

    def allowed(self, acl: Acl, perm: int) -> bool:
        return acls.allows(acl, perm, self.identities, self.worker.providers)

    # ---- what the commit process says

    def connected(self, session_id: int, timeout_ms: int, frame: bytes, zxid: int) -> None:
        """The session is there."""
        now = time.monotonic()
        self.stats.last(op.CREATE_SESSION, 0, zxid)
        self.count(1, now, self.worker.update_latency)
        self.session_id = session_id
        self.timeout_ms = timeout_ms
        self.state = UP
        self.send(frame)
        self._advance(b"", now)

    def answered(self, zxid: int, frames: list[bytes], now: float) -> None:
        """The oldest writes in flight have their replies, the last of them of this zxid."""
        worker, in_flight, stats = self.worker, self._in_flight, self.stats
        left = len(frames)
        worker.in_process -= left
        while left:
            since, kind, count, size = in_flight.take(left)
            left -= count
            worker.outstanding_bytes -= size
            latency_ms = (now - since) * 1000
            stats.served(count, now, latency_ms)
            summary = worker.read_latency if kind == op.SYNC else worker.update_latency
            summary.add(count, latency_ms)
        stats.last(kind, unpack_int(frames[-1], 4)[0], zxid)
        if self._held:
            for frame in frames:
                self.release(unpack_long(frame, 8)[0])
                self.send(frame)
            if self._held and not in_flight.count:
                self.release(self._held[-1][0])
            return
        if not self._out:
            worker.dirty.append(self)
        self._out += frames

    def go_on(self, view: View | None) -> View | None:
        """Serve what waited for the writes that are answered now; opens a view if it needs one.

        Returns the view that is open now, for the next client.
        """
        queue = self._queue
        worker = self.worker
        produced = 0
        started = time.monotonic()
        while queue and self.state == UP and not self._stalled:
            tired = time.monotonic() - started > READS_TURN_S
            if tired or produced > CLIENT_WRITE_BUFFER_BYTES_HIGH:
                return view  # `flush` sees to it that the rest follows
            frame, since, barrier = queue[0]
            xid, kind = _XID_TYPE(frame)
            write = kind in op.WRITES
            if write and worker.in_process >= worker.in_process_max and not worker.finds_room():
                self._stand_in_line()
                break
            late = self._lined and worker.line.is_late(kind, started - since)
            behind = self._in_flight.count and (late or not write)
            if behind or barrier > worker.barriers.passed:
                break
            queue.popleft()
            worker.queued -= 1
            worker.outstanding_bytes -= len(frame)
            handler = _READS(kind)
            if self._lined:
                worker.line.passed(self, started - since, late=late)
            if late:
                self.send(replies.error(xid, worker.applied, Code.THROTTLED_OP))
            elif write:
                self._submit(ipc.with_length(frame), kind, 1, since)
            elif handler is None:
                self._refuse(xid, kind)
            else:
                if view is None:
                    view = worker.view()
                reply = reads.answer(handler, view, self, frame, xid)
                produced += len(reply)
                self.send(reply)
                self.stats.last(kind, xid, view.applied)
                self.count(1, since, worker.read_latency)
        self._lined = self._lined and bool(queue)
        if not self.outstanding and (self._chunks or self._paused):
            if view is not None:
                # It may open a newer one, and nobody may read, or watch, from an older one then.
                view.close()
            self._advance(b"", time.monotonic())
            return None
        return view

    def waiting(self) -> bool:
        """Whether the queue can move on."""
        return bool(self._queue or self._chunks or self._paused) and not self._in_flight.count

    def notify(self, zxid: int, frame: bytes) -> None:
        """An event; held while replies are on their way, as an earlier one may be among them."""
        if self._in_flight.count:
            self._held.append((zxid, frame))
            self.worker.holding[self] = None
        else:
            self.send(frame)

    def release(self, upto: int) -> bool:
        """Send the held events up to this zxid; returns whether any is still held."""
        held = self._held
        while held and held[0][0] <= upto:
            self.send(held.popleft()[1])
        return bool(held)

    # ---- sending

    def send(self, frame: bytes) -> None:
        """Queue a frame for the end of the turn."""
        if not self._out:
            self.worker.dirty.append(self)
        self._out.append(frame)

    def flush(self) -> None:
        """Hand the turn's frames to the transport, in one write."""
        out, self._out = self._out, []
        if self._transport is None or not out:
            return
        if self._stalled and (
            self._transport.get_write_buffer_size() > CLIENT_WRITE_BUFFER_BYTES_MAX
        ):
            self.fail(f"more than {CLIENT_WRITE_BUFFER_BYTES_MAX} bytes unread by the client")
            self._transport.abort()
            return
        joined = out[0] if len(out) == 1 else b"".join(out)
        self.stats.sent += len(out)
        self.worker.count_sent(out, len(joined))
        self._transport.write(joined)
        if self.state == CLOSED:
            self._end(CLOSE_LINGER_MS)
        elif (self._chunks or self._queue) and not self._stalled:
            self.worker.soon(self)

    def resume(self) -> None:
        """Go on where a turn's reply bytes had reached their limit, or the client had not read."""
        if self.state != UP or self._stalled:
            return
        if self._queue:
            if not self._in_flight.count:
                view = self.go_on(None)
                if view is not None:
                    view.close()
        elif self._have >= self._need:
            self._advance(b"", time.monotonic())

    def fail(self, why: str) -> None:
        """The client broke the rules: log it, and close once all is sent."""
        self.worker.complain(self, why)
        self.close()

    def close(self) -> None:
        """Close after what is still to be sent."""
        self.state = CLOSED
        if not self._out:
            self._end(CLOSE_LINGER_MS)

    def drop(self) -> None:
        """Close now: the session ended, or has another connection. What the client does not read is
        lost."""
        self.flush()
        self.state = CLOSED
        self._end(DROP_LINGER_MS)

    def _end(self, linger_ms: int) -> None:
        """Close the connection; what the client leaves unread for so long is given up."""
        transport = self._transport
        if transport is None:
            return
        if self._discards:  # a close would reset the connection, and the reply might be lost
            transport.write_eof()
            transport.resume_reading()
        else:
            transport.close()
        if self._discards or transport.get_write_buffer_size():
            if self._lingering is not None:
                self._lingering.cancel()
            self._lingering = self.worker.after(linger_ms, transport.abort)

    def count(self, requests_served: int, since: float, summary: Summary) -> None:
        """Count requests that were served together, and how long that took."""
        now = time.monotonic()
        latency_ms = (now - since) * 1000
        self.stats.served(requests_served, now, latency_ms)
        summary.add(requests_served, latency_ms)

    @property
    def outstanding(self) -> int:
        """Requests that are not answered."""
        return self._in_flight.count + len(self._queue)

    def _queued_bytes(self, threshold: int = 0) -> int:
        return sum(len(frame) for frame, _, _ in self._queue if len(frame) > threshold)

    def large_bytes(self, threshold: int) -> int:
        """The bytes of the requests that are not answered and larger than that."""
        return self._in_flight.large_bytes(threshold) + self._queued_bytes(threshold)
