"""The synchronous face: the same operations, each of which waits for its end.

Owns:   a thread with an event loop, on which the asynchronous client lives.
Invariants:
  1. Any number of threads may share one client; each of them waits for its own call only.
  2. After `close` no call waits: each raises ClientClosed.
Design: nothing is done here but crossing over to the loop: what an operation does and raises stands
        in tree.py.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Generic, TypeVar

from zkstore.client.client import Client
from zkstore.client.codec import Codec
from zkstore.client.errors import ClientClosed, OperationTimeout
from zkstore.client.model import ANY_VERSION, OPEN, Acl, Node
from zkstore.client.session import Auth, State
from zkstore.client.transaction import Batch, Outcome
from zkstore.client.tree import Tree
from zkstore.client.watches import Event
from zkstore.errors import Code
from zkstore.proto.client_replies import Stat

T = TypeVar("T")
U = TypeVar("U")
R = TypeVar("R")


class LoopThread:
    """An event loop on a thread of its own, and the way to it."""

    def __init__(self, timeout_s: float | None) -> None:
        self.timeout_s = timeout_s
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._lock = threading.Lock()  # nothing is handed to a loop that ends
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        assert self._thread is None, "already started"
        started = threading.Event()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._main(started)), name="zkstore-client", daemon=True
        )
        self._thread.start()
        started.wait()

    async def _main(self, started: threading.Event) -> None:
        self._stop = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        started.set()
        await self._stop.wait()

    def run(self, coroutine: Coroutine[Any, Any, R], timeout_s: float | None) -> R:
        """Raises: what the coroutine raises; OperationTimeout, and then it is cancelled."""
        assert threading.current_thread() is not self._thread, "a wait that could never end"
        with self._lock:
            if self._loop is None:
                coroutine.close()
                raise ClientClosed("the client is not connected")
            future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result(timeout_s)
        except concurrent.futures.CancelledError:
            raise ClientClosed("the client was closed meanwhile") from None
        except TimeoutError:
            if future.done():  # it is the coroutine's own
                raise
            raise OperationTimeout(Code.OPERATION_TIMEOUT, f"after {timeout_s} s") from None
        finally:
            future.cancel()

    def stop(self) -> None:
        """End the loop; whatever still runs on it is cancelled."""
        with self._lock:
            if self._loop is not None:
                assert self._stop is not None
                self._loop.call_soon_threadsafe(self._stop.set)
                self._loop = None
        if self._thread is not None:
            self._thread.join()


class SyncIterator(Generic[R]):
    """An iterator over what comes: each step waits, without a time limit, for the next."""

    def __init__(self, loop: LoopThread, steps: AsyncIterator[R]) -> None:
        self._loop = loop
        self._steps = steps

    def __iter__(self) -> Iterator[R]:
        return self

    def __next__(self) -> R:
        return self.next(None)

    def next(self, timeout_s: float | None) -> R:
        """The next one. Raises: OperationTimeout; it is then still to come."""
        try:
            return self._loop.run(_step(self._steps), timeout_s)
        except StopAsyncIteration:
            raise StopIteration from None


async def _step(steps: AsyncIterator[R]) -> R:
    return await anext(steps)


class SyncTransaction(Batch[T]):
    """Committed at the end of its `with` block, unless that raises; or by `commit`."""

    def __init__(self, loop: LoopThread, batch: Batch[T]) -> None:
        super().__init__(batch._session, batch._paths, batch._codec)
        self._loop = loop

    def commit(self) -> list[Outcome]:
        """Raises: the error of the operation that failed; ConnectionLoss."""
        return self._loop.run(self._commit(), self._loop.timeout_s)

    def __enter__(self) -> SyncTransaction[T]:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.commit()


class SyncTree(Generic[T]):
    """`Tree`, synchronous: see there for what each operation does."""

    def __init__(self, loop: LoopThread, tree: Tree[T]) -> None:
        self._loop = loop
        self._tree = tree

    def _wait(self, coroutine: Coroutine[Any, Any, R]) -> R:
        return self._loop.run(coroutine, self._loop.timeout_s)

    def typed(self, codec: Codec[U]) -> SyncTree[U]:
        return SyncTree(self._loop, self._tree.typed(codec))

    def create(
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
        return self._wait(
            self._tree.create(
                path,
                value,
                ephemeral=ephemeral,
                sequential=sequential,
                container=container,
                ttl_ms=ttl_ms,
                acl=acl,
                parents=parents,
            )
        )

    def set(self, path: str, value: T, version: int = ANY_VERSION) -> Node[T]:
        return self._wait(self._tree.set(path, value, version))

    def delete(self, path: str, version: int = ANY_VERSION) -> None:
        self._wait(self._tree.delete(path, version))

    def set_acl(self, path: str, acl: Sequence[Acl], version: int = ANY_VERSION) -> Stat:
        return self._wait(self._tree.set_acl(path, acl, version))

    def transaction(self) -> SyncTransaction[T]:
        return SyncTransaction(self._loop, self._tree.transaction())

    def get(self, path: str) -> Node[T]:
        return self._wait(self._tree.get(path))

    def exists(self, path: str) -> Stat | None:
        return self._wait(self._tree.exists(path))

    def get_version(self, path: str) -> int:
        return self._wait(self._tree.get_version(path))

    def children(self, path: str) -> list[str]:
        return self._wait(self._tree.children(path))

    def nodes(self, path: str, *, after: str = "") -> Iterator[Node[T]]:
        pages = self._tree.pages(path, after=after)
        while True:
            try:
                yield from self._wait(_step(pages))
            except StopAsyncIteration:
                return

    def get_acl(self, path: str) -> tuple[list[Acl], Stat]:
        return self._wait(self._tree.get_acl(path))

    def sync(self, path: str = "/") -> None:
        self._wait(self._tree.sync(path))

    @contextmanager
    def watch(self, path: str, *, recursive: bool = False) -> Iterator[SyncIterator[Event]]:
        watch = self._tree.watch(path, recursive=recursive)
        self._wait(watch.__aenter__())
        try:
            yield SyncIterator(self._loop, watch)
        finally:
            self._wait(watch.__aexit__(None, None, None))

    def observe(self, path: str) -> SyncIterator[Node[T] | None]:
        return SyncIterator(self._loop, self._tree.observe(path))

    def observe_children(self, path: str) -> SyncIterator[list[str] | None]:
        return SyncIterator(self._loop, self._tree.observe_children(path))


class SyncClient(SyncTree[bytes]):
    """`Client`, synchronous; usable from any thread.

    with SyncClient("zk1:2181,zk2:2181/app") as client:
        client.create("/config", b"on")
    """

    def __init__(
        self,
        connect: str = "127.0.0.1:2181",
        *,
        session_timeout_ms: int = 10_000,
        auth: Sequence[Auth] = (),
        operation_timeout_s: float | None = 30.0,
    ) -> None:
        """`operation_timeout_s` ends every call but the iterators' with OperationTimeout; None:
        never."""
        client = Client(connect, session_timeout_ms=session_timeout_ms, auth=auth)
        super().__init__(LoopThread(operation_timeout_s), client)
        self._client = client

    def connect(self) -> None:
        """Open the session. Raises: OperationTimeout if no server answers; AuthFailed."""
        self._loop.start()
        try:
            self._wait(self._client.connect())
        except BaseException:
            self._loop.stop()
            raise

    def close(self) -> None:
        """End the session, and its ephemeral nodes with it; may be called again."""
        try:
            self._wait(self._client.close())
        except ClientClosed:
            pass  # it was closed before
        finally:
            self._loop.stop()

    def __enter__(self) -> SyncClient:
        self.connect()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def state(self) -> State:
        return self._client.state

    def states(self) -> SyncIterator[State]:
        """The present state, then each change; ends behind a final state, with ClientClosed when
        the client is closed."""
        return SyncIterator(self._loop, self._client.states())

    @property
    def session_id(self) -> int:
        return self._client.session_id

    @property
    def session_timeout_ms(self) -> int:
        return self._client.session_timeout_ms

    def add_auth(self, scheme: str, credentials: bytes) -> None:
        self._wait(self._client.add_auth(scheme, credentials))
