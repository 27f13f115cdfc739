"""Validation: a request in, a txn (or an error txn) out. Only a leader does this.

Owns:   the changes in flight: proposed, not applied yet. Checks run against tree plus changes in
        flight, so a create and a create of its child can be in one batch.
Invariants:
  1. The first failing check wins, in the order of reference section F (see each `_prep_*`).
  2. A failed multi leaves no change in flight behind: sequence numbers are not burnt.
  3. Each txn made here applies without an error (tree/apply.py asserts it for multi).
Design: a change in flight is one small tuple a path, dropped when its txn has been applied; the
        tree itself is only ever read here.
Not here: sessions and their owners (commit/), quorum (zab/).
Source: PrepRequestProcessor.pRequest2Txn.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple, Protocol

from zkstore.constants import CLOSE_SESSION_PATHS_BYTES_MAX, TTL_MS_MAX
from zkstore.errors import Code, RemoteProtocolError, ZooKeeperError
from zkstore.proto import opcodes as op
from zkstore.proto import requests
from zkstore.records.txn import Body, Txn
from zkstore.tree import acl as acls
from zkstore.tree import node as nodes
from zkstore.tree import paths
from zkstore.tree.acl import Acl
from zkstore.tree.auth import Identity, Providers
from zkstore.tree.quota import Enforcer


class Change(NamedTuple):
    """A node as it will be once the txns in flight are applied."""

    zxid: int
    exists: bool
    version: int
    cversion: int
    aversion: int
    owner: int
    children: int
    acl: Acl


# Kept without names: making one with names costs as much as all else that is done with it.
Plain = tuple[int, bool, int, int, int, int, int, Acl]
_new = tuple.__new__  # of a NamedTuple: its own takes twice as long, by a function in Python


class Source(Protocol):
    """The applied tree, read only."""

    def node(self, path: bytes) -> bytes | None: ...

    def acl(self, acl_id: int) -> Acl: ...

    def ephemerals(self, session_id: int) -> list[bytes]: ...


class Prep:
    """The leader's validation. One for a leader's epoch."""

    def __init__(
        self,
        source: Source,
        providers: Providers,
        *,
        ttl_enabled: bool,
        close_session_paths: bool,
        now_ms: Callable[[], int],
        enforcer: Enforcer | None = None,
    ) -> None:
        self._source = source
        self._providers = providers
        self.allows_ttl: Callable[[], bool] = lambda: ttl_enabled  # asked for each TTL node
        self._close_session_paths = close_session_paths
        self._now_ms = now_ms
        self._enforcer = enforcer
        self._changes: dict[bytes, Plain] = {}
        self._in_flight: deque[tuple[int, bytes]] = deque()  # (zxid, path), zxids rising
        # session → paths of ephemerals it made in flight; some may be gone again, see `_owned_by`
        self._made: dict[int, dict[bytes, None]] = {}
        # What a failing multi has to put back: path → the change before; None: outside of a multi.
        self._undo: dict[bytes, Plain | None] | None = None
        # Why the session whose request is validated may not own a node; None: it may.
        self._homeless: Code | None = None
        # zxid → the reply's body from what applying the txn gives, where that is not the reply
        self.reshape: dict[int, Callable[[bytes], bytes]] = {}

    # ---- changes in flight

    def applied(self, zxid: int) -> None:
        """Forget the changes of txns up to this one."""
        in_flight = self._in_flight
        if in_flight and in_flight[-1][0] <= zxid:
            in_flight.clear()
            self._changes.clear()
            self._made.clear()
            return
        while in_flight and in_flight[0][0] <= zxid:
            _, path = in_flight.popleft()
            change = self._changes.get(path)
            if change is not None and change[0] <= zxid:
                del self._changes[path]

    def abandon(self) -> None:
        """Forget all changes in flight: their txns will never be applied."""
        self._in_flight.clear()
        self._changes.clear()
        self._made.clear()

    def _get(self, path: bytes) -> Change:
        """The node with the changes in flight. Raises: ZooKeeperError(NO_NODE)."""
        change = self._changes.get(path)
        if change is None:
            value = self._source.node(path)
            if value is None:
                raise ZooKeeperError(Code.NO_NODE)
            f = nodes.unpack(value)
            acl = acls.OPEN if f[5] == acls.OPEN_ID else self._source.acl(f[5])
            return Change(0, True, f[10], f[3], f[12], f[4], f[15], acl)
        if not change[1]:
            raise ZooKeeperError(Code.NO_NODE)
        return Change(*change)

    def _exists(self, path: bytes) -> bool:
        change = self._changes.get(path)
        if change is not None:
            return change[1]
        return self._source.node(path) is not None

    def _put(self, path: bytes, change: Plain) -> None:
        if self._undo is not None and path not in self._undo:
            self._undo[path] = self._changes.get(path)
        self._changes[path] = change
        self._in_flight.append((change[0], path))

    def _owned_by(self, session_id: int) -> list[bytes]:
        """The session's ephemerals with the changes in flight."""
        stored = dict.fromkeys(self._source.ephemerals(session_id))
        owned = []
        for path in {**stored, **self._made.get(session_id, {})}:
            change = self._changes.get(path)
            if change is None:
                mine = path in stored
            else:
                _, exists, _, _, _, owner, _, _ = change
                mine = exists and owner == session_id
            if mine:
                owned.append(path)
        return owned

    def _require(self, acl: Acl, perm: int, identities: Iterable[Identity]) -> None:
        if acl is not acls.OPEN and not acls.allows(acl, perm, identities, self._providers):
            raise ZooKeeperError(Code.NO_AUTH)

    # ---- requests

    def request(
        self, zxid: int, session_id: int, frame: bytes, identities: tuple[Identity, ...]
    ) -> Txn:
        """Make the txn of a client's request frame; a refused one becomes an error txn.

        Raises: RemoteProtocolError if the frame cannot be parsed: no txn, no zxid is used.
        """
        xid, kind = requests.read_header(frame)
        return self.request_of(zxid, session_id, xid, kind, frame, identities)

    def request_of(
        self,
        zxid: int,
        session_id: int,
        xid: int,
        kind: int,
        frame: bytes,
        identities: tuple[Identity, ...],
    ) -> Txn:
        """As `request`, for who has read the frame's header."""
        now_ms = self._now_ms()
        try:
            if kind == op.SET_DATA:
                set_data, _ = requests.read_set_data(frame, requests.BODY)
                body: Body = self._prep_set_data(zxid, set_data, identities)
            elif kind == op.MULTI:
                ops = _multi_ops(frame)
                if ops is None:
                    body = (self._other_multi(zxid, session_id, frame, identities),)
                else:
                    body = (self._multi(zxid, session_id, ops, identities),)
            else:
                kind, body = self._one(zxid, session_id, kind, frame, identities)
        except ZooKeeperError as e:
            return Txn(zxid, session_id, xid, now_ms, op.ERROR, (int(e.code),))
        return _new(Txn, (zxid, session_id, xid, now_ms, kind, body))

    def homeless_request(
        self,
        zxid: int,
        session_id: int,
        frame: bytes,
        identities: tuple[Identity, ...],
        why: Code,
    ) -> Txn:
        """As `request`, for a session that may not own a node, and `why`."""
        self._homeless = why
        try:
            return self.request(zxid, session_id, frame, identities)
        finally:
            self._homeless = None

    def _one(
        self, zxid: int, session_id: int, kind: int, frame: bytes, identities: tuple[Identity, ...]
    ) -> tuple[int, Body]:
        offset = requests.BODY
        if kind in op.CREATES:
            create, _ = requests.read_create(frame, kind, offset)
            return self._prep_create(zxid, session_id, kind, create, identities)
        if kind == op.DELETE:
            delete, _ = requests.read_path_int(frame, offset)
            return kind, self._prep_delete(zxid, delete, identities)
        if kind == op.RECONFIG:
            requests.read_reconfig(frame, offset)
            raise ZooKeeperError(Code.RECONFIG_DISABLED)
        if kind != op.SET_ACL:
            return self._other(zxid, session_id, kind, frame, identities)
        path, acl, version = requests.read_set_acl(frame, offset)
        return kind, self._prep_set_acl(zxid, path, acl, version, identities)

    def _multi(
        self,
        zxid: int,
        session_id: int,
        ops: list[requests.MultiOp],
        identities: tuple[Identity, ...],
    ) -> list[tuple[int, Body]]:
        """All sub-txns; after a failure the failing one and the rest are errors (reference G4)."""
        self._undo = {}
        subs: list[tuple[int, Body]] = []
        failed = False
        for kind, request in ops:
            if failed:
                subs.append((op.ERROR, (int(Code.RUNTIME_INCONSISTENCY),)))
                continue
            try:
                subs.append(self._sub(zxid, session_id, kind, request, identities))
            except ZooKeeperError as e:
                subs.append((op.ERROR, (int(e.code),)))
                failed = True
        undo, self._undo = self._undo, None
        if failed:
            self._roll_back(undo)
        return subs

    def _roll_back(self, undo: dict[bytes, Plain | None]) -> None:
        for path, before in undo.items():
            del self._changes[path]
            if before is not None:
                self._changes[path] = before

    def _sub(
        self,
        zxid: int,
        session_id: int,
        kind: int,
        request: object,
        identities: tuple[Identity, ...],
    ) -> tuple[int, Body]:
        if isinstance(request, requests.Create):
            return self._prep_create(zxid, session_id, kind, request, identities)
        assert isinstance(request, tuple)
        if kind == op.SET_DATA:
            return kind, self._prep_set_data(zxid, request, identities)
        if kind == op.DELETE:
            return kind, self._prep_delete(zxid, request, identities)
        return kind, self._prep_check(request, identities)

    # ---- what is not Apache's: tree/keeper_prep.py

    def _other(
        self, zxid: int, session_id: int, kind: int, frame: bytes, identities: tuple[Identity, ...]
    ) -> tuple[int, Body]:
        raise ZooKeeperError(Code.UNIMPLEMENTED)

    def _other_multi(
        self, zxid: int, session_id: int, frame: bytes, identities: tuple[Identity, ...]
    ) -> list[tuple[int, Body]]:
        """Whatever Apache cannot parse; it uses up a zxid, unlike any other request."""
        raise ZooKeeperError(Code.MARSHALLING_ERROR)

    # ---- one operation each, its checks in the order of reference section F

    def _prep_set_data(
        self,
        zxid: int,
        request: requests.SetData,
        identities: tuple[Identity, ...],
    ) -> Body:
        path, data, version = request
        if not path:  # the root's other name is for reads only
            raise ZooKeeperError(Code.BAD_ARGUMENTS)
        change = self._changes.get(path)
        if change is not None:
            _, exists, current, cversion, aversion, owner, children, acl = change
        elif (value := self._source.node(path)) is not None:
            f = nodes.unpack(value)
            exists, current, cversion, aversion = True, f[10], f[3], f[12]
            owner, children = f[4], f[15]
            acl = acls.OPEN if f[5] == acls.OPEN_ID else self._source.acl(f[5])
        else:
            exists = False
        if not exists:  # a path that exists need not be looked at
            raise ZooKeeperError(Code.NO_NODE if paths.valid(path) else Code.BAD_ARGUMENTS)
        if acl is not acls.OPEN:
            self._require(acl, op.WRITE, identities)
        if self._enforcer is not None:
            self._enforce_size(self._enforcer, path, data)
        if version != current and version != _VERSION_ANY:
            raise ZooKeeperError(Code.BAD_VERSION)
        new = current + 1 if current < _VERSION_MAX else _VERSION_MIN
        self._put(path, (zxid, True, new, cversion, aversion, owner, children, acl))
        return path, data, new

    def _enforce_size(self, enforcer: Enforcer, path: bytes, data: bytes | None) -> None:
        before = self._source.node(path)
        length = 0 if before is None else nodes.unpack(before)[nodes.DATA_LENGTH]
        enforcer.check(path, len(data or b"") - length, 0)

    def _prep_create(
        self,
        zxid: int,
        session_id: int,
        kind: int,
        request: requests.Create,
        identities: tuple[Identity, ...],
    ) -> tuple[int, Body]:
        flags = request.flags
        self._check_flags(kind, request)
        path = request.path
        if path is None:  # a NullPointerException in Apache
            raise ZooKeeperError(Code.MARSHALLING_ERROR)
        if b"/" not in path or b"\0" in path:
            raise ZooKeeperError(Code.BAD_ARGUMENTS)
        acl = acls.fix_up(request.acl, identities, self._providers)
        parent_path, _ = paths.split(path)
        parent = self._get(parent_path)
        self._require(parent.acl, op.CREATE_PERM, identities)
        if flags in op.SEQUENTIAL_FLAGS:
            path = paths.sequential(path, parent.cversion)
        if not paths.valid(path):
            raise ZooKeeperError(Code.BAD_ARGUMENTS)
        if self._exists(path):
            raise ZooKeeperError(Code.NODE_EXISTS)
        if nodes.is_ephemeral(parent.owner):
            raise ZooKeeperError(Code.NO_CHILDREN_FOR_EPHEMERALS)
        if self._enforcer is not None:
            self._enforcer.check(path, len(request.data or b""), 1)
        cversion = paths.wrap_int(parent.cversion + 1)
        encoded = acls.OPEN_ENCODED if acl == acls.OPEN else acls.encode(acl)
        body: Body
        if kind == op.CREATE_TTL or flags in op.TTL_FLAGS:
            owner = nodes.ttl_owner(request.ttl_ms)
            body = (path, request.data, encoded, cversion, request.ttl_ms)
        elif kind == op.CREATE_CONTAINER:
            owner = nodes.CONTAINER_OWNER
            body = (path, request.data, encoded, cversion)
        else:
            ephemeral = flags in op.EPHEMERAL_FLAGS
            owner = session_id if ephemeral else 0
            body = (path, request.data, encoded, ephemeral, cversion)
        self._put(
            parent_path, parent._replace(zxid=zxid, cversion=cversion, children=parent.children + 1)
        )
        self._put(path, Change(zxid, True, 0, 0, 0, owner, 0, acl))
        if nodes.is_ephemeral(owner):
            self._made.setdefault(owner, {})[path] = None
        return kind, body

    def _check_flags(self, kind: int, request: requests.Create) -> None:
        """Flags and TTL. Source: PrepRequestProcessor.validateCreateRequest,
        EphemeralType.validateTTL."""
        flags, ttl_ms = request.flags, request.ttl_ms
        if not 0 <= flags <= 6:
            raise ZooKeeperError(Code.BAD_ARGUMENTS)
        if flags in op.TTL_FLAGS:
            if not self.allows_ttl():
                raise ZooKeeperError(Code.UNIMPLEMENTED)
            if kind != op.CREATE_TTL or not 0 < ttl_ms <= TTL_MS_MAX:
                raise ZooKeeperError(Code.BAD_ARGUMENTS)
        elif ttl_ms >= 0 or kind == op.CREATE_TTL:
            raise ZooKeeperError(Code.BAD_ARGUMENTS)
        if self._homeless is not None and flags in op.EPHEMERAL_FLAGS:
            raise ZooKeeperError(self._homeless)

    def _prep_delete(
        self, zxid: int, request: requests.PathInt, identities: tuple[Identity, ...]
    ) -> Body:
        path, version = request
        if path is None:
            raise ZooKeeperError(Code.MARSHALLING_ERROR)
        if path in paths.SPECIAL or b"/" not in path or b"\0" in path:
            raise ZooKeeperError(Code.BAD_ARGUMENTS)
        parent_path, _ = paths.split(path)
        parent = self._get(parent_path)
        self._require(parent.acl, op.DELETE_PERM, identities)
        node = self._get(path)
        _next_version(node.version, version)
        if node.children:
            raise ZooKeeperError(Code.NOT_EMPTY)
        self._drop(zxid, path, node)
        return (path,)

    def _drop(self, zxid: int, path: bytes, node: Change) -> None:
        """Enter a deletion in the changes in flight."""
        parent_path, _ = paths.split(path)
        parent = self._get(parent_path)
        self._put(parent_path, parent._replace(zxid=zxid, children=parent.children - 1))
        self._put(path, node._replace(zxid=zxid, exists=False))

    def _prep_set_acl(
        self,
        zxid: int,
        path: bytes | None,
        entries: requests.RawAcl,
        version: int,
        identities: tuple[Identity, ...],
    ) -> Body:
        if path is None or not paths.valid(path):
            raise ZooKeeperError(Code.BAD_ARGUMENTS)
        acl = acls.fix_up(entries, identities, self._providers)
        node = self._get(path)
        self._require(node.acl, op.ADMIN, identities)
        aversion = _next_version(node.aversion, version)
        self._put(path, node._replace(zxid=zxid, aversion=aversion, acl=acl))
        return path, acls.encode(acl), aversion

    def _prep_check(self, request: requests.PathInt, identities: tuple[Identity, ...]) -> Body:
        path, version = request
        if path is None or not paths.valid(path):
            raise ZooKeeperError(Code.BAD_ARGUMENTS)
        node = self._get(path)
        self._require(node.acl, op.READ, identities)
        return path, _next_version(node.version, version)

    # ---- the server's own requests

    def create_session(self, zxid: int, session_id: int, timeout_ms: int) -> Txn:
        return Txn(zxid, session_id, 0, self._now_ms(), op.CREATE_SESSION, (timeout_ms,))

    def close_session(self, zxid: int, session_id: int, cxid: int) -> Txn:
        """One txn that deletes all the session's ephemerals; it lists them while they fit (E20)."""
        listed = self._owned_by(session_id)
        for path in listed:
            self._drop(zxid, path, self._get(path))
        if not self._close_session_paths or (
            sum(map(len, listed)) + 4 * len(listed) > CLOSE_SESSION_PATHS_BYTES_MAX
        ):
            listed = []
        return Txn(zxid, session_id, cxid, self._now_ms(), op.CLOSE_SESSION, (listed,))

    def delete_container(self, zxid: int, path: bytes) -> Txn:
        """The sweep's deletion of a container or TTL node (E19)."""
        now_ms = self._now_ms()
        try:
            node = self._get(path)
            if node.children:
                raise ZooKeeperError(Code.NOT_EMPTY)
            # Since the sweep looked, the path may have become an ordinary node's.
            if node.owner == 0 or nodes.is_ephemeral(node.owner):
                raise ZooKeeperError(Code.BAD_VERSION)
        except ZooKeeperError as e:
            return Txn(zxid, 0, 0, now_ms, op.ERROR, (int(e.code),))
        self._drop(zxid, path, node)
        return Txn(zxid, 0, 0, now_ms, op.DELETE_CONTAINER, (path,))

    def error(self, zxid: int, session_id: int, cxid: int, code: Code) -> Txn:
        return Txn(zxid, session_id, cxid, self._now_ms(), op.ERROR, (int(code),))


def _multi_ops(frame: bytes) -> list[requests.MultiOp] | None:
    """The operations of a multi; None if it is none of Apache's."""
    try:
        return requests.read_multi(frame, reads=False)
    except RemoteProtocolError:
        return None


_VERSION_ANY: Final = -1
_VERSION_MAX: Final = 0x7FFFFFFF
_VERSION_MIN: Final = -0x80000000  # what follows it, as Java counts


def _next_version(current: int, expected: int) -> int:
    """The version after a change. Raises: ZooKeeperError(BAD_VERSION) if another was expected."""
    if expected != _VERSION_ANY and expected != current:
        raise ZooKeeperError(Code.BAD_VERSION)
    return current + 1 if current < _VERSION_MAX else _VERSION_MIN
