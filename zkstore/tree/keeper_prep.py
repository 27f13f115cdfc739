"""Validation of ClickHouse Keeper's writes: each becomes a txn that Apache ZooKeeper knows.

Owns:   how the reply differs from what the txn's application gives (`reshape`, see Prep); the tree
        with the txns in flight applied, kept while somebody checks a Stat in it.
Invariants:
  1. What is logged and replicated is made of Apache's txns alone: a check, a create, deletes. An
     operation that changes nothing is logged as a check.
  2. A subtree is removed whole or not at all, children before their parents, within the limits of
     REMOVE_RECURSIVE_NODES_MAX and REMOVE_RECURSIVE_BYTES_MAX for one request.
Design: prep keeps of a node in flight only what Apache's checks need, so checkStat applies the txns
        in flight to a batch of its own, each of them once.
Not here: the wire (proto/keeper.py), reads (frontend/keeper_reads.py).
Source: ClickHouse, KeeperStorage; RaftKeeper's compatibility audit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Final, NamedTuple, Protocol

from zkstore.constants import REMOVE_RECURSIVE_BYTES_MAX, REMOVE_RECURSIVE_NODES_MAX
from zkstore.errors import Code, RemoteProtocolError, ZooKeeperError
from zkstore.jute.codec import buffer, pack_int, unpack_int
from zkstore.proto import keeper, requests
from zkstore.proto import opcodes as op
from zkstore.records.txn import Body, Txn
from zkstore.tree import node as nodes
from zkstore.tree import paths
from zkstore.tree import prep as preps
from zkstore.tree.apply import MULTI_END, Batch, Totals
from zkstore.tree.auth import Identity

Sub = tuple[int, Body]


class Source(preps.Source, Protocol):
    """The applied tree and what will change it."""

    def children(self, path: bytes) -> list[bytes]: ...

    def pending(self, after: int) -> Iterable[Txn]:
        """The txns in flight behind this zxid, in order."""


class _Request:
    """One request's own: who asks, and what it may still remove."""

    def __init__(self, zxid: int, session_id: int, identities: tuple[Identity, ...]) -> None:
        self.zxid = zxid
        self.session_id = session_id
        self.identities = identities
        self.subs: list[Sub] = []
        self.nodes = REMOVE_RECURSIVE_NODES_MAX
        self.bytes = REMOVE_RECURSIVE_BYTES_MAX
        self.ahead: Batch | None = None
        self.seen = 0  # of subs, in `ahead`


class _Part(NamedTuple):
    """One operation's place in the reply to a multi."""

    kind: int
    txns: int  # that it became
    answer: bytes | None  # None: what the txn's application gives


