"""The election port over loopback: who dials whom, what waits, and what bad peers cannot do."""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from contextlib import suppress
from typing import Any

import pytest

from tests.ports import free_ports
from tests.quorum.voter import (
    LOCALHOST,
    PRODUCTION,
    Voter,
    bounded,
    is_connected,
    membership,
    until,
)
from zkstore.constants import ELECTION_STRANGERS_MAX, NOTIFICATION_BYTES_MAX
from zkstore.proto.quorum import (
    ElectionDecoder,
    Notification,
    Role,
    encode_hello,
    encode_notification,
)
from zkstore.quorum.election_port import ElectionPort
from zkstore.settings import Settings
from zkstore.zab.membership import Address, Member, Membership

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def vote(number: int) -> Notification:
    return Notification(Role.LOOKING, 1, number, 1, 0, 2, b"")


class Side:
    """One end of an election connection, held by the test."""

    def __init__(self, streams: Streams, *, accepted: bool) -> None:
        self.reader, self.writer = streams
        self.decoder = ElectionDecoder(accepted=accepted)
        self.votes: list[Notification] = []

    @classmethod
    async def dial(cls, members: Membership, sid: int, hello: bytes) -> Side:
        address = members.members[sid].addresses[0]
        side = cls(
            await asyncio.open_connection(address.host, address.election_port), accepted=False
        )
        side.writer.write(hello)
        return side

    async def hear(self, count: int) -> list[Notification]:
        """The next votes."""
        while len(self.votes) < count:
            data = await self.reader.read(65536)
            assert data, "closed"
            self.votes += self.decoder.feed(data)
        heard, self.votes = self.votes[:count], self.votes[count:]
        return heard

    async def greet(self) -> int:
        """Who the other side says it is."""
        while self.decoder.hello is None:
            data = await self.reader.read(65536)
            assert data, "closed"
            self.votes += self.decoder.feed(data)
        return self.decoder.hello.sid

    async def closed(self) -> bool:
        with suppress(ConnectionError):
            while await self.reader.read(65536):
                pass
        return True

    def close(self) -> None:
        self.writer.close()


class Listener:
    """A member's election port, held by the test."""

    def __init__(self) -> None:
        self.sides: asyncio.Queue[Side] = asyncio.Queue()

    async def start(self, address: Address) -> Listener:
        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.sides.put_nowait(Side((reader, writer), accepted=True))

        self.server = await asyncio.start_server(accept, address.host, address.election_port)
        return self

    def close(self) -> None:
        self.server.close()


def port_of(sid: int, members: Membership, heard: list[object], **settings: Any) -> ElectionPort:
    made = Settings(server_id=sid, members=members.text().decode(), **settings)
    return ElectionPort(made, members, lambda *message: heard.append(message))


def hello_of(sid: int, members: Membership) -> bytes:
    address = members.members[sid].addresses[0]
    return encode_hello(sid, address.host, address.election_port)


def test_members_elect_lose_and_find_each_other() -> None:
    async def story() -> None:
        members = membership(1, 2, 3, observers=(4,))
        voters = {sid: await Voter(sid, members).start(zxid=5) for sid in (1, 2, 3, 4)}
        await until(lambda: all(v.election.role for v in voters.values()))
        assert {v.election.vote.leader for v in voters.values()} == {3}
        assert voters[4].election.role == Role.OBSERVING
        voters.pop(3).stop()
        for voter in voters.values():
            await voter.forget(3)
        for voter in voters.values():
            voter.election.look(5, 0)
        await until(lambda: all(v.election.role for v in voters.values()))
        assert {v.election.vote.leader for v in voters.values()} == {2}
        voters[3] = await Voter(3, members).start(zxid=9)
        await until(lambda: bool(voters[3].election.role))
        assert voters[3].election.vote.leader == 2, "it joins"
        for voter in voters.values():
            voter.stop()

    bounded(story)


