"""A leader without quorum, journal or sockets: prep over a DictTree, txns applied when told.

Owns:   the tree, the prep, and the txns that are made and not applied yet.
"""

from __future__ import annotations

from collections import deque

from tests.conformance.requests import Request
from tests.conformance.wire import i32
from tests.property.dict_tree import DictTree
from zkstore.records import txn as txns
from zkstore.records.txn import Txn
from zkstore.tree.apply import Effects, Result
from zkstore.tree.auth import DigestProvider, Identity, IpProvider, Providers
from zkstore.tree.prep import Prep

ANNE, BERT = 0x100000000000001, 0x100000000000002  # sessions
ADDRESS: Identity = (b"ip", b"127.0.0.1")
PROVIDERS = Providers([IpProvider(), DigestProvider("SHA1", "")])


def frame_of(request: Request, xid: int = 1) -> bytes:
    """The request as it reaches the server."""
    return i32(request.xid if request.xid is not None else xid) + i32(request.opcode) + request.body


class Leader:
    """Use `request` and the like to make txns, `apply` to apply them."""

    def __init__(self, *, ttl_enabled: bool = True, close_session_paths: bool = True) -> None:
        self.tree = DictTree()
        self.now_ms = 1_000
        self.prep = Prep(
            self.tree,
            PROVIDERS,
            ttl_enabled=ttl_enabled,
            close_session_paths=close_session_paths,
            now_ms=lambda: self.now_ms,
        )
        self.zxid = 0
        self.waiting: deque[Txn] = deque()

    def request(
        self, request: Request, session_id: int = ANNE, *identities: Identity, xid: int = 1
    ) -> Txn:
        """Prepare a client's request."""
        frame = frame_of(request, xid)
        return self._take(
            self.prep.request(self.zxid + 1, session_id, frame, (ADDRESS, *identities))
        )

    def create_session(self, session_id: int) -> Txn:
        return self._take(self.prep.create_session(self.zxid + 1, session_id, 30_000))

    def close_session(self, session_id: int) -> Txn:
        return self._take(self.prep.close_session(self.zxid + 1, session_id, 9))

    def delete_container(self, path: bytes) -> Txn:
        return self._take(self.prep.delete_container(self.zxid + 1, path))

    def _take(self, txn: Txn) -> Txn:
        assert txn.zxid == self.zxid + 1
        assert txns.decode(txns.encode(txn)) == txn
        self.zxid = txn.zxid
        self.waiting.append(txn)
        return txn

    def apply(self, count: int | None = None) -> list[tuple[Result, Effects]]:
        """Apply that many of the oldest waiting txns (None: all) as one batch."""
        chosen = [self.waiting.popleft() for _ in range(count or len(self.waiting))]
        applied = self.tree.commit(chosen)
        if chosen:
            self.prep.applied(chosen[-1].zxid)
        return applied

    def do(self, request: Request, session_id: int = ANNE, *identities: Identity) -> Result:
        """Prepare and apply one request."""
        self.request(request, session_id, *identities)
        return self.apply()[-1][0]
