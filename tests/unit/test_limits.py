"""The limits of a replica in its workers: shared numbers, the line, large requests, messages."""

from __future__ import annotations

import mmap
import struct
from typing import Any

import pytest

from tests.conformance import requests
from tests.conformance.wire import i32
from tests.unit.stage import Stage, Transport, bytes_of
from zkstore.commit.process import Opened
from zkstore.constants import IPC_MESSAGE_BYTES_MAX, IPC_PIECE_BYTES_MAX
from zkstore.frontend import worker as workers
from zkstore.frontend.board import CLIENTS, LARGE, ROW_BYTES, WAITING, Board
from zkstore.frontend.client import Client
from zkstore.proto import replies
from zkstore.records import ipc
from zkstore.settings import Settings

WRITE = requests.set_data("/", b"x")
READ = requests.exists("/")


class Pair:
    """Two workers of one replica."""

    def __init__(self, opened: Opened, **settings: Any) -> None:
        memory = mmap.mmap(-1, 2 * ROW_BYTES)
        self.stages = [Stage(opened, Settings(**settings), Board(memory, row)) for row in range(2)]


def sent_on(stage: Stage) -> int:
    """How many requests went to the commit process since the last call."""
    stage.timers.run()
    items = stage.channel.items()
    return sum(
        len(list(ipc.frames_of(frames))) for kind, _, frames in items if kind == ipc.REQUEST
    )


def answer(stage: Stage, client: Client, count: int) -> None:
    stage.say(ipc.REPLY, client.number, 1, [replies.reply(1, 1, b"")] * count)


def errors(transport: Transport) -> list[int]:
    return [struct.unpack_from(">i", reply, 12)[0] for reply in transport.frames()]


# ---- the board


def test_a_worker_sees_what_the_others_have() -> None:
    memory = mmap.mmap(-1, 3 * ROW_BYTES)
    one, two, three = (Board(memory, row) for row in range(3))
    assert one.exchange_load(5, 3) == (0, 0)
    assert two.exchange_load(70_000, 0) == (5, 3)
    assert three.exchange_load(1, 1) == (70_005, 3)
    assert one.exchange_load(0, 0) == (70_001, 1)
    one.put(LARGE, 1 << 40)
    assert (one.elsewhere(LARGE), two.elsewhere(LARGE)) == (0, 1 << 40)
    two.put(CLIENTS, 2)
    assert (two.clients(), three.clients()) == ((2, 0), (0, 0))
    memory[ROW_BYTES : 2 * ROW_BYTES] = bytes(ROW_BYTES)  # as the supervisor does for the dead
    assert three.exchange_load(1, 1) == (0, 0)


def test_a_worker_that_yields_is_yielded_to_only_if_it_has_far_fewer() -> None:
    memory = mmap.mmap(-1, 2 * ROW_BYTES)
    one, two = (Board(memory, row) for row in range(2))
    two.put(CLIENTS, 2)
    one.put(CLIENTS, 6)
    assert one.clients() == (6, 2)
    two.yields(1)
    assert one.clients() == (6, 6)
    one.put(CLIENTS, 7)
    assert one.clients() == (7, 6)
    two.yields(-1)
    assert one.clients() == (7, 2)


# ---- requests outstanding


def test_requests_of_one_worker_stop_the_clients_of_another(opened: Opened) -> None:
    """globalOutstandingLimit is the replica's; who has nothing outstanding is read all the same."""
    one, two = Pair(opened, global_outstanding_limit=10).stages
    busy, _ = one.connect()
    busy.data_received(bytes_of(*[WRITE] * 10))
    assert sent_on(one) == 10
    other, transport = two.connect()
    other.data_received(bytes_of(WRITE))
    assert sent_on(two) == 1
    other.data_received(bytes_of(WRITE))
    assert transport.paused
    answer(one, busy, 10)
    answer(two, other, 2)
    assert not transport.paused
    other.data_received(bytes_of(WRITE))
    assert not transport.paused


