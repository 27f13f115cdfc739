"""Whether all members are servers of ours, and what depends on it: nodes with a TTL.

Owns:   which members are known to be ours.
Invariants:
  1. Where `extendedTypesEnabled` is not set, no TTL node is made while a server of another kind
     may be a member, and none of these learns a tree from us that has such a node.
Design: an Apache server without that setting takes the owner of a TTL node for a session that is
        dead, and deletes the node when it comes to lead, in its own tree only. It does not say
        whether it has the setting. So who leads looks at the tree before it lets one in.
        What is known of a member that is away is what was known of it before. A leader tells its
        learners, so that the next one knows it too.
Source: EphemeralType, ZooKeeperServer.loadData.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from zkstore.proto import opcodes as op
from zkstore.records import txn as txns
from zkstore.records.txn import Txn
from zkstore.tree import node as nodes
from zkstore.zab.leader import Stage
from zkstore.zab.membership import Membership
from zkstore.zab.peer import Peer

if TYPE_CHECKING:
    from zkstore.commit.loop import Loop

_PAGE: Final = 4000  # containers and TTL nodes, read at once
REFUSED: Final = (
    "there are nodes with a TTL, which an Apache server may take for those of a dead session;"
    " delete them, or set extendedTypesEnabled=true on all servers"
)


class Company:
    """The other members, as one of them knows them."""

    def __init__(self, loop: Loop, membership: Membership, peer: Peer, *, possible: bool) -> None:
        """`possible`: no member's id stands in the way of TTL nodes."""
        self._loop = loop
        self._peer = peer
        self._possible = possible
        self._others = frozenset(membership.members) - {loop.settings.server_id}
        self._ours: set[int] = set()

    def are_all_ours(self) -> bool:
        """Of the leader: whether no other kind of server is a member, or learns from us."""
        links = [one for one in self._peer.learners.values() if one.stage is not Stage.GREETING]
        for link in links:
            (self._ours.add if link.zkstore else self._ours.discard)(link.sid)
        return self._others <= self._ours and all(link.zkstore for link in links)

    def hear(self, *, all_ours: bool) -> None:
        """Our leader has told what it knows; Apache's knows nothing."""
        self._ours = set(self._others) if all_ours else set()

    def allows_ttl(self) -> bool:
        """Whether a TTL node may be made."""
        given = self._loop.settings.extended_types_enabled
        if given is None:
            return self._possible and self.are_all_ours()
        return given

    def why_refused(self) -> str:
        """Why no server of another kind may learn from us; empty: it may."""
        safe = self._loop.settings.extended_types_enabled or not self.holds_ttl()
        return "" if safe else REFUSED

    def holds_ttl(self) -> bool:
        """Whether there are TTL nodes, or may be soon."""
        writer = self._loop.writer
        tail = [txns.decode(proposal.txn) for proposal in writer.tail]
        if any(map(_makes_ttl, [*writer.pending(writer.applied), *tail])):
            return True
        with writer.views.open() as view:
            since = b""
            while page := view.sweep_candidates(since, _PAGE):
                for _, path in page:
                    value = view.node(path)
                    if value is not None and nodes.is_ttl(nodes.unpack(value)[nodes.OWNER]):
                        return True
                since = page[-1][0] + b"\0"
        return False


def _makes_ttl(txn: Txn) -> bool:
    if txn.type != op.MULTI:
        return txn.type == op.CREATE_TTL
    return any(kind == op.CREATE_TTL for kind, _ in txn.body[0])
