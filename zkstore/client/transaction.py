"""Several writes as one: all of them happen, or none.

Owns:   the operations gathered so far.
Source: Transaction, MultiOperationRecord, MultiResponse; reference: section G.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Generic, TypeVar

from zkstore.client.codec import Codec
from zkstore.client.errors import error_of
from zkstore.client.model import ANY_VERSION, OPEN, Acl, Creation, Node
from zkstore.client.paths import Paths
from zkstore.client.session import Session
from zkstore.errors import Code, RemoteProtocolError
from zkstore.proto import client_replies as replies
from zkstore.proto import client_requests as requests
from zkstore.proto import opcodes as op

T = TypeVar("T")


class Batch(Generic[T]):
    """The operations and what became of them; how it is committed is for its heirs to say."""

    def __init__(self, session: Session, paths: Paths, codec: Codec[T]) -> None:
        self._session = session
        self._paths = paths
        self._codec = codec
        self._operations: list[tuple[int, bytes]] = []
        self._details: list[str] = []
        self._values: list[T | None] = []  # of creates and sets, for their nodes
        self.results: list[Node[T] | None] = []
        """One for each operation, once committed: a node for create and set, else None."""
        self.failed: int | None = None
        """The number, from 0, of the operation because of which nothing happened."""

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
    ) -> None:
        data = b"" if value is None else self._codec.encode(value)
        creation = Creation(
            ephemeral=ephemeral, sequential=sequential, container=container, ttl_ms=ttl_ms, acl=acl
        )
        self._add(creation.request(self._paths.wire(path), data), f"create {path}", value)

    def set(self, path: str, value: T, version: int = ANY_VERSION) -> None:
        body = requests.set_data(self._paths.wire(path), self._codec.encode(value), version)
        self._add((op.SET_DATA, body), f"set {path}", value)

    def delete(self, path: str, version: int = ANY_VERSION) -> None:
        body = requests.path_int(self._paths.wire(path), version)
        self._add((op.DELETE, body), f"delete {path}", None)

    def check(self, path: str, version: int) -> None:
        """Let all fail unless the node has this version."""
        body = requests.path_int(self._paths.wire(path), version)
        self._add((op.CHECK, body), f"check {path}", None)

    def _add(self, operation: tuple[int, bytes], detail: str, value: T | None) -> None:
        self._operations.append(operation)
        self._details.append(detail)
        self._values.append(value)

    async def _commit(self) -> list[Node[T] | None]:
        """Raises: the error of the operation that failed, ConnectionLoss, the final state's."""
        count = len(self._operations)
        body = requests.multi(self._operations)
        frame = await self._session.call(
            op.MULTI, body, f"transaction of {count} operations", repeatable=False
        )
        results = replies.read_multi(frame)
        if len(results) != count:
            raise RemoteProtocolError(f"{len(results)} results for {count} operations")
        for number, result in enumerate(results):
            if result.code not in (Code.OK, Code.RUNTIME_INCONSISTENCY):
                self.failed = number
                detail = f"operation {number} of {count}: {self._details[number]}"
                raise error_of(result.code, detail)
        self.results = list(map(self._node, range(count), results))
        return self.results

    def _node(self, number: int, result: replies.MultiResult) -> Node[T] | None:
        if result.stat is None:
            return None
        path = self._details[number].partition(" ")[2]
        if result.path is not None:
            path = self._paths.shown(result.path)
        value = self._values[number]
        return Node(path, self._codec.decode(b"") if value is None else value, result.stat)


class Transaction(Batch[T]):
    """Committed at the end of its `async with` block, unless that raises; or by `commit`."""

    async def commit(self) -> list[Node[T] | None]:
        """Raises: the error of the operation that failed; ConnectionLoss."""
        return await self._commit()

    async def __aenter__(self) -> Transaction[T]:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            await self.commit()
