"""Bytes that no client should send: a clear error or a close, and nobody else notices."""

from __future__ import annotations

import random
import re
import socket
import struct
import time
from pathlib import Path

import pytest

from tests.conformance import requests
from tests.conformance.requests import Request
from tests.conformance.wire import (
    ClosedError,
    Connection,
    DeadlineError,
    Reader,
    connect_request,
    frame,
    i32,
)
from tests.faults.bystander import ANSWER_SECONDS, Bystanders, ask, error_of, payload
from tests.faults.conftest import SESSIONLESS_MS
from tests.invariants.replica import Replica, wait_for

FRAME_BYTES_MAX = 0xFFFFF
CONNECTION_LOSS = -4
UNIMPLEMENTED = -6


def ends(connection: Connection, seconds: float = ANSWER_SECONDS) -> list[bytes]:
    """The frames that still come until the server closes the connection."""
    frames = []
    while True:
        try:
            frames.append(connection.recv(seconds))
        except ClosedError:
            connection.close()
            return frames


def set_data_of(path: str, frame_bytes: int) -> Request:
    """A setData whose frame has so many bytes."""
    empty = len(payload(requests.set_data(path, b"")))
    return requests.set_data(path, bytes(frame_bytes - empty))


def test_garbage_instead_of_a_handshake(unhurt: Replica) -> None:
    rng = random.Random(6)
    with Bystanders(unhurt):
        for _ in range(200):
            connection = Connection(unhurt.address)
            try:
                connection.send_raw(rng.randbytes(rng.choice((1, 3, 4, 20, 49, 1000, 100_000))))
                if rng.random() < 0.5:
                    connection.shut_write()
            except (ClosedError, OSError):
                pass  # closed before it had read all
            connection.close()


def test_garbage_after_the_handshake(unhurt: Replica) -> None:
    """Frames of sane lengths and insane content: an answer to each, or the end."""
    rng = random.Random(7)
    with Bystanders(unhurt):
        for _ in range(150):
            connection = unhurt.connect()
            frames = []
            for _ in range(rng.randrange(1, 10)):
                opcode = rng.choice((*requests.NAMES, rng.randrange(-50, 200)))
                body = rng.randbytes(rng.randrange(60))
                frames.append(frame(i32(rng.getrandbits(31)) + i32(opcode) + body))
            connection.send_raw(b"".join(frames))
            connection.shut_write()
            assert len(ends(connection)) <= len(frames)


@pytest.mark.parametrize("size", [-1, -(2**31), 0, 1, 7])
def test_a_length_without_a_header_ends_the_connection(unhurt: Replica, size: int) -> None:
    with Bystanders(unhurt):
        connection = unhurt.connect()
        connection.send_raw(i32(size) + b"whatever comes")
        assert ends(connection) == []


@pytest.mark.parametrize("size", [FRAME_BYTES_MAX + 1, 2**31 - 1])
def test_a_giant_length_is_answered_with_its_xid(unhurt: Replica, size: int) -> None:
    """Its header is enough; the rest is not waited for."""
    with Bystanders(unhurt):
        connection = unhurt.connect()
        connection.send_raw(i32(size) + i32(4711) + i32(5))
        (reply,) = ends(connection)
        assert Reader(reply).i32() == 4711
        assert error_of(reply) == CONNECTION_LOSS


def test_the_log_says_which_client_and_why(tmp_path: Path) -> None:
    """Once each; the same complaint again and again would only hide the others."""
    with Replica(tmp_path, 1) as replica:
        for bad, why in (
            (i32(-5), "frame of -5 bytes"),
            (i32(FRAME_BYTES_MAX + 1) + i32(1) + i32(1), f"bytes, limit {FRAME_BYTES_MAX}"),
            (frame(i32(1) + i32(77)), "unknown operation 77"),
            (frame(payload(requests.auth("nonsense", b""))), "authentication failed"),
        ):
            connection = replica.connect()
            connection.send_raw(bad)
            ends(connection)
            wait_for(lambda why=why: why in replica.output)  # type: ignore[misc]
        assert re.search(r"127\.0\.0\.1:\d+ session 0x[0-9a-f]+: frame of -5", replica.output)


def test_a_giant_handshake_ends_the_connection(unhurt: Replica) -> None:
    for size in (1025, 2**31 - 1, -1):
        connection = Connection(unhurt.address)
        connection.send_raw(i32(size) + bytes(100))
        assert ends(connection) == []


def test_the_greatest_frame_and_one_byte_more(unhurt: Replica) -> None:
    with Bystanders(unhurt):
        connection = unhurt.connect()
        ask(connection, requests.create("/greatest"))
        greatest = set_data_of("/greatest", FRAME_BYTES_MAX)
        assert error_of(ask(connection, greatest)) == 0
        data = Reader(ask(connection, requests.get_data("/greatest"))[16:]).buffer()
        assert data is not None
        assert len(payload(greatest)) == FRAME_BYTES_MAX
        connection.send_raw(frame(payload(set_data_of("/greatest", FRAME_BYTES_MAX + 1))))
        (reply,) = ends(connection)
        assert error_of(reply) == CONNECTION_LOSS


def test_a_giant_frame_may_be_sent_to_its_end(unhurt: Replica) -> None:
    """The answer is not lost by a reset while the client still sends."""
    connection = unhurt.connect()
    connection.send_raw(i32(FRAME_BYTES_MAX + 1) + i32(99) + i32(5) + bytes(100_000))
    assert Reader(connection.recv()).i32() == 99
    for _ in range(9):
        connection.send_raw(bytes(100_000))
    assert ends(connection) == []


