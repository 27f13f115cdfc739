"""Observations and watches, against every kind of server, over lost connections too."""

from __future__ import annotations

import asyncio
import random

import pytest

from tests.client.loop import on_loop
from tests.client.proxy import Proxy
from tests.client.servers import Running
from tests.client.test_sessions import until
from zkstore.client import JSON, Client, EventType, NoAuth, Node, State, Watch
from zkstore.client.model import Acl, Perms


def value(node: Node[bytes] | None) -> bytes | None:
    return None if node is None else node.value


async def take(events: Watch, count: int) -> list[tuple[EventType, str]]:
    async with asyncio.timeout(60):
        taken = [await anext(events) for _ in range(count)]
    return [(event.type, event.path) for event in taken]


@on_loop
async def test_a_node_is_observed_through_its_life(address: str) -> None:
    async with Client(address) as client, Client(address) as writer:
        node = client.observe("/a")
        assert await anext(node) is None
        await writer.create("/a", b"1")
        assert value(await anext(node)) == b"1"
        await writer.set("/a", b"2")
        assert value(await anext(node)) == b"2"
        await writer.delete("/a")
        assert await anext(node) is None
        await writer.create("/a", b"3")
        assert value(await anext(node)) == b"3"
        await writer.delete("/a")
        await writer.create("/a", b"3")  # a new node with the same value is a change
        assert value(await anext(node)) == b"3"


@on_loop
async def test_children_are_observed(address: str) -> None:
    async with Client(address) as client, Client(address) as writer:
        names = client.observe_children("/a")
        assert await anext(names) is None
        await writer.create("/a")
        assert await anext(names) == []
        await writer.create("/a/y")
        assert await anext(names) == ["y"]
        await writer.create("/a/x")
        assert await anext(names) == ["x", "y"]
        await writer.set("/a", b"no change of the children")
        await writer.delete("/a/y")
        assert await anext(names) == ["x"]
        await writer.delete("/a/x")
        assert await anext(names) == []
        await writer.delete("/a")
        assert await anext(names) is None


@on_loop
async def test_many_observe_the_same_node(address: str) -> None:
    async with Client(address) as client:
        await client.create("/a", b"0")
        many = [client.observe("/a") for _ in range(50)]
        for number in range(3):
            seen = await asyncio.gather(*map(anext, many))
            assert {value(node) for node in seen} == {b"%d" % number}
            await client.set("/a", b"%d" % (number + 1))


@on_loop
async def test_an_observation_goes_on_after_a_time_limit(address: str) -> None:
    async with Client(address) as client:
        node = client.observe("/a")
        assert await anext(node) is None
        for _ in range(2):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.02):
                    await anext(node)
        await client.create("/a", b"1")
        assert value(await anext(node)) == b"1"


@on_loop
async def test_an_observation_goes_on_after_an_error(address: str) -> None:
    reader = Acl(Perms.READ | Perms.ADMIN, "world", "anyone")
    nobody = Acl(Perms.ADMIN, "world", "anyone")
    async with Client(address) as client:
        await client.create("/a", b"1", acl=[nobody])
        node = client.observe("/a")
        with pytest.raises(NoAuth):
            await anext(node)
        await client.set_acl("/a", [reader])
        assert value(await anext(node)) == b"1"


@on_loop
async def test_an_observation_goes_on_after_a_value_that_is_none(embedded: str) -> None:
    async with Client(embedded) as client:
        await client.create("/a", b"{")
        node = client.typed(JSON).observe("/a")
        with pytest.raises(ValueError):
            await anext(node)
        with pytest.raises(TimeoutError):  # it is told once
            async with asyncio.timeout(0.02):
                await anext(node)
        await client.set("/a", b"{}")
        seen = await anext(node)
        assert seen is not None and seen.value == {}


