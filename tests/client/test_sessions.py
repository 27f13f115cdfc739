"""Lost connections, lost servers, lost sessions; against every kind of server."""

from __future__ import annotations

import asyncio

import pytest

from tests.client.loop import on_loop
from tests.client.proxy import Proxy
from tests.client.servers import TICK_MS, Running, kinds, running
from zkstore.client import (
    CREATOR,
    Client,
    ClientClosed,
    ConnectionLoss,
    Node,
    SessionExpired,
    State,
)

# Nothing is listening there: a refused connection.
NOBODY = "127.0.0.1:1"
# Time out soon, but not for a pause of the disk; a client leaves a server that is silent for two
# thirds of it.
SHORT_MS = 6000
# To close, a client waits a third of it for the reply.
PATIENT_MS = 60_000


async def until(client: Client, state: State) -> None:
    async for now in client.states():
        if now is state:
            return
    raise AssertionError(f"ended without {state}")


@on_loop
async def test_a_session_survives_its_connection(shared_server: Running, chroot: str) -> None:
    async with Proxy(shared_server.address) as proxy:
        async with Client(
            proxy.address + chroot, auth=[("digest", b"me:secret")], session_timeout_ms=PATIENT_MS
        ) as client:
            session_id = client.session_id
            await client.create("/mine", ephemeral=True, acl=CREATOR)
            for lost in range(3):
                proxy.cut()
                await until(client, State.CONNECTING)
                node = await client.get("/mine")  # needs the identity on the new connection too
                assert node.stat.ephemeral_owner == client.session_id == session_id
                assert proxy.accepted == lost + 2
        async with Client(shared_server.address + chroot) as other:
            assert await other.children("/") == []


@on_loop
async def test_reads_are_repeated_and_writes_are_not(shared_server: Running, chroot: str) -> None:
    async with Proxy(shared_server.address) as proxy, Client(proxy.address + chroot) as client:
        await client.create("/a", b"1")
        proxy.hold()
        calls = [
            asyncio.ensure_future(call)
            for call in (
                client.get("/a"),
                client.set("/a", b"2"),
                client.exists("/a"),
                client.sync(),
                client.delete("/a"),
                client.children("/"),
            )
        ]
        await asyncio.sleep(0)
        proxy.cut()
        proxy.release()
        got, was_set, found, synced, deleted, names = await asyncio.gather(
            *calls, return_exceptions=True
        )
        assert isinstance(was_set, ConnectionLoss)
        assert isinstance(deleted, ConnectionLoss)
        # Held by the proxy, the writes never came to the server.
        assert isinstance(got, Node)
        assert (got.value, found, synced, names) == (b"1", got.stat, None, ["a"])


@on_loop
async def test_no_write_from_before_a_cut_comes_after_it(embedded: str) -> None:
    """NoStraggler: also those that wait for a slot, and those that were not sent."""
    server, _, chroot = embedded.partition("/")
    async with Proxy(server) as proxy, Client(f"{proxy.address}/{chroot}") as client:
        await client.create("/a", b"")
        proxy.hold()
        calls = [asyncio.ensure_future(client.set("/a", b"%d" % n)) for n in range(1500)]
        await asyncio.sleep(0)
        proxy.cut()
        proxy.release()
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(result, ConnectionLoss) for result in results)
        assert (await client.set("/a", b"after")).version == 1


@on_loop
async def test_what_is_called_while_disconnected_waits(shared_server: Running, chroot: str) -> None:
    async with Proxy(shared_server.address) as proxy, Client(proxy.address + chroot) as client:
        proxy.refuse()
        proxy.cut()
        await until(client, State.CONNECTING)
        calls = [asyncio.ensure_future(client.create(f"/{name}")) for name in "abc"]
        never = asyncio.ensure_future(client.create("/never"))
        last = asyncio.ensure_future(client.children("/"))
        await asyncio.sleep(0)
        never.cancel()
        await proxy.listen()
        await asyncio.gather(*calls)
        assert await last == ["a", "b", "c"]
        assert never.cancelled()


@on_loop
async def test_the_next_server_is_tried(shared_server: Running, chroot: str) -> None:
    async with Proxy(shared_server.address) as one, Proxy(shared_server.address) as other:
        hosts = f"{NOBODY},{one.address},{NOBODY},{other.address}{chroot}"
        async with Client(hosts) as client:
            for _ in range(3):
                here, there = (one, other) if one.accepted > other.accepted else (other, one)
                here.refuse()
                here.cut()
                await until(client, State.CONNECTING)
                await client.sync()
                assert client.session_id
                here.accepted = 0
                assert there.accepted
                await here.listen()


@on_loop
async def test_a_silent_server_is_left(shared_server: Running, chroot: str) -> None:
    """Nothing is closed, nothing comes: the client notices in time to keep its session."""
    async with (
        Proxy(shared_server.address) as proxy,
        Proxy(shared_server.address) as other,
        Client(proxy.address + chroot, session_timeout_ms=SHORT_MS) as client,
    ):
        node = await client.create("/mine", ephemeral=True)
        client._session._hosts._order = [("127.0.0.1", other.port)]
        proxy.hold()
        await until(client, State.CONNECTING)
        assert await client.exists("/mine") == node.stat
        assert other.accepted == 1


