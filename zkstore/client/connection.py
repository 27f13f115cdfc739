"""One TCP connection to one server: frames, request numbers, pings.

Owns:   the transport, the requests that were sent and not answered, the ping timer.
Invariants:
  1. Replies are matched in the order of the requests; any other xid breaks the connection
     (reference V4).
  2. Silence is noticed: nothing heard for two thirds of the session timeout is a lost connection,
     so that there is time left to resume the session elsewhere (reference V1).
  3. A reply that cannot be read fails its own request, so that repeating it does not break one
     connection after the other.
Design: all requests of one turn of the event loop leave in one write.
Not here: what becomes of unanswered requests, and which server is next (session.py).
Source: ClientCnxn, ClientCnxnSocket.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from itertools import chain
from typing import Any, Final, cast

from zkstore.client.errors import ConnectionLoss, error_of
from zkstore.client.limits import REPLY_BYTES_MAX
from zkstore.errors import Code, RemoteProtocolError
from zkstore.jute.codec import unpack_int
from zkstore.proto import client_replies as replies
from zkstore.proto import client_requests as requests
from zkstore.proto import opcodes as op

_log: Final = logging.getLogger(__name__)
_PING: Final = requests.frame(op.XID_PING, op.PING, b"")
_XID_MAX: Final = (1 << 31) - 1


class Request:
    """One call that waits for its reply: the whole frame, its header included."""

    __slots__ = ("body", "detail", "kind", "repeatable", "reply")

    def __init__(
        self, kind: int, body: bytes, detail: str, repeatable: bool, reply: asyncio.Future[bytes]
    ) -> None:
        self.kind = kind
        self.body = body
        self.detail = detail  # for its error
        self.repeatable = repeatable  # whether doing it twice is the same as doing it once
        self.reply = reply


def connection_loss(detail: str) -> ConnectionLoss:
    return ConnectionLoss(Code.CONNECTION_LOSS, detail)


class Connection(asyncio.Protocol):
    """`connected` gives the server's answer to the handshake; `lost` is done when all is over."""

    def __init__(
        self,
        hello: bytes,
        last_zxid: int,
        on_event: Callable[[int, bytes, int], None],
        on_room: Callable[[int], None],
    ) -> None:
        """`on_event(type, path, zxid)`; `on_room(answered)` when more may be sent: so many requests
        were answered, or the transport's buffer has emptied."""
        aio = asyncio.get_running_loop()
        self._aio = aio
        self._hello = hello
        self.last_zxid = last_zxid
        self._on_event = on_event
        self._on_room = on_room
        self.connected: asyncio.Future[replies.Connected] = aio.create_future()
        self.lost: asyncio.Future[None] = aio.create_future()
        self.writable = True
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._out: list[bytes] = []
        self._sent: deque[tuple[int, Request]] = deque()
        # What has an xid of its own kind instead of a number: credentials, watches to arm again.
        self._special: dict[int, deque[asyncio.Future[None]]] = {
            op.XID_AUTH: deque(),
            op.XID_SET_WATCHES: deque(),
        }
        self._xid = 0
        self._heard_at = self._sent_at = aio.time()
        self._timeout_s = 0.0
        self._beat_timer: asyncio.TimerHandle | None = None
        self._reason = "closed by the server"

    # ---- sending

    def send(self, request: Request) -> None:
        self._xid = self._xid % _XID_MAX + 1
        self._sent.append((self._xid, request))
        self._write(requests.frame(self._xid, request.kind, request.body))

    def auth(self, scheme: str, credentials: bytes | None) -> asyncio.Future[None]:
        """Send credentials; the future raises AuthFailed or ConnectionLoss."""
        body = requests.auth(scheme.encode(), credentials)
        return self._send_special(op.XID_AUTH, op.AUTH, body)

    def set_watches(self, relative_zxid: int, lists: list[list[bytes]]) -> asyncio.Future[None]:
        """Arm watches again; the future raises ConnectionLoss, or what the server has against
        it."""
        return self._send_special(op.XID_SET_WATCHES, *requests.set_watches(relative_zxid, lists))

    def _send_special(self, xid: int, kind: int, body: bytes) -> asyncio.Future[None]:
        reply: asyncio.Future[None] = self._aio.create_future()
        if self.lost.done():
            reply.set_exception(connection_loss(self._reason))
        else:
            self._special[xid].append(reply)
            self._write(requests.frame(xid, kind, body))
        return reply

    def take_unanswered(self) -> list[Request]:
        """What was sent and will never be answered, in its order; after `lost`."""
        unanswered = [request for _, request in self._sent]
        self._sent.clear()
        return unanswered

    def abort(self, reason: str) -> None:
        """Cut the connection at once."""
        self._reason = reason
        self.writable = False
        if self._transport is not None:
            self._transport.abort()

    def _write(self, data: bytes) -> None:
        if not self._out:
            self._aio.call_soon(self._flush)
        self._out.append(data)

    def _flush(self) -> None:
        assert self._transport is not None
        if not self.lost.done():
            self._transport.write(b"".join(self._out))
        self._out.clear()
        self._sent_at = self._aio.time()

    # ---- the transport's calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(self._hello)

    def connection_lost(self, error: Exception | None) -> None:
        if self._beat_timer is not None:
            self._beat_timer.cancel()
        self.writable = False
        if error is not None:
            self._reason = str(error)
        _log.debug("connection lost: %s", self._reason)
        waiting: list[asyncio.Future[Any]] = [self.connected, *chain(*self._special.values())]
        for reply in waiting:
            if not reply.done():
                reply.set_exception(connection_loss(self._reason))
                reply.exception()  # seen: who waited for one of them need not look at the others
        if not self.lost.done():
            self.lost.set_result(None)

    def pause_writing(self) -> None:
        self.writable = False

    def resume_writing(self) -> None:
        self.writable = not self.lost.done()
        self._on_room(0)

    def data_received(self, data: bytes) -> None:
        self._heard_at = self._aio.time()
        self._received += data
        try:
            answered = self._read_frames()
        except RemoteProtocolError as error:
            self._break(error)
        else:
            if answered:
                self._on_room(answered)

    def _read_frames(self) -> int:
        """Serve all whole frames; returns how many requests they answered."""
        received = self._received
        offset = answered = 0
        while len(received) - offset >= 4:
            size = unpack_int(received, offset)[0]
            if not 0 <= size <= REPLY_BYTES_MAX:
                raise RemoteProtocolError(f"frame of {size} bytes")
            end = offset + 4 + size
            if end > len(received):
                break
            answered += self._on_frame(bytes(received[offset + 4 : end]))
            offset = end
        del received[:offset]
        return answered

    def _break(self, error: RemoteProtocolError) -> None:
        _log.warning("connection broken: %s", error)
        self.abort(str(error))
        if self._sent:
            _, request = self._sent.popleft()
            if not request.reply.done():
                request.reply.set_exception(connection_loss(f"{request.detail}: {error}"))
            self._on_room(1)

    # ---- frames

    def _on_frame(self, frame: bytes) -> bool:
        """Serve one frame; whether it answers a request."""
        if not self._timeout_s:
            self._on_connected(replies.read_connected(frame))
            return False
        xid, zxid, code = replies.read_header(frame)
        if xid == op.XID_NOTIFICATION:
            self._on_event(*replies.read_event(frame), zxid)
        elif xid in self._special:
            self._on_special(self._special[xid], code)
        elif xid != op.XID_PING:
            self._on_reply(xid, code, frame)
            self.last_zxid = max(self.last_zxid, zxid)
            return True
        self.last_zxid = max(self.last_zxid, zxid)
        return False

    def _on_connected(self, answer: replies.Connected) -> None:
        # Never 0, even for the refusal whose timeout is: it also says that the handshake is over.
        self._timeout_s = max(answer.timeout_ms, 1) / 1000
        if not self.connected.done():
            self.connected.set_result(answer)
        if answer.session_id:
            self._beat()

    def _on_special(self, waiting: deque[asyncio.Future[None]], code: int) -> None:
        if not waiting:
            raise RemoteProtocolError("reply to what was not sent")
        reply = waiting.popleft()
        if not reply.done() and code:
            reply.set_exception(error_of(code, "refused at the handshake"))
            reply.exception()  # seen, even if an earlier one has failed as well
        elif not reply.done():
            reply.set_result(None)

    def _on_reply(self, xid: int, code: int, frame: bytes) -> None:
        if not self._sent or self._sent[0][0] != xid:
            raise RemoteProtocolError(f"reply {xid} is not the one that is due")
        _, request = self._sent.popleft()
        if request.reply.done():  # nobody waits any more
            return
        if code:
            request.reply.set_exception(error_of(code, request.detail))
        else:
            request.reply.set_result(frame)

    def _beat(self) -> None:
        """Ping after a third of the timeout without sending; give up after two without hearing."""
        now = self._aio.time()
        ping_at = self._sent_at + self._timeout_s / 3
        dead_at = self._heard_at + self._timeout_s * 2 / 3
        if now >= dead_at:
            self.abort(f"nothing heard for {now - self._heard_at:.1f} s")
            return
        if now >= ping_at:
            self._write(_PING)
            ping_at = now + self._timeout_s / 3
        self._beat_timer = self._aio.call_at(min(ping_at, dead_at), self._beat)
