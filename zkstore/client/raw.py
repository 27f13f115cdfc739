"""What ZooKeeper's own shell can do and `Tree` does not: null values, a listener, administration.

What for: shells and tools. Programs are better served by `Tree`, whose watches survive all that
        happens to connections; here a watch is the server's, with one function that hears of all.
Invariants:
  1. A watch is in the table before its read is sent, and leaves it if the read has set none.
Not here: re-arming watches after a reconnect, and whose events they are (watches.py).
Source: ZooKeeper.java, ZooKeeperAdmin.java; reference: sections B, D.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Final, NamedTuple

from zkstore.client.errors import ConnectionLoss, NoNode
from zkstore.client.model import Creation
from zkstore.client.paths import Paths
from zkstore.client.session import Session
from zkstore.client.watches import CHILD, DATA, EXIST, PERSISTENT, RECURSIVE, Event, EventType
from zkstore.errors import ZkstoreError
from zkstore.jute.codec import buffer, read_int, read_texts
from zkstore.proto import client_replies as replies
from zkstore.proto import client_requests as requests
from zkstore.proto import opcodes as op
from zkstore.proto.client_replies import Stat

CONFIG: Final = "/zookeeper/config"


class WatchKind(IntEnum):
    """Which watches of a path are meant. Source: Watcher.WatcherType."""

    CHILDREN = 1
    DATA = 2
    ANY = 3
    PERSISTENT = 4
    RECURSIVE = 5


_TABLES: Final = {
    WatchKind.CHILDREN: (CHILD,),
    WatchKind.DATA: (DATA, EXIST),
    WatchKind.PERSISTENT: (PERSISTENT,),
    WatchKind.RECURSIVE: (RECURSIVE,),
}


class Identity(NamedTuple):
    """Whom the server takes the client for."""

    scheme: str
    user: str


class Raw:
    def __init__(self, session: Session, paths: Paths, tell: Callable[[Event], None]) -> None:
        self._session = session
        self._paths = paths
        self._tell = tell
        assert session.watches.tell is None, "one listener for each session"
        session.watches.tell = self._on_event

    def _on_event(self, kind: EventType, path: bytes, zxid: int) -> None:
        # The configuration's path is the only one that does not begin with the chroot.
        shown = CONFIG if path == CONFIG.encode() else self._paths.shown(path)
        self._tell(Event(kind, shown, zxid))

    # ---- nodes

    async def create(self, path: str, data: bytes | None, creation: Creation) -> str:
        """The created path. Raises: what Tree.create does."""
        kind, body = creation.request(self._paths.wire(path), data)
        frame = await self._session.call(kind, body, f"create {path}", repeatable=False)
        return self._paths.shown(replies.read_created(frame, replies.BODY)[0])

    async def get(self, path: str, *, watch: bool = False) -> tuple[bytes | None, Stat]:
        """Raises: NoNode, and leaves no watch then."""
        wire = self._paths.wire(path)
        return replies.read_data(await self._read(op.GET_DATA, wire, DATA if watch else None))

    async def exists(self, path: str, *, watch: bool = False) -> Stat | None:
        """The node's Stat; None if there is no node: then the watch is for its creation."""
        wire = self._paths.wire(path)
        try:
            frame = await self._read(op.EXISTS, wire, EXIST if watch else None)
        except NoNode:
            return None
        # Of a node that is there the server's watch is one of data: so it is armed again.
        if self._session.watches.unlisten(EXIST, wire):
            self._session.watches.listen(DATA, wire)
        return replies.read_stat(frame, replies.BODY)[0]

    async def children(self, path: str, *, watch: bool = False) -> tuple[list[str], Stat]:
        """The sorted names, and the parent's Stat. Raises: NoNode, and leaves no watch then."""
        wire = self._paths.wire(path)
        frame = await self._read(op.GET_CHILDREN2, wire, CHILD if watch else None)
        names, stat = replies.read_children(frame)
        return [name.decode(errors="replace") for name in sorted(names)], stat

    async def descendants(self, path: str) -> int:
        """How many nodes there are below a node. Raises: NoNode."""
        body = buffer(self._paths.wire(path))
        frame = await self._call(op.GET_ALL_CHILDREN_NUMBER, body, f"descendants of {path}")
        return read_int(frame, replies.BODY)[0]

    async def ephemerals(self, prefix: str = "/") -> list[str]:
        """This session's ephemeral nodes whose path begins so; paths without regard to the
        chroot, as in Java."""
        frame = await self._call(op.GET_EPHEMERALS, buffer(prefix.encode()), "ephemerals")
        return [path.decode(errors="replace") for path in read_texts(frame, replies.BODY)[0]]

    # ---- watches

    async def add_watch(self, path: str, *, recursive: bool) -> None:
        wire = self._paths.wire(path)
        watches = self._session.watches
        kind = RECURSIVE if recursive else PERSISTENT
        had = watches.is_listening(kind, wire)
        watches.listen(kind, wire)
        try:
            body = requests.path_int(wire, 1 if recursive else 0)
            await self._call(op.ADD_WATCH, body, f"watch {path}")
        except ZkstoreError:
            if not had:
                watches.unlisten(kind, wire)
            raise

    async def remove_watches(self, path: str, kind: WatchKind, *, local: bool) -> list[WatchKind]:
        """The kinds that there were. `local`: without a connection forget them all the same.

        Raises: ZooKeeperError with NO_WATCHER.
        """
        wire = self._paths.wire(path)
        try:
            body = requests.path_int(wire, kind)
            await self._session.call(
                op.REMOVE_WATCHES, body, f"remove the watches of {path}", repeatable=False
            )
        except ConnectionLoss:
            if not local:
                raise
        kinds = _TABLES if kind is WatchKind.ANY else (kind,)
        return [one for one in kinds if self._unlisten(one, wire)]

    def _unlisten(self, kind: WatchKind, wire: bytes) -> bool:
        had = [self._session.watches.unlisten(table, wire) for table in _TABLES[kind]]
        return any(had)

    # ---- the service

    async def who_am_i(self) -> list[Identity]:
        frame = await self._call(op.WHO_AM_I, b"", "who am I")
        return [
            Identity(scheme.decode(errors="replace"), user.decode(errors="replace"))
            for scheme, user in replies.read_identities(frame)
        ]

    async def config(self, *, watch: bool = False) -> tuple[bytes | None, Stat]:
        """The ensemble's configuration, wherever the chroot is. Raises: NoNode."""
        kind = DATA if watch else None
        return replies.read_data(await self._read(op.GET_DATA, CONFIG.encode(), kind))

    async def reconfigure(
        self, joining: str | None, leaving: str | None, members: str | None, version: int
    ) -> tuple[bytes | None, Stat]:
        """Change the ensemble, if its configuration has this version (-1: any); the new
        configuration. Raises: what the leader has against it."""
        body = requests.reconfig(_encoded(joining), _encoded(leaving), _encoded(members), version)
        frame = await self._session.call(op.RECONFIG, body, "reconfigure", repeatable=False)
        return replies.read_data(frame)

    # ---- what they share

    async def _call(self, kind: int, body: bytes, detail: str) -> bytes:
        return await self._session.call(kind, body, detail, repeatable=True)

    async def _read(self, kind: int, wire: bytes, watch: int | None) -> bytes:
        """A read that leaves a one-shot watch in this table, unless it is None."""
        detail = f"read {wire.decode(errors='replace')}"
        if watch is None:
            return await self._call(kind, requests.path_bool(wire, False), detail)
        watches = self._session.watches
        had = watches.is_listening(watch, wire)
        watches.listen(watch, wire)
        try:
            return await self._call(kind, requests.path_bool(wire, True), detail)
        except ZkstoreError as error:
            if not had and not (watch == EXIST and isinstance(error, NoNode)):
                watches.unlisten(watch, wire)
            raise


def _encoded(text: str | None) -> bytes | None:
    return None if text is None else text.encode()