@on_loop
async def test_changes_while_disconnected_are_seen(shared_server: Running, chroot: str) -> None:
    async with (
        Proxy(shared_server.address) as proxy,
        Client(proxy.address + chroot) as client,
        Client(shared_server.address + chroot) as writer,
    ):
        for path in ("/changed", "/gone", "/same", "/parent"):
            await writer.create(path, b"old")
        paths = ("/changed", "/gone", "/same", "/new")
        changed, gone, same, new = map(client.observe, paths)
        parent = client.observe_children("/parent")
        for each in (changed, gone, same, new):
            await anext(each)
        await anext(parent)
        proxy.refuse()
        proxy.cut()
        await until(client, State.CONNECTING)
        await writer.set("/changed", b"new")
        await writer.delete("/gone")
        await writer.create("/new", b"new")
        await writer.create("/parent/child")
        await proxy.listen()
        assert value(await anext(changed)) == b"new"
        assert await anext(gone) is None
        assert value(await anext(new)) == b"new"
        assert await anext(parent) == ["child"]
        quiet = asyncio.ensure_future(anext(same))
        await client.sync()
        await client.get("/same")
        assert not quiet.done()
        await writer.set("/same", b"last")
        assert value(await quiet) == b"last"


@on_loop
async def test_the_latest_state_is_never_missed(shared_server: Running, chroot: str) -> None:
    """LatestState: cuts at random moments, and still what was written last is seen at the end."""
    dice = random.Random(7)
    async with (
        Proxy(shared_server.address) as proxy,
        Client(proxy.address + chroot) as client,
        Client(shared_server.address + chroot) as writer,
    ):
        await writer.create("/parent")

        async def follow_value() -> list[bytes | None]:
            seen = []
            async for node in client.observe("/a"):
                seen.append(value(node))
                if seen[-1] == b"last":
                    break
            return seen

        async def follow_children() -> int:
            lists = 0
            async for names in client.observe_children("/parent"):
                lists += 1
                if names and "last" in names:
                    break
            return lists

        followers = [asyncio.ensure_future(follow_value()) for _ in range(5)]
        counts = [asyncio.ensure_future(follow_children()) for _ in range(2)]
        for number in range(150):
            node = await writer.exists("/a")
            if node is None:
                await writer.create("/a", b"%d" % number)
            elif dice.random() < 0.3:
                await writer.delete("/a")
            else:
                await writer.set("/a", b"%d" % number)
            await writer.create(f"/parent/{number}")
            if dice.random() < 0.15:
                accepted = proxy.accepted
                proxy.cut()
                if dice.random() < 0.5:  # else the next cut may come before it is back
                    async with asyncio.timeout(60):
                        while proxy.accepted == accepted:
                            await asyncio.sleep(0.005)
        if await writer.exists("/a") is None:
            await writer.create("/a")
        await writer.set("/a", b"last")
        await writer.create("/parent/last")
        for seen in await asyncio.gather(*followers):
            numbers = [int(one) for one in seen if one and one != b"last"]
            assert numbers == sorted(set(numbers))
        assert min(await asyncio.gather(*counts)) >= 1
        assert proxy.accepted > 5


