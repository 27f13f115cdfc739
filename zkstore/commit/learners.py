"""The leader's part: requests, sessions and reports of its learners.

Owns:   for each learner, up to when it has reported which sessions it heard.
Invariants:
  1. Each request that comes up, but sync, becomes exactly one txn, in the order in which a learner
     sent them: an error txn if it is refused.
  2. EphemeralsDie: a session that a learner holds expires only when the learner has reported what
     it heard up to then, or is gone for as long as the session's timeout.
  3. An answer about a session leaves behind all txns that were proposed before: so a client that
     moved cannot take the answer to an old request for that of a new one.
Not here: the learner's part (commit/following.py), who is a learner (zab/leader.py).
Source: LearnerHandler, Leader.processSync, LeaderZooKeeperServer, PrepRequestProcessor.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from zkstore.commit.agreement import Agreement
from zkstore.commit.following import moved_cxid
from zkstore.commit.sessions import monotonic_ms
from zkstore.constants import OUTSTANDING_PROPOSALS_MAX, TOUCH_INTERVAL_MS
from zkstore.errors import Code, RemoteProtocolError
from zkstore.jute.codec import INT_INT
from zkstore.proto import opcodes as op
from zkstore.proto import quorum
from zkstore.proto.quorum import Packet, Request
from zkstore.records.txn import Txn
from zkstore.tree.auth import Identity
from zkstore.zab.peer import Peer

if TYPE_CHECKING:
    from zkstore.commit.loop import Loop

_HEADER: Final = INT_INT.pack
_SYNCED: Final = Packet(quorum.SYNC, 0)


class _Learner:
    """Where a session's client is, if it is not here; see sessions.Place."""

    def __init__(self, link: int) -> None:
        self.link = link
        self.reported_ms = monotonic_ms()
        self.pinged_ms: deque[int] = deque()  # when it was sent what it has not answered