@on_loop
async def test_pings_keep_an_idle_session(shared_server: Running, chroot: str) -> None:
    async with (
        Proxy(shared_server.address) as proxy,
        Client(proxy.address + chroot, session_timeout_ms=SHORT_MS) as client,
        Client(shared_server.address + chroot) as other,
    ):
        await client.create("/mine", ephemeral=True)
        observation = other.observe("/mine")
        assert await anext(observation) is not None
        with pytest.raises(TimeoutError):
            # The session's timeout and two ticks: it would show.
            async with asyncio.timeout((SHORT_MS + 2 * TICK_MS) / 1000 + 0.2):
                await anext(observation)
        assert client.state is State.CONNECTED
        assert proxy.accepted == 1


@on_loop
async def test_an_expired_session_is_final(shared_server: Running, chroot: str) -> None:
    async with Proxy(shared_server.address) as proxy:
        client = Client(proxy.address + chroot, session_timeout_ms=SHORT_MS)
        await client.connect()
        await client.create("/mine", ephemeral=True)
        observation = client.observe("/mine")
        await anext(observation)
        async with client.watch("/mine") as events:
            proxy.refuse()
            proxy.cut()
            await until(client, State.CONNECTING)
            waiting = [
                asyncio.ensure_future(call)
                for call in (client.get("/mine"), client.create("/b"), anext(observation))
            ]
            async with Client(shared_server.address + chroot) as other:
                async for node in other.observe("/mine"):
                    if node is None:
                        break
            await proxy.listen()
            results = await asyncio.gather(*waiting, return_exceptions=True)
            assert [type(result) for result in results] == [SessionExpired] * 3
            with pytest.raises(SessionExpired):
                await anext(events)
        assert client.state is State.EXPIRED
        with pytest.raises(SessionExpired):
            await client.get("/")
        await client.close()
        assert client.state is State.EXPIRED


@pytest.mark.parametrize("kind", kinds())
@on_loop
async def test_a_session_survives_its_server(kind: str) -> None:
    with running(kind) as server:
        async with Client(server.address, session_timeout_ms=PATIENT_MS) as client:
            session_id = client.session_id
            await client.create("/mine", b"1", ephemeral=True)
            observation = client.observe("/mine")
            assert await anext(observation) is not None
            await asyncio.to_thread(server.stop)
            await until(client, State.CONNECTING)
            write = asyncio.ensure_future(client.set("/mine", b"2"))
            change = asyncio.ensure_future(anext(observation))
            await asyncio.to_thread(server.start)
            await write
            seen = await change
            assert seen is not None and seen.value == b"2"
            assert seen.stat.ephemeral_owner == client.session_id == session_id


@on_loop
async def test_a_client_that_is_not_connected_says_so(embedded: str) -> None:
    client = Client(embedded)
    with pytest.raises(ClientClosed):
        await client.get("/")
    await client.close()


@on_loop
async def test_connecting_can_be_given_up(embedded: str) -> None:
    for hosts in (NOBODY, f"{NOBODY},{NOBODY}"):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3), Client(hosts):
                raise AssertionError("connected to nobody")


@on_loop
async def test_a_call_can_be_given_up(embedded: str) -> None:
    server, _, chroot = embedded.partition("/")
    async with Proxy(server) as proxy, Client(f"{proxy.address}/{chroot}") as client:
        proxy.hold()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await client.create("/a")
        given_up = [asyncio.ensure_future(client.get("/none")) for _ in range(2000)]
        await asyncio.sleep(0)
        for call in given_up:
            call.cancel()
        proxy.release()
        # The replies to what was given up are nobody's, and all places in the queue are free.
        await asyncio.gather(*(client.get("/") for _ in range(2000)))
        assert await client.children("/") == ["a"]


@on_loop
async def test_closing_ends_what_waits(embedded: str) -> None:
    server, _, chroot = embedded.partition("/")
    async with Proxy(server) as proxy:
        client = Client(f"{proxy.address}/{chroot}", session_timeout_ms=3000)
        await client.connect()
        observation = client.observe("/none")
        assert await anext(observation) is None
        proxy.hold()
        waiting = [asyncio.ensure_future(call) for call in (client.get("/"), anext(observation))]
        await asyncio.sleep(0)
        await client.close()
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(result) for result in results] == [ClientClosed] * 2


@on_loop
async def test_a_mistake_of_ours_leaves_nobody_waiting(embedded: str) -> None:
    client = Client(embedded)

    def broken() -> object:
        raise ZeroDivisionError

    client._session._new_connection = broken  # type: ignore[method-assign,assignment]
    with pytest.raises(ClientClosed) as caught:
        await client.connect()
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