def test_who_has_the_smaller_sid_is_hung_up_on_and_dialled() -> None:
    async def story() -> None:
        members = membership(1, 2)
        heard: list[object] = []
        port = port_of(2, members, heard)
        await port.start()
        small = await Listener().start(members.members[1].addresses[0])
        side = await Side.dial(members, 2, hello_of(1, members) + encode_notification(vote(1)))
        assert await side.closed() and not heard
        kept = await small.sides.get()
        kept.writer.write(encode_notification(vote(2)))
        await until(lambda: heard == [(1, vote(2))])
        port.send(1, vote(3))
        assert await kept.hear(1) == [vote(3)]
        assert await kept.greet() == 2
        port.close()
        small.close()
        kept.close()

    bounded(story)


def test_who_has_the_greater_sid_is_only_told_that_we_are_there() -> None:
    async def story() -> None:
        members = membership(1, 2)
        heard: list[object] = []
        port = port_of(1, members, heard)
        await port.start()
        great = await Listener().start(members.members[2].addresses[0])
        port.send(2, vote(1))
        told = await great.sides.get()
        assert await told.greet() == 1
        assert await told.closed() and not told.votes
        side = await Side.dial(members, 1, hello_of(2, members))
        assert await side.hear(1) == [vote(1)]
        port.close()
        great.close()

    bounded(story)


def test_only_the_newest_message_waits() -> None:
    async def story() -> None:
        members = membership(1, 2)
        port = port_of(2, members, [])
        for number in range(1000):
            port.send(1, vote(number))
        await asyncio.sleep(0)
        small = await Listener().start(members.members[1].addresses[0])
        side = await small.sides.get()
        assert await side.hear(1) == [vote(999)]
        port.send(1, vote(1000))
        assert await side.hear(1) == [vote(1000)]
        port.close()
        small.close()
        side.close()

    bounded(story)


def test_what_was_sent_last_is_sent_again_over_a_new_connection() -> None:
    async def story() -> None:
        members = membership(1, 2)
        port = port_of(1, members, [])
        await port.start()
        side = await Side.dial(members, 1, hello_of(2, members))
        await until(lambda: is_connected(port, 2))
        port.send(2, vote(1))
        port.send(2, vote(2))
        assert await side.hear(2) == [vote(1), vote(2)]
        again = await Side.dial(members, 1, hello_of(2, members))
        assert await again.hear(1) == [vote(2)]
        assert await side.closed(), "the new connection replaces the old one"
        again.close()
        port.close()

    bounded(story)


