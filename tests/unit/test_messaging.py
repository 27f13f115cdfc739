"""messaging.py: messages arrive whole and in order, however the stream cuts them."""

from __future__ import annotations

import asyncio
import random
from typing import Any, cast

import pytest

from zkstore.messaging import Channel, MemoryChannel, StreamChannel, memory_pair
from zkstore.records.ipc import Message

MESSAGES: list[Message] = [
    [7],
    [0, 3, b"frame", 5, 0, [1, -5, 1 << 62]],
    [b"", None, "text", b"\xff" * 70_000],
    [],
    [1, 2, [b"x", [b"y"]], -(1 << 63)],
]


class Wire(asyncio.Transport):
    """Collects what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)

    def close(self) -> None:
        self.closed = True


def stream() -> tuple[StreamChannel, Wire, list[Message], list[str]]:
    """(channel, its wire, messages it received, what happened to it)."""
    received: list[Message] = []
    events: list[str] = []
    channel = StreamChannel(
        received.append, lambda: events.append("lost"), lambda _: events.append("connected")
    )
    wire = Wire()
    channel.connection_made(wire)
    return channel, wire, received, events


def encoded() -> bytes:
    channel, wire, _, _ = stream()
    for message in MESSAGES:
        channel.send(message)
    return wire.written


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 1000, 65_536, 1 << 20])
def test_messages_come_out_as_they_went_in_whatever_the_pieces(size: int) -> None:
    channel, _, received, events = stream()
    sent = encoded()
    for at in range(0, len(sent), size):
        channel.data_received(sent[at : at + size])
    assert received == MESSAGES
    assert events == ["connected"]


@pytest.mark.parametrize("seed", range(30))
def test_random_pieces(seed: int) -> None:
    rng = random.Random(seed)
    channel, _, received, _ = stream()
    sent = encoded()
    while sent:
        size = rng.choice((1, 3, 4, 5, 9, 40_000, 69_999))
        channel.data_received(sent[:size])
        sent = sent[size:]
    assert received == MESSAGES


def test_a_lost_channel_says_so_once_and_drops_what_is_sent() -> None:
    channel, wire, _, events = stream()
    channel.connection_lost(None)
    channel.send([1])
    channel.close()
    assert events == ["connected", "lost"]
    assert (wire.written, wire.closed) == (b"", False)


def test_closing_closes_the_transport() -> None:
    channel, wire, _, _ = stream()
    channel.close()
    assert wire.closed


class Steps:
    """An event loop that runs its callbacks when told."""

    def __init__(self) -> None:
        self._soon: list[tuple[Any, ...]] = []

    def call_soon(self, callback: Any, *args: Any) -> None:
        self._soon.append((callback, *args))

    def run(self) -> None:
        while self._soon:
            callback, *args = self._soon.pop(0)
            callback(*args)


def in_memory() -> tuple[Steps, MemoryChannel, MemoryChannel, list[Message]]:
    steps = Steps()
    one, other = memory_pair(cast(asyncio.AbstractEventLoop, steps))
    received: list[Message] = []
    other.on_message = received.append
    return steps, one, other, received


def test_in_memory_nothing_arrives_within_the_call_that_sent_it() -> None:
    steps, one, _, received = in_memory()
    channel: Channel = one
    channel.send([1])
    channel.send([2])
    assert received == []
    steps.run()
    assert received == [[1], [2]]


def test_in_memory_an_end_that_is_closed_hears_nothing_more() -> None:
    steps, one, other, received = in_memory()
    lost: list[str] = []
    one.on_lost = lambda: lost.append("one")
    one.send([1])
    other.close()
    other.close()
    one.send([2])
    steps.run()
    assert received == []
    assert lost == ["one"]
