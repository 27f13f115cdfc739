"""Bytes that pass between workers, the commit process and other servers, 64 requests at a time."""

from __future__ import annotations

import msgpack

from bench.harness import Benchmark
from bench.micro.test_hot import REQUESTS, TXNS
from zkstore.jute.codec import buffer
from zkstore.proto import quorum, replies
from zkstore.records import ipc
from zkstore.records import txn as txns

COUNT = 64
_STAT = bytes(68)
TO_COMMIT = [part for n in range(COUNT) for part in (ipc.REQUEST, n % 16, REQUESTS["setData"])]
TO_WORKER = [
    1,
    *(part for n in range(COUNT) for part in (ipc.REPLY, n % 16, n, replies.reply(n, n, _STAT))),
]
PROPOSALS = [
    quorum.Packet(quorum.PROPOSAL, zxid, txns.encode(TXNS["setData"])) for zxid in range(COUNT)
]
ACKS = [quorum.Packet(quorum.ACK, zxid) for zxid in range(COUNT)]
_PACKET_BYTES_MAX = 1 << 20


def test_pack_requests(benchmark: Benchmark) -> None:
    benchmark(msgpack.packb, TO_COMMIT)


def test_unpack_requests(benchmark: Benchmark) -> None:
    benchmark(msgpack.unpackb, msgpack.packb(TO_COMMIT))


def test_pack_replies(benchmark: Benchmark) -> None:
    benchmark(msgpack.packb, TO_WORKER)


def test_unpack_replies(benchmark: Benchmark) -> None:
    benchmark(msgpack.unpackb, msgpack.packb(TO_WORKER))


def test_build_replies(benchmark: Benchmark) -> None:
    body = buffer(bytes(100)) + _STAT
    benchmark(lambda: [replies.reply(xid, xid, body) for xid in range(COUNT)])


def test_encode_proposals(benchmark: Benchmark) -> None:
    benchmark(lambda: [quorum.encode(packet) for packet in PROPOSALS])


def test_decode_proposals(benchmark: Benchmark) -> None:
    stream = b"".join(map(quorum.encode, PROPOSALS))
    decoder = quorum.Decoder(_PACKET_BYTES_MAX)
    assert decoder.feed(stream) == PROPOSALS
    benchmark(decoder.feed, stream)


def test_decode_acks(benchmark: Benchmark) -> None:
    stream = b"".join(map(quorum.encode, ACKS))
    decoder = quorum.Decoder(_PACKET_BYTES_MAX)
    assert decoder.feed(stream) == ACKS
    benchmark(decoder.feed, stream)
