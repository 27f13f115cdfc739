"""Packets and votes: limits, odd bytes, the forms of old versions, bytes that mean nothing."""

from __future__ import annotations

import random
import struct
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zkstore.constants import NOTIFICATION_BYTES_MAX, PACKET_IDENTITIES_MAX
from zkstore.errors import RemoteProtocolError
from zkstore.jute.codec import pack_int
from zkstore.proto import quorum
from zkstore.proto.quorum import (
    Decoder,
    ElectionDecoder,
    Hello,
    LearnerInfo,
    Notification,
    Packet,
    Request,
    Told,
    encode,
)

LIMIT = 1000
LONGS = st.integers(-(1 << 63), (1 << 63) - 1)
INTS = st.integers(-(1 << 31), (1 << 31) - 1)
PACKETS = st.builds(
    Packet,
    INTS.filter(lambda kind: kind != quorum.SNAP),
    LONGS,
    st.none() | st.binary(max_size=100),
    st.none()
    | st.lists(st.tuples(st.binary(max_size=9), st.binary(max_size=9)), max_size=4).map(tuple),
)


@given(st.lists(PACKETS, max_size=8), st.randoms(use_true_random=False))
def test_packets_in_any_pieces(packets: list[Packet], choice: random.Random) -> None:
    content = b"".join(map(encode, packets))
    decoder = Decoder(LIMIT)
    found = []
    offset = 0
    while offset < len(content):
        end = offset + choice.randint(1, 40)
        found += decoder.feed(content[offset:end])
        offset = end
    assert found == packets
    assert decoder.held_bytes == 0


@settings(max_examples=300)
@given(st.lists(PACKETS, min_size=1, max_size=4), st.data())
def test_whatever_comes_there_are_packets_or_an_error(
    packets: list[Packet], data: st.DataObject
) -> None:
    content = bytearray(b"".join(map(encode, packets)))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at : at + 1] = data.draw(st.binary(max_size=5))
        content = content or bytearray(b"x")
    decoder = Decoder(LIMIT)
    with suppress(RemoteProtocolError):
        for byte in content:
            decoder.feed(bytes([byte]))
            assert decoder.stopped or decoder.held_bytes < LIMIT
            if decoder.stopped:
                decoder.rest()


@pytest.mark.parametrize(
    "packet",
    [
        Packet(1, 0, b"x" * 100),
        Packet(1, 0, None, ((b"s" * 10, b"i" * 90),)),
        Packet(1, 0, b"x" * 50, ((b"s" * 10, b"i" * 40), (b"", b""))),
    ],
)
def test_a_packet_of_the_limit_comes_through_and_one_more_byte_does_not(packet: Packet) -> None:
    content = encode(packet)
    assert Decoder(len(content)).feed(content) == [packet]
    with pytest.raises(RemoteProtocolError):
        Decoder(len(content) - 1).feed(content)


