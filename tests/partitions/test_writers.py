"""The clients' checks find what they are there for: each is shown a history that breaks it."""

from __future__ import annotations

import asyncio
import random
import struct

import pytest

from tests.conformance import requests
from tests.invariants.client import Client
from tests.invariants.history import CREATED, Call, Event, Log
from tests.partitions import writers
from tests.partitions.writers import Address, Held, Report, Writer, judge

SERVERS: list[Address] = [("one", 1), ("two", 2)]


def writer(sent: int, acknowledged: set[int]) -> Writer:
    return Writer(
        0, SERVERS, Report(), random.Random(0), session_id=7, sent=sent, acknowledged=acknowledged
    )


def stat(czxid: int, owner: int = 0) -> bytes:
    return struct.pack(">qqqqiiiqiiq", czxid, czxid, 0, 0, 0, 0, 0, owner, 0, 0, czxid)


def judged(monkeypatch: pytest.MonkeyPatch, one: Writer, *held: list[tuple[str, int]]) -> list[str]:
    """What is said of replicas that hold these children, created at these zxids."""
    replicas = dict(zip(SERVERS, held, strict=True))

    async def children(server: Address, _: list[Writer]) -> Held:
        found = [(name, stat(czxid)) for name, czxid in replicas[server]]
        return {one.root: [("", stat(1)), *found]}

    monkeypatch.setattr(writers, "_children", children)
    asyncio.run(judge(SERVERS, [one], one.report))
    return one.report.violations


GOOD = [("000001", 11), ("000002", 12)]


def test_a_good_end(monkeypatch: pytest.MonkeyPatch) -> None:
    assert judged(monkeypatch, writer(3, {1, 2}), GOOD, GOOD) == []


def test_an_acknowledged_write_that_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    found = judged(monkeypatch, writer(3, {1, 2, 3}), GOOD, GOOD)
    assert any("[3]" in text for text in found)


def test_a_write_that_nobody_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    assert any("never sent" in t for t in judged(monkeypatch, writer(1, {1}), GOOD, GOOD))


def test_replicas_that_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    other = [("000001", 11), ("000002", 13)]
    assert any("differs" in t for t in judged(monkeypatch, writer(2, {1, 2}), GOOD, other))


def test_writes_in_another_order(monkeypatch: pytest.MonkeyPatch) -> None:
    turned = [("000001", 12), ("000002", 11)]
    found = judged(monkeypatch, writer(2, {1, 2}), turned, turned)
    assert any("order of the writes" in text for text in found)


def events(one: Writer, *numbers: int) -> list[str]:
    """What is said of a connection that heard of these creations."""

    async def check() -> None:
        log = Log("connection")
        log.heard += [Event(n, CREATED, one.child(n), 0.0) for n in numbers]
        one._check_events(Client(log))

    asyncio.run(check())
    return one.report.violations


def test_events() -> None:
    assert events(writer(4, {1, 2, 4}), 1, 2, 4) == []
    assert any("behind" in text for text in events(writer(3, {1, 2, 3}), 1, 3, 2))
    assert any("no event" in text for text in events(writer(3, {1, 2, 3}), 1, 3))


class Told(Client):
    """A connection whose replies are given."""

    def __init__(self, *errors: tuple[int, int]) -> None:
        super().__init__(Log("told"))
        self._errors = list(errors)

    def send(self, *some: requests.Request) -> list[asyncio.Future[Call]]:
        futures = []
        for request in some:
            error, owner = self._errors.pop(0) if self._errors else (0, 0)
            call = Call(0, 0, request, 0.0, error=error)
            call.body = stat(1, owner)
            future = asyncio.get_running_loop().create_future()
            future.set_result(call)
            futures.append(future)
        return futures


def settled(one: Writer, *errors: tuple[int, int]) -> list[str]:
    async def settle() -> None:
        await one._settle(Told(*errors))

    asyncio.run(settle())
    return one.report.violations


def test_what_a_session_finds_when_it_is_back() -> None:
    back = writer(1, {1})
    back.has_ephemeral = True
    assert settled(back, (0, 0), (0, 7)) == []
    assert any("not seen" in text for text in settled(writer(1, {1}), (-101, 0), (0, 7)))
    without = writer(0, set())
    without.has_ephemeral = True
    assert any("living session" in text for text in settled(without, (-101, 0)))
    assert any("dead session" in text for text in settled(writer(0, set()), (0, 9)))
