"""What `cons` shows of one connection.

Owns:   nothing but its numbers.
Not here: the text (proto/fourletter.py).
"""

from __future__ import annotations

import time


class Stats:
    """One connection's counts and times."""

    __slots__ = (
        "count", "established_ms", "last_cxid", "last_latency", "last_ms", "last_op", "last_zxid",
        "max_latency", "min_latency", "received", "sent", "total_latency",
    )  # fmt: skip

    def __init__(self) -> None:
        self.established_ms = time.time_ns() // 1_000_000
        self.reset()

    def reset(self) -> None:
        """`crst`."""
        self.received = self.sent = self.count = 0
        self.last_op, self.last_cxid, self.last_zxid = 0, -1, -1
        self.last_ms = 0.0
        self.last_latency = self.max_latency = self.total_latency = 0.0
        self.min_latency = -1.0

    def last(self, kind: int, cxid: int, zxid: int) -> None:
        """The request served last."""
        self.last_op, self.last_zxid = kind, zxid
        if cxid >= 0:  # special xids count no request
            self.last_cxid = cxid

    def served(self, count: int, now: float, latency_ms: float) -> None:
        """So many requests, all within this time."""
        self.count += count
        self.last_ms, self.last_latency = now, latency_ms
        self.total_latency += latency_ms * count
        if latency_ms > self.max_latency:
            self.max_latency = latency_ms
        if self.min_latency < 0 or latency_ms < self.min_latency:
            self.min_latency = latency_ms
