"""The watches of one session: who waits for which path, and what a new connection must arm again.

Owns:   the tables of one-shot waiters, of the queues of persistent watches, and of the listener's
        paths: one function that is told of every event, as ZooKeeper's own clients have it.
Invariants:
  1. NoLostWake: a waiter is in the table before its read is sent and leaves it only by being woken,
     or because the read set no watch. A wake-up too many is allowed: it means "read again".
  2. A waiter that nobody holds any more is not armed again: the table refers to it weakly.
Design: one-shot watches carry the observations, because a server catches up on them after a
        reconnect (setWatches compares with the last zxid seen) and does not on persistent ones.
        Those get a GAP instead: read again.
Source: ZKWatchManager, ClientCnxn.SendThread.primeConnection; reference: section D, V3, W10.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from enum import IntEnum
from typing import Final, NamedTuple
from weakref import WeakSet

from zkstore.client.limits import EVENTS_MAX, SET_WATCHES_BYTES_MAX
from zkstore.proto import opcodes as op

# The lists of setWatches2, in its order.
DATA: Final = 0
EXIST: Final = 1
CHILD: Final = 2
PERSISTENT: Final = 3
RECURSIVE: Final = 4

# Which one-shot watches an event uses up. Source: ZKWatchManager.materialize.
_USES_UP: Final = {
    op.NODE_CREATED: (DATA, EXIST),
    op.NODE_DELETED: (DATA, EXIST, CHILD),
    op.NODE_DATA_CHANGED: (DATA, EXIST),
    op.NODE_CHILDREN_CHANGED: (CHILD,),
}


class EventType(IntEnum):
    """What happened to a node."""

    CREATED = op.NODE_CREATED
    DELETED = op.NODE_DELETED
    DATA_CHANGED = op.NODE_DATA_CHANGED
    CHILDREN_CHANGED = op.NODE_CHILDREN_CHANGED
    GAP = -1  # events may be missing before this one: read again what you need


class Event(NamedTuple):
    type: EventType
    path: str  # the node's; of a GAP the watch's
    zxid: int  # of the change; -1 for a GAP, and from servers before 3.9


class Events:
    """The events of one persistent watch that its reader has not taken yet."""

    def __init__(self, path: bytes, shown: Callable[[bytes], str]) -> None:
        self._path = path
        self._shown = shown
        self._events: deque[Event] = deque()
        self._filled = asyncio.Event()

    def put(self, kind: EventType, path: bytes, zxid: int) -> None:
        if len(self._events) >= EVENTS_MAX:
            self._events.clear()
            kind, path, zxid = EventType.GAP, self._path, -1
        self._events.append(Event(kind, self._shown(path), zxid))
        self._filled.set()

    def gap(self) -> None:
        self.put(EventType.GAP, self._path, -1)

    def wake(self) -> None:
        """Let a reader who waits see that there is nothing more to come."""
        self._filled.set()

    def pop(self) -> Event | None:
        """The next event; None if none is left."""
        return self._events.popleft() if self._events else None

    async def wait(self) -> None:
        """Until there is an event, or `wake`."""
        self._filled.clear()
        await self._filled.wait()


class Watches:
    """One session's table; paths as they go over the wire."""

    def __init__(self) -> None:
        self._waiters: tuple[dict[bytes, WeakSet[asyncio.Event]], ...] = ({}, {}, {})
        self._events: dict[int, dict[bytes, list[Events]]] = {PERSISTENT: {}, RECURSIVE: {}}
        self._listened: tuple[set[bytes], ...] = (set(), set(), set(), set(), set())
        self.tell: Callable[[EventType, bytes, int], None] | None = None
        """The listener: (type, path, zxid)."""

    def listen(self, kind: int, path: bytes) -> None:
        self._listened[kind].add(path)

    def is_listening(self, kind: int, path: bytes) -> bool:
        return path in self._listened[kind]

    def unlisten(self, kind: int, path: bytes) -> bool:
        """Whether the listener had such a watch."""
        if path not in self._listened[kind]:
            return False
        self._listened[kind].remove(path)
        return True

    def add_waiter(self, kind: int, path: bytes, waiter: asyncio.Event) -> None:
        self._waiters[kind].setdefault(path, WeakSet()).add(waiter)

    def discard_waiter(self, kind: int, path: bytes, waiter: asyncio.Event) -> None:
        """The read failed and has set no watch."""
        waiting = self._waiters[kind].get(path)
        if waiting is not None:
            waiting.discard(waiter)
            if not waiting:
                del self._waiters[kind][path]

    def add_events(self, kind: int, path: bytes, events: Events) -> None:
        self._events[kind].setdefault(path, []).append(events)

    def discard_events(self, kind: int, path: bytes, events: Events) -> bool:
        """Whether it was the last watch of this kind on the path, so that the server's may go."""
        sharing = self._events[kind][path]
        sharing.remove(events)
        if not sharing:
            del self._events[kind][path]
        return not sharing

    def dispatch(self, kind: int, path: bytes, zxid: int) -> None:
        """Wake and tell all that an event of the server concerns; of an unknown type nobody."""
        for table in _USES_UP.get(kind, ()):
            for waiter in self._waiters[table].pop(path, ()):
                waiter.set()
        if kind not in _USES_UP:
            return
        told = list(self._events[PERSISTENT].get(path, ()))
        if self._events[RECURSIVE] and kind != op.NODE_CHILDREN_CHANGED:
            for ancestor in _upwards(path):
                told += self._events[RECURSIVE].get(ancestor, ())
        for events in told:
            events.put(EventType(kind), path, zxid)
        if self.tell is not None and self._is_listened(kind, path):
            self.tell(EventType(kind), path, zxid)

    def _is_listened(self, kind: int, path: bytes) -> bool:
        """Whether the event is the listener's; uses up the one-shot watches that it had for it."""
        used = [self.unlisten(table, path) for table in _USES_UP[kind]]
        if any(used) or path in self._listened[PERSISTENT]:
            return True
        return kind != op.NODE_CHILDREN_CHANGED and not self._listened[RECURSIVE].isdisjoint(
            _upwards(path)
        )

    def gap(self) -> None:
        """Events may have been lost: all persistent watches are told."""
        for events in self._all_events():
            events.gap()

    def wake_all(self) -> None:
        """Nothing more will come over this connection: whoever waits has to look for himself."""
        for table in self._waiters:
            for waiting in table.values():
                for waiter in waiting:
                    waiter.set()
            table.clear()
        for events in self._all_events():
            events.wake()

    def _all_events(self) -> Iterator[Events]:
        for table in self._events.values():
            for sharing in table.values():
                yield from sharing

    def armed(self) -> Iterator[list[list[bytes]]]:
        """What a new connection has to arm, in portions: the five lists of setWatches2."""
        portion: list[list[bytes]] = [[], [], [], [], []]
        size = 0
        for kind, path in self._paths():
            if size + 4 + len(path) > SET_WATCHES_BYTES_MAX and size:
                yield portion
                portion, size = [[], [], [], [], []], 0
            portion[kind].append(path)
            size += 4 + len(path)
        if size:
            yield portion

    def _paths(self) -> Iterator[tuple[int, bytes]]:
        for kind, table in enumerate(self._waiters):
            for path in [path for path, waiting in table.items() if not waiting]:
                del table[path]
            for path in table:
                yield kind, path
        for kind, queues in self._events.items():
            for path in queues:
                yield kind, path
        for kind, paths in enumerate(self._listened):
            for path in paths:
                yield kind, path


def _upwards(path: bytes) -> Iterator[bytes]:
    """The path itself, then its ancestors up to the root."""
    while path != b"/":
        yield path
        path = path[: path.rindex(b"/")] or b"/"
    yield path
