"""A learner's part: its clients' writes go to the leader, and their replies are made here.

Owns:   what was sent up and is not answered, by session; what the leader was asked.
Invariants:
  1. Each request sent up, but sync, comes back as one txn, an error txn if it was refused; those
     of a session in the order in which they were sent (the leader's promise).
  2. SessionOrder: what is answered without a txn waits behind the session's earlier requests.
Design: a txn that is applied is looked up by its session; if it is the answer to the oldest request
        of that session, the request's connection is entered as the one that waits for it, and the
        loop publishes it like any other. By session, not in one line: should an answer never come,
        nobody else waits for it.
        A request whose connection is gone stays until its txn comes, as the session's next
        connection may use the same numbers again.
Not here: the leader's part (commit/learners.py), the packets' way (quorum/).
Source: FollowerRequestProcessor, CommitProcessor, LearnerZooKeeperServer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

from zkstore.commit.ports import Answer, Connection
from zkstore.commit.sessions import monotonic_ms
from zkstore.constants import TOUCH_INTERVAL_MS
from zkstore.errors import Code, RemoteProtocolError
from zkstore.jute.codec import INT_INT, buffer, pack_int, read_buffer, text
from zkstore.proto import keeper, quorum, replies, requests
from zkstore.proto import opcodes as op
from zkstore.proto.quorum import Packet, Request
from zkstore.records import ipc
from zkstore.records.txn import Txn
from zkstore.session.tracker import Session
from zkstore.storage.writer import Applied
from zkstore.tree import keeper_prep
from zkstore.zab.peer import Peer

if TYPE_CHECKING:
    from zkstore.commit.loop import Loop

_XID_TYPE = INT_INT.unpack_from
_MOVED_CXID: Final = -(1 << 30)  # no client counts there
_NO_ZXID: Final = -1  # in packets that are about none


def moved_cxid(sid: int) -> int:
    """The cxid of the txn that refuses a request because its session has left the server `sid`.

    Only between servers of ours: the session's new server may wait for a request that bears the
    same number as the old one, and must not take its refusal for the answer.
    """
    return _MOVED_CXID - (sid & 0xFFFF)


class _Sent:
    """One request that is not answered."""

    __slots__ = ("answer", "connection", "frame", "kind", "refusal", "synced", "xid")

    def __init__(
        self,
        connection: Connection,
        xid: int,
        kind: int,
        answer: Callable[[int], bytes] | None = None,
    ) -> None:
        self.connection = connection
        self.xid = xid
        self.kind = kind
        # Given without a txn, once it is its turn: of the zxid in its header.
        self.answer = answer
        self.synced = answer  # what answers a sync
        self.refusal: Code | None = None  # what an error is called here
        self.frame: bytes | None = None  # of a request that an Apache leader does not know


class Following:
    """The requests of this learner's clients. One for each leader that is followed."""

    def __init__(
        self, loop: Loop, peer: Peer, told: Callable[[quorum.Told], quorum.Digest | None]
    ) -> None:
        """`told`: what becomes of what a leader of ours tells; gives our digest to answer."""
        self._loop = loop
        self._peer = peer
        self._told = told
        self._sent: dict[int, deque[_Sent]] = {}  # by session
        self._syncs: deque[Callable[[], None]] = deque()  # what to do when the leader answers
        self._reported_ms = monotonic_ms()
        self._moved = moved_cxid(loop.settings.server_id)

    # ---- up

    def request(self, connection: Connection, frames: bytes) -> None:
        """Requests of a client."""
        for frame in ipc.frames_of(frames):
            session = connection.session
            if session is not None and not connection.leaving:
                self._request(connection, session, frame)
            # Else the session has another connection by now, or has ended.

    def _request(self, connection: Connection, session: Session, frame: bytes) -> None:
        session_id = session.session_id
        xid, kind = _XID_TYPE(frame)
        refused = self._refused(frame, kind)
        if refused is not None:
            answer = _refusal(xid, refused)
            self._append(session_id, _Sent(connection, xid, kind, answer))
            self._go_on(session_id, self._loop.writer.applied)
            return
        sent = _Sent(connection, xid, kind)
        self._append(session_id, sent)
        if session.local and self._is_local(sent, session, frame):
            return
        if kind == op.SYNC:
            sent.synced = _synced(xid, read_buffer(frame, requests.BODY)[0])
            self._syncs.append(partial(self._is_synced, session_id, sent))
        elif kind == op.CLOSE_SESSION:
            connection.leaving = True
        elif kind in op.KEEPER_WRITES or (kind == op.MULTI and not _is_apaches(frame)):
            sent.frame = frame
        body = frame[requests.BODY :]
        self._send(Request(session_id, xid, kind, body), connection.identities)

    def _is_local(self, sent: _Sent, session: Session, frame: bytes) -> bool:
        """A request of a local session; returns whether the leader is not asked."""
        sessions = self._loop.sessions
        if sent.kind == op.CLOSE_SESSION:
            sessions.close_local(sent.connection, session)
            sent.answer = _closed(sent.xid)
            self._go_on(session.session_id, self._loop.writer.applied)
            return True
        if keeper_prep.owns(frame, sent.kind):
            if self._loop.settings.local_sessions_upgrading_enabled:
                sessions.upgrade(session)
            elif sent.kind != op.MULTI:  # whose reply is the leader's, as in Apache
                sent.refusal = Code.EPHEMERAL_ON_LOCAL_SESSION
        return False

    def _refused(self, frame: bytes, kind: int) -> Code | None:
        """What the leader would make no txn of."""
        if not _is_whole(frame, kind):
            return Code.MARSHALLING_ERROR
        if kind in op.KEEPER_WRITES and not self._peer.leader_is_zkstore:
            return Code.UNIMPLEMENTED
        return None

    def _append(self, session_id: int, sent: _Sent) -> None:
        self._sent.setdefault(session_id, deque()).append(sent)

    def _send(
        self, request: Request, identities: tuple[tuple[bytes, bytes], ...] | None = None
    ) -> None:
        self._peer.send_up(Packet(quorum.REQUEST, _NO_ZXID, request.encode(), identities))

    def create_session(self, session_id: int, timeout_ms: int) -> None:
        """Ask for a new session; the txn tells everybody."""
        self._send(Request(session_id, 0, op.CREATE_SESSION, pack_int(timeout_ms)))

    def sync(self, give: Callable[[int], None]) -> None:
        """Have something given behind all that was committed before."""
        self._syncs.append(lambda: self._loop.defer(self._loop.writer.applied, give))
        self._send(Request(0, 0, op.SYNC, buffer(b"/")))

    def revalidate(self, session_id: int, timeout_ms: int) -> None:
        """Ask whether a session lives; it is ours then."""
        data = quorum.encode_revalidate(session_id, timeout_ms)
        self._peer.send_up(Packet(quorum.REVALIDATE, _NO_ZXID, data))

    # ---- down

    def received(self, packet: Packet) -> None:
        """An answer of the leader, behind all that was committed before it."""
        if packet.type == quorum.PING:
            told = quorum.Told.decode(packet.data)
            digest = None if told is None else self._told(told)
            answer = quorum.encode_answer(self._heard(), digest)
            self._peer.send_up(packet._replace(data=answer))
        elif packet.type == quorum.REVALIDATE:
            session_id, valid = quorum.decode_revalidated(packet.data)
            self._loop.sessions.revalidated(session_id, valid=valid)
        elif packet.type == quorum.SYNC and self._syncs:
            self._syncs.popleft()()

    def _is_synced(self, session_id: int, sent: _Sent) -> None:
        sent.answer = sent.synced
        self._go_on(session_id, self._loop.writer.applied)

    def _heard(self) -> list[tuple[int, int]]:
        """Our sessions that were heard since this was asked last, with their timeouts."""
        since_ms, self._reported_ms = self._reported_ms, monotonic_ms()
        # A worker tells a little later what it heard: the overlap is for that.
        since_ms -= 2 * TOUCH_INTERVAL_MS
        return [
            (session.session_id, session.timeout_ms)
            for session in self._loop.sessions.tracker.sessions.values()
            if session.place is not None and session.heard_ms >= since_ms
        ]

    def applied(self, applied: list[Applied]) -> None:
        """These txns became visible: enter who waits for them."""
        for txn, _ in applied:
            sent = self._sent.get(txn.session_id)
            if sent and _answers(txn, sent[0], self._moved):
                self._answered(txn, sent)
            elif sent and sent[0].kind == op.SYNC:
                self._pass_syncs(txn, sent)

    def _pass_syncs(self, txn: Txn, sent: deque[_Sent]) -> None:
        """What was sent behind a sync is answered, so the leader has answered the sync: its SYNC
        came before this txn, and is handled behind the Ready that has both."""
        behind = next((one for one in sent if one.kind != op.SYNC), None)
        if behind is None or not _answers(txn, behind, self._moved):
            return
        while sent[0] is not behind:
            sent[0].answer = sent[0].synced
            self._go_on(txn.session_id, txn.zxid - 1)
        self._answered(txn, sent)

    def _answered(self, txn: Txn, sent: deque[_Sent]) -> None:
        one = sent.popleft()
        loop = self._loop
        if txn.type == op.ERROR and txn.body[0] == Code.SESSION_MOVED:
            loop.sessions.dismiss(one.connection, "its session has moved to another server")
        elif txn.type == op.ERROR and one.refusal is not None:
            loop.defer(txn.zxid, Answer(one.connection, _refusal(one.xid, one.refusal)))
        else:
            loop.waiting[txn.zxid] = (one.connection, one.xid)
            if one.frame is not None:
                reshape = keeper_prep.reshape_of(one.frame, txn)
                if reshape is not None:
                    loop.prep.reshape[txn.zxid] = reshape
        self._go_on(txn.session_id, txn.zxid)

    def _go_on(self, session_id: int, zxid: int) -> None:
        """Answer what needs no txn and has its turn, behind the txn `zxid`."""
        sent = self._sent.get(session_id)
        if sent is None:
            return
        while sent and (answer := sent[0].answer) is not None:
            one = sent.popleft()
            if one.kind == op.CLOSE_SESSION:
                self._loop.defer(zxid, self._loop.farewell(one.connection, one.xid))
            else:
                self._loop.defer(zxid, Answer(one.connection, answer))
        if not sent:
            del self._sent[session_id]