def test_what_the_others_know_is_mended_when_little_is_left(opened: Opened) -> None:
    """A worker with few requests says nothing more, so its last word must not be a great one."""
    one, two = Pair(opened, global_outstanding_limit=640).stages
    busy, _ = one.connect()
    busy.data_received(bytes_of(*[WRITE] * 300))
    assert sent_on(one) == 300
    one.say(ipc.SETTINGS, 0, 0, {"request_throttle_max_requests": 1000})
    one.say(ipc.SETTINGS, 0, 0, {"request_throttle_max_requests": 0})
    answer(one, busy, 300)
    assert two.worker._board.exchange_load(0, 0) == (0, 0)
    busy.data_received(bytes_of(*[WRITE] * 10))
    assert sent_on(one) == 10
    assert two.worker._board.exchange_load(0, 0) == (0, 0)  # 1/64 of the limit is not told
    busy.data_received(bytes_of(WRITE))
    assert sent_on(one) == 1
    assert two.worker._board.exchange_load(0, 0) == (11, 11)
    assert one.worker.outstanding_max == 640


def test_control_below_the_limit_nobody_is_stopped(opened: Opened) -> None:
    one, two = Pair(opened, global_outstanding_limit=13).stages
    busy, _ = one.connect()
    busy.data_received(bytes_of(*[WRITE] * 10))
    sent_on(one)
    other, transport = two.connect()
    other.data_received(bytes_of(WRITE))
    assert sent_on(two) == 1
    other.data_received(bytes_of(WRITE))
    assert not transport.paused


# ---- requests in process


def test_a_worker_takes_what_the_others_leave_and_who_waits_gets_a_share(opened: Opened) -> None:
    one, two = Pair(opened, request_throttle_max_requests=4).stages
    busy, _ = one.connect()
    busy.data_received(bytes_of(*[WRITE] * 3))
    assert sent_on(one) == 3
    other, _ = two.connect()
    other.data_received(bytes_of(*[WRITE] * 3))
    assert sent_on(two) == 1
    assert one.worker._board.elsewhere(WAITING) == 1
    # While two's requests wait, one has its share only.
    answer(one, busy, 2)
    busy.data_received(bytes_of(*[WRITE] * 3))
    assert sent_on(one) == 1
    two.worker._stalled()
    assert sent_on(two) == 1
    # Nobody waits for nothing: at the end all were sent, one at a time at the latest.
    for _ in range(3):
        answer(one, busy, busy.outstanding and 1)
        answer(two, other, other.outstanding and 1)
    answer(one, busy, busy.outstanding)
    assert len(one.worker.line) == len(two.worker.line) == 0
    assert one.worker._board.elsewhere(WAITING) == 0


def test_clients_in_line_have_their_turns_in_order(opened: Opened) -> None:
    stage = Stage(opened, Settings(request_throttle_max_requests=1))
    clients = [stage.connect()[0] for _ in range(3)]
    for client in clients:
        client.data_received(bytes_of(WRITE, WRITE))
    stage.timers.run()
    order = []
    for _ in range(6):
        (number,) = (number for kind, number, _ in stage.channel.items() if kind == ipc.REQUEST)
        order.append(number)
        stage.say(ipc.REPLY, number, 1, [replies.reply(1, 1, b"")])
    a, b, c = (one.number for one in clients)
    assert order == [a, a, b, c, b, c]


def test_a_read_behind_a_write_that_waits_sees_it(opened: Opened) -> None:
    """SessionOrder holds in line: nothing overtakes, and pings and reads of others do not wait."""
    stage = Stage(opened, Settings(request_throttle_max_requests=1))
    one, _ = stage.connect()
    two, heard = stage.connect()
    three, served = stage.connect()
    one.data_received(bytes_of(WRITE))
    two.data_received(bytes_of(WRITE, READ, WRITE, requests.ping()))
    three.data_received(bytes_of(READ))
    assert sent_on(stage) == 1
    assert len(served.frames()) == 1
    (pong,) = heard.frames()
    assert pong[:4] == i32(-2)
    answer(stage, one, 1)
    assert sent_on(stage) == 1
    assert heard.frames() == []
    answer(stage, two, 1)
    assert sent_on(stage) == 1
    assert errors(heard) == [0, 0]  # the first write's and the read's
    answer(stage, two, 1)
    assert errors(heard) == [0]


