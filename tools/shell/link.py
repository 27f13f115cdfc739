"""The shell's session, and the next one after `connect`.

Owns:   the client, and the task that tells of its states.
Invariants:
  1. Events and states are told in their order, each before the reply of a command that is sent
     after it.
Design: calls fail as soon as an attempt to connect does: who types wants to know, not to wait.
Not here: which thread the loop runs on (main.py).
Source: ZooKeeperMain.connectToZK, ClientCnxn.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

from zkstore.client import AuthFailed, Client, Event, State
from zkstore.client.raw import Raw
from zkstore.errors import Code, ZkstoreError, ZooKeeperError

from . import text
from .grammar import Refused

R = TypeVar("R")
_SETTLE_SECONDS_MAX: Final = 1.0

# How Java calls the states: the client's in the prompt, and the server's in an event.
_SHOWN: Final = {
    State.CONNECTING: "CONNECTING",
    State.CONNECTED: "CONNECTED",
    State.CLOSED: "CLOSED",
    State.EXPIRED: "CLOSED",
    State.AUTH_FAILED: "AUTH_FAILED",
}
_TOLD: Final = {
    State.CONNECTING: "Disconnected",
    State.CONNECTED: "SyncConnected",
    State.CLOSED: "Closed",
    State.EXPIRED: "Expired",
    State.AUTH_FAILED: "AuthFailed",
}


class Failed(Refused):
    """An operation that the server, or the way to it, refused."""

    def __init__(self, code: Code, path: str | None) -> None:
        super().__init__(text.failure(code, path))
        self.code = code
        self.keeper_error = text.keeper_error(code, path)


class Link:
    def __init__(self, tell: Callable[[str], None], timeout_ms: int, read_only: bool) -> None:
        """`tell` gets the text of each event."""
        self.host = ""
        self._tell = tell
        self._timeout_ms = timeout_ms
        self._read_only = read_only
        self._client: Client | None = None
        self._raw: Raw | None = None
        self._states: asyncio.Task[None] | None = None

    @property
    def client(self) -> Client:
        assert self._client is not None
        return self._client

    @property
    def raw(self) -> Raw:
        assert self._raw is not None
        return self._raw

    @property
    def has_chroot(self) -> bool:
        return bool(self.host.partition("/")[2].strip("/"))

    @property
    def is_alive(self) -> bool:
        """Whether there is a session, or may be one again."""
        if self._client is None:
            return False
        return self._client.state in (State.CONNECTING, State.CONNECTED)

    @property
    def state(self) -> str:
        """As the prompt shows it."""
        if self._client is None:
            return _SHOWN[State.CLOSED]
        is_read_only = self._client.state is State.CONNECTED and self._client.read_only
        return "CONNECTEDREADONLY" if is_read_only else _SHOWN[self._client.state]

    async def connect(self, host: str, *, wait: bool) -> None:
        """Open a session, after the end of the one before; `wait` until it is there.

        Raises: Refused for what is no list of servers; Failed if there is no session in time.
        """
        try:
            client = Client(
                host,
                session_timeout_ms=self._timeout_ms,
                accept_read_only=self._read_only,
                fail_fast=True,
            )
        except ValueError as error:
            raise Refused(str(error)) from None
        await self.close()
        self.host, self._client, self._raw = host, client, client.raw(self._on_event)
        client.start()
        self._states = asyncio.create_task(self._follow(client), name="zkstore-shell")
        seconds = self._timeout_ms / 1000 if wait else _SETTLE_SECONDS_MAX
        try:
            async with asyncio.timeout(seconds):
                await client.settled()
                while wait and client.state is State.CONNECTING:
                    await client.settled()
        except TimeoutError:
            if wait:
                await self.close()
                raise Failed(Code.CONNECTION_LOSS, None) from None

    async def close(self) -> None:
        """End the session, if there is one."""
        if self._client is not None:
            await self._client.close()
        if self._states is not None:
            await self._states
            self._states = None

    async def ask(self, path: str | None, call: Coroutine[Any, Any, R]) -> R:
        """The result of an operation on a path. Raises: Failed, Refused."""
        try:
            return await call
        except ZooKeeperError as error:
            raise Failed(error.code, path) from None
        except ZkstoreError as error:
            raise Refused(str(error)) from None

    async def add_auth(self, scheme: str, credentials: bytes | None) -> None:
        """An identity that the server refuses ends the session; the event tells of it."""
        try:
            async with asyncio.timeout(self._timeout_ms / 1000):
                await self.client.add_auth(scheme, credentials)
        except AuthFailed:
            return
        except TimeoutError:
            raise Failed(Code.CONNECTION_LOSS, None) from None

    def told(self, kind: str, path: str) -> None:
        """Tell of what happened to a watch on this side."""
        self._tell(text.watched(kind, self._event_state(State.CONNECTED), path, -1))

    def _on_event(self, event: Event) -> None:
        state = self._event_state(State.CONNECTED)
        self._tell(text.watched(text.event_name(event), state, event.path, event.zxid))

    def _event_state(self, state: State) -> str:
        if state is State.CONNECTED and self.client.read_only:
            return "ConnectedReadOnly"
        return _TOLD[state]

    async def _follow(self, client: Client) -> None:
        """Tell of every state but the first, which is how each session begins."""
        begun = False
        async for state in client.states():
            if begun or state is not State.CONNECTING:
                self._tell(text.watched("None", self._event_state(state), None, -1))
            begun = True