class KeeperPrep(preps.Prep):
    """Prep that also knows Keeper's operations."""

    _source: Source  # this one is needed; `Prep.__init__` takes it
    _ahead: Batch | None = None
    _ahead_upto = 0

    def applied(self, zxid: int) -> None:
        self._ahead = None
        super().applied(zxid)

    def abandon(self) -> None:
        self._ahead = None
        super().abandon()

    # ---- requests

    def _other(
        self, zxid: int, session_id: int, kind: int, frame: bytes, identities: tuple[Identity, ...]
    ) -> Sub:
        request, _ = keeper.read_write(frame, kind, requests.BODY)
        made, answer = self._make(_Request(zxid, session_id, identities), kind, request)
        if kind in (op.CREATE_IF_NOT_EXISTS, op.REMOVE_RECURSIVE):
            self.reshape[zxid] = lambda _: answer
        return made[0] if len(made) == 1 else (op.MULTI, (made,))

    def _other_multi(
        self, zxid: int, session_id: int, frame: bytes, identities: tuple[Identity, ...]
    ) -> list[Sub]:
        try:
            ops = keeper.read_multi(frame)
        except RemoteProtocolError as e:
            raise ZooKeeperError(Code.MARSHALLING_ERROR, str(e)) from e
        request = _Request(zxid, session_id, identities)
        parts = []
        self._undo = {}
        try:
            for kind, apache, own in ops:
                if apache is not None:
                    made = [self._sub(zxid, session_id, kind, apache.request, identities)]
                    answer = None
                else:
                    assert own is not None
                    made, answer = self._make(request, kind, own)
                request.subs += made
                parts.append(_Part(kind, len(made), answer))
        except ZooKeeperError as e:
            self._roll_back(self._undo)
            codes = [Code.OK] * len(parts) + [e.code]
            codes += [Code.RUNTIME_INCONSISTENCY] * (len(ops) - len(codes))
            return [(op.ERROR, (int(code),)) for code in codes]
        finally:
            self._undo = None
        self.reshape[zxid] = partial(_reshaped, parts)
        return request.subs

    def _make(self, request: _Request, kind: int, write: keeper.Write) -> tuple[list[Sub], bytes]:
        """The txns of one operation, and its answer."""
        if isinstance(write, requests.Create):
            return self._create_if_not_exists(request, write)
        path = write[0]
        if path is None or not paths.valid(path):
            raise ZooKeeperError(Code.BAD_ARGUMENTS)
        if isinstance(write, keeper.CheckStat):
            return self._check_stat(request, write), b""
        if kind == op.REMOVE_RECURSIVE:
            return self._remove_recursive(request, path, write[1]), b""
        if kind == op.TRY_REMOVE:
            return self._try_remove(request, path, write[1]), b""
        return self._check_not_exists(request, path, write[1]), b""

    # ---- one operation each

    def _create_if_not_exists(
        self, request: _Request, create: requests.Create
    ) -> tuple[list[Sub], bytes]:
        if create.flags in op.SEQUENTIAL_FLAGS:
            raise ZooKeeperError(Code.BAD_ARGUMENTS)  # its name is not known beforehand
        try:
            made = self._prep_create(
                request.zxid, request.session_id, op.CREATE, create, request.identities
            )
        except ZooKeeperError as e:
            if e.code != Code.NODE_EXISTS:
                raise
            assert create.path is not None
            return [_nothing(create.path)], buffer(create.path)
        return [made], buffer(made[1][0])

    def _check_not_exists(self, request: _Request, path: bytes, version: int) -> list[Sub]:
        """What a list of the parent's children tells, too; so it takes the right to that."""
        parent, _ = paths.split(path)
        if self._exists(parent):
            self._require(self._get(parent).acl, op.READ, request.identities)
        if self._exists(path) and version in (-1, self._get(path).version):
            raise ZooKeeperError(Code.NODE_EXISTS)
        return [_nothing(path)]

    def _try_remove(self, request: _Request, path: bytes, version: int) -> list[Sub]:
        try:
            body = self._prep_delete(request.zxid, (path, version), request.identities)
        except ZooKeeperError as e:
            if e.code not in _NOT_REMOVED:
                raise
            return [_nothing(path)]
        return [(op.DELETE, body)]

    def _check_stat(self, request: _Request, check: keeper.CheckStat) -> list[Sub]:
        body = self._prep_check((check.path, check.version), request.identities)
        value = self._value(request, check.path)
        stat = keeper.unpack_stat(value[nodes.STAT])
        if any(
            expected not in (-1, actual) for expected, actual in zip(check.stat, stat, strict=True)
        ):
            raise ZooKeeperError(Code.BAD_VERSION)
        return [(op.CHECK, body)]

    def _value(self, request: _Request, path: bytes) -> bytes:
        """A node that is there, with the changes in flight and those of this request."""
        if path not in self._changes:
            value = self._source.node(path)
            assert value is not None, path
            return value
        if self._ahead is None:
            # By name: what the source stands on is another with each message.
            source = self._source
            below = _Below(lambda path: source.node(path), lambda owner: source.ephemerals(owner))
            self._ahead = Batch(below, Totals())
            self._ahead_upto = 0
        for txn in self._source.pending(self._ahead_upto):
            self._ahead.apply(txn)
            self._ahead_upto = txn.zxid
        ahead = request.ahead
        if ahead is None:
            ahead = Batch(_Below(self._ahead.node, self._source.ephemerals), Totals())
            request.ahead = ahead
        for kind, body in request.subs[request.seen :]:
            ahead.apply(Txn(request.zxid, request.session_id, 0, self._now_ms(), kind, body))
        request.seen = len(request.subs)
        value = ahead.node(path)
        assert value is not None, path
        return value

    def _remove_recursive(self, request: _Request, path: bytes, limit: int) -> list[Sub]:
        if path in paths.SPECIAL:
            raise ZooKeeperError(Code.BAD_ARGUMENTS)
        parent = self._get(paths.split(path)[0])
        self._require(parent.acl, op.DELETE_PERM, request.identities)
        found = self._subtree(request, path, limit)
        for gone, _ in reversed(found):
            self._drop(request.zxid, gone, self._get(gone))
        return [(op.DELETE, (gone,)) for gone, _ in reversed(found)]

    def _subtree(
        self, request: _Request, path: bytes, limit: int
    ) -> list[tuple[bytes, preps.Change]]:
        """A node and all below it, parents first. Raises: NOT_EMPTY if they are too many."""
        made = self._made_below(path)
        found = [(path, self._get(path))]
        most = min(limit, request.nodes)
        for parent, node in found:  # it grows meanwhile
            self._require(node.acl, op.DELETE_PERM, request.identities)
            request.bytes -= len(parent)
            # All children have to be found, so that none need be listed if they are too many.
            if len(found) + node.children > most or request.bytes < 0:
                raise ZooKeeperError(Code.NOT_EMPTY)
            if not node.children:
                continue
            stored = (parent + b"/" + name for name in self._source.children(parent))
            for child in dict.fromkeys((*stored, *made.get(parent, ()))):
                if self._exists(child):
                    found.append((child, self._get(child)))
        request.nodes -= len(found)
        return found

    def _made_below(self, path: bytes) -> dict[bytes, list[bytes]]:
        """The nodes below a path that changes in flight make, by parent."""
        made: dict[bytes, list[bytes]] = {}
        below = path + b"/"
        for other, change in self._changes.items():
            if change[1] and other.startswith(below):
                made.setdefault(paths.split(other)[0], []).append(other)
        return made


