"""Servers that do what no server should: a script instead of a server."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from tests.client.loop import on_loop
from zkstore.client import Client, ConnectionLoss, State
from zkstore.errors import RemoteProtocolError
from zkstore.proto import opcodes as op
from zkstore.proto import replies, requests

# answer(connection number, xid, opcode) → what to send
Answer = Callable[[int, int, int], bytes]
STAT = bytes(68)


@asynccontextmanager
async def scripted(
    answer: Answer, hellos: list[requests.Connect] | None = None, *, read_only: bool = False
) -> AsyncIterator[str]:
    """A server that accepts every session and answers as it is told; `hellos`: what it was asked
    at the handshakes; `read_only`: what it says of itself."""
    connections = 0

    async def frame(reader: asyncio.StreamReader) -> bytes:
        size = int.from_bytes(await reader.readexactly(4), "big")
        return await reader.readexactly(size)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        number = connections
        try:
            hello = requests.read_connect(await frame(reader))
            if hellos is not None:
                hellos.append(hello)
            writer.write(replies.connect(0x55, 10_000, b"p" * 16, False)[:-1] + bytes([read_only]))
            while True:
                xid, kind = struct.unpack_from(">ii", await frame(reader))
                if kind == op.CLOSE_SESSION:
                    writer.write(replies.reply(xid, 1, b""))
                else:
                    writer.write(answer(number, xid, kind))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1")
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


def found(xid: int) -> bytes:
    return replies.reply(xid, 5, STAT)


async def survives(odd: Callable[[int], bytes]) -> None:
    """The call that got the odd answer fails, the next one is served on a new connection."""

    def answer(connection: int, xid: int, kind: int) -> bytes:
        return odd(xid) if connection == 1 else found(xid)

    async with scripted(answer) as address, Client(address) as client:
        with pytest.raises(ConnectionLoss):
            await client.exists("/odd")
        assert await client.exists("/even") is not None
        assert client.state is State.CONNECTED


@on_loop
async def test_a_session_is_resumed_where_it_was() -> None:
    """NeverBack: the next server learns up to where the client has seen the tree."""
    hellos: list[requests.Connect] = []

    def answer(connection: int, xid: int, kind: int) -> bytes:
        broken = connection == 1 and kind == op.GET_CHILDREN2
        event = replies.event(9, op.NODE_CREATED, b"/x")
        return event + (b"\xff\xff\xff\xff" if broken else found(xid))

    async with scripted(answer, hellos) as address, Client(address) as client:
        await client.exists("/a")
        with pytest.raises(ConnectionLoss):
            await client.children("/")
        await client.exists("/a")
    assert hellos == [
        (0, 0, 10_000, 0, bytes(16), False),
        (0, 9, 10_000, 0x55, b"p" * 16, False),
    ]


@on_loop
async def test_reads_are_repeated_in_their_order() -> None:
    """Those that were sent come before those that the full buffer held back."""
    kinds: list[int] = []

    def answer(connection: int, xid: int, kind: int) -> bytes:
        if connection == 1:
            return b""
        kinds.append(kind)
        return replies.error(xid, 5, -101)

    async with scripted(answer) as address, Client(address) as client:
        connection = client._session._connection
        assert connection is not None
        get, exists = (asyncio.ensure_future(c) for c in (client.get("/a"), client.exists("/a")))
        await asyncio.sleep(0)
        connection.pause_writing()
        later = asyncio.gather(client.children("/a"), client.sync(), return_exceptions=True)
        await asyncio.sleep(0)
        connection.abort("test")
        await asyncio.gather(get, exists, later, return_exceptions=True)
    assert kinds == [op.GET_DATA, op.EXISTS, op.GET_CHILDREN2, op.SYNC]


@on_loop
async def test_a_reply_to_something_else() -> None:
    await survives(lambda xid: found(xid + 1))


@on_loop
async def test_a_frame_of_impossible_length() -> None:
    await survives(lambda xid: b"\xff\xff\xff\xff")
    await survives(lambda xid: b"\x7f\xff\xff\xff")


@on_loop
async def test_a_frame_without_a_header() -> None:
    await survives(lambda xid: b"\0\0\0\3abc")


@on_loop
async def test_an_answer_to_credentials_never_sent() -> None:
    await survives(lambda xid: replies.reply(op.XID_AUTH, 0, b""))


@on_loop
async def test_an_event_cut_short() -> None:
    await survives(lambda xid: replies.reply(op.XID_NOTIFICATION, 1, b"\0"))


@on_loop
async def test_a_body_cut_short_harms_only_its_call() -> None:
    def answer(connection: int, xid: int, kind: int) -> bytes:
        assert connection == 1
        return replies.reply(xid, 5, b"\0\0") if kind == op.GET_DATA else found(xid)

    async with scripted(answer) as address, Client(address) as client:
        with pytest.raises(RemoteProtocolError):
            await client.get("/odd")
        assert await client.exists("/even") is not None


@on_loop
async def test_watches_that_are_refused_are_tried_elsewhere() -> None:
    """A connection without them is of no use: nobody would be told of a change."""

    def answer(connection: int, xid: int, kind: int) -> bytes:
        if kind == op.SET_WATCHES:
            return replies.error(xid, 1, 0 if connection == 3 else -5)
        if kind == op.GET_CHILDREN2 and connection == 1:
            return b"\xff\xff\xff\xff"  # end this connection
        return found(xid) if kind == op.EXISTS else replies.reply(xid, 5, b"\0\0\0\1x" + STAT)

    async with scripted(answer) as address, Client(address) as client:
        observation = client.observe("/a")
        await anext(observation)
        with pytest.raises(ConnectionLoss):
            await client.children("/")
        assert await client.exists("/a") is not None


@on_loop
async def test_a_server_that_says_nothing() -> None:
    """The handshake has a time limit of its own."""
    silent: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        silent.append(writer)

    mute = await asyncio.start_server(serve, "127.0.0.1")
    port = mute.sockets[0].getsockname()[1]
    async with scripted(lambda connection, xid, kind: found(xid)) as address:
        client = Client(f"127.0.0.1:{port},{address}", session_timeout_ms=1000)
        client._session._hosts._order.sort(key=lambda host: host[1] != port)
        await client.connect()
        assert len(silent) == 1
        await client.close()
    mute.close()
    for writer in silent:
        writer.close()
        await writer.wait_closed()
