"""Clients that write while replicas fail, and know what was acknowledged.

Invariants:
  1. Bounded: a writer ends by itself after WRITES_MAX writes.
  2. Every node has a name of its own, so that a write whose answer was lost is told from the next.
"""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Final

from kazoo.client import KazooClient
from kazoo.exceptions import KazooException
from kazoo.handlers.threading import KazooTimeoutError

from tests.ensemble.ensemble import Member

WRITES_MAX: Final = 20_000
_PAUSE_SECONDS: Final = 0.05
_SESSION_SECONDS: Final = 6.0
# By itself it would pause for twice as long each time, up to a minute.
_RECONNECTING: Final = {"max_tries": -1, "delay": 0.1, "max_delay": 1.0}


def client_of(hosts: str, seconds: float = _SESSION_SECONDS) -> KazooClient:
    """A client that is connected."""
    client = KazooClient(hosts, timeout=seconds, connection_retry=dict(_RECONNECTING))
    client.start(30)
    return client


class Writer:
    """Creates nodes one after the other below a node of its own. Use as a context manager."""

    def __init__(self, hosts: str, name: str) -> None:
        self.root = f"/{name}"
        self.acknowledged: list[str] = []
        self.longest_seconds = 0.0  # between two acknowledgements
        self._client = client_of(hosts)
        self._client.retry(self._client.ensure_path, self.root)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._write, name=name)

    def _write(self) -> None:
        last = time.monotonic()
        for number in range(WRITES_MAX):
            if self._stop.is_set():
                return
            name = f"n{number:05d}"
            try:
                self._client.create(f"{self.root}/{name}")
            except (KazooException, KazooTimeoutError):
                self._stop.wait(_PAUSE_SECONDS)
                continue
            self.acknowledged.append(name)
            now = time.monotonic()
            self.longest_seconds = max(self.longest_seconds, now - last)
            last = now

    def __enter__(self) -> Writer:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Write no more."""
        self._stop.set()
        self._thread.join(_SESSION_SECONDS)
        self._client.stop()  # ends a write that waits for a server, where there is none
        self._thread.join()
        self._client.close()

    def lost_at(self, member: Member) -> set[str]:
        """What was acknowledged and is not there."""
        client = client_of(f"127.0.0.1:{member.port}")
        try:
            client.sync(self.root)
            return set(self.acknowledged) - set(client.get_children(self.root))
        finally:
            client.stop()
            client.close()
