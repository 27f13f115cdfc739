"""What ZooKeeper's shell needs beyond `Tree`: null values, the listener, failing fast."""

from __future__ import annotations

import asyncio

import pytest

from tests.client.loop import on_loop
from tests.client.proxy import Proxy
from tests.client.servers import Running
from tests.client.test_odd_servers import scripted
from zkstore.client import Client, ConnectionLoss, Event, EventType, NoNode, State
from zkstore.client.model import Creation
from zkstore.client.raw import CONFIG, Identity, WatchKind
from zkstore.errors import Code, ZooKeeperError
from zkstore.proto import client_requests, requests

# Nothing is listening there: a refused connection.
NOBODY = "127.0.0.1:1"
CHANGED, CHILDREN_CHANGED = EventType.DATA_CHANGED, EventType.CHILDREN_CHANGED
CREATED, DELETED = EventType.CREATED, EventType.DELETED


class Told:
    """A listener that keeps what it is told."""

    def __init__(self) -> None:
        self.events: list[tuple[EventType, str]] = []
        self.more = asyncio.Event()

    def __call__(self, event: Event) -> None:
        self.events.append((event.type, event.path))
        self.more.set()

    def taken(self) -> list[tuple[EventType, str]]:
        taken, self.events = self.events, []
        return taken

    async def wait(self, count: int) -> None:
        while len(self.events) < count:
            self.more.clear()
            await self.more.wait()


@on_loop
async def test_null_and_empty_values_differ(address: str) -> None:
    async with Client(address) as client:
        raw = client.raw(Told())
        assert await raw.create("/null", None, Creation()) == "/null"
        assert await raw.create("/n-", b"", Creation(sequential=True)) == "/n-0000000001"
        assert (await raw.get("/null"))[0] is None
        assert (await raw.get("/n-0000000001"))[0] == b""
        assert (await client.get("/null")).value == b""


@on_loop
async def test_one_shot_watches_tell_once(address: str) -> None:
    async with Client(address) as client:
        told = Told()
        raw = client.raw(told)
        assert await raw.exists("/a", watch=True) is None
        await client.create("/a", b"1")
        assert told.taken() == [(CREATED, "/a")]
        for _ in range(2):  # the same watch twice is one
            await raw.get("/a", watch=True)
            await raw.children("/a", watch=True)
        await client.set("/a", b"2")
        await client.set("/a", b"3")
        await client.create("/a/b")
        await client.create("/a/c")
        assert told.taken() == [(CHANGED, "/a"), (CHILDREN_CHANGED, "/a")]
        names, stat = await raw.children("/a")
        assert (names, stat.num_children) == (["b", "c"], 2)
        assert await raw.exists("/a", watch=True) is not None
        await client.set("/a", b"4")
        assert told.taken() == [(CHANGED, "/a")]


@on_loop
async def test_a_read_of_nothing_leaves_no_watch(address: str) -> None:
    async with Client(address) as client:
        told = Told()
        raw = client.raw(told)
        for read in (raw.get, raw.children):
            with pytest.raises(NoNode):
                await read("/none", watch=True)
        await client.create("/none")
        with pytest.raises(ZooKeeperError) as caught:
            await raw.remove_watches("/none", WatchKind.ANY, local=False)
        assert caught.value.code is Code.NO_WATCHER
        assert told.taken() == []


@on_loop
async def test_persistent_watches_tell_until_they_are_removed(address: str) -> None:
    async with Client(address) as client:
        told = Told()
        raw = client.raw(told)
        await client.create("/a")
        await raw.add_watch("/a", recursive=False)
        await raw.get("/a", watch=True)
        await client.set("/a", b"1")
        await client.create("/a/b")
        assert told.taken() == [(CHANGED, "/a"), (CHILDREN_CHANGED, "/a")]
        removed = await raw.remove_watches("/a", WatchKind.ANY, local=False)
        assert removed == [WatchKind.PERSISTENT]
        await raw.add_watch("/", recursive=True)
        await client.set("/a/b", b"1")
        await client.delete("/a/b")
        assert told.taken() == [(CHANGED, "/a/b"), (DELETED, "/a/b")]


