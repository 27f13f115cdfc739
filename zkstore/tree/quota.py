"""Quotas: which subtree a path counts for, how usage and limits are written, when one is exceeded.

Owns:   nothing; pure. The usage is the data of the node zookeeper_stats itself, so it is as durable
        as the tree, and no start has to count anything.
Invariants:
  1. Only the longest prefix with limits counts, never the root: reference K4.
  2. Text that is not understood changes no usage, and refuses what it would have to judge.
Design: the prefixes are a frozen set, replaced when limits come or go; the longest is found by
        walking up the path. There are few quotas, and none costs one look.
Shape:  the quota of /a/b: limits in /zookeeper/quota/a/b/zookeeper_limits, usage beside them in
        zookeeper_stats; "count=3,bytes=20=;byteHardLimit=30;countHardLimit=4", -1: no limit.
Not here: keeping the usage (tree/apply.py), the order of checks (tree/prep.py).
Source: StatsTrack, Quotas, ZooKeeperServer.checkQuota, DataTree.updateQuotaStat.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Final, Protocol

from zkstore.errors import Code, ZooKeeperError
from zkstore.tree import node as nodes

ROOT: Final = b"/zookeeper/quota"
BELOW: Final = ROOT + b"/"
_LIMITS: Final = b"/zookeeper_limits"
_STATS: Final = b"/zookeeper_stats"
_NUMBER: Final = re.compile(rb"[+-]?[0-9]{1,19}\Z")
_INT64: Final = range(-(1 << 63), 1 << 63)
_UNSET: Final = -1

Prefixes = frozenset[bytes]
Numbers = dict[bytes, int]


class Source(Protocol):
    """The tree that the usage is kept in."""

    def node(self, path: bytes) -> bytes | None: ...

    def descendants(self, path: bytes) -> Iterable[tuple[bytes, bytes]]: ...


# ---- paths


def limits_path(prefix: bytes) -> bytes:
    return ROOT + prefix + _LIMITS


def stats_path(prefix: bytes) -> bytes:
    return ROOT + prefix + _STATS


def limited_by(path: bytes) -> bytes:
    """The prefix whose limits this node is; empty if it is no such node, or the root's."""
    return path[len(ROOT) : -len(_LIMITS)] if path.endswith(_LIMITS) else b""


def counted_by(path: bytes) -> bytes:
    """The prefix whose usage this node is; empty if it is no such node, or the root's."""
    return path[len(ROOT) : -len(_STATS)] if path.endswith(_STATS) else b""


def registered(source: Source) -> Prefixes:
    """Every prefix that has limits."""
    found = (limited_by(path) for path, _ in source.descendants(ROOT))
    return frozenset(prefix for prefix in found if prefix)


def covering(prefixes: Prefixes, path: bytes) -> bytes:
    """The longest prefix that a path counts for; empty if there is none."""
    while path and path not in prefixes:
        path = path[: path.rfind(b"/")] if path != b"/" else b""
    return path


def namespace_of(prefix: bytes) -> str:
    """The first name of a path, by which metrics are kept."""
    return prefix.split(b"/", 2)[1].decode(errors="replace")


# ---- text


def parse(text: bytes) -> Numbers:
    """The numbers of limits or usage, as Java's StatsTrack reads them. Raises: ValueError."""
    numbers: Numbers = {}
    pairs = re.split(rb"[,;]+", text)
    while pairs and not pairs[-1]:
        pairs.pop()
    for pair in pairs:
        key, _, value = pair.partition(b"=")
        value, more, _ = value.partition(b"=")
        if not value and more:  # "count==": Java splits an empty text off
            value = b"-1"
        if not _NUMBER.match(value) or int(value) not in _INT64:
            raise ValueError(f"{pair!r} is not name=number")
        numbers[key] = int(value)
    return numbers


def encode(numbers: Numbers) -> bytes:
    """As Java's StatsTrack writes them: old parsers stop at the odd `=`."""
    first = b"count=%d,bytes=%d" % (
        numbers.get(b"count", _UNSET), numbers.get(b"bytes", _UNSET),
    )  # fmt: skip
    rest = sorted(numbers.keys() - {b"count", b"bytes"})
    if not rest:
        return first
    return first + b"=" + b"".join(b";%b=%d" % (key, numbers[key]) for key in rest)


def read(source: Source, path: bytes) -> Numbers | None:
    """The numbers in a node; None if there is no such node. Raises: ValueError."""
    value = source.node(path)
    if value is None:
        return None
    if nodes.data_id_of(value):
        raise ValueError("too long")
    return parse(nodes.data_of(value) or b"")