class _Below:
    """What a batch stands on; ids of ACLs and the place of long names are no part of a Stat."""

    def __init__(
        self,
        node: Callable[[bytes], bytes | None],
        ephemerals: Callable[[int], list[bytes]],
    ) -> None:
        self.node = node
        self.ephemerals = ephemerals

    def session(self, session_id: int) -> int | None:
        return None

    def find_acl(self, encoded: bytes) -> int:
        return 0

    def needs_long_name(self, path: bytes) -> bool:
        return False

    def descendants(self, path: bytes) -> Iterable[tuple[bytes, bytes]]:
        """Asked for quotas: their usage is not looked at here."""
        return ()


# What tryRemove takes for done.
_NOT_REMOVED: Final = frozenset((Code.NO_NODE, Code.BAD_VERSION, Code.NOT_EMPTY))


def owns(frame: bytes, kind: int) -> bool:
    """Whether a request makes a node that its session owns.

    Source: QuorumZooKeeperServer.checkUpgradeSession.
    """
    try:
        if kind == op.MULTI:
            ops = keeper.read_multi(frame)
            made = [own if apache is None else apache.request for _, apache, own in ops]
        elif kind in _OWNING:
            made = [requests.read_create(frame, kind, requests.BODY)[0]]
        else:
            return False
    except RemoteProtocolError:
        return False
    return any(isinstance(one, requests.Create) and one.flags in op.EPHEMERAL_FLAGS for one in made)


_OWNING: Final = frozenset((op.CREATE, op.CREATE2, op.CREATE_IF_NOT_EXISTS))


def _nothing(path: bytes) -> Sub:
    """A txn that changes nothing."""
    return op.CHECK, (path, -1)


def reshape_of(frame: bytes, txn: Txn) -> Callable[[bytes], bytes] | None:
    """How the reply to a request is made from what applying its txn gives; None: it is that.

    For a learner, which has not made the txn itself.
    """
    kind = requests.read_header(frame)[1]
    if txn.type == op.ERROR:
        return None
    if kind != op.MULTI:
        made = [(txn.type, txn.body)] if txn.type != op.MULTI else txn.body[0]
        answer = _answer_of(kind, made)
        return lambda _: answer
    if any(sub == op.ERROR for sub, _ in txn.body[0]):
        return None
    parts = []
    subs = iter(txn.body[0])
    for sub_kind, apache, own in keeper.read_multi(frame):
        made = [next(subs)]
        while own is not None and sub_kind == op.REMOVE_RECURSIVE and made[-1][1][0] != own[0]:
            made.append(next(subs))  # children first, the node that was named last
        sub_answer = None if apache is not None else _answer_of(sub_kind, made)
        parts.append(_Part(sub_kind, len(made), sub_answer))
    return partial(_reshaped, parts)


def _answer_of(kind: int, made: Sequence[Sub]) -> bytes:
    """What one of Keeper's operations answers, of the txns that it became."""
    return buffer(made[0][1][0]) if kind == op.CREATE_IF_NOT_EXISTS else b""


def _reshaped(parts: Sequence[_Part], body: bytes) -> bytes:
    """The reply to a multi: one result an operation, however many txns it became."""
    results = []
    at = 0
    for kind, count, answer in parts:
        start = at
        for _ in range(count):
            at = _end_of_result(body, at)
        if answer is None:
            results.append(body[start:at])
        else:
            results.append(pack_int(kind) + b"\0" + pack_int(0) + answer)
    return b"".join(results) + MULTI_END


_HEADER_BYTES: Final = 9
_STAT_BYTES: Final = 68


def _end_of_result(body: bytes, at: int) -> int:
    """Where one result in a multi's reply ends."""
    kind = unpack_int(body, at)[0]
    at += _HEADER_BYTES
    if kind in op.CREATES:
        at += 4 + unpack_int(body, at)[0]
    if kind in (op.SET_DATA, op.CREATE2):
        at += _STAT_BYTES
    return at
