"""Every operation, against every kind of server, below a chroot."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from dataclasses import dataclass

import pytest

from tests.client.loop import on_loop
from zkstore.client import (
    CREATOR,
    JSON,
    MSGPACK,
    READ_ONLY,
    TEXT,
    Acl,
    AuthFailed,
    BadArguments,
    BadVersion,
    Client,
    ClientClosed,
    InvalidAcl,
    NoAuth,
    NoChildrenForEphemerals,
    Node,
    NodeExists,
    NoNode,
    NotEmpty,
    Perms,
    State,
)


@on_loop
async def test_a_node_from_creation_to_deletion(address: str) -> None:
    async with Client(address) as client:
        made = await client.create("/a", b"one")
        assert made == Node("/a", b"one", made.stat)
        assert (made.version, made.stat.data_length, made.stat.ephemeral_owner) == (0, 3, 0)
        assert await client.get("/a") == made
        assert await client.exists("/a") == made.stat
        written = await client.set("/a", b"two")
        assert (written.version, written.stat.czxid) == (1, made.stat.czxid)
        assert await client.get("/a") == written
        assert await client.get_version("/a") == 1
        await client.delete("/a")
        assert await client.exists("/a") is None


@on_loop
async def test_versions_are_checked(address: str) -> None:
    async with Client(address) as client:
        node = await client.create("/a", b"")
        await client.set("/a", b"1", node.version)
        with pytest.raises(BadVersion):
            await client.set("/a", b"2", node.version)
        with pytest.raises(BadVersion):
            await client.delete("/a", node.version)
        await client.delete("/a", node.version + 1)


@on_loop
async def test_errors_have_classes(address: str) -> None:
    async with Client(address) as client:
        await client.create("/a/b", parents=True)
        await client.create("/e", ephemeral=True)
        with pytest.raises(NoNode, match="get /none"):
            await client.get("/none")
        with pytest.raises(NoNode):
            await client.create("/none/b")
        with pytest.raises(NodeExists):
            await client.create("/a")
        with pytest.raises(NotEmpty):
            await client.delete("/a")
        with pytest.raises(NoChildrenForEphemerals):
            await client.create("/e/b")
        with pytest.raises(InvalidAcl):
            await client.create("/c", acl=())
        for path in ("", "a", "/a//b", "/\ud800"):
            with pytest.raises((BadArguments, NoNode)):
                await client.create(path)
        with pytest.raises(BadArguments):
            await client.get("no-slash")


@on_loop
async def test_kinds_of_nodes(address: str) -> None:
    # To close, it waits a third of that for the reply.
    async with Client(address, session_timeout_ms=60_000) as client:
        first = await client.create("/s-", sequential=True)
        second = await client.create("/s-", ephemeral=True, sequential=True)
        assert int(second.name[2:]) == int(first.name[2:]) + 1
        assert second.stat.ephemeral_owner == client.session_id != 0
        for both in ({"ephemeral": True}, {"ttl_ms": 1}, {"sequential": True}):
            with pytest.raises(ValueError):
                await client.create("/x", container=True, **both)
        with pytest.raises(ValueError):
            await client.create("/x", ephemeral=True, ttl_ms=1)
    async with Client(address) as client:
        assert await client.children("/") == [first.name]


@on_loop
async def test_containers_and_nodes_with_a_time_to_live_go(address: str) -> None:
    async with Client(address) as client:
        await client.create("/container", container=True)
        await client.create("/short", b"", ttl_ms=1)
        numbered = await client.create("/short-", b"", ttl_ms=1, sequential=True)
        assert numbered.name.startswith("short-0")
        await client.create("/container/child")
        await client.delete("/container/child")
        async for names in client.observe_children("/"):
            if not names:
                break


@on_loop
async def test_missing_parents_are_made_the_chroot_with_them(address: str) -> None:
    async with Client(f"{address}/new/base") as client:
        await client.create("/a/b/", sequential=True, parents=True)
        assert await client.children("/a/b") == ["0000000000"]
        assert await client.children("/") == ["a"]
        await client.create("/a/b/c/d", parents=True)
    async with Client(address) as client:
        assert await client.children("/new/base/a/b") == ["0000000000", "c"]


@on_loop
async def test_parents_are_made_without_rights_further_up(address: str) -> None:
    everything = Acl(Perms.ALL, "world", "anyone")
    nothing = Acl(Perms.ADMIN, "world", "anyone")
    async with Client(address) as client:
        await client.create("/closed")
        await client.create("/closed/open", acl=[everything])
        await client.set_acl("/closed", [nothing])
        await client.create("/closed/open/a/b", parents=True)
        with pytest.raises(NoAuth):
            await client.create("/closed/a/b", parents=True)
        await client.set_acl("/closed", [everything])
        assert await client.children("/closed") == ["open"]


@on_loop
async def test_many_make_the_same_parents_at_once(address: str) -> None:
    async with Client(address) as one, Client(address) as other:
        await asyncio.gather(
            *(
                client.create("/a/b/c/", sequential=True, parents=True)
                for client in [one, other] * 5
            )
        )
        assert len(await one.children("/a/b/c")) == 10


@on_loop
async def test_children_come_in_order_with_their_values(address: str) -> None:
    names = ["ä", "b-10", "b-9", "a", "\uffef", "Z"]
    in_order = ["Z", "a", "b-10", "b-9", "ä", "\uffef"]
    async with Client(address) as client:
        assert await client.children("/") == []
        assert [node async for node in client.nodes("/")] == []
        for name in names:
            await client.create(f"/{name}", name.encode())
        assert await client.children("/") == in_order
        nodes = [node async for node in client.nodes("/")]
        assert [node.name for node in nodes] == in_order
        assert [node.value.decode() for node in nodes] == in_order
        behind = [node.name async for node in client.nodes("/", after="b-10")]
        assert behind == in_order[3:]
        with pytest.raises(NoNode):
            await client.children("/none")


@on_loop
async def test_children_that_go_meanwhile_are_left_out(address: str) -> None:
    async with Client(address) as client:
        await asyncio.gather(*(client.create(f"/{number:04}") for number in range(600)))
        pages = client.pages("/", after="0099")
        first = await anext(pages)
        assert [first[0].name, len(first)] == ["0100", 256]
        await client.delete("/0400")
        rest = [node.name async for page in pages for node in page]
        assert len(rest) == 600 - 100 - 256 - 1
        assert "0400" not in rest


@dataclass(frozen=True)
class Point:
    x: int
    y: int


class PointCodec:
    def encode(self, value: Point, /) -> bytes:
        return f"{value.x},{value.y}".encode()

    def decode(self, data: bytes, /) -> Point:
        x, y = map(int, data.split(b","))
        return Point(x, y)


@on_loop
async def test_values_are_typed_by_codecs(address: str) -> None:
    value = {"name": "ä", "list": [1, 2.5, None, True]}
    async with Client(address) as client:
        for number, codec in enumerate((JSON, MSGPACK)):
            typed = client.typed(codec)
            made = await typed.create(f"/{number}", value)
            assert made.value == value
            assert (await typed.get(made.path)).value == value
            assert (await typed.create(f"/{number}-none")).value is None
            assert (await typed.get(f"/{number}-none")).value is None
        assert (await client.get("/0")).value == '{"name":"ä","list":[1,2.5,null,true]}'.encode()
        text = client.typed(TEXT)
        assert (await text.create("/text", "ä")).value == "ä"
        assert (await text.set("/text", "ö")).value == (await text.get("/text")).value == "ö"
        points = client.typed(PointCodec())
        await points.create("/point", Point(1, 2))
        assert (await points.get("/point")).value == Point(1, 2)
        with pytest.raises(ValueError):
            await points.get("/text")


@on_loop
async def test_a_transaction_happens_as_a_whole(address: str) -> None:
    async with Client(address) as client:
        old = await client.create("/old", b"")
        async with client.typed(TEXT).transaction() as both:
            both.create("/a", "1")
            both.create("/a/s-", ephemeral=True, sequential=True)
            both.create("/a/t", "x", ttl_ms=60_000)
            both.create("/a/c", container=True)
            both.set("/a", "2")
            both.check("/a", 1)
            both.delete("/old", old.version)
        paths = ["/a", "/a/s-0000000000", "/a/t", "/a/c", "/a", "/a", "/old"]
        assert [outcome.path for outcome in both.results] == paths
        written = both.results[4].stat
        assert written is not None and written.version == 1
        assert both.results[6].stat is None
        assert (await client.get("/a")).value == b"2"
        assert await client.children("/a") == ["c", "s-0000000000", "t"]


@on_loop
async def test_a_transaction_that_fails_leaves_nothing(address: str) -> None:
    async with Client(address) as client:
        await client.create("/a", b"1")
        transaction = client.transaction()
        with pytest.raises(BadVersion, match="operation 1 of 3: check /a"):
            async with transaction:
                transaction.create("/b")
                transaction.check("/a", 7)
                transaction.delete("/a")
        assert transaction.failed == 1
        assert transaction.results == []
        with pytest.raises(KeyError):
            async with client.transaction() as never:
                never.delete("/a")
                raise KeyError
        assert await client.children("/") == ["a"]
        assert await client.transaction().commit() == []


@on_loop
async def test_identities_and_acls(address: str) -> None:
    ours, others = ("digest", b"me:secret"), ("digest", b"you:secret")
    digest = base64.b64encode(hashlib.sha1(b"me:secret").digest()).decode()
    async with Client(address, auth=[ours]) as client:
        await client.create("/mine", b"x", acl=CREATOR)
        acl, stat = await client.get_acl("/mine")
        assert acl == [Acl(Perms.ALL, "digest", f"me:{digest}")]
        async with Client(address, auth=[others]) as stranger:
            with pytest.raises(NoAuth):
                await stranger.get("/mine")
            await stranger.add_auth(*ours)
            assert (await stranger.get("/mine")).value == b"x"
        changed = await client.set_acl("/mine", READ_ONLY, stat.aversion)
        assert changed.aversion == 1
        with pytest.raises(NoAuth):
            await client.set("/mine", b"y")


@on_loop
async def test_refused_credentials_are_final(address: str) -> None:
    with pytest.raises(AuthFailed):
        async with Client(address, auth=[("no such scheme", b"")]):
            pass
    async with Client(address) as client:
        with pytest.raises(AuthFailed):
            await client.add_auth("no such scheme", b"")
        assert client.state is State.AUTH_FAILED
        with pytest.raises(AuthFailed):
            await client.get("/")


@on_loop
async def test_sync_shows_what_others_wrote(address: str) -> None:
    async with Client(address) as one, Client(address) as other:
        await one.create("/a")
        for number in range(20):
            await one.set("/a", b"%d" % number)
            await other.sync("/a")
            assert (await other.get("/a")).value == b"%d" % number


@on_loop
async def test_a_closed_client_says_so(address: str) -> None:
    client = Client(address)
    await client.connect()
    states = client.states()
    assert await anext(states) is State.CONNECTED
    await client.close()
    assert [state async for state in states][-1] is State.CLOSED
    with pytest.raises(ClientClosed):
        await client.get("/")
    await client.close()


@on_loop
async def test_null_data_is_no_data(address: str) -> None:
    """Other clients make nodes whose data is null; kazoo and Java read them as None and null."""
    from zkstore.jute.codec import NULL, buffer, pack_int
    from zkstore.proto import client_requests as requests
    from zkstore.proto import opcodes as op

    async with Client(address) as client:
        wire = client._paths.wire("/null")
        acl = requests.acl([(31, b"world", b"anyone")])
        body = buffer(wire) + NULL + acl + pack_int(0)
        await client._write(op.CREATE, body, "create null")
        assert (await client.get("/null")).value == b""
        assert (await client.typed(JSON).get("/null")).value is None