def _answers(txn: Txn, sent: _Sent, moved: int) -> bool:
    """Whether a txn is what became of a request; the leader closes sessions by itself as well.

    moved: our moved_cxid.
    """
    if sent.answer is not None or sent.kind == op.SYNC:
        return False
    if txn.type == op.ERROR and txn.cxid == moved:
        return True
    if txn.cxid != sent.xid:
        return False
    if txn.type == op.CREATE_SESSION:
        return False  # of a local session that became a global one
    return txn.type == op.ERROR or (txn.type == op.CLOSE_SESSION) == (sent.kind == op.CLOSE_SESSION)


def _is_apaches(frame: bytes) -> bool:
    """Whether a multi is made of Apache's operations."""
    try:
        requests.read_multi(frame, reads=False)
    except RemoteProtocolError:
        return False
    return True


def _closed(xid: int) -> Callable[[int], bytes]:
    return lambda zxid: replies.reply(xid, zxid, b"")


def _synced(xid: int, path: bytes | None) -> Callable[[int], bytes]:
    return lambda zxid: replies.reply(xid, zxid, text(path))


def _refusal(xid: int, code: Code) -> Callable[[int], bytes]:
    return lambda zxid: replies.error(xid, zxid, code)


def _is_whole(frame: bytes, kind: int) -> bool:
    """Whether a request can be parsed: for one that cannot, an Apache leader makes no txn."""
    try:
        if kind in op.CREATES:
            requests.read_create(frame, kind, requests.BODY)
        elif kind == op.SET_DATA:
            requests.read_set_data(frame, requests.BODY)
        elif kind == op.DELETE:
            requests.read_path_int(frame, requests.BODY)
        elif kind == op.SET_ACL:
            requests.read_set_acl(frame, requests.BODY)
        elif kind == op.RECONFIG:
            requests.read_reconfig(frame, requests.BODY)
        elif kind == op.SYNC:
            read_buffer(frame, requests.BODY)
        elif kind in op.KEEPER_WRITES:
            keeper.read_write(frame, kind, requests.BODY)
    except RemoteProtocolError:
        return False
    return True
