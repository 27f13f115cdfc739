"""Following changes: `Observation` of a state, `Watch` of events.

Invariants:
  1. LatestState: an observation never ends with anything but the latest state, whatever happened to
     connections meanwhile: after each state that it gave, a watch is armed at the server or a
     wake-up is due.
  2. Changes, not wake-ups: it gives no state twice in a row.
Design: cancelling one step of an iteration (a time limit) harms nothing: the next step goes on.
Source: reference: section D, W10.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Final, Generic, TypeVar

from zkstore.client.errors import ClientClosed
from zkstore.client.paths import Paths
from zkstore.client.session import Session, State
from zkstore.client.watches import PERSISTENT, RECURSIVE, Event, Events
from zkstore.errors import ZooKeeperError
from zkstore.proto import client_requests as requests
from zkstore.proto import opcodes as op

_log: Final = logging.getLogger(__name__)
S = TypeVar("S")

# kind → (mode of addWatch, type of removeWatches). Source: AddWatchMode, WatcherType.
_MODES: Final = {PERSISTENT: (0, 4), RECURSIVE: (1, 5)}


class Observation(Generic[S]):
    """An async iterator: the state as it is, then as it is after each change.

    Gives None while there is no node. Several changes in quick succession may show as one. It needs
    no closing.
    """

    def __init__(
        self,
        read: Callable[[asyncio.Event], Awaitable[bytes | None]],
        mark: Callable[[bytes], int],
        show: Callable[[bytes], S],
    ) -> None:
        """`read(waiter)` gives the reply, None if there is no node, and leaves a watch that sets
        the waiter; `mark(reply)` differs between any two states; `show(reply)` is the state."""
        self._read = read
        self._mark = mark
        self._show = show
        self._waiter: asyncio.Event | None = None
        self._given: tuple[int | None] | None = None

    def __aiter__(self) -> Observation[S]:
        return self

    async def __anext__(self) -> S | None:
        """Raises: what a read raises, and what the codec makes of a value that it does not
        understand; the observation can go on after it."""
        while True:
            if self._waiter is not None:
                await self._waiter.wait()  # once set it stays so, until a read has gone well
            waiter = asyncio.Event()
            reply = await self._read(waiter)
            self._waiter = waiter
            mark = None if reply is None else self._mark(reply)
            if self._given != (mark,):
                self._given = (mark,)
                return None if reply is None else self._show(reply)


class Watch:
    """A persistent watch: armed inside its `async with` block, where it gives events.

    Events that were lost with a connection, or because nobody took them in time, are replaced by
    one GAP.
    """

    def __init__(self, session: Session, paths: Paths, path: str, recursive: bool) -> None:
        self._session = session
        self._detail = f"watch {path}"
        self._kind = RECURSIVE if recursive else PERSISTENT
        self._wire = paths.wire(path)
        self._events = Events(self._wire, paths.shown)

    async def __aenter__(self) -> Watch:
        watches = self._session.watches
        watches.add_events(self._kind, self._wire, self._events)
        armed = False
        try:
            body = requests.path_int(self._wire, _MODES[self._kind][0])
            await self._session.call(op.ADD_WATCH, body, self._detail, repeatable=True)
            armed = True
        finally:
            if not armed:
                watches.discard_events(self._kind, self._wire, self._events)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        last = self._session.watches.discard_events(self._kind, self._wire, self._events)
        if not last or self._session.state is not State.CONNECTED:
            return  # a server forgets the watches of a lost connection by itself
        body = requests.path_int(self._wire, _MODES[self._kind][1])
        try:
            await self._session.call(op.REMOVE_WATCHES, body, self._detail, repeatable=False)
        except (ZooKeeperError, ClientClosed) as failure:
            # Before 3.9 a server cannot remove just this one; then it stays until the connection
            # ends, and its events go to nobody.
            _log.debug("watch not removed: %s", failure)

    def __aiter__(self) -> Watch:
        return self

    async def __anext__(self) -> Event:
        """Raises: SessionExpired and its kin once all events are taken."""
        while (event := self._events.pop()) is None:
            if self._session.is_over:
                raise self._session.final_error()
            await self._events.wait()
        return event
