"""Requests encoded ahead, and their replies counted without decoding them.

Owns:   a ring of encoded requests for each connection, and the position in its stream of replies.
Invariants:
  1. A ring's requests follow a pattern: request i and request i + P have replies of one size.
  2. Every reply is looked at: the last byte of its xid and of its error code must be right, which
     also proves the size of each reply before it. One that is not ends the run (BenchmarkError).
Design: strided slices of the received bytes do the looking (invariant 2) in C for a whole chunk,
  so the cost of a reply falls with the number of replies that came together. A decoder in Python
  would cost as much as the server's whole work.
Not here: sockets and time (load.py).
"""

from __future__ import annotations

import random
import re
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Final

from bench import wire

# Requests in a ring; a multiple of every pattern. Their xids are 1 … RING_REQUESTS, over and over.
# A longer ring only costs misses in the caches: ten thousand nodes are hit by 64 connections.
RING_REQUESTS: Final = 250
_MULTI_OPS: Final = 10
_XID_OFFSET: Final = 7
_ERROR_OFFSET: Final = 19


@dataclass(frozen=True, slots=True)
class Spec:
    """What a connection's requests are made of."""

    data: bytes
    # Nodes that `fill` made: keys 0 … keys - 1.
    keys: int
    # Different for every connection of every run, always of one length.
    tag: str


class Ring:
    """One connection's requests, in order, for ever."""

    def __init__(
        self, requests: Sequence[bytes], reply_sizes: Sequence[int], serial: bytes
    ) -> None:
        """`reply_sizes`: of one pattern. `serial`: bytes that each round through the ring must
        have to itself (empty: rounds are alike); the requests hold it, followed by 8 digits."""
        assert len(requests) == RING_REQUESTS and RING_REQUESTS % len(reply_sizes) == 0
        self.reply_sizes = tuple(reply_sizes)
        self._block = b"".join(requests)
        self._ends = [0, *accumulate(map(len, requests))]
        self._next = 0
        self._serial = serial
        # Of a request or a reply.
        self.size_max = max(*map(len, requests), *reply_sizes)
        self._round = 0

    def take(self, count: int) -> bytes:
        """The next `count` requests (at most RING_REQUESTS)."""
        first, last = self._next, self._next + count
        if last <= RING_REQUESTS:
            self._next = last
            return self._block[self._ends[first] : self._ends[last]]
        tail = self._block[self._ends[first] :]
        self._renew()
        self._next = last - RING_REQUESTS
        return tail + self._block[: self._ends[self._next]]

    def image(self) -> tuple[bytes, list[int], list[int]]:
        """For a loop in another language: all requests, where each ends, and where the digits are
        that each round must have to itself."""
        if not self._serial:
            return self._block, self._ends[1:], []
        digits = [m.end() for m in re.finditer(re.escape(self._serial), self._block)]
        return self._block, self._ends[1:], digits

    def take_all(self) -> list[bytes]:
        """A whole round, request by request."""
        block = self._block
        self._renew()
        return [block[begin:end] for begin, end in pairwise(self._ends)]

    def _renew(self) -> None:
        """Give the next round names of its own."""
        if self._serial:
            old, new = (self._serial + b"%08d" % n for n in (self._round, self._round + 1))
            self._block = self._block.replace(old, new)
            self._round += 1


class ReplyStream:
    """Counts the replies to a ring's requests in the bytes that a connection receives."""

    def __init__(self, reply_sizes: Sequence[int]) -> None:
        self._sizes = tuple(reply_sizes)
        self._starts = [0, *accumulate(self._sizes)][:-1]
        self._period = sum(self._sizes)
        self._ends = list(accumulate(self._sizes))
        self._received = 0
        self._replies = 0
        # Position i of the pattern: the last bytes of its xids in order, twice, so that a slice of
        # one round's length may begin anywhere.
        every = len(self._sizes)
        self._xids = [
            bytes(xid & 255 for xid in range(1 + i, 1 + RING_REQUESTS, every)) * 2
            for i in range(every)
        ]

    def count(self, buffer: bytearray, size: int) -> int:
        """How many replies are complete now that `buffer[:size]` has come.

        Raises: BenchmarkError on a reply that is an error or is not the one expected.
        """
        begin = self._received
        end = begin + size
        period = self._period
        for i, start in enumerate(self._starts):
            xid_at = (start + _XID_OFFSET - begin) % period
            if xid_at < size:
                xids = buffer[xid_at:size:period]
                first = (begin + xid_at) // period % (RING_REQUESTS // len(self._sizes))
                if xids != self._xids[i][first : first + len(xids)]:
                    raise self._explain(buffer, size)
            error_at = (start + _ERROR_OFFSET - begin) % period
            if error_at < size:
                errors = buffer[error_at:size:period]
                if errors.count(0) != len(errors):
                    raise self._explain(buffer, size)
        self._received = end
        whole, rest = divmod(end, period)
        replies = whole * len(self._sizes) + bisect_right(self._ends, rest)
        completed = replies - self._replies
        self._replies = replies
        return completed

    def _explain(self, buffer: bytearray, size: int) -> wire.BenchmarkError:
        """Name the first reply in `buffer[:size]` that is wrong; those after it only seem so."""
        begin, period = self._received, self._period
        faults = []
        for i, start in enumerate(self._starts):
            for at in range((start + _XID_OFFSET - begin) % period, size, period):
                number = (begin + at) // period * len(self._starts) + i
                xid = number % RING_REQUESTS + 1
                if buffer[at] != xid & 255:
                    faults.append((at, f"reply {number + 1} has not the xid {xid}"))
            for at in range((start + _ERROR_OFFSET - begin) % period, size, period):
                number = (begin + at) // period * len(self._starts) + i
                if buffer[at]:
                    # No error code needs more than this byte.
                    faults.append((at, f"reply {number + 1} has error {buffer[at] - 256}"))
        return wire.BenchmarkError(min(faults)[1])