def test_a_peer_that_does_not_read_costs_one_message() -> None:
    async def story() -> None:
        members = membership(1, 2)
        port = port_of(1, members, [])
        await port.start()
        side = await Side.dial(members, 1, hello_of(2, members))
        await until(lambda: is_connected(port, 2))
        large = vote(0)._replace(config=bytes(NOTIFICATION_BYTES_MAX // 2))
        for number in range(400):
            port.send(2, large._replace(zxid=number))
            await asyncio.sleep(0)
        port.send(2, vote(400))
        got = await side.hear(1)
        while got[-1] != vote(400):
            got += await side.hear(1)
        assert len(got) < 100, "what could not leave was replaced"
        side.close()
        port.close()

    bounded(story)


BAD = {
    "unknown version": struct.pack(">q", -77),
    "no address": struct.pack(">qqi", -65536, 9, 0),
    "a long address": struct.pack(">qqi", -65536, 9, 1 << 30),
    "a request of a client": b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "a message too large": encode_hello(9, "a", 1) + struct.pack(">i", NOTIFICATION_BYTES_MAX + 1),
    "half a message": encode_hello(9, "a", 1) + struct.pack(">i", 30) + bytes(30),
    "our own number": encode_hello(1, "a", 1),
    "a stranger from nowhere": struct.pack(">q", 0),
}


@pytest.mark.parametrize("content", BAD.values(), ids=BAD.keys())
def test_bad_peers_are_closed_and_nobody_else(
    content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def story() -> None:
        members = membership(1, 2)
        heard: list[object] = []
        port = port_of(1, members, heard)
        await port.start()
        good = await Side.dial(members, 1, hello_of(2, members))
        for _ in range(50):
            bad = await Side.dial(members, 1, content)
            assert await bad.closed()
            bad.close()
        good.writer.write(encode_notification(vote(5)))
        await until(lambda: heard == [(2, vote(5))])
        good.close()
        port.close()

    with caplog.at_level(logging.WARNING):
        bounded(story, loops=PRODUCTION)
    assert 1 <= len([r for r in caplog.records if "; closed" in r.getMessage()]) <= 10


def test_who_does_not_greet_is_closed() -> None:
    async def story() -> None:
        members = membership(1, 2)
        port = port_of(1, members, [], election_greeting_timeout_ms=50)
        await port.start()
        silent = await Side.dial(members, 1, hello_of(2, members)[:5])
        assert await silent.closed()
        silent.close()
        port.close()

    bounded(story)


def test_silent_connections_are_counted() -> None:
    async def story() -> None:
        members = membership(1, 2)
        port = port_of(1, members, [])
        await port.start()
        silent = [await Side.dial(members, 1, b"") for _ in range(ELECTION_STRANGERS_MAX + 2)]
        too_many = await Side.dial(members, 1, b"")
        assert await too_many.closed()
        silent[0].close()
        await silent[0].writer.wait_closed()
        for side in (*silent, too_many):
            side.close()
        port.close()

    bounded(story)


def test_strangers_are_heard_and_answered_but_not_any_number_of_them() -> None:
    async def story() -> None:
        members = membership(2, 3)
        heard: list[object] = []
        port = port_of(2, members, heard)
        await port.start()
        great = await Side.dial(members, 2, encode_hello(77, "a", 1))
        great.writer.write(encode_notification(vote(1)))
        await until(lambda: heard == [(77, vote(1))])
        port.send(77, vote(2))
        assert await great.hear(1) == [vote(2)]
        home = Address(LOCALHOST, 1, free_ports(1)[0])
        listener = await Listener().start(home)
        small = await Side.dial(members, 2, encode_hello(1, home.host, home.election_port))
        assert await small.closed()
        called = await listener.sides.get()
        port.send(1, vote(3))
        assert await called.hear(1) == [vote(3)]
        more = [
            await Side.dial(members, 2, encode_hello(100 + n, "a", 1))
            for n in range(ELECTION_STRANGERS_MAX - 2)
        ]
        await until(
            lambda: all(is_connected(port, 100 + n) for n in range(ELECTION_STRANGERS_MAX - 2))
        )
        one_more = await Side.dial(members, 2, encode_hello(1000, "a", 1))
        assert await one_more.closed()
        great.close()
        await until(lambda: not is_connected(port, 77))
        port.send(77, vote(4))
        one_more = await Side.dial(members, 2, encode_hello(1000, "a", 1))
        await until(lambda: is_connected(port, 1000))
        for side in (called, one_more, small, *more):
            side.close()
        listener.close()
        port.close()

    bounded(story)


def test_addresses_are_tried_in_turn_and_names_resolved_each_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dead, live = free_ports(2)
    lookups: list[str] = []
    # uvloop does not ask Python's socket module for a name.
    loops = (asyncio.new_event_loop,)
    real = socket.getaddrinfo

    def getaddrinfo(host: str, *arguments: object, **options: object) -> object:
        if host != "member.test":
            return real(host, *arguments, **options)  # type: ignore[arg-type]
        lookups.append(host)
        if len(lookups) < 3:
            raise socket.gaierror("not known yet")
        return real(LOCALHOST, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    addresses = (Address(LOCALHOST, 1, dead), Address("member.test", 1, live))
    members = Membership([Member(1, addresses), *membership(2).members.values()])

    async def story() -> None:
        port = port_of(2, members, [])
        listener = await Listener().start(Address(LOCALHOST, 1, live))
        port.send(1, vote(1))
        side = await listener.sides.get()
        assert await side.hear(1) == [vote(1)]
        assert len(lookups) == 3
        side.close()
        listener.close()
        port.close()

    bounded(story, loops=loops)


def test_a_port_that_is_taken_is_waited_for() -> None:
    async def story() -> None:
        members = membership(1)
        port = members.members[1].addresses[0].election_port
        with socket.create_server((LOCALHOST, port)):
            with pytest.raises(OSError):
                await port_of(1, members, [], quorum_bind_retries=1).start()
            patient = port_of(1, members, [], quorum_bind_retries=0)
            starting = asyncio.ensure_future(patient.start())
            done, _ = await asyncio.wait([starting], timeout=0.05)
            assert not done
        await starting
        patient.close()

    bounded(story)
