"""Clients whose every write has a known outcome, for tests that crash a whole server.

Owns:   what each author has written: the state of its subtree after each of its writes, and how
  many of them were acknowledged.
Invariants (what `faults` holds against a view of what survived):
  1. Durable: at least the acknowledged writes of each author are there.
  2. Whole: an author's subtree is the one after some prefix of its writes, session included.
  3. EphemeralsExact: the index of ephemerals, the owners in the nodes, the living sessions and the
     totals agree.
  4. Undamaged: storage/scrub.py finds nothing.
Design: a session's writes take effect in their order, so an author that writes through one session
  at a time to a subtree of its own knows all states that may survive: those from its last
  acknowledged write on. All writes succeed, but for multis that are made to fail.
Not here: crashing (server_powerloss.py, server_kills.py), the connection (tests/invariants).
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from tests.conformance import requests
from tests.conformance.requests import EPHEMERAL, PERSISTENT, Request
from tests.invariants.client import Client, RefusedError, connect, soon
from tests.invariants.history import History
from zkstore.storage.scrub import scrub
from zkstore.storage.view import View
from zkstore.tree import node as nodes

SESSION_TIMEOUT_MS: Final = 60_000  # longer than any test: no session expires
PIPELINE_MAX: Final = 8
SYSTEM_ERROR: Final = -1
_NAMES: Final = 6
_CLOSE_CHANCE: Final = 0.04
_SIZES: Final = (0, 10, 10, 200, 1000, 3000)


class Node(NamedTuple):
    data: bytes
    version: int
    owner: int


class State(NamedTuple):
    """An author's subtree and the session that it then has (0: none)."""

    tree: dict[str, Node]
    session_id: int = 0
    password: bytes = bytes(16)


class Author:
    """One client after the other, over the same subtree."""

    def __init__(self, number: int, rng: random.Random, sizes: tuple[int, ...] = _SIZES) -> None:
        self.root = f"/author{number}"
        self._rng = rng
        self._sizes = sizes
        self._states = [State({})]  # after 0, 1, 2, … of the writes since it was last checked
        self._acknowledged = 0
        self._last_zxid = 0
        self.written = 0  # acknowledged writes, of all lives

    async def write(
        self,
        address: tuple[str, int],
        *,
        ended: Callable[[], bool],
        lost: Callable[[], bool] = lambda: False,
        on_acknowledged: Callable[[], None] = lambda: None,
    ) -> None:
        """Write until the connection is cut or `ended`.

        `lost`: what is acknowledged no longer counts.
        """
        try:
            client = await self._connect(address, lost)
            while not ended():
                closing = self._rng.random() < _CLOSE_CHANCE
                pipeline = [self._step() for _ in range(self._rng.randint(1, PIPELINE_MAX))]
                if closing:
                    pipeline.append(self._close())
                for future in client.send(*pipeline):
                    call = await soon(future)
                    assert call.error == 0, call
                    if not lost():
                        self._acknowledged += 1
                        self.written += 1
                        self._last_zxid = call.zxid
                        on_acknowledged()
                if closing:
                    await client.ended()
                    client = await self._connect(address, lost)
        except (RefusedError, ConnectionError):
            return
        client.cut()
        await client.ended()

    async def write_while_some_fail(self, address: tuple[str, int], count: int) -> int:
        """Write one by one, on a disk that may fail; returns how many writes were refused.

        What is refused (SystemError) must not be there later; what is not answered may be.
        """
        refused = 0
        try:
            client = await self._connect(address, lambda: False)
            for _ in range(count):
                (future,) = client.send(self._step())
                call = await soon(future)
                if call.error:
                    assert call.error == SYSTEM_ERROR, call
                    self._states.pop()
                    refused += 1
                else:
                    self._acknowledged = len(self._states) - 1
                    self.written += 1
        except (RefusedError, ConnectionError):
            return refused
        client.cut()
        await client.ended()
        return refused

    async def resume(self, address: tuple[str, int]) -> None:
        """Take the session over, if there is one: then no write is under way any more.

        Raises: RefusedError if the session that survived is refused.
        """
        if self._states[-1].session_id:
            client = await self._connect(address, lambda: False)
            client.cut()
            await client.ended()

    async def _connect(self, address: tuple[str, int], lost: Callable[[], bool]) -> Client:
        """Take the session over, or open one: that is a write, too."""
        state = self._states[-1]
        client = await connect(
            address, History().log(self.root), timeout_ms=SESSION_TIMEOUT_MS,
            session_id=state.session_id, password=state.password, last_zxid=self._last_zxid,
        )  # fmt: skip
        if not state.session_id:
            self._states.append(State(state.tree, client.session_id, client.password))
            if not lost():
                self._acknowledged += 1
        return client

    # ---- the writes

    def _step(self) -> Request:
        """One write, entered in the states."""
        before = self._states[-1]
        session_id = before.session_id
        tree = dict(before.tree)
        if not tree:
            write = self._create(tree, self.root, PERSISTENT)
        elif self._rng.random() < 0.6:
            write = self._any(tree, session_id)
        elif self._rng.random() < 0.8:
            count = self._rng.randint(1, 5)
            write = requests.multi(*(self._any(tree, session_id) for _ in range(count)))
        else:
            vain = dict(tree)
            parts = [self._any(vain, session_id), requests.delete(f"{self.root}/never")]
            write = requests.multi(*parts, self._any(vain, session_id))
        self._states.append(before._replace(tree=tree))
        return write

    def _close(self) -> Request:
        tree, session_id, _ = self._states[-1]
        kept = {path: node for path, node in tree.items() if node.owner != session_id}
        self._states.append(State(kept))
        return requests.close_session()

    def _any(self, tree: dict[str, Node], session_id: int) -> Request:
        """A plain write that succeeds, done to the tree as well."""
        path = f"{self.root}/{self._rng.randrange(_NAMES)}"
        if path not in tree:
            if self._rng.random() < 0.3:
                return self._create(tree, path, EPHEMERAL, session_id)
            return self._create(tree, path, PERSISTENT)
        if self._rng.random() < 0.4:
            del tree[path]
            return requests.delete(path)
        data = self._data()
        tree[path] = Node(data, tree[path].version + 1, tree[path].owner)
        return requests.set_data(path, data)

    def _create(self, tree: dict[str, Node], path: str, flags: int, owner: int = 0) -> Request:
        data = self._data()
        tree[path] = Node(data, 0, owner)
        return requests.create(path, data, flags=flags)

    def _data(self) -> bytes:
        return self._rng.randbytes(self._rng.choice(self._sizes))

    # ---- what survived

    def settle(self, view: View, sessions: set[int]) -> Iterator[str]:
        """What is wrong; if nothing is, go on from the state that survived."""
        found = _subtree(view, self.root)
        for state in reversed(self._states[self._acknowledged :]):
            lives = not state.session_id or state.session_id in sessions
            if state.tree == found and lives:
                self._states = [state]
                self._acknowledged = 0
                return
        older = [k for k, state in enumerate(self._states) if state.tree == found]
        yield (
            f"{self.root}: {self._acknowledged} of {len(self._states) - 1} writes acknowledged;"
            f" the tree is that after {older or 'no number of'} writes,"
            f" sessions of its states: {[s.session_id in sessions for s in self._states]}"
        )


