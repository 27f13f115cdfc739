"""Copying a live tree through the client protocol, from any server that speaks it.

Invariants:
  1. What was copied is compared with the server's tree afterwards; what differs is named.
Design: children are asked for a few hundred requests at a time, nodes handed on depth first. A
  client sees neither the mark of a container nor a TTL, and an ephemeral is its session's: the
  first two become ordinary nodes, the last are left out.
Not here: the client (zkstore/client); writing the tree (zkstore/storage/loader.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from zkstore.apache.snapshot import Znode
from zkstore.client import Client, NoNode
from zkstore.errors import RemoteProtocolError, ZkstoreError, ZooKeeperError
from zkstore.jute.codec import buffer, read_buffer
from zkstore.proto import client_replies as replies
from zkstore.proto import client_requests as requests
from zkstore.proto import opcodes as op
from zkstore.proto.client_replies import Stat
from zkstore.storage.offline import Offline
from zkstore.tree import acl as acls
from zkstore.tree import node as nodes
from zkstore.tree.paths import ROOT

from .common import text

_PORTION: Final = 200
_CONNECT_TIMEOUT_S: Final = 15.0
_SESSION_TIMEOUT_MS: Final = 60_000


@dataclass(slots=True)
class Found:
    """A node as the server shows it."""

    path: bytes
    data: bytes | None
    stat: Stat
    acl: bytes  # encoded


@dataclass(slots=True)
class Copied:
    """What the server told beside the nodes."""

    zxid: int = 0  # of its newest reply
    ephemerals: int = 0  # left out
    masked: int = 0  # nodes whose ACL has a password's hash that the server does not show
    differs: list[str] = field(default_factory=list)


class _Reader(Client):
    """A client that sees replies as they are: null data, and the zxid in their header."""

    zxid = 0

    async def _raw(self, kind: int, body: bytes, path: bytes) -> bytes:
        frame = await self._read(kind, body, text(path))
        self.zxid = max(self.zxid, replies.read_header(frame)[1])
        return frame

    async def find(self, path: bytes) -> Found | None:
        """One node; None if it is gone."""
        try:
            shown, listed = await asyncio.gather(
                self._raw(op.GET_DATA, requests.path_bool(path, False), path),
                self._raw(op.GET_ACL, buffer(path), path),
            )
        except NoNode:
            return None
        data, offset = read_buffer(shown, replies.BODY)
        stat, _ = replies.read_stat(shown, offset)
        acl = acls.encode(tuple(replies.read_acl(listed)[0]))
        return Found(path, data, stat, acl)

    async def names(self, path: bytes) -> list[bytes]:
        """The names of a node's children, sorted; none if it is gone."""
        try:
            frame = await self._raw(op.GET_CHILDREN2, requests.path_bool(path, False), path)
        except NoNode:
            return []
        return sorted(replies.read_children(frame)[0])

    async def portions(self, path: bytes) -> AsyncIterator[list[Found]]:
        """A node's children, a portion at a time."""
        base = b"" if path == ROOT else path
        names = await self.names(path)
        for start in range(0, len(names), _PORTION):
            found = await asyncio.gather(
                *(self.find(base + b"/" + name) for name in names[start : start + _PORTION])
            )
            yield [one for one in found if one is not None]

    async def walk(self) -> AsyncIterator[Found]:
        """All nodes, parents first, depth first."""
        root = await self.find(ROOT)
        if root is None:
            raise RemoteProtocolError("the server has no root")
        yield root
        levels = [(self.portions(ROOT), iter(list[Found]()))]
        while levels:
            portions, found = levels[-1]
            one = next(found, None)
            if one is None:
                portion = await anext(portions, None)
                if portion is None:
                    levels.pop()
                else:
                    levels[-1] = (portions, iter(portion))
                continue
            yield one
            if one.stat.num_children:
                levels.append((self.portions(one.path), iter(list[Found]())))


class Live:
    """A connection to a live server, used without an event loop of one's own. Close it."""

    def __init__(self, address: str, auth: list[str]) -> None:
        """`auth`: "scheme:credentials" each. Raises: ZkstoreError if there is no server."""
        self.address = address
        self.copied = Copied()
        self._runner = asyncio.Runner()
        given = [(one.partition(":")[0], one.partition(":")[2].encode()) for one in auth]
        try:
            self._client = _Reader(address, session_timeout_ms=_SESSION_TIMEOUT_MS, auth=given)
            self._runner.run(asyncio.wait_for(self._client.connect(), _CONNECT_TIMEOUT_S))
        except (TimeoutError, ValueError) as e:
            self._runner.close()
            raise ZkstoreError(f"{address}: no server answers {e}".rstrip()) from e

    def close(self) -> None:
        self._runner.run(self._client.close())
        self._runner.close()

    def _found(self) -> Iterator[Found]:
        walk = self._client.walk()

        async def step() -> Found | None:
            return await anext(walk, None)

        while True:
            try:
                one = self._runner.run(step())
            except ZooKeeperError as e:
                raise ZkstoreError(f"{self.address}: {e} (credentials: --auth)") from e
            if one is None:
                return
            yield one

    def nodes(self, acl_id: Callable[[bytes], int]) -> Iterator[Znode]:
        """All nodes but ephemerals; `acl_id` gives an encoded ACL its number."""
        for one in self._found():
            stat = one.stat
            if stat.ephemeral_owner:
                self.copied.ephemerals += 1
                continue
            if b":x" in one.acl and any(
                scheme == b"digest" and identity.endswith(b":x")
                for _, scheme, identity in acls.decode(one.acl)
            ):
                self.copied.masked += 1
            creates = (stat.cversion + stat.num_children) // 2
            times = (stat.czxid, stat.mzxid, stat.ctime_ms, stat.mtime_ms)
            counts = (stat.version, creates, stat.aversion)
            yield Znode(one.path, one.data, acl_id(one.acl), *times, *counts, 0, stat.pzxid)
            self.copied.zxid = self._client.zxid

    def compare(self, tree: Offline) -> int:
        """Look at the server's tree again; returns how many nodes differ, and names some."""
        table = dict(tree.acls())
        table[-1] = acls.OPEN_ENCODED
        differs = seen = 0
        for one in self._found():
            if one.stat.ephemeral_owner:
                continue
            seen += 1
            what = _difference(one, tree, table)
            if what:
                differs += 1
                self.copied.differs.append(f"{text(one.path)}: {what}")
                del self.copied.differs[20:]
        if seen < tree.totals.nodes and not differs:
            differs = tree.totals.nodes - seen
            self.copied.differs.append(f"{differs} nodes are gone from the server")
        return differs


def _difference(one: Found, tree: Offline, table: dict[int, bytes]) -> str:
    """What is not the same in the copy; empty: nothing."""
    value = tree.node(one.path)
    if value is None:
        return "not in the copy"
    if tree.data(value) != one.data:
        return "data"
    if table.get(nodes.unpack(value)[nodes.ACL_ID]) != one.acl:
        return "ACL"
    # Ephemeral children stay behind, so the number of children and what is made of it may differ.
    mine = Stat._make(nodes.unpack(value)[6:])
    same = one.stat._replace(cversion=mine.cversion, num_children=mine.num_children)
    return "" if mine == same else "Stat"