def test_what_came_before_a_giant_frame_is_answered(unhurt: Replica) -> None:
    """In order: the writes, the read behind them, then the error."""
    connection = unhurt.connect()
    connection.send_raw(
        b"".join(frame(payload(requests.set_data("/", b"%d" % n))) for n in range(5))
        + frame(payload(requests.get_data("/")))
        + i32(FRAME_BYTES_MAX + 1) + i32(99) + i32(5) + bytes(200_000)
    )  # fmt: skip
    replies = ends(connection)
    assert [error_of(reply) for reply in replies] == [0] * 6 + [CONNECTION_LOSS]
    assert Reader(replies[-1]).i32() == 99


def test_an_unknown_operation_waits_for_its_turn(unhurt: Replica) -> None:
    connection = unhurt.connect()
    connection.send(payload(requests.set_data("/", b"x")), i32(5) + i32(77), i32(6) + i32(9))
    replies = ends(connection)
    assert [error_of(reply) for reply in replies] == [0, UNIMPLEMENTED]


def test_a_refusal_waits_for_its_turn(unhurt: Replica) -> None:
    """Answers that take no txn keep to the order among themselves as well."""
    broken = requests.raw(requests.OPCODES["create"], b"\0")
    sync, write, read = requests.sync("/"), requests.set_data("/", b""), requests.exists("/")
    some = [sync, broken, sync, broken, broken, write, broken, sync, read]
    for _ in range(20):
        connection = unhurt.connect()
        numbered = enumerate(some, start=1)
        connection.send(*(i32(xid) + i32(one.opcode) + one.body for xid, one in numbered))
        assert [Reader(connection.recv()).i32() for _ in some] == list(range(1, len(some) + 1))
        connection.close()


def conversation() -> list[Request]:
    return [
        requests.create("/bytes", b"1"),
        requests.get_data("/bytes", True),
        requests.set_data("/bytes", b"2"),
        requests.multi(requests.check("/bytes"), requests.delete("/bytes")),
        requests.ping(),
        requests.get_children("/bytes"),
        requests.close_session(),
    ]


@pytest.mark.parametrize("piece", [1, 3, 7, 1000])
def test_a_conversation_in_pieces(unhurt: Replica, piece: int) -> None:
    """However the bytes come, the answers are the same."""
    whole = frame(connect_request()) + b"".join(
        frame(payload(request)) for request in conversation()
    )
    connection = Connection(unhurt.address)
    for at in range(0, len(whole), piece):
        connection.send_raw(whole[at : at + piece])
        if piece < 1000:
            time.sleep(0)  # let the server see the piece
    frames = ends(connection)
    events = [one for one in frames[1:] if Reader(one).i32() == -1]
    pings = [one for one in frames[1:] if Reader(one).i32() == -2]
    errors = [error_of(one) for one in frames[1:] if Reader(one).i32() >= 0]
    assert (len(events), len(pings), errors) == (1, 1, [0, 0, 0, 0, -101, 0])


def test_half_a_frame_behind_the_handshake(unhurt: Replica) -> None:
    """It comes while the session is being made; the other half comes when it is."""
    whole = frame(payload(requests.exists("/")))
    for cut in (1, 4, 10, len(whole) - 1):
        connection = Connection(unhurt.address)
        connection.send_raw(frame(connect_request()) + whole[:cut])
        connection.recv()
        connection.send_raw(whole[cut:])
        assert error_of(connection.recv()) == 0
        connection.close()


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
def test_clients_that_end_in_the_middle_of_a_frame(unhurt: Replica, reset: bool) -> None:
    whole = frame(connect_request()) + frame(payload(set_data_of("/", 5000)))
    rng = random.Random(8)
    with Bystanders(unhurt):
        for _ in range(100):
            with socket.create_connection(unhurt.address) as client:
                if reset:
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                client.sendall(whole[: rng.randrange(len(whole))])
        wait_for(lambda: int(unhurt.mntr()["zk_num_alive_connections"]) <= 5)


def test_requests_behind_close_session(unhurt: Replica) -> None:
    """Whatever they are answered, none has an effect."""
    for _ in range(20):
        connection = unhurt.connect()
        behind = (payload(requests.create(f"/behind{n}")) for n in range(5))
        connection.send(payload(requests.close_session()), *behind)
        assert error_of(ends(connection)[0]) == 0
    reader = unhurt.connect()
    for n in range(5):
        assert error_of(ask(reader, requests.exists(f"/behind{n}"))) == -101
    reader.close()


def test_who_never_sends_a_handshake_is_dropped(unhurt: Replica) -> None:
    """Nothing, a part of it, and a part of it bit by bit."""
    with Bystanders(unhurt):
        silent, half, slow = (Connection(unhurt.address) for _ in range(3))
        half.send_raw(frame(connect_request())[:20])
        started = time.monotonic()
        for byte in frame(connect_request()):
            try:
                slow.send_raw(bytes([byte]))
                slow.recv(SESSIONLESS_MS / 5000)
            except DeadlineError:
                continue
            except (ClosedError, OSError):
                break
        assert time.monotonic() - started < 5 * SESSIONLESS_MS / 1000
        assert ends(silent) == ends(half) == []
        slow.close()
        talking = unhurt.connect()
        assert error_of(ask(talking, requests.exists("/"))) == 0
        talking.close()


def test_a_word_from_a_client_that_says_no_more(unhurt: Replica) -> None:
    """`echo stat | nc host port` closes its sending side at once."""
    for word in ("ruok", "srvr", "stat", "mntr", "conf", "cons", "dump", "isro"):
        connection = Connection(unhurt.address)
        connection.send_raw(word.encode() + b"\n")
        connection.shut_write()
        assert connection.recv_all(), word
        connection.close()