@on_loop
async def test_more_watches_than_one_request_holds(
    shared_server: Running, chroot: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zkstore.client.watches.SET_WATCHES_BYTES_MAX", 500)
    async with (
        Proxy(shared_server.address) as proxy,
        Client(proxy.address + chroot) as client,
        Client(shared_server.address + chroot) as writer,
    ):
        every = [client.observe(f"/node-{number:03}") for number in range(200)]
        await asyncio.gather(*map(anext, every))
        proxy.refuse()
        proxy.cut()
        await until(client, State.CONNECTING)
        await asyncio.gather(*(writer.create(f"/node-{n:03}") for n in range(0, 200, 2)))
        await proxy.listen()
        await until(client, State.CONNECTED)
        await asyncio.gather(*(writer.create(f"/node-{n:03}") for n in range(1, 200, 2)))
        assert all(await asyncio.gather(*map(anext, every)))


@on_loop
async def test_events_of_a_node_and_its_children(address: str) -> None:
    async with (
        Client(address) as client,
        Client(address) as writer,
        client.watch("/a") as events,
    ):
        made = await writer.create("/a")
        await writer.create("/a/b")
        await writer.set("/a/b", b"not seen")
        await writer.set("/a", b"x")
        await writer.delete("/a/b")
        await writer.delete("/a")
        first = await anext(events)
        assert first[:2] == (EventType.CREATED, "/a")
        assert first.zxid in (made.stat.czxid, -1)  # which servers before 3.9 do not tell
        assert await take(events, 4) == [
            (EventType.CHILDREN_CHANGED, "/a"),
            (EventType.DATA_CHANGED, "/a"),
            (EventType.CHILDREN_CHANGED, "/a"),
            (EventType.DELETED, "/a"),
        ]


@on_loop
async def test_events_of_a_whole_tree(address: str) -> None:
    async with (
        Client(address) as client,
        Client(address) as writer,
        client.watch("/", recursive=True) as all_of_it,
    ):
        async with client.watch("/a/b", recursive=True) as below:
            await writer.create("/a/b", parents=True)
            await writer.create("/a/bc")
            await writer.set("/a/b", b"x")
            await writer.delete("/a/b")
            assert await take(below, 3) == [
                (EventType.CREATED, "/a/b"),
                (EventType.DATA_CHANGED, "/a/b"),
                (EventType.DELETED, "/a/b"),
            ]
        await writer.delete("/a/bc")
        assert await take(all_of_it, 6) == [
            (EventType.CREATED, "/a"),
            (EventType.CREATED, "/a/b"),
            (EventType.CREATED, "/a/bc"),
            (EventType.DATA_CHANGED, "/a/b"),
            (EventType.DELETED, "/a/b"),
            (EventType.DELETED, "/a/bc"),
        ]


@on_loop
async def test_a_watch_survives_its_connection_and_tells_of_the_gap(
    shared_server: Running, chroot: str
) -> None:
    async with (
        Proxy(shared_server.address) as proxy,
        Client(proxy.address + chroot) as client,
        Client(shared_server.address + chroot) as writer,
    ):
        await writer.create("/a")
        async with (
            client.watch("/a") as one,
            client.watch("/", recursive=True) as tree,
        ):
            await writer.set("/a", b"1")
            assert await take(one, 1) == [(EventType.DATA_CHANGED, "/a")]
            proxy.refuse()
            proxy.cut()
            await until(client, State.CONNECTING)
            await writer.set("/a", b"lost")
            await proxy.listen()
            await until(client, State.CONNECTED)
            await writer.set("/a", b"2")
            assert await take(one, 2) == [
                (EventType.GAP, "/a"),
                (EventType.DATA_CHANGED, "/a"),
            ]
            assert await take(tree, 3) == [
                (EventType.DATA_CHANGED, "/a"),
                (EventType.GAP, "/"),
                (EventType.DATA_CHANGED, "/a"),
            ]


@on_loop
async def test_watches_on_one_path_come_and_go_alone(address: str) -> None:
    async with Client(address) as client, Client(address) as writer:
        await writer.create("/a")
        async with client.watch("/a") as stays:
            async with client.watch("/a") as goes:
                await writer.set("/a", b"1")
                assert await take(goes, 1) == await take(stays, 1)
            await writer.set("/a", b"2")
            assert await take(stays, 1) == [(EventType.DATA_CHANGED, "/a")]
        async with client.watch("/a") as again:
            await writer.set("/a", b"3")
            assert await take(again, 1) == [(EventType.DATA_CHANGED, "/a")]


@on_loop
async def test_observations_and_watches_share_a_path(embedded: str) -> None:
    """Servers before 3.9 mix them up."""
    async with Client(embedded) as client, client.watch("/", recursive=True) as tree:
        node, names = client.observe("/a"), client.observe_children("/")
        assert (await anext(node), await anext(names)) == (None, [])
        async with client.watch("/a") as one:
            await client.create("/a", b"1")
            assert value(await anext(node)) == b"1"
            assert await anext(names) == ["a"]
            assert await take(one, 1) == [(EventType.CREATED, "/a")]
        await client.delete("/a")
        assert await anext(node) is None
        assert await anext(names) == []
        assert await take(tree, 2) == [(EventType.CREATED, "/a"), (EventType.DELETED, "/a")]


@on_loop
async def test_too_many_events_become_a_gap(embedded: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zkstore.client.watches.EVENTS_MAX", 10)
    async with Client(embedded) as client:
        await client.create("/a")
        async with client.watch("/a") as events:
            for _ in range(12):
                await client.set("/a", b"x")
            assert await take(events, 2) == [
                (EventType.GAP, "/a"),
                (EventType.DATA_CHANGED, "/a"),
            ]
