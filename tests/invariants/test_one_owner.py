"""OneOwner: on one replica the old connection of a session is closed before the new ConnectResponse
leaves."""

from __future__ import annotations

import asyncio
import select
import socket

import pytest

import zkstore
from tests.conformance import requests
from tests.conformance.wire import Connection, Reader, connect_request, frame, i32
from tests.conformance.wire import read_connect_response as read_response
from tests.invariants.client import RefusedError, connect
from tests.invariants.history import History, read_names, read_stat
from tests.invariants.replica import Replica
from zkstore.commit.ports import Connection as ServedConnection
from zkstore.commit.sessions import Sessions
from zkstore.proto.requests import Connect


def closed_by_now(old: socket.socket) -> bool:
    """Whether the end of the connection is already here; what came before it is read away."""
    while select.select([old], [], [], 0)[0]:
        try:
            if not old.recv(65_536):
                return True
        except ConnectionError:
            return True
    return False


def read_frame(sock: socket.socket) -> bytes:
    with sock.makefile("rb") as stream:
        return stream.read(int.from_bytes(stream.read(4), "big"))


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
def test_the_old_connection_is_closed_before_the_new_one_is_told(
    replica: Replica, busy: bool
) -> None:
    """The session goes round, so that its connections meet on one worker and on different ones."""
    with socket.create_connection(replica.address, timeout=30) as first:
        first.sendall(frame(connect_request()))
        session = read_response(read_frame(first))
        assert session.password is not None
        handshake = connect_request(session_id=session.session_id, password=session.password)
        old = first
        others = []
        for number in range(30):
            if number % 3 == 0:  # changes which worker has the fewest clients
                others.append(Connection(replica.address))
            if busy:
                write = requests.set_data("/", b"x" * 1000)
                payload = i32(number) + i32(write.opcode) + write.body
                old.sendall(frame(payload) * 20)
            new = socket.create_connection(replica.address, timeout=30)
            new.sendall(frame(handshake))
            assert read_response(read_frame(new)).session_id == session.session_id
            assert closed_by_now(old), number
            old.close()
            old = new
        old.close()
        for other in others:
            other.close()


def run_claims(address: tuple[str, int], root: str, *, claims: int) -> list[tuple[int, int]]:
    """Three clients that take one session from each other, each creating nodes while it has it.

    Returns (connection, number) of each node, in the order in which they were created.
    """

    async def claim(lead: int, session_id: int, password: bytes) -> None:
        for number in range(lead, claims, 3):
            try:
                client = await connect(
                    address, history.log(f"{number}"), session_id=session_id, password=password
                )
            except RefusedError:
                continue  # somebody else took it before it was ours
            for start in range(0, 400, 5):
                if client.closed.done():
                    break
                names = [f"{root}/{number}.{part}" for part in range(start, start + 5)]
                client.send(*(requests.create(name) for name in names))
                await asyncio.sleep(0.001)
            client.cut()
            await client.ended()

    async def run() -> list[tuple[int, int]]:
        owner = await connect(address, history.log("owner"))
        await owner.done(requests.create(root))
        await asyncio.gather(*(claim(n, owner.session_id, owner.password) for n in range(3)))
        reader = await connect(address, history.log("reader"))
        names = read_names(Reader((await reader.done(requests.get_children(root))).body))
        stats = await reader.ask(*(requests.exists(f"{root}/{name}") for name in names))
        await reader.close()
        czxids = (read_stat(Reader(call.body)).czxid for call in stats)
        born = dict(zip(names, czxids, strict=True))
        pairs = (name.split(".") for name in sorted(names, key=born.__getitem__))
        return [(int(connection), int(part)) for connection, part in pairs]

    history = History()
    return asyncio.run(run())


def interleaved(created: list[tuple[int, int]]) -> list[str]:
    """Where a connection did something after another one had had the session."""
    found = []
    last: dict[int, int] = {}
    current = -1
    for connection, part in created:
        if connection != current and connection in last:
            found.append(f"connection {connection} again after {current}")
        if last.get(connection, -1) >= part:
            found.append(f"connection {connection}: {part} after {last[connection]}")
        current = connection
        last[connection] = part
    return found


def test_no_connection_acts_after_the_session_has_moved_on(replica: Replica) -> None:
    created = run_claims(replica.address, "/one_owner", claims=30)
    assert len({connection for connection, _ in created}) > 3
    assert interleaved(created) == []


def test_control_two_connections_of_one_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that lets the old connection live is found out."""

    def lenient(self: Sessions, connection: ServedConnection, request: Connect) -> None:
        self._attach(connection, self.tracker.sessions[request.session_id], request, 0)

    monkeypatch.setattr(Sessions, "_resume", lenient)
    with zkstore.Server() as server:
        created = run_claims(("127.0.0.1", server.port), "/control", claims=9)
    assert interleaved(created)
