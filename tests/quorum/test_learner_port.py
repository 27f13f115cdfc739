"""The quorum port over loopback: links, what is sent at once, lent sockets, and bad peers."""

from __future__ import annotations

import asyncio
import functools
import os
import socket
import struct
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from tests.ports import free_ports
from tests.quorum.voter import LOCALHOST, bounded, until
from zkstore.proto import quorum
from zkstore.proto.quorum import Packet
from zkstore.quorum.learner_port import LearnerPort

Test = Callable[..., Coroutine[Any, Any, None]]
PACKET_BYTES_MAX = 100_000
PING = Packet(quorum.PING, 7)
SNAP = Packet(quorum.SNAP, 9)


def on_each_loop(test: Test) -> Callable[..., None]:
    """Makes a test of a coroutine; it runs on both kinds of event loop."""

    @functools.wraps(test)
    def run(**given: Any) -> None:
        bounded(lambda: test(**given))

    return run


class Owner:
    """Writes down what it is told."""

    def __init__(self, *, silence_s: float = 20.0, dial_s: float = 20.0) -> None:
        self.port = 0
        self.opened: list[int] = []
        self.closed: list[int] = []
        self.drained: list[int] = []
        self.packets: list[tuple[int, Packet]] = []
        self.links = LearnerPort(
            self, packet_bytes_max=PACKET_BYTES_MAX, first_packet_s=silence_s, dial_s=dial_s,
            dial_pause_s=0.01,
        )  # fmt: skip

    def link_opened(self, link: int) -> None:
        self.opened.append(link)

    def link_closed(self, link: int) -> None:
        self.closed.append(link)

    def link_packets(self, link: int, packets: list[Packet]) -> None:
        self.packets += [(link, packet) for packet in packets]

    def link_drained(self, link: int) -> None:
        self.drained.append(link)


async def pair() -> tuple[Owner, Owner]:
    """A leader's port and a learner's, with link 1 there and -1 here."""
    leader, learner = Owner(), Owner()
    (leader.port,) = free_ports(1)
    await leader.links.listen(LOCALHOST, leader.port, 1)
    learner.links.dial(-1, [(LOCALHOST, leader.port)])
    await until(lambda: learner.opened == [-1] and leader.opened == [1])
    return leader, learner


async def end(*owners: Owner) -> None:
    for owner in owners:
        owner.links.close()
    await asyncio.sleep(0)


@on_each_loop
async def test_packets_go_both_ways_and_an_end_is_told_once() -> None:
    leader, learner = await pair()
    for number in range(3):
        learner.links.send(-1, PING._replace(zxid=number))
    learner.links.flush()
    await until(lambda: len(leader.packets) == 3)
    assert leader.packets == [(1, PING._replace(zxid=number)) for number in range(3)]
    leader.links.send(1, PING)
    leader.links.flush()
    await until(lambda: learner.packets == [(-1, PING)])
    leader.links.hang_up(1)
    await until(lambda: leader.closed == [1] and learner.closed == [-1])
    leader.links.hang_up(1)
    leader.links.send(1, PING)
    leader.links.flush()
    await asyncio.sleep(0.05)
    assert (leader.closed, learner.closed) == ([1], [-1])
    await end(leader, learner)


@on_each_loop
async def test_a_leader_that_is_not_there_is_tried_a_few_times() -> None:
    learner = Owner()
    (port,) = free_ports(1)
    learner.links.dial(-1, [(LOCALHOST, port)])
    await until(lambda: learner.closed == [-1])
    assert learner.opened == []
    await end(learner)


@on_each_loop
async def test_an_attempt_is_given_up_when_told_so() -> None:
    learner = Owner()
    (port,) = free_ports(1)
    learner.links.dial(-1, [(LOCALHOST, port)])
    learner.links.hang_up(-1)
    await until(lambda: learner.closed == [-1])
    await asyncio.sleep(0.1)
    assert learner.closed == [-1]
    await end(learner)


@on_each_loop
async def test_another_address_is_tried_where_one_does_not_answer() -> None:
    leader, learner = Owner(), Owner()
    nobody, port = free_ports(2)
    await leader.links.listen(LOCALHOST, port, 1)
    learner.links.dial(-1, [(LOCALHOST, nobody), (LOCALHOST, port)])
    await until(lambda: learner.opened == [-1])
    await end(leader, learner)


@pytest.mark.parametrize(
    "bad",
    [
        struct.pack(">iqi", quorum.PING, 0, PACKET_BYTES_MAX + 1),
        struct.pack(">iqi", quorum.PING, 0, -2),
        struct.pack(">iqii", quorum.PING, 0, -1, 1 << 20),
    ],
    ids=["oversize", "negative", "identities"],
)
@on_each_loop
async def test_who_breaks_the_protocol_is_closed_and_nobody_else(bad: bytes) -> None:
    leader, learner = await pair()
    reader, writer = await asyncio.open_connection(LOCALHOST, leader.port)
    writer.write(bad + bytes(8))
    assert await reader.read() == b""
    writer.close()
    await until(lambda: leader.closed == [2])
    learner.links.send(-1, PING)
    learner.links.flush()
    await until(lambda: leader.packets == [(1, PING)])
    await end(leader, learner)


@on_each_loop
async def test_who_says_nothing_is_closed() -> None:
    leader = Owner(silence_s=0.1)
    (port,) = free_ports(1)
    await leader.links.listen(LOCALHOST, port, 1)
    reader, writer = await asyncio.open_connection(LOCALHOST, port)
    assert await reader.read() == b""
    writer.close()
    await until(lambda: leader.closed == [1])
    await end(leader)


@on_each_loop
async def test_a_lent_link_carries_a_snapshot_and_comes_back() -> None:
    """What is behind the SNAP belongs to who takes the socket; what it read too much comes back."""
    leader, learner = await pair()
    tree = os.urandom(200_000)
    leader.links.send(1, SNAP)
    leader.links.flush()
    drained: list[int] = []
    leader.links.when_drained(1, lambda: drained.append(1))
    await until(lambda: bool(drained))
    lent = leader.links.lend(1)
    assert lent is not None
    leader.links.send(1, PING)  # waits until the link is back
    leader.links.flush()
    await until(lambda: learner.packets == [(-1, SNAP)])
    taken = learner.links.lend(-1)
    assert taken is not None

    def transfer() -> bytes:
        with socket.socket(fileno=lent[0]) as out, socket.socket(fileno=taken[0]) as sock:
            out.sendall(tree[:1000])
            got = taken[1]
            at = 1000
            while len(got) < len(tree):
                at += out.send(tree[at : at + 10_000])
                got += sock.recv(65_536)
            return got

    assert await asyncio.to_thread(transfer) == tree
    assert not learner.links.is_ended(-1)
    leader.links.take_back(1)
    learner.links.take_back(-1, quorum.encode(PING._replace(zxid=1)))
    await until(lambda: len(learner.packets) == 3)
    assert learner.packets[1:] == [(-1, PING._replace(zxid=1)), (-1, PING)]
    await end(leader, learner)


@on_each_loop
async def test_the_end_of_a_lent_link_can_be_seen() -> None:
    leader, learner = await pair()
    lent = learner.links.lend(-1)
    assert lent is not None
    os.close(lent[0])
    assert not learner.links.is_ended(-1)
    leader.links.hang_up(1)
    await until(lambda: learner.links.is_ended(-1))
    learner.links.hang_up(-1)
    await until(lambda: learner.closed == [-1])
    assert learner.links.is_ended(-1)
    await end(leader, learner)
