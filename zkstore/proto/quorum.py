"""What members of an ensemble say to each other: packets on the quorum port, votes on the election
port.

Owns:   nothing but the bytes of a packet or message that is not whole yet.
Invariants:
  1. Whatever bytes come: packets or RemoteProtocolError, nothing else.
  2. A decoder keeps less than one packet, and no packet is larger than the decoder's limit.
  3. What a member of ours sends, decodes and encodes to the same bytes.
Design: packets have no length in front: one is whole when its fields have been walked. `_need`, a
        lower bound of its size, saves walking them again at each piece. Behind a SNAP a snapshot
        goes on in the same stream: the decoder stops there and hands back what it read too much.
Not here: which packet may come when, and what it means (zab/).
Shape:  a packet is {int32 type, int64 zxid, buffer data, vector of {ustring scheme, ustring id}};
        data and vector may be null. A message of the election port is {int32 length, bytes}.
Source: zookeeper.jute QuorumPacket; Leader, LearnerHandler; QuorumCnxManager, FastLeaderElection.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from enum import IntEnum
from typing import Final, NamedTuple

from zkstore.constants import NOTIFICATION_BYTES_MAX, PACKET_IDENTITIES_MAX
from zkstore.errors import RemoteProtocolError
from zkstore.jute.codec import INT, LONG, NULL, buffer, pack_int, unpack_int, vector

# Types of packets. L: a learner, F: a follower, O: an observer, M: their leader.
REQUEST: Final = 1  # L→M: of a client; see Request
PROPOSAL: Final = 2  # M→F: a txn; to observers as well while they are brought up to date
ACK: Final = 3  # L→M: zxid is in the journal
COMMIT: Final = 4  # M→F
PING: Final = 5  # both; the answer holds touches
REVALIDATE: Final = 6  # both
SYNC: Final = 7  # M→L: the answer to a sync
INFORM: Final = 8  # M→O: a txn that is committed
COMMITANDACTIVATE: Final = 9  # M→F: a reconfig is committed; int64 designated leader
NEWLEADER: Final = 10  # M→L: the history ends here; text of the membership
FOLLOWERINFO: Final = 11  # F→M: accepted epoch << 32; see LearnerInfo
UPTODATE: Final = 12  # M→L: serve; zxid -1
DIFF: Final = 13  # M→L: only what is missing follows
TRUNC: Final = 14  # M→L: drop what is behind zxid
SNAP: Final = 15  # M→L: the whole tree follows
OBSERVERINFO: Final = 16  # O→M: as FOLLOWERINFO
LEADERINFO: Final = 17  # M→L: new epoch << 32; int32 protocol version
ACKEPOCH: Final = 18  # L→M: last logged zxid; int32 current epoch, or -1: not counted
INFORMANDACTIVATE: Final = 19  # M→O: int64 designated leader, then the txn of a reconfig

NAMES: Final = (
    *("0", "REQUEST", "PROPOSAL", "ACK", "COMMIT", "PING", "REVALIDATE", "SYNC", "INFORM"),
    *("COMMITANDACTIVATE", "NEWLEADER", "FOLLOWERINFO", "UPTODATE", "DIFF", "TRUNC", "SNAP"),
    *("OBSERVERINFO", "LEADERINFO", "ACKEPOCH", "INFORMANDACTIVATE"),
)

JAVA_PROTOCOL: Final = 0x10000  # the least that speaks of epochs; what Apache says
ZKSTORE_PROTOCOL: Final = 0x20001  # Apache takes anything from JAVA_PROTOCOL on
NOBODY: Final = -(1 << 63)  # Long.MIN_VALUE: leader, zxid and epoch in the vote of a non-voter

HELLO_ADDRESS_BYTES_MAX: Final = 2048
_ONE_ADDRESS: Final = -65536  # since 3.5
_ADDRESSES: Final = -65535  # since 3.6, with multiAddress.enabled

_HEAD: Final = struct.Struct(">iqi")
_PLAIN: Final = struct.Struct(">iqii")  # a packet without data and identities
_REQUEST: Final = struct.Struct(">qii")
_SESSION: Final = struct.Struct(">qi")
_VALID: Final = struct.Struct(">q?")
_LEARNER: Final = struct.Struct(">qiq")
_DIGEST: Final = struct.Struct(">qQ")
_VOTE_HEAD: Final = struct.Struct(">iqqqqi")
_VOTE: Final = struct.Struct(">iqqqqii")
_HELLO: Final = struct.Struct(">qqi")


class Packet(NamedTuple):
    type: int
    zxid: int
    data: bytes | None = None
    identities: tuple[tuple[bytes, bytes], ...] | None = None  # (scheme, id) of the client

    @property
    def name(self) -> str:
        """For log lines."""
        return NAMES[self.type] if 0 <= self.type < len(NAMES) else str(self.type)


def encode(packet: Packet) -> bytes:
    """The bytes of one packet."""
    kind, zxid, data, identities = packet
    if identities is None:
        if data is None:
            return _PLAIN.pack(kind, zxid, -1, -1)
        return _HEAD.pack(kind, zxid, len(data)) + data + NULL
    if data is None:
        head = _HEAD.pack(kind, zxid, -1)
    else:
        head = _HEAD.pack(kind, zxid, len(data)) + data
    return head + vector(buffer(scheme) + buffer(name) for scheme, name in identities)


class Decoder:
    """Cuts one direction of a link into packets.

    `packet_bytes_max` bounds a whole packet: jute.maxbuffer and what else Apache lets a stored txn
    have.
    """

    def __init__(self, packet_bytes_max: int) -> None:
        self._packet_bytes_max = packet_bytes_max
        self._held = bytearray()
        self._need = _PLAIN.size
        self.stopped = False  # behind a SNAP, until rest() was called

    def feed(self, data: bytes) -> list[Packet]:
        """The packets that are whole with these bytes; the last may be a SNAP: then call rest().

        Raises: RemoteProtocolError; the link is of no use any more.
        """
        if self._held or self.stopped:
            self._held += data
            if self.stopped or len(self._held) < self._need:
                return []
            data = bytes(self._held)
        packets: list[Packet] = []
        offset = 0
        while not self.stopped:
            packet, end = self._packet(data, offset)
            if packet is None:
                self._need = end - offset
                break
            packets.append(packet)
            offset = end
            self.stopped = packet.type == SNAP
        self._held = bytearray(data[offset:])
        return packets

    @property
    def held_bytes(self) -> int:
        """Of a packet that is not whole yet, or behind a SNAP."""
        return len(self._held)

    def rest(self) -> bytes:
        """What was read behind a SNAP: the beginning of the snapshot. Feed what follows it."""
        assert self.stopped
        rest = bytes(self._held)
        self._held.clear()
        self._need = _PLAIN.size
        self.stopped = False
        return rest

    def _packet(self, data: bytes, offset: int) -> tuple[Packet | None, int]:
        """One packet and its end; None and where it ends at the earliest if it is not whole."""
        limit = offset + self._packet_bytes_max
        if len(data) - offset < _PLAIN.size:
            return None, offset + _PLAIN.size
        kind, zxid, size = _HEAD.unpack_from(data, offset)
        offset += _HEAD.size
        body, offset = _field(data, offset, size, limit - 4)
        if offset + 4 > len(data):
            return None, offset + 4
        count = unpack_int(data, offset)[0]
        offset += 4
        if count == -1:
            return Packet(kind, zxid, body), offset
        if not 0 <= count <= PACKET_IDENTITIES_MAX:
            raise RemoteProtocolError(f"packet of type {kind} with {count} identities")
        texts: list[bytes] = []
        for left in range(2 * count, 0, -1):
            if offset + 4 * left > len(data):
                return None, offset + 4 * left
            size = unpack_int(data, offset)[0]
            text, offset = _field(data, offset + 4, size, limit - 4 * (left - 1))
            texts.append(text or b"")
        if offset > len(data):
            return None, offset
        return Packet(kind, zxid, body, tuple(zip(texts[::2], texts[1::2], strict=True))), offset


def _field(data: bytes, offset: int, size: int, limit: int) -> tuple[bytes | None, int]:
    """A buffer's content behind its length, and its end, which may be past `data`."""
    if size == -1:
        return None, offset
    if size < 0 or offset + size > limit:
        raise RemoteProtocolError(f"a field of {size} bytes in a packet")
    return data[offset : offset + size], offset + size


