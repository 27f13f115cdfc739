"""The writes of one client that the commit process has, in runs.

Owns:   the runs: when each came, of which kind its requests are, how many, how large.
Invariants:
  1. Replies come in the order of the requests, so they are always for the oldest ones.
  2. A large request (largeRequestThreshold) is a run of its own: see `Client._pass_on`.
Design: pipelined requests come, and are answered, many at once; what is kept and counted for each
        of them would cost more than all else that a worker does for a write.
Not here: the requests that wait for these (frontend/client.py).
"""

from __future__ import annotations

from collections import deque


class InFlight:
    """One client's."""

    __slots__ = ("_runs", "bytes", "count")

    def __init__(self) -> None:
        self._runs: deque[tuple[float, int, int, int]] = deque()  # since, kind, count, bytes
        self.count = 0
        self.bytes = 0

    def add(self, since: float, kind: int, count: int, size: int) -> None:
        """So many requests of a kind were passed on together."""
        self._runs.append((since, kind, count, size))
        self.count += count
        self.bytes += size

    def take(self, count: int) -> tuple[float, int, int, int]:
        """At most so many of the oldest are answered: those of one run.

        Shape:  since when, the kind, how many, their bytes; of a part of a run, its share of them.
        """
        run = self._runs.popleft()
        since, kind, there, size = run
        if there > count:
            part = size * count // there
            self._runs.appendleft((since, kind, there - count, size - part))
            run = since, kind, count, part
        self.count -= run[2]
        self.bytes -= run[3]
        return run

    def large_bytes(self, threshold: int) -> int:
        """The bytes of the requests that are larger than that."""
        return sum(size for _, _, count, size in self._runs if count == 1 and size > threshold)

    def clear(self) -> None:
        """The client is gone."""
        self._runs.clear()
        self.count = self.bytes = 0