def _reads(opcode: int, reply_size: int, spec: Spec, rng: random.Random) -> Ring:
    requests = [
        wire.request(xid, opcode, wire.read_body(wire.key_path(rng.randrange(spec.keys))))
        for xid in range(1, RING_REQUESTS + 1)
    ]
    return Ring(requests, [reply_size], b"")


def _get_size(spec: Spec) -> int:
    return wire.HEADER_SIZE + 4 + len(spec.data) + wire.STAT_SIZE


def get_data(spec: Spec, rng: random.Random) -> Ring:
    return _reads(wire.GET_DATA, _get_size(spec), spec, rng)


def exists(spec: Spec, rng: random.Random) -> Ring:
    return _reads(wire.EXISTS, wire.HEADER_SIZE + wire.STAT_SIZE, spec, rng)


def _set_request(xid: int, spec: Spec, rng: random.Random) -> bytes:
    path = wire.key_path(rng.randrange(spec.keys))
    return wire.request(xid, wire.SET_DATA, wire.set_body(path, spec.data))


def set_data(spec: Spec, rng: random.Random) -> Ring:
    requests = [_set_request(xid, spec, rng) for xid in range(1, RING_REQUESTS + 1)]
    return Ring(requests, [wire.HEADER_SIZE + wire.STAT_SIZE], b"")


def mix(spec: Spec, rng: random.Random) -> Ring:
    """Nine getData and one setData, in turn."""
    requests = []
    for xid in range(1, RING_REQUESTS + 1):
        if xid % 10 == 0:
            requests.append(_set_request(xid, spec, rng))
        else:
            path = wire.key_path(rng.randrange(spec.keys))
            requests.append(wire.request(xid, wire.GET_DATA, wire.read_body(path)))
    return Ring(requests, [_get_size(spec)] * 9 + [wire.HEADER_SIZE + wire.STAT_SIZE], b"")


def create(spec: Spec, rng: random.Random) -> Ring:
    """New nodes below the parents that `fill` made, each name once."""
    serial = f"/n{spec.tag}-"
    paths = [
        f"{wire.parent_path(rng.randrange(spec.keys))}{serial}{0:08d}-{i:04d}"
        for i in range(RING_REQUESTS)
    ]
    requests = [
        wire.request(i + 1, wire.CREATE, wire.create_body(path, spec.data))
        for i, path in enumerate(paths)
    ]
    return Ring(requests, [wire.HEADER_SIZE + 4 + len(paths[0])], serial.encode())


def create_delete(spec: Spec, rng: random.Random) -> Ring:
    """A new node and its end, in turn: the tree keeps its size."""
    serial = f"/d{spec.tag}-"
    requests = []
    for xid in range(1, RING_REQUESTS + 1, 2):
        path = f"{wire.parent_path(rng.randrange(spec.keys))}{serial}{0:08d}-{xid:04d}"
        requests.append(wire.request(xid, wire.CREATE, wire.create_body(path, spec.data)))
        requests.append(wire.request(xid + 1, wire.DELETE, wire.delete_body(path)))
    return Ring(requests, [wire.HEADER_SIZE + 4 + len(path), wire.HEADER_SIZE], serial.encode())


def multi(spec: Spec, rng: random.Random) -> Ring:
    """Ten setData in one transaction. A multi that fails has a reply of another size."""
    requests = []
    for xid in range(1, RING_REQUESTS + 1):
        paths = [wire.key_path(rng.randrange(spec.keys)) for _ in range(_MULTI_OPS)]
        ops = [(wire.SET_DATA, wire.set_body(path, spec.data)) for path in paths]
        requests.append(wire.request(xid, wire.MULTI, wire.multi_body(ops)))
    each = wire.MULTI_HEADER_SIZE + wire.STAT_SIZE
    size = wire.HEADER_SIZE + _MULTI_OPS * each + wire.MULTI_HEADER_SIZE
    return Ring(requests, [size], b"")


OPERATIONS: Final[dict[str, Callable[[Spec, random.Random], Ring]]] = {
    "setData": set_data,
    "create": create,
    "create+delete": create_delete,
    "multi": multi,
    "getData": get_data,
    "exists": exists,
    "mix": mix,
}