def _subtree(view: View, root: str) -> dict[str, Node]:
    value = view.node(root.encode())
    if value is None:
        return {}
    found = {root: _node(view, value)}
    for path, child in view.descendants(root.encode()):
        found[path.decode()] = _node(view, child)
    return found


def _node(view: View, value: bytes) -> Node:
    fields = nodes.unpack(value)
    return Node(view.data(value) or b"", fields[nodes.VERSION], fields[nodes.OWNER])


def faults(view: View, authors: list[Author]) -> list[str]:
    """All that is wrong with what survived; the authors go on from it."""
    sessions = {session_id for session_id, _ in view.sessions()}
    found = [*scrub(view), *_wrong_aggregates(view, sessions)]
    for author in authors:
        found += author.settle(view, sessions)
    return found


def _wrong_aggregates(view: View, sessions: set[int]) -> Iterator[str]:
    """Compare the index of ephemerals and the totals with the nodes themselves."""
    index = {
        session_id: Counter(paths) for session_id, paths in view.ephemerals_by_session().items()
    }
    owned: dict[int, Counter[bytes]] = {}
    root = view.node(b"/")
    assert root is not None
    size = 1 + nodes.unpack(root)[nodes.DATA_LENGTH]
    for path, value in view.descendants(b"/"):
        fields = nodes.unpack(value)
        size += len(path) + fields[nodes.DATA_LENGTH]
        if nodes.is_ephemeral(fields[nodes.OWNER]):
            owned.setdefault(fields[nodes.OWNER], Counter())[path] += 1
    if index != owned:
        yield f"ephemerals: the index has {index}, the nodes say {owned}"
    if owned.keys() - sessions:
        yield f"ephemerals of dead sessions: {owned.keys() - sessions}"
    totals = view.label().totals
    count = sum(map(len, owned.values()))
    if (totals.ephemerals, totals.bytes) != (count, size):
        yield f"{count} ephemerals, {size} bytes; the totals say {totals}"