class Learners:
    """The server's side of all learners. One for each epoch that is led."""

    def __init__(self, loop: Loop, peer: Peer, agreement: Agreement) -> None:
        self._loop = loop
        self._peer = peer
        self._agreement = agreement
        self._learners: dict[int, _Learner] = {}

    def _learner(self, link: int) -> _Learner:
        learner = self._learners.get(link)
        if learner is None:
            learner = self._learners[link] = _Learner(link)
        return learner

    # ---- links

    def opened(self, link: int) -> None:
        """It is up to date; PINGs before are not answered."""
        self._learners[link] = _Learner(link)

    def pinged(self, link: int) -> None:
        """A PING leaves to it."""
        self._learner(link).pinged_ms.append(monotonic_ms())

    def closed(self, link: int) -> None:
        """It is gone; what it had heard and not reported died with it, and no session pays."""
        learner = self._learners.pop(link, None)
        if learner is None:
            return
        now_ms = monotonic_ms()
        for session in self._loop.sessions.tracker.sessions.values():
            if session.place is learner:
                session.place = None
                self._loop.sessions.tracker.touch(session.session_id, now_ms)

    def received(self, link: int, packet: Packet) -> None:
        """A packet that is the server's; the loop's source is open.

        Raises: RemoteProtocolError: the link is of no use.
        """
        if packet.type == quorum.REQUEST:
            request = Request.decode(packet.data)
            self._request(self._learner(link), request, packet.identities or ())
        elif packet.type == quorum.PING:
            self._touched(self._learner(link), packet)
        elif packet.type == quorum.REVALIDATE:
            session_id, timeout_ms = quorum.decode_revalidate(packet.data)
            valid = self._loop.sessions.moved(session_id, timeout_ms, self._learner(link))
            data = quorum.encode_revalidated(session_id, valid)
            self._defer(link, packet._replace(data=data))

    def _defer(self, link: int, packet: Packet) -> None:
        """Answer behind all that was proposed so far."""

        def answer(_: int) -> None:
            if self._peer.leading:
                self._peer.answer(link, packet)
                self._loop.schedule()

        self._loop.defer(self._loop.core.last_proposed, answer)

    def _touched(self, learner: _Learner, packet: Packet) -> None:
        sessions, now_ms = self._loop.sessions.tracker.sessions, monotonic_ms()
        touches, digest = quorum.decode_answer(packet.data)
        link = self._peer.learners.get(learner.link)
        if digest is not None and link is not None and link.voter:
            self._agreement.answered(link.sid, digest)
        for session_id, timeout_ms in touches:
            session = sessions.get(session_id)
            if session is not None and not session.closing:
                session.timeout_ms = timeout_ms
                session.heard_ms = now_ms
        if learner.pinged_ms:
            # Its workers tell it a little later what they heard.
            learner.reported_ms = learner.pinged_ms.popleft() - 2 * TOUCH_INTERVAL_MS

    # ---- requests

    def _request(
        self, learner: _Learner, request: Request, identities: tuple[Identity, ...]
    ) -> None:
        loop = self._loop
        session_id, cxid, kind, _ = request
        if loop.core.outstanding >= OUTSTANDING_PROPOSALS_MAX - 1:
            # Each has to become a txn, and there is no room for one: its clients try again.
            raise RemoteProtocolError("more requests than the other servers can take")
        if kind == op.SYNC:
            self._peer.sync(learner.link, _SYNCED)
        elif kind == op.CREATE_SESSION:
            self._create_session(learner, request)
        elif (refused := self._refusal(learner, request)) is not None:
            link = self._peer.learners.get(learner.link)
            if refused is Code.SESSION_MOVED and link is not None and link.zkstore:
                cxid = moved_cxid(link.sid)
            loop.propose(loop.prep.error(loop.next_zxid(), session_id, cxid, refused))
        elif kind == op.CLOSE_SESSION:
            loop.sessions.tracker.sessions[session_id].closing = True
            loop.propose(loop.prep.close_session(loop.next_zxid(), session_id, cxid))
        else:
            loop.propose(self._validated(request, identities))

    def _create_session(self, learner: _Learner, request: Request) -> None:
        loop = self._loop
        timeout_ms = quorum.decode_int(request.body)
        session = loop.sessions.tracker.add(request.session_id, timeout_ms, monotonic_ms())
        session.place = learner
        txn = loop.prep.create_session(loop.next_zxid(), request.session_id, timeout_ms)
        loop.propose(txn)

    def _may_be_local(self, request: Request) -> bool:
        """Whether it is taken for a request of a learner's local session, of which nobody else
        knows. Source: LeaderSessionTracker.checkSession."""
        settings = self._loop.settings
        elsewhere = request.session_id >> 56 & 0xFF != settings.server_id & 0xFF
        closes = request.opcode == op.CLOSE_SESSION
        return settings.local_sessions_enabled and elsewhere and not closes

    def _refusal(self, learner: _Learner, request: Request) -> Code | None:
        """Why a request is refused before it is looked at. Source: SessionTrackerImpl."""
        session = self._loop.sessions.tracker.sessions.get(request.session_id)
        if session is None:
            if not self._may_be_local(request):
                return Code.SESSION_EXPIRED
        elif session.closing:
            return Code.SESSION_EXPIRED
        elif session.place is None:
            session.place = learner
        elif session.place is not learner:
            return Code.SESSION_MOVED
        if self._loop.refuses(request.opcode):
            return Code.SYSTEM_ERROR
        return None

    def _validated(self, request: Request, identities: tuple[Identity, ...]) -> Txn:
        loop = self._loop
        session_id, cxid, kind, body = request
        zxid, frame = loop.next_zxid(), _HEADER(cxid, kind) + body
        try:
            if session_id not in loop.sessions.tracker.sessions:
                why = Code.SESSION_EXPIRED  # as in Apache; the learner knows better
                txn = loop.prep.homeless_request(zxid, session_id, frame, identities, why)
            else:
                txn = loop.prep.request(zxid, session_id, frame, identities)
        except RemoteProtocolError:
            return loop.prep.error(zxid, session_id, cxid, Code.MARSHALLING_ERROR)
        loop.prep.reshape.pop(zxid, None)  # the learner makes the reply
        if loop.enforcer is not None and loop.enforcer.exceeded:
            loop.quota_exceeded(loop.enforcer, f"server {session_id >> 56 & 0xFF}", session_id)
        return txn