def test_the_throttle_may_be_switched_off_while_requests_wait(opened: Opened) -> None:
    stage = Stage(opened, Settings(request_throttle_max_requests=1))
    client, _ = stage.connect()
    client.data_received(bytes_of(*[WRITE] * 5))
    assert sent_on(stage) == 1
    stage.say(ipc.SETTINGS, 0, 0, {"request_throttle_max_requests": 0})
    assert sent_on(stage) == 4
    client.data_received(bytes_of(*[WRITE] * 5))
    assert sent_on(stage) == 5
    stage.say(ipc.SETTINGS, 0, 0, {"request_throttle_max_requests": 1})
    client.data_received(bytes_of(WRITE))
    assert sent_on(stage) == 0


# ---- large requests


def test_large_requests_give_their_room_back_however_they_end(opened: Opened) -> None:
    settings = {"large_request_threshold": 100, "large_request_bytes_max": 1000}
    one, two = Pair(opened, **settings).stages
    large = requests.set_data("/", b"x" * 600)
    gone, _ = one.connect()
    gone.data_received(bytes_of(large))
    refused, transport = two.connect()
    refused.data_received(bytes_of(large)[:5])
    refused.data_received(bytes_of(large)[5:12])  # its header is enough
    assert transport.closed
    assert two.worker.counters["large_requests_rejected"] == 1
    gone.connection_lost(None)
    one.timers.run()
    answered, transport = two.connect()
    for at in range(0, 700, 7):
        answered.data_received(bytes_of(large)[at : at + 7])
    answer(two, answered, 1)
    again, transport = one.connect()
    again.data_received(bytes_of(large))
    assert not transport.closed and sent_on(one) == 2
    # A read of that size is answered at once, and takes no room for longer.
    reader, transport = two.connect()
    reader.data_received(bytes_of(*[requests.get_data("/" + "x" * 300)] * 5))
    assert len(transport.frames()) == 5


# ---- messages to the commit process


def test_a_turn_with_more_bytes_than_a_message_may_have_goes_in_pieces(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "IPC_PIECE_BYTES_MAX", 10_000)
    stage = Stage(opened, Settings(global_outstanding_limit=10**6))
    clients = [stage.connect()[0] for _ in range(50)]
    stage.channel.items()
    data = bytes_of(requests.set_data("/", b"x" * 1000))
    for client in clients:
        client.data_received(data)
    for client in clients[:25]:
        client.connection_lost(None)  # what it has sent is on its way all the same
    stage.timers.run()
    sizes = [
        sum(len(one) for one in message[2::3] if isinstance(one, bytes))
        for message in stage.channel.sent
    ]
    assert len(sizes) > 4 and max(sizes) < 10_000 + len(data)
    items = stage.channel.items()
    numbers = [number for kind, number, _ in items if kind == ipc.REQUEST]
    assert numbers == [client.number for client in clients]
    ended = [number for kind, number, _ in items if kind == ipc.CLOSED]
    assert ended == numbers[:25]


def test_control_a_turn_with_less_is_one_message(opened: Opened) -> None:
    stage = Stage(opened, Settings(global_outstanding_limit=10**6))
    client, _ = stage.connect()
    stage.channel.items()
    client.data_received(bytes_of(*[WRITE] * 1000))
    stage.timers.run()
    assert len(stage.channel.sent) == 1


def test_a_message_never_reaches_the_channels_limit() -> None:
    frames = [b"x" * 700_000] * 2000
    outbox = [one for number, data in enumerate(frames) for one in (ipc.REQUEST, number, data)]
    pieces = list(workers._pieces(outbox))
    assert sum(map(len, pieces)) == len(outbox)
    assert [one for piece in pieces for one in piece] == outbox
    largest = max(sum(map(len, piece[2::3])) for piece in pieces)
    assert largest < IPC_PIECE_BYTES_MAX + 700_000 < IPC_MESSAGE_BYTES_MAX


# ---- what is counted besides


def test_a_connection_that_its_client_ends_is_counted_and_one_that_we_end_is_not(
    opened: Opened,
) -> None:
    stage = Stage(opened, Settings())
    left, sent_away = stage.connect()[0], stage.connect()[0]
    left.connection_lost(None)
    sent_away.fail("for the test")
    sent_away.connection_lost(None)
    assert stage.worker.counters["connection_drop_count"] == 1