@on_loop
async def test_watches_survive_a_connection(shared_server: Running, chroot: str) -> None:
    async with (
        Proxy(shared_server.address) as proxy,
        Client(shared_server.address + chroot) as other,
        Client(proxy.address + chroot) as client,
    ):
        told = Told()
        raw = client.raw(told)
        for path in ("/a", "/b", "/c"):
            await other.create(path)
        await raw.get("/a", watch=True)
        await raw.exists("/b", watch=True)
        await raw.exists("/new", watch=True)
        await raw.add_watch("/c", recursive=True)
        proxy.cut()
        await other.set("/a", b"changed")
        await client.sync()
        await told.wait(1)
        assert told.taken() == [(CHANGED, "/a")]  # /b is as it was, and nobody created it
        await other.set("/b", b"changed")
        await other.create("/new")
        await other.create("/c/d")
        await told.wait(3)
        assert told.taken() == [(CHANGED, "/b"), (CREATED, "/new"), (CREATED, "/c/d")]


@on_loop
async def test_watches_are_forgotten_locally_when_nobody_can_be_asked(
    shared_server: Running, chroot: str
) -> None:
    proxy = Proxy(shared_server.address)
    async with proxy, Client(proxy.address + chroot, fail_fast=True) as client:
        raw = client.raw(Told())
        await client.create("/a")
        await raw.get("/a", watch=True)
        proxy.refuse()
        proxy.cut()
        with pytest.raises(ConnectionLoss):
            await raw.remove_watches("/a", WatchKind.DATA, local=False)
        assert await raw.remove_watches("/a", WatchKind.DATA, local=True) == [WatchKind.DATA]


@on_loop
async def test_who_am_i_and_what_is_mine(address: str) -> None:
    async with Client(address) as client:
        raw = client.raw(Told())
        assert Identity("ip", "127.0.0.1") in await raw.who_am_i()
        await client.add_auth("digest", b"me:secret")
        assert Identity("digest", "me") in await raw.who_am_i()
        await client.create("/a", ephemeral=True)
        await client.create("/b")
        await client.create("/b/c")
        assert await raw.descendants("/") == 3
        chroot = address[address.index("/") :]
        assert await raw.ephemerals() == [f"{chroot}/a"]
        assert await raw.ephemerals(f"{chroot}/b") == []


@on_loop
async def test_the_configuration_is_above_every_chroot(address: str) -> None:
    async with Client(address) as client:
        told = Told()
        raw = client.raw(told)
        data, stat = await raw.config(watch=True)
        assert stat.data_length == len(data or b"")
        with pytest.raises(ZooKeeperError):  # a standalone server has nothing to reconfigure
            await raw.reconfigure(None, "5", None, -1)
        raw._on_event(CHANGED, CONFIG.encode(), 1)
        assert told.taken() == [(CHANGED, CONFIG)]


@on_loop
async def test_calls_that_fail_fast_do_not_wait_for_a_server() -> None:
    client = Client(NOBODY, fail_fast=True)
    client.start()
    try:
        with pytest.raises(ConnectionLoss):
            await client.get("/")
        await client.settled()  # the next attempt fails too
        assert client.state is State.CONNECTING
    finally:
        await client.close()


@on_loop
async def test_settled_is_also_to_be_connected(address: str) -> None:
    client = Client(address)
    client.start()
    try:
        await client.settled()
        assert client.state is State.CONNECTED
        await client.settled()
    finally:
        await client.close()


@on_loop
async def test_a_read_only_server_is_told_of() -> None:
    hellos: list[requests.Connect] = []
    async with scripted(lambda number, xid, kind: b"", hellos, read_only=True) as address:
        async with Client(address, accept_read_only=True) as client:
            assert client.read_only
        async with Client(address) as client:
            assert client.state is State.CONNECTED
    assert [hello.read_only for hello in hellos] == [True, False]


def test_a_reconfiguration_is_encoded_as_java_does() -> None:
    null = b"\xff\xff\xff\xff"
    body = client_requests.reconfig(b"a", None, None, 5)
    assert body == b"\0\0\0\1a" + null + null + b"\0\0\0\0\0\0\0\5"
