"""The commit process's loop: requests in, one batch, one flush, replies out.

Owns:   who waits for which txn; what is answered behind which zxid; the order of a turn; whether
        this server serves, and whether it is the one that validates and orders.
Invariants:
  1. Durable: a reply leaves only after its txn is in the journals of a quorum and applied.
  2. SessionOrder: replies to one connection leave in the order of its requests; what takes no txn
     (sync, a request that does not parse) is answered behind the last txn before it.
  3. One batch a turn: all that arrived while the last one was being flushed.
Design: the ZAB core says what to do (`Ready`), the writer does it, and only here do the two meet
        the tree's prep.
        A standalone server takes this very path: its own acknowledgement is the quorum. A member
        of an ensemble has a `Member` beside it (commit/member.py) that performs a Ready's network
        part; a learner's requests go to its leader (commit/following.py), and come back as txns
        that are published here like any other.
Not here: sessions (commit/sessions.py), words and counts (commit/admin.py), sockets
          (commit/process.py).
"""

from __future__ import annotations

import logging
import struct
from collections import Counter, deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final, NamedTuple, Protocol

from zkstore.commit.ports import Answer, Connection, Port, Ports
from zkstore.commit.sessions import Sessions, monotonic_ms
from zkstore.commit.source import TreeSource
from zkstore.commit.standing import Standing
from zkstore.constants import BATCH_BYTES_MAX, BATCH_REQUESTS_MAX, OUTSTANDING_THROTTLED
from zkstore.errors import Code, LogTrimmed, RemoteProtocolError, StorageFull
from zkstore.jute.codec import INT_INT, read_buffer, text
from zkstore.messaging import Channel
from zkstore.observability.log import Limited
from zkstore.proto import opcodes as op
from zkstore.proto import replies, requests
from zkstore.records import ipc
from zkstore.records import txn as txns
from zkstore.records.txn import Txn
from zkstore.session.tracker import Session
from zkstore.settings import Settings
from zkstore.storage.writer import Applied, Writer
from zkstore.tree.auth import Providers
from zkstore.tree.keeper_prep import KeeperPrep, owns
from zkstore.tree.quota import Enforcer
from zkstore.zab.core import Core
from zkstore.zab.ready import Proposal, Ready

_log = logging.getLogger("zkstore.commit")
_XID_TYPE = INT_INT.unpack_from
_HEAD = struct.Struct(">iii").unpack_from  # length, xid, type
_LOOKS_FOR_A_RESERVE: Final = 8  # at the disk, while as much as the reserve is written
_TXN_BYTES: Final = BATCH_BYTES_MAX // BATCH_REQUESTS_MAX  # that a txn counts for, besides its own
_APART: Final = frozenset((op.SYNC, op.CLOSE_SESSION))
# What the disk has to have room for; deletes, closes and checks go on out of the reserve.
_GROWING: Final = op.CREATES | {op.SET_DATA, op.SET_ACL, op.MULTI, op.CREATE_IF_NOT_EXISTS}
_new = tuple.__new__  # of a NamedTuple: its own takes twice as long, by a function in Python


class Deferred(NamedTuple):
    """An answer without a txn of its own, given behind the txn `after`.

    One that asks for the leader's confirmation is given when a quorum has answered in `round`, or
    a later txn was committed, which says as much.
    """

    after: int
    round: int  # 0: needs none
    give: Callable[[int], None]  # of the zxid that the header bears


class Consensus(Protocol):
    """What the loop asks of the ZAB core: of the ensemble of one, or of a member's Peer."""

    @property
    def last_proposed(self) -> int: ...

    @property
    def outstanding(self) -> int: ...

    def next_zxid(self) -> int: ...

    def propose(self, proposal: Proposal) -> None: ...

    def ready(self) -> Ready | None: ...

    def advance(self, done: Ready) -> None: ...


class Member(Protocol):
    """The other half of a turn in an ensemble."""

    def before(self, ready: Ready) -> None:
        """What leaves while the journal is being flushed."""

    def refused(self, ready: Ready, why: StorageFull | LogTrimmed) -> None:
        """The journal has no room, or the tree cannot be taken back: nothing was written."""

    def applied(self, applied: list[Applied]) -> None:
        """Txns became visible: find those that clients of this replica wait for."""

    def after(self, ready: Ready) -> None:
        """It is durable and applied: what may leave now, and what came for the server above."""

    @property
    def mode(self) -> str | None:
        """What `srvr` calls this member; None while nobody is served."""

    @property
    def standing(self) -> Standing:
        """What it tells of its ensemble."""

    def confirm(self) -> int:
        """Ask a quorum whether we still lead; returns the round in which it will have answered."""


