"""The operations on nodes, with values of the program's own type.

Owns:   nothing but the view: chroot and codec; the session is the client's.
Design: a `Tree` costs nothing, so one session serves as many codecs as a program likes. An
        operation is one request, except where its docstring says otherwise.
Not here: recipes such as locks, barriers and queues: kazoo has them, and speaks to the same server.
Source: ZooKeeper.java; reference: section B.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import AsyncIterator, Sequence
from typing import Final, Generic, TypeVar

from zkstore.client.codec import Codec
from zkstore.client.errors import NoAuth, NodeExists, NoNode
from zkstore.client.limits import PAGE_NODES
from zkstore.client.model import ANY_VERSION, OPEN, Acl, Creation, Node, Perms, acl_entries
from zkstore.client.paths import Paths, ancestors, join
from zkstore.client.session import Session
from zkstore.client.transaction import Transaction
from zkstore.client.watch import Observation, Watch
from zkstore.client.watches import CHILD, DATA, EXIST
from zkstore.errors import ZkstoreError
from zkstore.jute.codec import buffer
from zkstore.proto import client_replies as replies
from zkstore.proto import client_requests as requests
from zkstore.proto import opcodes as op
from zkstore.proto.client_replies import Stat

T = TypeVar("T")
U = TypeVar("U")

# The reads that leave a one-shot watch, by its kind.
_READS: Final = {DATA: op.GET_DATA, EXIST: op.EXISTS, CHILD: op.GET_CHILDREN2}


class Tree(Generic[T]):
    """Nodes with values of type T.

    Every operation raises the classes of client/errors.py; those that write also ConnectionLoss.
    What the codec raises comes through as it is.
    """

    def __init__(self, session: Session, paths: Paths, codec: Codec[T]) -> None:
        self._session = session
        self._paths = paths
        self._codec = codec

    def typed(self, codec: Codec[U]) -> Tree[U]:
        """The same nodes over the same session, with values of another type."""
        return Tree(self._session, self._paths, codec)

    # ---- writes

    async def create(
        self,
        path: str,
        value: T | None = None,
        *,
        ephemeral: bool = False,
        sequential: bool = False,
        container: bool = False,
        ttl_ms: int | None = None,
        acl: Sequence[Acl] = OPEN,
        parents: bool = False,
    ) -> Node[T]:
        """Create a node; its path is the result's, which a sequential one has from the server.

        With `parents` missing ancestors are created as well, persistent and open; that takes a few
        requests more.
        Raises: NodeExists, NoNode (the parent is missing), NoChildrenForEphemerals.
        """
        data = b"" if value is None else self._codec.encode(value)
        creation = Creation(
            ephemeral=ephemeral, sequential=sequential, container=container, ttl_ms=ttl_ms, acl=acl
        )
        kind, body = creation.request(self._paths.wire(path), data)
        try:
            frame = await self._write(kind, body, f"create {path}")
        except NoNode:
            if not parents:
                raise
            await self._create_ancestors(path)
            frame = await self._write(kind, body, f"create {path}")
        created, stat, _ = replies.read_created(frame, replies.BODY)
        shown = self._codec.decode(b"") if value is None else value
        return Node(self._paths.shown(created), shown, stat)

    async def _create_ancestors(self, path: str) -> None:
        """Those of the chroot too: its first user makes it. From below upwards it is found out what
        is missing, as a client may have no right to create in a node far above."""
        missing: list[bytes] = []
        for ancestor in reversed(ancestors(self._paths.wire(path).decode())):
            try:
                body = requests.path_bool(ancestor.encode(), False)
                await self._read(op.EXISTS, body, f"exists {ancestor}")
                break
            except NoAuth:
                break  # it is there, if not for us to read
            except NoNode:
                missing.append(ancestor.encode())
        for wire in reversed(missing):
            try:
                await self._write(*Creation().request(wire, b""), f"create {wire.decode()}")
            except NodeExists:
                continue  # somebody else was faster

    async def set(self, path: str, value: T, version: int = ANY_VERSION) -> Node[T]:
        """Write a value. Raises: NoNode; BadVersion if the node's version is another one."""
        body = requests.set_data(self._paths.wire(path), self._codec.encode(value), version)
        frame = await self._write(op.SET_DATA, body, f"set {path}")
        return Node(path, value, replies.read_stat(frame, replies.BODY)[0])

    async def delete(self, path: str, version: int = ANY_VERSION) -> None:
        """Raises: NoNode, BadVersion, NotEmpty."""
        body = requests.path_int(self._paths.wire(path), version)
        await self._write(op.DELETE, body, f"delete {path}")

    async def set_acl(self, path: str, acl: Sequence[Acl], version: int = ANY_VERSION) -> Stat:
        """`version` is compared with the ACL's own, `aversion`."""
        body = requests.set_acl(self._paths.wire(path), acl_entries(acl), version)
        frame = await self._write(op.SET_ACL, body, f"set the ACL of {path}")
        return replies.read_stat(frame, replies.BODY)[0]

    def transaction(self) -> Transaction[T]:
        """Gather writes, and commit them as one."""
        return Transaction(self._session, self._paths, self._codec)

    # ---- reads

    async def get(self, path: str) -> Node[T]:
        """Raises: NoNode."""
        body = requests.path_bool(self._paths.wire(path), False)
        return self._node(path, await self._read(op.GET_DATA, body, f"get {path}"))

    async def exists(self, path: str) -> Stat | None:
        """The node's Stat; None if there is no node."""
        body = requests.path_bool(self._paths.wire(path), False)
        try:
            frame = await self._read(op.EXISTS, body, f"exists {path}")
        except NoNode:
            return None
        return replies.read_stat(frame, replies.BODY)[0]

    async def get_version(self, path: str) -> int:
        """The version of the node's value, without the value. Raises: NoNode."""
        body = requests.path_bool(self._paths.wire(path), False)
        frame = await self._read(op.EXISTS, body, f"version of {path}")
        return replies.read_stat(frame, replies.BODY)[0].version

    async def children(self, path: str) -> list[str]:
        """The names of the node's children, sorted. Raises: NoNode."""
        body = requests.path_bool(self._paths.wire(path), False)
        return _names(await self._read(op.GET_CHILDREN2, body, f"children of {path}"))

    async def nodes(self, path: str, *, after: str = "") -> AsyncIterator[Node[T]]:
        """The node's children with their values, in order of name, those behind `after`.

        Not a snapshot: a child that comes or goes meanwhile may be there or not. Takes as many
        requests as there are children, many at a time. Raises: NoNode.
        """
        async for page in self.pages(path, after=after):
            for node in page:
                yield node

    async def pages(self, path: str, *, after: str = "") -> AsyncIterator[list[Node[T]]]:
        """`nodes`, in portions as they come."""
        names = await self.children(path)
        for start in range(bisect_right(names, after), len(names), PAGE_NODES):
            portion = names[start : start + PAGE_NODES]
            found = await asyncio.gather(*(self._find(join(path, name)) for name in portion))
            yield [node for node in found if node is not None]

    async def _find(self, path: str) -> Node[T] | None:
        try:
            return await self.get(path)
        except NoNode:
            return None

    async def get_acl(self, path: str) -> tuple[list[Acl], Stat]:
        """Raises: NoNode, NoAuth."""
        frame = await self._read(op.GET_ACL, buffer(self._paths.wire(path)), f"ACL of {path}")
        entries, stat = replies.read_acl(frame)
        shown = [
            Acl(Perms(perms), scheme.decode(errors="replace"), ident.decode(errors="replace"))
            for perms, scheme, ident in entries
        ]
        return shown, stat

    async def sync(self, path: str = "/") -> None:
        """Let this client's server catch up: reads after it see all writes made before it."""
        await self._read(op.SYNC, buffer(self._paths.wire(path)), f"sync {path}")

    # ---- changes

    def watch(self, path: str, *, recursive: bool = False) -> Watch:
        """The events of a node and of its children's coming and going; `recursive`: of all below.

        Armed by `async with`; whether the node exists does not matter.
        """
        return Watch(self._session, self._paths, path, recursive)

    def observe(self, path: str) -> Observation[Node[T]]:
        """The node as it is now and after each change of its value; None while there is none."""
        return Observation(
            lambda waiter: self._read_watching(DATA, path, waiter),
            lambda reply: replies.read_data(reply)[1].mzxid,
            lambda reply: self._node(path, reply),
        )

    def observe_children(self, path: str) -> Observation[list[str]]:
        """The sorted names of the children, now and after each change; None while the node is
        not there."""
        return Observation(
            lambda waiter: self._read_watching(CHILD, path, waiter),
            lambda reply: replies.read_children(reply)[1].pzxid,
            _names,
        )

    async def _read_watching(self, kind: int, path: str, waiter: asyncio.Event) -> bytes | None:
        """The reply of a read that leaves a watch; None if the node is missing: then a watch for
        its creation is left."""
        while True:
            try:
                return await self._arm(kind, path, waiter)
            except NoNode:
                pass  # a read of a missing node leaves no watch, but an exists does
            try:
                await self._arm(EXIST, path, waiter)
            except NoNode:
                return None
            self._session.watches.discard_waiter(EXIST, self._paths.wire(path), waiter)

    async def _arm(self, kind: int, path: str, waiter: asyncio.Event) -> bytes:
        wire = self._paths.wire(path)
        watches = self._session.watches
        watches.add_waiter(kind, wire, waiter)
        try:
            return await self._read(_READS[kind], requests.path_bool(wire, True), f"observe {path}")
        except ZkstoreError as error:
            if not (kind == EXIST and isinstance(error, NoNode)):
                watches.discard_waiter(kind, wire, waiter)
            raise

    # ---- what they share

    async def _read(self, kind: int, body: bytes, detail: str) -> bytes:
        return await self._session.call(kind, body, detail, repeatable=True)

    async def _write(self, kind: int, body: bytes, detail: str) -> bytes:
        return await self._session.call(kind, body, detail, repeatable=False)

    def _node(self, path: str, frame: bytes) -> Node[T]:
        data, stat = replies.read_data(frame)
        return Node(path, self._codec.decode(data or b""), stat)


def _names(frame: bytes) -> list[str]:
    """Sorted as the bytes are, which is how their code points are."""
    return [name.decode(errors="replace") for name in sorted(replies.read_children(frame)[0])]
