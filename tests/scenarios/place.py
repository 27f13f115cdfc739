"""Where the scenarios run: a server that can be stopped, killed and started, and its clients.

Owns:       the server of each kind, and the kazoo clients that a test starts.
Invariants:
  1. Same address: whatever happened to the server, it comes back where its clients look for it.
  2. Gone means gone: a client that `vanish`es sends nothing more, not even a close; the server has
     to find out by the session's timeout.
Design:     clients vanish by way of a proxy of their own that is closed, as a machine that loses
            its network does. kazoo's recipes do the work; a scenario says what people rely on.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Protocol

from kazoo.client import KazooClient

import zkstore
from tests.clients.support import Proxy
from tests.invariants.replica import TICK_MS, Replica, wait_for
from tests.ports import free_port
from zkstore.settings import Settings

SHORT_SECONDS = 6.0
"""The session timeout of clients that are going to vanish: soon, but not by a pause of the disk."""

_RETRY = {"max_tries": -1, "delay": 0.05, "backoff": 1.5, "max_delay": 0.3, "max_jitter": 0.1}
_THREAD_SECONDS_MAX = 90.0


class Place(Protocol):
    """A server at work."""

    @property
    def address(self) -> tuple[str, int]: ...

    def restart(self) -> None:
        """A clean stop and a start."""

    def crash(self) -> None:
        """kill -9 of all of it, and a start."""

    def lose_worker(self) -> None:
        """kill -9 of what serves some of the connections."""


class Processes:
    """Two workers and a commit process."""

    def __init__(self, folder: Path) -> None:
        self._replica = Replica(folder, workers=2)
        self._replica.start()

    @property
    def address(self) -> tuple[str, int]:
        return self._replica.address

    def restart(self) -> None:
        assert self._replica.terminate() == 0, self._replica.output
        self._replica.start()

    def crash(self) -> None:
        self._replica.kill_all()
        self._replica.start()

    def lose_worker(self) -> None:
        before = self._replica.workers()
        self._replica.kill(before[0])
        wait_for(lambda: before[0] not in self._replica.workers())
        wait_for(lambda: len(self._replica.workers()) == len(before))

    def close(self) -> None:
        self._replica.kill_all()


class Embedded:
    """All in a thread of the test's own process."""

    def __init__(self, folder: Path) -> None:
        settings = Settings(
            tick_time_ms=TICK_MS, min_session_timeout_ms=500, max_session_timeout_ms=60_000,
            max_client_cnxns=0, disk_reserve_bytes=16 << 20,
        )  # fmt: skip
        self._server = zkstore.Server(folder / "data", port=free_port(), settings=settings)
        self._server.start()

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", self._server.port

    def restart(self) -> None:
        self._server.stop()
        self._server.start()

    def crash(self) -> None:
        self._server.kill()
        self._server.start()

    def lose_worker(self) -> None:
        self.crash()  # there is but one process

    def close(self) -> None:
        self._server.stop()


class Member:
    """A kazoo client that can vanish."""

    def __init__(self, place: Place, stack: ExitStack) -> None:
        self._proxy = Proxy(place.address)
        stack.callback(self._proxy.close)
        self.client = _started(self._proxy.hosts, SHORT_SECONDS, stack)

    def vanish(self) -> None:
        self._proxy.close()


class Clients:
    """Starts clients of a place; all are stopped when the stack is closed."""

    def __init__(self, place: Place, stack: ExitStack) -> None:
        self._place = place
        self._stack = stack

    def one(self) -> KazooClient:
        """A client that stays; its session outlives a restart of the server."""
        host, port = self._place.address
        return _started(f"{host}:{port}", 20.0, self._stack)

    def some(self, count: int) -> list[KazooClient]:
        return [self.one() for _ in range(count)]

    def member(self) -> Member:
        """A client that can vanish."""
        return Member(self._place, self._stack)


def _started(hosts: str, timeout_seconds: float, stack: ExitStack) -> KazooClient:
    client = KazooClient(
        hosts=hosts, timeout=timeout_seconds, connection_retry=_RETRY, command_retry=_RETRY
    )
    stack.callback(client.close)
    stack.callback(client.stop)
    client.start(timeout=60)
    return client


class Work:
    """Functions in threads; the end of the `with` block waits for all, and raises what one did."""

    def __init__(self, *functions: Callable[[], object]) -> None:
        self._errors: list[BaseException] = []
        self._threads = [
            threading.Thread(target=self._guarded, args=(function,), daemon=True)
            for function in functions
        ]

    def _guarded(self, function: Callable[[], object]) -> None:
        try:
            function()
        except BaseException as error:  # noqa: BLE001  -- raised in the test's thread, see join
            self._errors.append(error)

    def __enter__(self) -> Work:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for thread in self._threads:
            thread.join(_THREAD_SECONDS_MAX if kind is None else 1)
        if kind is None:
            if self._errors:
                raise self._errors[0]
            assert not any(thread.is_alive() for thread in self._threads), "still at work"


def together(work: Callable[[KazooClient], object], clients: Sequence[KazooClient]) -> Work:
    """The same work by every client at once."""
    return Work(*(partial(work, client) for client in clients))
