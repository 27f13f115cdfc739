"""Requests encoded ahead and replies counted without decoding them."""

from __future__ import annotations

import random
import struct
from bisect import bisect_right
from itertools import accumulate, islice

import pytest

from bench import wire
from bench.operations import OPERATIONS, RING_REQUESTS, ReplyStream, Ring, Spec

SPEC = Spec(b"d" * 100, keys=50, tag="run-00001")


def make_ring(operation: str) -> Ring:
    return OPERATIONS[operation](SPEC, random.Random(7))


def reply(xid: int, size: int, error: int = 0) -> bytes:
    """A reply of `size` bytes, whose body is anything."""
    return struct.pack(">iiqi", size - 4, xid, 99, error) + b"\xaa" * (size - wire.HEADER_SIZE)


def replies(ring: Ring, count: int) -> list[bytes]:
    sizes = ring.reply_sizes
    return [reply(i % RING_REQUESTS + 1, sizes[i % len(sizes)]) for i in range(count)]


def split_requests(stream: bytes) -> list[bytes]:
    """Without their lengths."""
    found, offset = [], 0
    while offset < len(stream):
        (size,) = struct.unpack_from(">i", stream, offset)
        found.append(stream[offset + 4 : offset + 4 + size])
        offset += 4 + size
    assert offset == len(stream)
    return found


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_ring_goes_round_in_whole_requests_with_rising_xids(operation: str) -> None:
    ring = make_ring(operation)
    rng = random.Random(3)
    taken, count = b"", 0
    while count < 3 * RING_REQUESTS:
        some = rng.randrange(1, 65)
        taken += ring.take(some)
        count += some
    xids = [struct.unpack_from(">i", request)[0] for request in split_requests(taken)]
    assert xids == [i % RING_REQUESTS + 1 for i in range(count)]


def test_taking_all_is_taking_one_by_one() -> None:
    ring, same = make_ring("create"), make_ring("create")
    for _ in range(3):
        assert ring.take_all() == [same.take(1) for _ in range(RING_REQUESTS)]


def paths_of(ring: Ring) -> list[bytes]:
    requests = split_requests(ring.take(RING_REQUESTS) + ring.take(RING_REQUESTS) + ring.take(10))
    return [request[12 : 12 + struct.unpack_from(">i", request, 8)[0]] for request in requests]


def test_no_path_is_created_twice() -> None:
    paths = paths_of(make_ring("create"))
    assert len(set(paths)) == len(paths)
    assert len({len(path) for path in paths}) == 1


def test_what_is_deleted_was_created_just_before() -> None:
    paths = paths_of(make_ring("create+delete"))
    assert paths[::2] == paths[1::2]
    assert len(set(paths)) == len(paths) / 2


@pytest.mark.parametrize("operation", ["create", "create+delete"])
def test_the_image_says_where_each_round_differs(operation: str) -> None:
    ring = make_ring(operation)
    block, ends, digits = ring.image()
    assert len(digits) == RING_REQUESTS and ends[-1] == len(block)
    changed = bytearray(block)
    for at in digits:
        changed[at : at + 8] = b"00000001"
    ring.take(RING_REQUESTS)
    assert ring.take(RING_REQUESTS) == bytes(changed)


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("chunk_max", [1, 19, 88, 500, 5000])
def test_replies_are_counted_however_they_are_cut(operation: str, chunk_max: int) -> None:
    ring = make_ring(operation)
    sent = replies(ring, 2 * RING_REQUESTS + 7)
    stream = b"".join(sent)
    ends = list(accumulate(map(len, sent)))
    counter = ReplyStream(ring.reply_sizes)
    rng = random.Random(chunk_max)
    offset = counted = 0
    while offset < len(stream):
        chunk = stream[offset : offset + rng.randrange(1, chunk_max + 1)]
        offset += len(chunk)
        # What lies behind the chunk in the buffer is of an earlier read.
        counted += counter.count(bytearray(chunk) + b"\xff" * 64, len(chunk))
        assert counted == bisect_right(ends, offset)
    assert counted == len(sent)


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("cut", [0, 1, 7, 16, 40])
def test_an_error_reply_is_found_and_named(operation: str, cut: int) -> None:
    ring = make_ring(operation)
    sent = replies(ring, 20)
    sent[12] = reply(13, wire.HEADER_SIZE, error=-101)
    stream = bytearray(b"".join(sent))
    counter = ReplyStream(ring.reply_sizes)
    cut += sum(map(len, sent[:11]))
    with pytest.raises(wire.BenchmarkError, match="reply 13 has error -101"):
        counter.count(bytearray(stream[:cut]), cut)
        counter.count(stream[cut:], len(stream) - cut)


def test_a_reply_out_of_order_is_found() -> None:
    ring = make_ring("getData")
    sent = replies(ring, 10)
    sent[4], sent[5] = sent[5], sent[4]
    stream = bytearray(b"".join(sent))
    with pytest.raises(wire.BenchmarkError, match="reply 5 has not the xid 5"):
        ReplyStream(ring.reply_sizes).count(stream, len(stream))


def test_a_reply_of_another_size_is_found() -> None:
    ring = make_ring("getData")
    size = ring.reply_sizes[0]
    stream = bytearray(reply(1, size) + reply(2, size + 8) + reply(3, size))
    with pytest.raises(wire.BenchmarkError, match="reply 3"):
        ReplyStream(ring.reply_sizes).count(stream, len(stream))


def test_the_mix_has_one_write_in_ten() -> None:
    opcodes = [
        struct.unpack_from(">i", request, 4)[0]
        for request in islice(split_requests(make_ring("mix").take(RING_REQUESTS)), 100)
    ]
    assert opcodes.count(wire.SET_DATA) == 10
    assert opcodes.count(wire.GET_DATA) == 90
