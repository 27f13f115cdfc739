"""What a replica measures: the names that monitoring agents know, and how parts are summed up.

Owns:   the names of `mntr` and what each is made of.
Invariants:
  1. True: a name stands here only if its value is measured or counted; what Apache measures of its
     own threads and caches is left out.
  2. A summary of several workers is that of all their values; averages of averages are never taken.
Design: values are counted where they arise, in plain attributes, and gathered when somebody asks.
Not here: who asks, and the gathering (commit/admin.py); the text (proto/fourletter.py).
Source: reference section P; ServerMetrics, AvgMinMaxCounter.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any, Final


class Summary:
    """Count, sum, least and greatest of some values; Apache's summary of level BASIC."""

    __slots__ = ("count", "greatest", "least", "total")

    def __init__(self) -> None:
        self.count = 0
        self.total = 0.0
        self.least = 0.0
        self.greatest = 0.0

    def add(self, count: int, value: float) -> None:
        """Enter so many values that are the same."""
        if self.count == 0 or value < self.least:
            self.least = value
        if value > self.greatest:
            self.greatest = value
        self.count += count
        self.total += value * count

    def part(self) -> list[float]:
        return [self.count, self.total, self.least, self.greatest]

    @property
    def average(self) -> float:
        return self.total / self.count if self.count else 0.0

    def values(self, name: str) -> dict[str, object]:
        """By the names of `mntr`."""
        return {
            f"avg_{name}": decimal(self.average),
            f"min_{name}": int(self.least),
            f"max_{name}": int(self.greatest),
            f"cnt_{name}": self.count,
            f"sum_{name}": int(self.total),
        }


class Distribution(Summary):
    """A summary of times that knows percentiles too, in whole ms: Apache's of level ADVANCED.

    Design: nearly all times are below 1 ms and are only counted; each other goes to the bucket of
        its ms, and beyond 64 ms to one of 32 for each doubling. Apache takes samples.
    """

    __slots__ = ("buckets",)

    def __init__(self) -> None:
        super().__init__()
        self.buckets: Counter[int] = Counter()  # least ms that belongs to it → count

    def add(self, count: int, value: float) -> None:
        # As in Summary, without the call: this is done for each write and each batch of reads.
        if self.count == 0 or value < self.least:
            self.least = value
        if value > self.greatest:
            self.greatest = value
        self.count += count
        self.total += value * count
        if value >= 1.0:
            self.buckets[_bucket(int(value))] += count

    def part(self) -> list[float]:
        return [*super().part(), *(one for bucket in self.buckets.items() for one in bucket)]

    def percentile(self, share: float) -> int:
        """The least ms that at least this share of all times does not exceed."""
        beyond = self.count * (1 - share)
        for least in sorted(self.buckets, reverse=True):
            beyond -= self.buckets[least]
            if beyond < 0:
                return least
        return 0

    def values(self, name: str) -> dict[str, object]:
        percentiles = {f"{key}_{name}": self.percentile(share) for key, share in _PERCENTILES}
        return super().values(name) | percentiles


_PERCENTILES: Final = (("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("p999", 0.999))
_BUCKET_BITS: Final = 6


def _bucket(ms: int) -> int:
    dropped_bits = max(0, ms.bit_length() - _BUCKET_BITS)
    return ms >> dropped_bits << dropped_bits


def summed(parts: Iterable[list[float]]) -> Summary:
    """The summary of all values that these parts are of."""
    result = Summary()
    for part in parts:
        _enter(result, part)
    return result


def spread(parts: Iterable[list[float]]) -> Distribution:
    """The distribution of all times that these parts are of."""
    result = Distribution()
    for part in parts:
        buckets = _enter(result, part)
        for at in range(0, len(buckets), 2):
            result.buckets[int(buckets[at])] += int(buckets[at + 1])
    return result


def _enter(result: Summary, part: list[float]) -> list[float]:
    """Add what a part sums up; returns what else it has."""
    count, total, least, greatest, *more = part
    if count:
        result.least = min(result.least, least) if result.count else least
        result.greatest = max(result.greatest, greatest)
        result.count += int(count)
        result.total += total
    return more


def decimal(value: float) -> str:
    """As Java prints an average: up to four decimals, at least one."""
    text = f"{value:.4f}".rstrip("0")
    return text + "0" if text.endswith(".") else text


# How many watchers one change told, by what changed; in the order of the event types.
TOLD_NAMES: Final = (
    "node_created_watch_count",
    "node_deleted_watch_count",
    "node_changed_watch_count",
    "node_children_watch_count",
)
# Counters that a replica has from its start, so that a graph of one begins at zero.
COUNTERS: Final = (
    "bytes_received_count",
    "connection_drop_count",
    "connection_rejected",
    "connection_request_count",
    "connection_revalidate_count",
    "digest_mismatches_count",
    "large_requests_rejected",
    "request_throttle_wait_count",
    "response_bytes",
    "sessionless_connections_expired",
    "stale_replies",
    "stale_requests",
    "stale_requests_dropped",
    "stale_sessions_expired",
    "throttled_ops",
    "watch_bytes",
)


def metrics(s: dict[str, Any]) -> dict[str, object]:
    """All of `mntr` but version and state, from what was gathered (commit/admin.py)."""
    latency: Summary = s["latency"]
    counters = Counter(dict.fromkeys(COUNTERS, 0))
    counters.update(s["counters"])
    last, least, greatest = s["response_sizes"]
    values: dict[str, object] = {
        "avg_latency": decimal(latency.average),
        "max_latency": int(latency.greatest),
        "min_latency": int(latency.least),
        "packets_received": s["received"],
        "packets_sent": s["sent"],
        "num_alive_connections": len(s["connections"]),
        "outstanding_requests": s["outstanding"],
        "znode_count": s["nodes"],
        "watch_count": s["watches"],
        "ephemerals_count": s["ephemerals_count"],
        "approximate_data_size": s["data_bytes"],
        "open_file_descriptor_count": s["open_files"],
        "max_file_descriptor_count": s["max_files"],
        "global_sessions": s["sessions"],
        "local_sessions": s["local_sessions"],
        "uptime": s["uptime_ms"],
        "last_client_response_size": last,
        "min_client_response_size": least,
        "max_client_response_size": greatest,
        "auth_failed_count": s["auth_failed"],
        "connection_drop_probability": s["drop_probability"],
        "outstanding_tls_handshake": 0,
        **s["quotas"],
        **s.get("ensemble", {}),
        **counters,
    }
    for name, summary in s["summaries"].items():
        values |= summary.values(name)
    return values