# Bodies of packets


class LearnerInfo(NamedTuple):
    """FOLLOWERINFO, OBSERVERINFO. Before 3.5 without config_version, and once without anything."""

    sid: int
    protocol_version: int = 1
    config_version: int = 0

    def encode(self) -> bytes:
        return _LEARNER.pack(*self)

    @classmethod
    def decode(cls, data: bytes | None) -> LearnerInfo | None:
        """None: the learner does not say who it is."""
        data = data or b""
        if len(data) >= 20:
            return cls(*_LEARNER.unpack_from(data))
        if len(data) >= 12:
            return cls(*_SESSION.unpack_from(data))
        return cls(LONG.unpack_from(data)[0]) if len(data) >= 8 else None


class Request(NamedTuple):
    """REQUEST: what a client of the learner asked; `body` is without the client's header."""

    session_id: int
    cxid: int
    opcode: int
    body: bytes

    def encode(self) -> bytes:
        return _REQUEST.pack(self.session_id, self.cxid, self.opcode) + self.body

    @classmethod
    def decode(cls, data: bytes | None) -> Request:
        session_id, cxid, opcode = _unpack(_REQUEST, data)
        return cls(session_id, cxid, opcode, (data or b"")[_REQUEST.size :])


def encode_touches(touches: Iterable[tuple[int, int]]) -> bytes:
    """PING's answer: (session id, timeout in ms) of each session heard since the last one."""
    return b"".join(_SESSION.pack(*touch) for touch in touches)


