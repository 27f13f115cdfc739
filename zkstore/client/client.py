"""The client: one session, and the nodes as bytes.

    async with Client("zk1:2181,zk2:2181/app") as client:
        await client.create("/config", b"on")

Owns:   the session.
Invariants:
  1. One client is one session. It survives lost connections and servers; once it has expired, every
     call raises SessionExpired, and a new client is needed: ephemeral nodes are gone, and only the
     program knows what to do about that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType

from zkstore.client import hosts
from zkstore.client.codec import BYTES
from zkstore.client.paths import Paths
from zkstore.client.raw import Raw
from zkstore.client.session import Auth, Session, State, States
from zkstore.client.tree import Tree
from zkstore.client.watches import Event


class Client(Tree[bytes]):
    """A session with a ZooKeeper service, for one event loop."""

    def __init__(
        self,
        connect: str = "127.0.0.1:2181",
        *,
        session_timeout_ms: int = 10_000,
        auth: Sequence[Auth] = (),
        accept_read_only: bool = False,
        fail_fast: bool = False,
    ) -> None:
        """`connect` is `host:port,host:port/chroot`; `auth` are (scheme, credentials).

        `accept_read_only`: content with a server that has lost the others and answers reads only.
        `fail_fast`: calls do not wait for a server: each attempt to connect that fails is a
        ConnectionLoss for those that wait; `start` then serves better than `connect`.
        Raises: ValueError for a connect string that is none.
        """
        addresses, chroot = hosts.parse(connect)
        session = Session(
            hosts.Hosts(addresses),
            session_timeout_ms,
            auth,
            accept_read_only=accept_read_only,
            fail_fast=fail_fast,
        )
        super().__init__(session, Paths(chroot), BYTES)

    async def connect(self) -> None:
        """Open the session; tries the servers until one answers, so give it a time limit.

        Raises: AuthFailed.
        """
        self._session.start()
        connected = False
        try:
            await self._session.wait_connected()
            connected = True
        finally:
            if not connected:
                await self._session.close()

    def start(self) -> None:
        """Begin to open the session, without waiting for it."""
        self._session.start()

    async def settled(self) -> None:
        """Until there is a connection, an attempt to connect has failed, or the session is over."""
        await self._session.settled()

    async def close(self) -> None:
        """End the session, and its ephemeral nodes with it."""
        await self._session.close()

    async def __aenter__(self) -> Client:
        await self.connect()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    @property
    def state(self) -> State:
        return self._session.state

    def states(self) -> States:
        """An async iterator: the present state, then each change; ends behind a final one."""
        return States(self._session)

    @property
    def session_id(self) -> int:
        """The owner of this client's ephemeral nodes, in their Stat; 0 before the first
        connection."""
        return self._session.session_id

    @property
    def read_only(self) -> bool:
        """Whether the present server answers reads only."""
        return self._session.read_only

    @property
    def session_timeout_ms(self) -> int:
        """As the server granted it."""
        return self._session.timeout_ms

    def raw(self, tell: Callable[[Event], None]) -> Raw:
        """What ZooKeeper's own shell can do besides; `tell` is called for each event of its
        watches. One for each client."""
        return Raw(self._session, self._paths, tell)

    async def add_auth(self, scheme: str, credentials: bytes | None) -> None:
        """Add an identity, for this session's further requests. Raises: AuthFailed, which is
        final."""
        await self._session.add_auth(scheme, credentials)
