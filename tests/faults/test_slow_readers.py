"""Clients that read slowly or never: they hold up nobody, not even themselves."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from tests.conformance import requests
from tests.conformance.wire import (
    Connection,
    ConnectResponse,
    connect_request,
    frame,
    read_connect_response,
)
from tests.faults.bystander import ANSWER_SECONDS, Bystanders, ask, payload
from tests.invariants.replica import Replica, wait_for

LARGE = b"x" * 1_000_000
PIECE = b"x" * 100_000


@contextmanager
def narrow(address: tuple[str, int]) -> Iterator[socket.socket]:
    """A connection with a small receive buffer: what is not read stays with the server."""
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(ANSWER_SECONDS)
        client.connect(address)
        yield client


def receive(client: socket.socket, size: int, at_once: int = 65_536) -> bytes:
    data = b""
    while len(data) < size:
        piece = client.recv(min(at_once, size - len(data)))
        assert piece, f"closed after {len(data)} of {size} bytes"
        data += piece
    return data


def greet(client: socket.socket, timeout_ms: int = 60_000) -> ConnectResponse:
    client.sendall(frame(connect_request(timeout_ms=timeout_ms)))
    size = int.from_bytes(receive(client, 4), "big")
    return read_connect_response(receive(client, size))


@pytest.fixture
def large(unhurt: Replica) -> Iterator[Replica]:
    """The server with nodes of a megabyte, and of a hundred kilobytes."""
    connection = unhurt.connect()
    ask(connection, requests.create("/large", LARGE))
    ask(connection, requests.create("/piece", PIECE))
    connection.close()
    yield unhurt


def test_a_slow_reader_gets_everything(large: Replica) -> None:
    read = frame(payload(requests.get_data("/large")))
    with Bystanders(large), narrow(large.address) as client:
        greet(client)
        client.sendall(read * 8)
        for _ in range(8):
            size = int.from_bytes(receive(client, 4), "big")
            reply = receive(client, size, at_once=5000)
            assert reply[20 : 20 + len(LARGE)] == LARGE


CLOSE = frame(payload(requests.close_session()))
UNKNOWN = frame(b"\0\0\0\1\0\0\0\x63")


@pytest.mark.parametrize("last", [CLOSE, UNKNOWN], ids=["closeSession", "unknown"])
def test_an_ended_connection_that_is_not_read_goes(large: Replica, last: bytes) -> None:
    """Its last replies are not waited for without end, however much the kernel took of them."""
    read = frame(payload(requests.get_data("/piece")))
    with Bystanders(large), ExitStack() as stack:
        alive = int(large.mntr()["zk_num_alive_connections"])
        for pieces in range(20, 70, 3):
            client = stack.enter_context(narrow(large.address))
            greet(client, timeout_ms=3000)  # if so much lies unread that the end is never served
            client.sendall(read * pieces + last)
        wait_for(lambda: int(large.mntr()["zk_num_alive_connections"]) <= alive)


def test_a_session_leaves_a_connection_that_is_stuck(large: Replica) -> None:
    """However much lies unread on the old connection, the new one gets the session at once."""
    read = frame(payload(requests.get_data("/piece")))
    for pieces in range(20, 70, 3):
        with narrow(large.address) as stuck:
            session = greet(stuck)
            stuck.sendall(read * pieces)
            old = Connection(large.address)  # only once it is served is the flood under way
            old.handshake(connect_request())
            ask(old, requests.exists("/"))
            old.close()
            taker = Connection(large.address)
            again = connect_request(session_id=session.session_id, password=session.password)
            taker.send(again)
            response = read_connect_response(taker.recv(5))
            assert response.session_id == session.session_id, pieces
            ask(taker, requests.close_session())
            taker.close()