# ---- keeping the usage


def used(value: bytes, path: bytes, count: int, size: int) -> bytes | None:
    """A usage node after so many nodes and bytes more; None if its text is not understood.

    Neither version nor zxid nor time changes: clients see no write (K5).
    """
    if nodes.data_id_of(value):
        return None
    try:
        numbers = parse(nodes.data_of(value) or b"")
    except ValueError:
        return None
    numbers[b"count"] = numbers.get(b"count", _UNSET) + count
    numbers[b"bytes"] = numbers.get(b"bytes", _UNSET) + size
    return with_text(value, path, encode(numbers))


def with_text(value: bytes, path: bytes, text: bytes) -> bytes:
    """A usage node with another text and nothing else changed."""
    f = nodes.unpack(value)
    new, _ = nodes.with_data(
        value, f, path, text, zxid=f[nodes.MZXID], time_ms=f[nodes.MTIME_MS],
        version=f[nodes.VERSION],
    )  # fmt: skip
    return new


# ---- enforcing the limits


class Enforcer:
    """Checks a leader's requests against the limits (`enforceQuota=true`)."""

    def __init__(self, source: Source, prefixes: Callable[[], Prefixes]) -> None:
        self._source = source
        self._prefixes = prefixes
        # What was exceeded since somebody looked: (namespace, what, whether it was refused).
        self.exceeded: list[tuple[str, str, bool]] = []

    def check(self, path: bytes, size: int, count: int) -> None:
        """Judge a write by what it adds, against the usage that is applied (K7).

        Raises: ZooKeeperError(QUOTA_EXCEEDED); MARSHALLING_ERROR if the texts are not understood.
        """
        prefix = covering(self._prefixes(), path)
        if not prefix:
            return
        try:
            limits = read(self._source, limits_path(prefix))
            if limits is None:
                return
            checks = []
            if count:
                checks.append((b"count", b"countHardLimit", count))
            if size:
                checks.append((b"bytes", b"byteHardLimit", size))
            limited = [
                one for one in checks if max(limits.get(one[0], -1), limits.get(one[1], -1)) > -1
            ]
            usage = read(self._source, stats_path(prefix)) if limited else None
        except ValueError as e:
            where = prefix.decode(errors="replace")
            self.exceeded.append((namespace_of(prefix), f"{where}: quota text: {e}", True))
            raise ZooKeeperError(Code.MARSHALLING_ERROR) from e
        if usage is None:
            return
        for soft, hard, added in limited:
            self._judge(prefix, soft, limits, hard, usage.get(soft, -1) + added)

    def _judge(self, prefix: bytes, soft: bytes, limits: Numbers, hard: bytes, after: int) -> None:
        """One of the two: the hard limit counts if there is one, else the soft one."""
        is_hard = limits.get(hard, -1) > -1
        limit = limits[hard] if is_hard else limits.get(soft, -1)
        if after <= limit:
            return
        kind = "hard" if is_hard else "soft"
        what = f"{prefix.decode(errors='replace')}: {soft.decode()} {after}, {kind} limit {limit}"
        self.exceeded.append((namespace_of(prefix), what, is_hard))
        if is_hard:
            raise ZooKeeperError(Code.QUOTA_EXCEEDED)


def gauges(source: Source) -> dict[str, int]:
    """Limits and usage by namespace, under the names of `mntr`. What is not understood is left
    out."""
    found: dict[str, int] = {}

    def add(prefix: bytes, name: str, value: int) -> None:
        key = f"{namespace_of(prefix)}_{name}_per_namespace"
        found[key] = found.get(key, 0) + value

    for path, _ in source.descendants(ROOT):
        limits_of, usage_of = limited_by(path), counted_by(path)
        if not limits_of and not usage_of:
            continue
        try:
            numbers = read(source, path) or {}
        except ValueError:
            continue
        if usage_of:
            add(usage_of, "quota_count_usage", numbers.get(b"count", _UNSET))
            add(usage_of, "quota_bytes_usage", numbers.get(b"bytes", _UNSET))
            continue
        for name, soft, hard in (
            ("quota_count_limit", b"count", b"countHardLimit"),
            ("quota_bytes_limit", b"bytes", b"byteHardLimit"),
        ):
            limit = numbers.get(hard, _UNSET)
            add(limits_of, name, limit if limit > _UNSET else numbers.get(soft, _UNSET))
    return found
