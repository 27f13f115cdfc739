"""All that Apache's servers said to each other decodes, and encodes to the same bytes."""

from __future__ import annotations

import random

import pytest

from tests.golden.quorum_captures import (
    CAPTURES,
    PACKET_BYTES_MAX,
    SNAPSHOT_END,
    Direction,
    directions,
    packets,
)
from zkstore.jute.codec import pack_int
from zkstore.proto import quorum
from zkstore.proto.quorum import Decoder, ElectionDecoder, LearnerInfo, Packet
from zkstore.zab.membership import Membership


def is_quorum_port(direction: Direction) -> bool:
    return not direction.port.startswith("e")


@pytest.mark.parametrize("capture", CAPTURES)
def test_packets_encode_to_the_bytes_they_came_from(capture: str) -> None:
    for direction in filter(is_quorum_port, directions(capture)):
        found, snapshots, cut_off = packets(direction.content)
        waiting = iter(snapshots)
        encoded = b"".join(
            quorum.encode(packet) + (next(waiting) if packet.type == quorum.SNAP else b"")
            for packet in found
        )
        assert encoded + cut_off == direction.content, direction.name


@pytest.mark.parametrize("capture", CAPTURES)
def test_it_does_not_matter_how_the_bytes_are_cut(capture: str) -> None:
    choice = random.Random(capture)
    for direction in filter(is_quorum_port, directions(capture)):
        whole, snapshots, _ = packets(direction.content)
        if snapshots:
            continue
        for piece_bytes_max in (1, 50, 5000):
            decoder = Decoder(PACKET_BYTES_MAX)
            found: list[Packet] = []
            offset = 0
            while offset < len(direction.content):
                end = offset + choice.randint(1, piece_bytes_max)
                found += decoder.feed(direction.content[offset:end])
                offset = end
            assert found == whole, direction.name


@pytest.mark.parametrize("capture", CAPTURES)
def test_votes_encode_to_the_bytes_they_came_from(capture: str) -> None:
    for direction in directions(capture):
        if is_quorum_port(direction):
            continue
        decoder = ElectionDecoder(accepted=direction.dialled)
        votes = decoder.feed(direction.content)
        encoded = b"".join(map(quorum.encode_notification, votes))
        if direction.dialled:
            assert decoder.hello is not None
            (address,) = decoder.hello.addresses
            encoded = quorum.encode_hello(decoder.hello.sid, *address) + encoded
        assert encoded == direction.content, direction.name
        bytewise = ElectionDecoder(accepted=direction.dialled)
        pieces = [bytewise.feed(bytes([byte])) for byte in direction.content]
        assert [vote for piece in pieces for vote in piece] == votes


@pytest.mark.parametrize("capture", CAPTURES)
def test_memberships_are_written_as_they_were_read(capture: str) -> None:
    texts = set()
    for direction in directions(capture):
        if is_quorum_port(direction):
            texts |= {p.data for p in packets(direction.content)[0] if p.type == quorum.NEWLEADER}
        else:
            votes = ElectionDecoder(accepted=direction.dialled).feed(direction.content)
            texts |= {vote.config for vote in votes}
    assert texts - {None}
    for text in texts - {None}:
        assert text is not None and Membership.parse(text).text() == text


def test_bodies_encode_to_the_bytes_they_came_from() -> None:
    """Of each kind of body that a packet can have, from both sides."""
    seen = set()
    for capture in CAPTURES:
        for direction in filter(is_quorum_port, directions(capture)):
            for packet in packets(direction.content)[0]:
                encoded = again(packet, from_learner=direction.dialled)
                if encoded is not None:
                    assert encoded == packet.data, packet
                    seen.add((packet.name, direction.dialled))
    assert seen == {
        *(("ACKEPOCH", True), ("FOLLOWERINFO", True), ("LEADERINFO", False)),
        *(("OBSERVERINFO", True), ("PING", True), ("REQUEST", True), ("REVALIDATE", False)),
        ("REVALIDATE", True),
    }


def again(packet: Packet, *, from_learner: bool) -> bytes | None:
    """A body decoded and encoded; None if this packet has none that we know."""
    kind, data = packet.type, packet.data
    if kind in (quorum.FOLLOWERINFO, quorum.OBSERVERINFO):
        info = LearnerInfo.decode(data)
        return info and info.encode()
    if kind in (quorum.LEADERINFO, quorum.ACKEPOCH):
        return pack_int(quorum.decode_int(data))
    if kind == quorum.REQUEST:
        return quorum.Request.decode(data).encode()
    if kind == quorum.REVALIDATE and from_learner:
        return quorum.encode_revalidate(*quorum.decode_revalidate(data))
    if kind == quorum.REVALIDATE:
        return quorum.encode_revalidated(*quorum.decode_revalidated(data))
    if kind == quorum.PING and from_learner:
        return quorum.encode_touches(quorum.decode_touches(data))
    return None


def test_a_learner_that_is_ahead_is_cut_back() -> None:
    """One connection read by eye: the leader of epoch 1 comes back with two proposals too many."""
    both = [d for d in directions("zk393-C-trunc") if d.name.startswith("035-q2-")]
    learner, leader = sorted(both, key=lambda d: not d.dialled)
    said = [(p.name, p.zxid) for p in packets(learner.content)[0] if p.type != quorum.PING]
    heard = [(p.name, p.zxid) for p in packets(leader.content)[0] if p.type != quorum.PING]
    assert said[:4] == [
        ("FOLLOWERINFO", 0x100000000),
        ("ACKEPOCH", 0x10000005D),
        ("ACK", 0x200000000),
        ("ACK", 0x200000000),
    ]
    assert heard[:6] == [
        ("LEADERINFO", 0x200000000),
        ("TRUNC", 0x10000005B),
        ("NEWLEADER", 0x200000000),
        ("UPTODATE", -1),
        ("PROPOSAL", 0x200000001),
        ("COMMIT", 0x200000001),
    ]
    assert SNAPSHOT_END not in leader.content
