"""Several writes as one: all of them happen, or none.

Owns:   the operations gathered so far.
Source: Transaction, MultiOperationRecord, MultiResponse; reference: section G.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Generic, NamedTuple, TypeVar

from zkstore.client.codec import Codec
from zkstore.client.errors import error_of
from zkstore.client.model import ANY_VERSION, OPEN, Acl, Creation
from zkstore.client.paths import Paths
from zkstore.client.session import Session
from zkstore.errors import Code, RemoteProtocolError
from zkstore.proto import client_replies as replies
from zkstore.proto import client_requests as requests
from zkstore.proto import opcodes as op
from zkstore.proto.client_replies import Stat

T = TypeVar("T")


class Outcome(NamedTuple):
    """What became of one operation."""

    path: str  # of a sequential create with its number
    stat: Stat | None  # of create (since server release 3.9) and of set


class Batch(Generic[T]):
    """The operations and what became of them; how it is committed is for its heirs to say."""

    def __init__(self, session: Session, paths: Paths, codec: Codec[T]) -> None:
        self._session = session
        self._paths = paths
        self._codec = codec
        self._operations: list[tuple[int, bytes]] = []
        self._shown: list[tuple[str, str]] = []  # for each operation its name and path
        self.results: list[Outcome] = []
        """One for each operation, once committed."""
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
        self._add(creation.request(self._paths.wire(path), data), "create", path)

    def set(self, path: str, value: T, version: int = ANY_VERSION) -> None:
        body = requests.set_data(self._paths.wire(path), self._codec.encode(value), version)
        self._add((op.SET_DATA, body), "set", path)

    def delete(self, path: str, version: int = ANY_VERSION) -> None:
        body = requests.path_int(self._paths.wire(path), version)
        self._add((op.DELETE, body), "delete", path)

    def check(self, path: str, version: int) -> None:
        """Let all fail unless the node has this version."""
        body = requests.path_int(self._paths.wire(path), version)
        self._add((op.CHECK, body), "check", path)

    def _add(self, operation: tuple[int, bytes], name: str, path: str) -> None:
        self._operations.append(operation)
        self._shown.append((name, path))

    async def _commit(self) -> list[Outcome]:
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
                detail = f"operation {number} of {count}: {' '.join(self._shown[number])}"
                raise error_of(result.code, detail)
        self.results = [
            Outcome(self._paths.shown(result.path) if result.path else path, result.stat)
            for result, (_, path) in zip(results, self._shown, strict=True)
        ]
        return self.results


class Transaction(Batch[T]):
    """Committed at the end of its `async with` block, unless that raises; or by `commit`."""

    async def commit(self) -> list[Outcome]:
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