@pytest.mark.parametrize(
    "content",
    [
        struct.pack(">iqi", 1, 0, -2) + bytes(20),
        struct.pack(">iqi", 1, 0, 1 << 30) + bytes(20),
        struct.pack(">iqii", 1, 0, -1, -2),
        struct.pack(">iqii", 1, 0, -1, PACKET_IDENTITIES_MAX + 1),
        struct.pack(">iqiii", 1, 0, -1, 1, -5) + bytes(20),
        struct.pack(">iqiiii", 1, 0, -1, 1, 0, 1 << 20),
    ],
)
def test_lengths_that_nobody_means(content: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        Decoder(LIMIT).feed(content)


def test_behind_a_snap_the_decoder_stops_and_hands_back_what_is_no_packet() -> None:
    decoder = Decoder(LIMIT)
    snap, later = Packet(quorum.SNAP, 5), Packet(quorum.UPTODATE, -1)
    assert decoder.feed(encode(later) + encode(snap) + b"the tree") == [later, snap]
    assert decoder.held_bytes == 8
    assert decoder.feed(b" goes on") == []
    assert decoder.rest() == b"the tree goes on"
    assert decoder.held_bytes == 0
    assert decoder.feed(encode(later)[:7]) == []
    assert decoder.feed(encode(later)[7:]) == [later]


def test_many_small_pieces_of_a_large_packet_cost_no_copies() -> None:
    """A byte at a time must not copy all that came before each time."""
    packet = Packet(quorum.PROPOSAL, 1, bytes(1 << 20))
    content = encode(packet)
    decoder = Decoder(2 << 20)
    looks = 0
    for at in range(0, len(content), 64):
        looks += len(decoder.feed(content[at : at + 64]))
    assert looks == 1


def test_who_a_learner_says_it_is() -> None:
    info = LearnerInfo(7, quorum.ZKSTORE_PROTOCOL, 3)
    assert LearnerInfo.decode(info.encode()) == info
    assert LearnerInfo.decode(info.encode() + b"more") == info
    assert LearnerInfo.decode(info.encode()[:12]) == LearnerInfo(7, quorum.ZKSTORE_PROTOCOL, 0)
    assert LearnerInfo.decode(info.encode()[:8]) == LearnerInfo(7, 1, 0)
    assert LearnerInfo.decode(b"") is LearnerInfo.decode(None) is None


def test_bodies() -> None:
    request = Request(-5, 3, 14, b"body")
    assert Request.decode(request.encode()) == request
    touches = [(1, 30_000), (-1, 4)]
    assert quorum.decode_touches(quorum.encode_touches(touches)) == touches
    assert quorum.decode_touches(None) == []
    assert quorum.decode_revalidated(quorum.encode_revalidated(9, True)) == (9, True)
    for digest in (None, (7, (1 << 64) - 1)):
        for some in ([], touches):
            answer = quorum.encode_answer(some, digest)
            assert quorum.decode_answer(answer) == (some, digest)
    assert quorum.decode_answer(None) == ([], None)
    for told in (Told(False), Told(True, (1, 2)), Told(True, (3, 4), (1, (1 << 64) - 1))):
        assert Told.decode(told.encode()) == told
    assert Told.decode(None) is None
    for decode in (
        Request.decode,
        quorum.decode_revalidate,
        quorum.decode_revalidated,
        quorum.decode_int,
    ):
        for data in (None, b"", b"123"):
            with pytest.raises(RemoteProtocolError):
                decode(data)
    for decode_some in (quorum.decode_touches, quorum.decode_answer, Told.decode):
        for data in (b"123", b"1" * 50):
            with pytest.raises(RemoteProtocolError):
                decode_some(data)


def test_names_are_for_log_lines() -> None:
    assert Packet(quorum.INFORMANDACTIVATE, 0).name == "INFORMANDACTIVATE"
    assert [Packet(kind, 0).name for kind in (0, 20, -1)] == ["0", "20", "-1"]
    for name in quorum.NAMES[1:]:
        assert quorum.NAMES[getattr(quorum, name)] == name


# Votes

VOTE = Notification(0, 3, 0x100000007, 5, 1, 2, b"version=0")


@given(st.builds(Notification, INTS, LONGS, LONGS, LONGS, LONGS, st.just(2), st.binary()))
def test_a_notification_comes_back(vote: Notification) -> None:
    assert Notification.decode(vote.encode()) == vote


def test_notifications_of_old_versions() -> None:
    """Source: FastLeaderElection.WorkerReceiver: 28 bytes, then 40, then version and config."""
    message = VOTE.encode()
    old = VOTE._replace(version=0, config=None)
    assert Notification.decode(message[:28]) == old
    assert Notification.decode(message[:36] + pack_int(1)) == old
    version_1 = message[:36] + pack_int(1) + b"more"
    assert Notification.decode(version_1) == old._replace(version=1)


@pytest.mark.parametrize("size", [0, 27, 29, 39, 43, 44, 52])
def test_a_notification_that_ends_too_early(size: int) -> None:
    with pytest.raises(RemoteProtocolError):
        Notification.decode(VOTE.encode()[:size])


HELLO = quorum.encode_hello(7, "host", 3888)


@pytest.mark.parametrize(
    "content, hello",
    [
        (HELLO, Hello(7, (("host", 3888),))),
        (quorum.encode_hello(7, "::1", 1), Hello(7, (("::1", 1),))),
        (struct.pack(">qqi", -65535, 7, 9) + b"a:1|[b]:2", Hello(7, (("a", 1), ("b", 2)))),
        (struct.pack(">q", 7), Hello(7)),
    ],
)
def test_who_dialled(content: bytes, hello: Hello) -> None:
    frame = quorum.encode_notification(VOTE)
    whole = ElectionDecoder(accepted=True)
    assert whole.feed(content + frame + frame) == [VOTE, VOTE]
    assert whole.hello == hello
    bytewise = ElectionDecoder(accepted=True)
    votes = [bytewise.feed(bytes([byte])) for byte in content + frame]
    assert [vote for some in votes for vote in some] == [VOTE]
    assert bytewise.hello == hello


@pytest.mark.parametrize(
    "content",
    [
        struct.pack(">q", -1),
        struct.pack(">qqi", -65536, 7, 0),
        struct.pack(">qqi", -65536, 7, 2049),
        struct.pack(">qqi", -65536, 7, 4) + b"host",
        struct.pack(">qqi", -65536, 7, 3) + b":99",
        struct.pack(">qqi", -65536, 7, 7) + b"a:65536",
        struct.pack(">qqi", -65536, 7, 3) + b"\xff:x",
        HELLO + pack_int(0),
        HELLO + pack_int(-1),
        HELLO + pack_int(NOTIFICATION_BYTES_MAX + 1),
        HELLO + pack_int(27) + bytes(27),
    ],
)
def test_who_speaks_nonsense_on_the_election_port(content: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        ElectionDecoder(accepted=True).feed(content)


@given(st.binary(max_size=100), st.booleans())
def test_any_bytes_on_the_election_port(content: bytes, accepted: bool) -> None:
    decoder = ElectionDecoder(accepted=accepted)
    with suppress(RemoteProtocolError):
        decoder.feed(content)
    with suppress(RemoteProtocolError):
        decoder.feed(quorum.encode_notification(VOTE)[:20] + content)