def decode_touches(data: bytes | None) -> list[tuple[int, int]]:
    data = data or b""
    if len(data) % _SESSION.size:
        raise RemoteProtocolError(f"touches of {len(data)} bytes")
    return list(_SESSION.iter_unpack(data))


def encode_revalidate(session_id: int, timeout_ms: int) -> bytes:
    return _SESSION.pack(session_id, timeout_ms)


def decode_revalidate(data: bytes | None) -> tuple[int, int]:
    """(session id, timeout in ms) of a learner's REVALIDATE."""
    session_id, timeout_ms = _unpack(_SESSION, data)
    return session_id, timeout_ms


def encode_revalidated(session_id: int, valid: bool) -> bytes:
    return _VALID.pack(session_id, valid)


def decode_revalidated(data: bytes | None) -> tuple[int, bool]:
    """(session id, whether it lives) of a leader's REVALIDATE."""
    session_id, valid = _unpack(_VALID, data)
    return session_id, bool(valid)


# A zxid and the digest that a tree had behind it, unsigned.
Digest = tuple[int, int]


class Told(NamedTuple):
    """PING of a leader of ours to a learner of ours."""

    all_ours: bool  # every member is a server of ours
    tree: Digest | None = None  # of the leader's tree
    quorum: Digest | None = None  # that the trees of a quorum had, the last that is known

    def encode(self) -> bytes:
        digests = [_DIGEST.pack(*digest) for digest in self[1:] if digest is not None]
        return bytes((self.all_ours,)) + b"".join(digests)

    @classmethod
    def decode(cls, data: bytes | None) -> Told | None:
        """None: the leader is not one of ours."""
        if data is None:
            return None
        if len(data) % _DIGEST.size != 1 or len(data) > 1 + 2 * _DIGEST.size:
            raise RemoteProtocolError(f"a PING of {len(data)} bytes")
        return cls(data[0] != 0, *_DIGEST.iter_unpack(data[1:]))


def encode_answer(touches: Iterable[tuple[int, int]], digest: Digest | None) -> bytes:
    """PING's answer: touches, and of our own tree the digest that the leader told of its tree."""
    return encode_touches(touches) + (b"" if digest is None else _DIGEST.pack(*digest))


def decode_answer(data: bytes | None) -> tuple[list[tuple[int, int]], Digest | None]:
    """Of Apache's learners it has no digest."""
    data = data or b""
    if len(data) % _SESSION.size != _DIGEST.size % _SESSION.size:
        return decode_touches(data), None
    zxid, digest = _DIGEST.unpack(data[-_DIGEST.size :])
    return decode_touches(data[: -_DIGEST.size]), (zxid, digest)


def decode_int(data: bytes | None) -> int:
    """LEADERINFO's protocol version, ACKEPOCH's epoch; `pack_int` encodes it."""
    number: int = _unpack(INT, data)[0]
    return number


def _unpack(shape: struct.Struct, data: bytes | None) -> tuple[int, ...]:
    try:
        return shape.unpack_from(data or b"")
    except struct.error:
        raise RemoteProtocolError(
            f"a body of {len(data or b'')} bytes instead of {shape.size}"
        ) from None


# The election port


class Role(IntEnum):
    """What a member does. Source: QuorumPeer.ServerState."""

    LOOKING = 0
    FOLLOWING = 1
    LEADING = 2
    OBSERVING = 3