class Loop:
    """The commit process without its sockets and timers."""

    def __init__(
        self,
        settings: Settings,
        writer: Writer,
        providers: Providers,
        call_soon: Callable[[Callable[[], None]], object],
    ) -> None:
        self.settings = settings
        self.writer = writer
        self.member: Member | None = None
        self.serving = self.leading = True  # a member begins as neither: see commit/member.py
        self.epoch_began = 0  # zxid of the epoch's beginning, once a member serves
        self.confirmed_round = 0
        self.source = TreeSource(writer)
        self.enforcer = (
            Enforcer(self.source, lambda: writer.quotas) if settings.enforce_quota else None
        )
        self.prep = KeeperPrep(
            self.source,
            providers,
            ttl_enabled=settings.extended_types_enabled is not False,
            close_session_paths=settings.close_session_txn_enabled,
            now_ms=self.source.now_ms,
            enforcer=self.enforcer,
        )
        self.ports = Ports(per_address_max=settings.max_client_cnxns, total_max=settings.max_cnxns)
        self.sessions = Sessions(self, settings.server_id)
        with writer.views.open() as view:
            self.sessions.load(view.sessions())
        self.full = False  # the disk: writes that grow are refused
        self.ended = False  # the storage is being closed: turns that are scheduled do nothing
        self.counters: Counter[str] = Counter()  # what is counted here of mntr's names
        self.on_growth: Callable[[], None] = lambda: None  # a part of the reserve may be used up
        self.on_admin: Callable[[Connection, str, int], None] = lambda connection, word, value: None
        self.on_gathered: Callable[[int, Port, object], None] = lambda ticket, port, part: None
        self._core_of_one = Core(last_logged=writer.applied)
        self.core: Consensus = self._core_of_one
        self.next_zxid = self.core.next_zxid
        self.request: Callable[[Connection, bytes], None] = self.order  # a learner sends it up
        self._call_soon = call_soon
        self._scheduled = False
        self.waiting: dict[int, tuple[Connection, int]] = {}  # zxid → who waits, xid
        self._deferred: deque[Deferred] = deque()
        self._batch_bytes = 0  # of the txns proposed since the last turn, each with _TXN_BYTES
        self._refused = Limited(_log, logging.ERROR)
        self._over_quota = Limited(_log, logging.WARNING)

    # ---- as a member of an ensemble

    def join(self, member: Member, core: Consensus) -> None:
        """From here on the core is a member's; it serves nobody yet."""
        self.member = member
        self.core = core
        self.next_zxid = core.next_zxid

    def serve(self, *, leading: bool, epoch_began: int) -> None:
        """Clients are served, with the sessions of the tree as it is."""
        with self.writer.views.open() as view:
            self.sessions.load(view.sessions())
        self.epoch_began = epoch_began
        self.serving, self.leading = True, leading

    def stop_serving(self) -> None:
        """Forget all that was promised to clients or learners: they are gone."""
        self.serving = self.leading = False
        self.sessions.dismiss_all()
        self.waiting.clear()
        self._deferred.clear()
        self.prep.abandon()
        self.prep.reshape.clear()
        self.writer.abandon()
        self.confirmed_round = 0
        self.schedule()

    def moved(self) -> None:
        """Another tree stands in place of the old one."""
        self.prep.abandon()
        self.ports.reopen(self.writer.applied)

    # ---- from the workers

    def attach(self, channel: Channel, pid: int = 0) -> Port:
        """A worker has come."""
        return self.ports.add(channel, pid)

    def detach(self, port: Port) -> None:
        """A worker is gone."""
        now_ms = monotonic_ms()
        for connection in self.ports.remove(port):
            if connection.session is not None:
                # What the worker had heard and not reported died with it; no session pays for it.
                self.sessions.touch(connection.session.session_id, now_ms)
            self.ports.close(connection)
            self.sessions.disconnected(connection)
        self.schedule()

    def on_message(self, port: Port, message: ipc.Message) -> None:
        """Handle one worker's turn: everything is validated at once, and logged at the end of
        ours."""
        if self.ended:
            return
        some = iter(message)
        items = zip(some, some, some, strict=True)
        more = True
        while more:
            with self.source:
                more = self._take_in(port, items)
            if self.batch_is_full():
                self.turn()
        self.schedule()

    @property
    def newest(self) -> int:
        """No client of this server has seen anything newer: an Apache leader answers reads with
        the beginning of its epoch before there is a txn."""
        return max(self.writer.applied, self.epoch_began)

    @property
    def mode(self) -> str | None:
        """What `srvr` calls this server; None while nobody is served."""
        return "standalone" if self.member is None else self.member.mode

    def batch_is_full(self) -> bool:
        """Whether what was proposed since the last flush is enough for one."""
        return self._batch_bytes >= BATCH_BYTES_MAX

    def _take_in(self, port: Port, items: Iterator[tuple[int, int, Any]]) -> bool:
        """Validate items until the batch is full; returns whether there are more."""
        connections = port.connections
        request = self.request
        if self.leading and self.core.outstanding > OUTSTANDING_THROTTLED:
            request = self._throttle
        for kind, number, payload in items:
            if kind == ipc.REQUEST:
                connection = connections.get(number)
                if connection is not None and not connection.leaving:
                    request(connection, payload)
            else:
                self._other(port, kind, number, payload)
            if self._batch_bytes >= BATCH_BYTES_MAX:
                return True
        return False

    def _throttle(self, connection: Connection, frames: bytes) -> None:
        """The followers do not keep up with what is proposed."""
        for frame in ipc.frames_of(frames):
            if connection.session is not None:
                self.answer_error(connection, _XID_TYPE(frame)[0], Code.THROTTLED_OP)

    def schedule(self) -> None:
        """Have a turn soon."""
        if not self._scheduled:
            self._scheduled = True
            self._call_soon(self.turn)

    def _other(self, port: Port, kind: int, number: int, payload: object) -> None:
        """Everything but a request."""
        if kind == ipc.OPEN:
            assert isinstance(payload, str)
            if self.ports.open(port, number, payload) is None:
                port.put(ipc.CLOSE, number, 0, self.ports.why_refused(payload))
            return
        if kind == ipc.TOUCHES:
            assert isinstance(payload, list)
            port.reported_ms = max(port.reported_ms, payload[0])
            port.silent_beats = 0
            for at in range(1, len(payload), 2):
                self.sessions.touch(payload[at], payload[at + 1])
            return
        if kind == ipc.WATCHING:
            port.watching = payload is not None
            if isinstance(payload, int) and self.writer.applied > payload:
                port.channel.send([self.writer.applied])
            return
        if kind == ipc.GATHERED:
            self.on_gathered(number, port, payload)
            return
        if kind == ipc.BARRIER:
            self._barrier(partial(port.put, ipc.PASSED, 0, 0, payload))
            return
        connection = port.connections.get(number)
        if connection is None:
            return  # it was refused when it opened
        if kind == ipc.CONNECT:
            assert isinstance(payload, bytes)
            self.sessions.connect(connection, payload)
        elif kind == ipc.IDENTITIES:
            assert isinstance(payload, list)
            pairs = zip(payload[::2], payload[1::2], strict=True)
            connection.identities = tuple((scheme, identity) for scheme, identity in pairs)
        elif kind == ipc.CLOSED:
            self.ports.close(connection)
            self.sessions.disconnected(connection)
        else:
            assert kind == ipc.ADMIN and isinstance(payload, list), kind
            self.on_admin(connection, *payload)

    def order(self, connection: Connection, frames: bytes) -> None:
        """Validate a client's requests, and propose them."""
        session = connection.session
        if session is None:
            return  # the session has another connection by now; this one is being closed
        session_id, identities = session.session_id, connection.identities
        at, end = 0, len(frames)
        while at < end and not connection.leaving:
            size, xid, kind = _HEAD(frames, at)
            at += 4 + size
            frame = frames[at - size : at]
            apart = kind in _APART or session.closing or self.full or self.writer.stalled
            apart = apart or session.local
            if apart and self._order_apart(connection, session, xid, kind, frame):
                continue
            zxid = self.next_zxid()
            try:
                if session.local:
                    why = Code.EPHEMERAL_ON_LOCAL_SESSION
                    txn = self.prep.homeless_request(zxid, session_id, frame, identities, why)
                else:
                    txn = self.prep.request_of(zxid, session_id, xid, kind, frame, identities)
            except RemoteProtocolError:
                self.answer_error(connection, xid, Code.MARSHALLING_ERROR)
                continue
            self._expect(txn, connection, xid)
            if self.enforcer is not None and self.enforcer.exceeded:
                self.quota_exceeded(self.enforcer, connection.address, session_id)

    def _order_apart(
        self, connection: Connection, session: Session, xid: int, kind: int, frame: bytes
    ) -> bool:
        """What is refused, or is no matter of the tree alone; returns whether it was either."""
        code = None
        if kind == op.SYNC:
            self._sync(connection, xid, frame)
        elif session.closing:
            code = Code.SESSION_EXPIRED
        elif self.refuses(kind):
            self._refused("disk full: session %#x's write refused", session.session_id)
            self.answer_error(connection, xid, Code.SYSTEM_ERROR)
        elif kind == op.CLOSE_SESSION and session.local:
            self.sessions.close_local(connection, session)
            self.defer(self.core.last_proposed, self.farewell(connection, xid))
        elif kind == op.CLOSE_SESSION:
            connection.behind = zxid = self.sessions.close(connection, xid)
            self.waiting[zxid] = (connection, xid)
        else:
            upgrading = session.local and self.settings.local_sessions_upgrading_enabled
            if upgrading and owns(frame, kind):
                self.sessions.upgrade(session)
            return False
        if code is not None:
            txn = self.prep.error(self.next_zxid(), session.session_id, xid, code)
            self._expect(txn, connection, xid)
        return True

    def refuses(self, kind: int) -> bool:
        """Whether the disk has no room for this."""
        return self.writer.stalled or (self.full and kind in _GROWING)

    def quota_exceeded(self, enforcer: Enforcer, address: str, session_id: int) -> None:
        """Count and log what a request would have exceeded, or has."""
        for namespace, what, refused in enforcer.exceeded:
            if refused:
                self.counters[f"{namespace}_quota_exceeded_error_per_namespace"] += 1
            self._over_quota(
                "%s session %#x: quota exceeded, %s: %s",
                address, session_id, "refused" if refused else "not refused", what,
            )  # fmt: skip
        enforcer.exceeded.clear()

    def _expect(self, txn: Txn, connection: Connection, xid: int) -> None:
        """Propose a client's txn; it waits for the reply."""
        self.propose(txn)
        connection.behind = zxid = txn.zxid
        self.waiting[zxid] = (connection, xid)

    def propose(self, txn: Txn) -> None:
        """Hand a txn to the core; every txn of this process goes this way."""
        encoded = txns.encode(txn)
        self._batch_bytes += _TXN_BYTES + len(encoded)
        self.core.propose(_new(Proposal, (txn[0], encoded)))
        self.writer.remember(txn)
        if not self._scheduled:
            self.schedule()

    def _sync(self, connection: Connection, xid: int, frame: bytes) -> None:
        """Reference B10: answered behind everything that was proposed before it."""
        try:
            path, _ = read_buffer(frame, requests.BODY)
        except RemoteProtocolError:
            self.answer_error(connection, xid, Code.MARSHALLING_ERROR)
            return
        self._defer(connection, lambda zxid: replies.reply(xid, zxid, text(path)), self._round())

    def _round(self) -> int:
        return self.member.confirm() if self.member is not None else 0

    def _barrier(self, passed: Callable[[], None]) -> None:
        """A sync for all reads that one worker has: the leader's own, or a learner's."""
        if self.sessions.upstream is not None:
            self.sessions.upstream.sync(lambda _: passed())
        elif self.serving:
            self.defer(self.core.last_proposed, lambda _: passed(), self._round())

    def answer_error(self, connection: Connection, xid: int, code: Code) -> None:
        """A refusal waits for the connection's own earlier answers only."""
        applied = self.writer.applied
        if connection.behind <= applied and not connection.deferred:
            frame = replies.error(xid, applied, code)
            connection.port.reply(connection.number, applied, frame)
        else:
            self._defer(connection, _refusal(xid, code))

    def _defer(
        self, connection: Connection, frame: Callable[[int], bytes], asked: int = 0
    ) -> None:
        connection.behind = self.core.last_proposed
        self.defer(connection.behind, Answer(connection, frame), asked)

    def farewell(self, connection: Connection, xid: int) -> Callable[[int], None]:
        """What gives the reply to a closeSession that takes no txn."""
        answer = Answer(connection, lambda zxid: replies.reply(xid, zxid, b""), ipc.LAST)

        def give(zxid: int) -> None:
            answer(zxid)
            self.ports.close(connection)

        return give

    def defer(self, after: int, give: Callable[[int], None], asked: int = 0) -> None:
        """Have something given behind a txn, and once the leader is confirmed in round `asked`."""
        self._deferred.append(Deferred(after, asked, give))

    # ---- the turn

    def turn(self) -> None:
        """One batch: perform what the core wants until it has nothing to say, then send."""
        if self.ended:
            return
        self._scheduled = False
        self._batch_bytes = 0
        member = self.member
        while (ready := self.core.ready()) is not None:
            if member is not None:
                member.before(ready)
            try:
                applied = self.writer.perform(ready)
            except (StorageFull, LogTrimmed) as e:
                if member is not None:
                    member.refused(ready, e)
                else:
                    self._withdraw(ready, e)
                continue
            self.core.advance(ready)
            if member is not None:
                member.applied(applied)
            self._publish(applied)
            if member is not None:
                member.after(ready)
        self.finish_turn()

    def retry(self) -> None:
        """LMDB had no room for committed txns: try again."""
        self._publish(self.writer.retry())
        self.finish_turn()

    def finish_turn(self) -> None:
        """Release what waited, and send."""
        writer = self.writer
        self.prep.applied(writer.applied)
        self._release(self.newest)  # the epoch's beginning is behind all before it, too
        self.ports.send(writer.applied)
        if writer.unlooked_bytes * _LOOKS_FOR_A_RESERVE >= self.settings.disk_reserve_bytes:
            self.on_growth()
        if writer.changed_bytes >= self.settings.checkpoint_bytes and not writer.checkpointing:
            writer.begin_checkpoint()

    def _publish(self, applied: list[Applied]) -> None:
        """Replies to the txns that became visible."""
        waiting = self.waiting
        deferred = self._deferred
        reshape = self.prep.reshape
        for txn, (error, body) in applied:
            zxid, _, _, _, kind, _ = txn
            if deferred and deferred[0].after < zxid:
                self._release(zxid - 1, confirmed=True)
            waiter = waiting.pop(zxid, None)
            if kind == op.CREATE_SESSION:
                self.sessions.created(txn)
            elif kind == op.CLOSE_SESSION:
                self.sessions.closed(txn, answered=waiter is not None)
                if waiter is not None:
                    connection, xid = waiter
                    frame = replies.reply(xid, zxid, b"")
                    connection.port.put(ipc.LAST, connection.number, zxid, frame)
                    self.ports.close(connection)
                continue
            if waiter is not None:
                connection, xid = waiter
                if error:
                    frame = replies.error(xid, zxid, error)
                else:
                    if reshape and zxid in reshape:
                        body = reshape.pop(zxid)(body)
                    frame = replies.reply(xid, zxid, body)
                connection.port.reply(connection.number, zxid, frame)

    def _release(self, upto: int, *, confirmed: bool = False) -> None:
        """Give the answers that waited for txns up to this one, in their order."""
        deferred = self._deferred
        while deferred and deferred[0].after <= upto:
            if deferred[0].round > self.confirmed_round and not confirmed:
                return
            deferred.popleft().give(min(upto, self.writer.applied))

    def _withdraw(self, ready: Ready, why: StorageFull | LogTrimmed) -> None:
        """The journal had no room: nobody was told anything, so the proposals are refused."""
        self.full = True
        self._refused("journal: %s; %d writes refused", why, len(ready.append))
        proposals = self._core_of_one.withdraw(ready)
        self.writer.forget(proposals)
        self.prep.abandon()
        # Their errors take their places among the answers that waited for them.
        answers = [(one.after, 1, one) for one in self._deferred]
        for proposal in proposals:
            waiter = self.waiting.pop(proposal.zxid, None)
            self.prep.reshape.pop(proposal.zxid, None)
            txn = txns.decode(proposal.txn)
            if txn.type == op.CREATE_SESSION:
                self.sessions.withdrawn(txn.session_id)
            elif txn.type == op.CLOSE_SESSION:
                self.sessions.reopened(txn)
            if waiter is not None:
                connection, xid = waiter
                connection.leaving = False
                answer = Answer(connection, _refusal(xid, Code.SYSTEM_ERROR))
                answers.append((proposal.zxid, 0, Deferred(proposal.zxid, 0, answer)))
        answers.sort(key=lambda answer: answer[:2])
        last = self.core.last_proposed
        self._deferred = deque(one._replace(after=min(one.after, last)) for _, _, one in answers)


def _refusal(xid: int, code: Code) -> Callable[[int], bytes]:
    """A deferred error."""
    return lambda zxid: replies.error(xid, zxid, code)