class Notification(NamedTuple):
    """A member's vote, and the state it is in; who sends it is known by the connection."""

    state: int  # a Role, or what nobody knows
    leader: int  # sid of the member voted for; NOBODY from one that has no vote
    zxid: int  # of the member voted for, its last one
    election_epoch: int  # the sender's round
    peer_epoch: int  # the current epoch of the member voted for
    version: int = 2  # of the message: 2 since 3.5; 0 from 3.4, whose votes compare otherwise
    config: bytes | None = None  # text of the sender's membership

    def encode(self) -> bytes:
        """The message of version 2."""
        config = self.config or b""
        return _VOTE.pack(*self[:5], 2, len(config)) + config

    @classmethod
    def decode(cls, message: bytes) -> Notification:
        """Raises: RemoteProtocolError."""
        size = len(message)
        if size == 28:  # without the epoch, which is in the zxid then
            state, leader, zxid, election_epoch = struct.unpack(">iqqq", message)
            return cls(state, leader, zxid, election_epoch, zxid >> 32, 0)
        if size < 40:
            raise RemoteProtocolError(f"a notification of {size} bytes")
        state, leader, zxid, election_epoch, peer_epoch, version = _VOTE_HEAD.unpack_from(message)
        vote = (state, leader, zxid, election_epoch, peer_epoch)
        if size == 40:
            return cls(*vote, 0)
        if version <= 1:
            return cls(*vote, version)
        config_size = unpack_int(message, 40)[0] if size >= 44 else -1
        if not 0 <= config_size <= size - _VOTE.size:
            raise RemoteProtocolError(f"a notification's config of {config_size} bytes")
        return cls(*vote, version, message[_VOTE.size : _VOTE.size + config_size])


class Hello(NamedTuple):
    """The first bytes of who dialled: its sid and its election addresses, none before 3.5."""

    sid: int
    addresses: tuple[tuple[str, int], ...] = ()


def encode_hello(sid: int, host: str, port: int) -> bytes:
    """The form that all since 3.5 know, and 3.4 skips."""
    address = format_address(host, port).encode()
    return _HELLO.pack(_ONE_ADDRESS, sid, len(address)) + address


def format_address(host: str, port: int) -> str:
    """host:port, an IPv6 address in brackets. Source: NetUtils.formatInetAddr."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class ElectionDecoder:
    """Cuts what comes in on a connection of the election port into notifications.

    `accepted`: the other side dialled, so a Hello comes first.
    """

    def __init__(self, *, accepted: bool) -> None:
        self.hello: Hello | None = None
        self._greeted = not accepted
        self._held = bytearray()
        self._need = 1

    def feed(self, data: bytes) -> list[Notification]:
        """The notifications that are whole with these bytes.

        Raises: RemoteProtocolError; the connection is of no use any more.
        """
        self._held += data
        if len(self._held) < self._need:
            return []
        data = bytes(self._held)
        offset = 0
        if not self._greeted:
            offset = self._hello(data)
        notifications: list[Notification] = []
        while self._greeted:
            end = self._frame_end(data, offset)
            if end > len(data):
                self._need = end - offset
                break
            notifications.append(Notification.decode(data[offset + 4 : end]))
            offset = end
        self._held = bytearray(data[offset:])
        return notifications

    def _hello(self, data: bytes) -> int:
        """Reads the Hello and returns its end, 0 if it is not whole."""
        self._need = 8
        if len(data) < self._need:
            return 0
        version = LONG.unpack_from(data)[0]
        if version >= 0:
            self.hello = Hello(version)
            self._greeted = True
            return 8
        if version not in (_ONE_ADDRESS, _ADDRESSES):
            raise RemoteProtocolError(f"unknown version {version} of the election protocol")
        self._need = _HELLO.size
        if len(data) < self._need:
            return 0
        _, sid, size = _HELLO.unpack_from(data)
        if not 0 < size <= HELLO_ADDRESS_BYTES_MAX:
            raise RemoteProtocolError(f"an election address of {size} bytes")
        self._need += size
        if len(data) < self._need:
            return 0
        text = data[_HELLO.size : self._need].decode(errors="replace")
        self.hello = Hello(sid, tuple(map(_address, text.split("|"))))
        self._greeted = True
        return self._need

    @staticmethod
    def _frame_end(data: bytes, offset: int) -> int:
        if offset + 4 > len(data):
            return offset + 4
        size = unpack_int(data, offset)[0]
        if not 0 < size <= NOTIFICATION_BYTES_MAX:
            raise RemoteProtocolError(f"a notification of {size} bytes")
        return offset + 4 + int(size)


def encode_notification(notification: Notification) -> bytes:
    """A notification as it goes over the wire, its length in front."""
    message = notification.encode()
    return pack_int(len(message)) + message


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isdecimal() or int(port) > 0xFFFF:
        raise RemoteProtocolError(f"{text[:64]!r} is not an election address")
    return host, int(port)
