"""Runs: pipelined requests that travel together between a worker and the commit process."""

from __future__ import annotations

import pytest

from tests.conformance import requests
from tests.conformance.requests import Request
from tests.unit.stage import Stage, bytes_of
from zkstore.commit.ports import Answer, Connection, Port
from zkstore.commit.process import Opened
from zkstore.frontend.in_flight import InFlight
from zkstore.proto import opcodes as op
from zkstore.proto import replies
from zkstore.records import ipc
from zkstore.settings import Settings

SET = requests.set_data("/", b"x")
GET = requests.get_data("/", watch=False)
SYNC = requests.sync("/")
LARGE = requests.set_data("/", bytes(2000))


def passed_on(stage: Stage) -> list[list[int]]:
    """The types of the requests in each item that goes to the commit process."""
    stage.timers.run()
    return [
        [int.from_bytes(frame[4:8], "big") for frame in ipc.frames_of(frames)]
        for kind, _, frames in stage.channel.items()
        if kind == ipc.REQUEST
    ]


def reply(stage: Stage, number: int, xids: range, zxid: int = 1) -> None:
    stage.say(ipc.REPLY, number, zxid, [replies.reply(xid, zxid, b"") for xid in xids])


@pytest.mark.parametrize(
    ("sent", "runs"),
    [
        ([SET] * 3, [[op.SET_DATA] * 3]),
        ([SET, SYNC, SYNC, SET], [[op.SET_DATA], [op.SYNC] * 2, [op.SET_DATA]]),
        ([SET, SET, GET, SET], [[op.SET_DATA] * 2]),  # what is behind a read waits for it
        (
            [SET] * (ipc.RUN_MAX + 2),
            [[op.SET_DATA] * ipc.RUN_MAX, [op.SET_DATA] * 2],
        ),
    ],
)
def test_requests_of_one_kind_are_one_item(
    opened: Opened, sent: list[Request], runs: list[list[int]]
) -> None:
    stage = Stage(opened, Settings())
    client, _ = stage.connect()
    stage.channel.items()
    client.data_received(bytes_of(*sent))
    assert passed_on(stage) == runs
    assert client.outstanding == len(sent)
    assert stage.worker.in_process == sum(map(len, runs))


def test_a_run_ends_where_the_bytes_end(opened: Opened) -> None:
    data = bytes_of(SET, SET, SET)
    for cut in range(1, len(data)):
        stage = Stage(opened, Settings())
        client, _ = stage.connect()
        stage.channel.items()
        client.data_received(data[:cut])
        client.data_received(data[cut:])
        stage.timers.run()
        sent = [frames for kind, _, frames in stage.channel.items() if kind == ipc.REQUEST]
        assert b"".join(sent) == data


def test_a_large_request_travels_alone(opened: Opened) -> None:
    stage = Stage(opened, Settings(large_request_threshold=1000, large_request_bytes_max=5000))
    client, _ = stage.connect()
    stage.channel.items()
    client.data_received(bytes_of(SET, LARGE, SET, SET))
    assert passed_on(stage) == [[op.SET_DATA], [op.SET_DATA], [op.SET_DATA] * 2]
    large = len(bytes_of(LARGE)) - 4
    assert client.large_bytes(1000) == large
    reply(stage, client.number, range(1, 2))
    assert client.large_bytes(1000) == large
    reply(stage, client.number, range(2, 4))
    assert client.large_bytes(1000) == 0
    assert client.outstanding == 1


def test_replies_may_come_in_other_portions_than_the_requests(opened: Opened) -> None:
    stage = Stage(opened, Settings())
    client, transport = stage.connect()
    client.data_received(bytes_of(*[SET] * 5, *[SYNC] * 3))
    stage.timers.run()
    for xids in (range(1, 3), range(3, 7), range(7, 9)):
        reply(stage, client.number, xids)
    worker = stage.worker
    assert len(transport.frames()) == 8
    assert (worker.in_process, worker.outstanding_bytes, client.outstanding) == (0, 0, 0)
    assert (worker.update_latency.count, worker.read_latency.count) == (6, 3)  # with the session
    assert (client.stats.last_op, client.stats.last_cxid) == (op.SYNC, 8)


def test_an_event_stands_between_the_replies_that_it_is_between(opened: Opened) -> None:
    """WatchFirst: the replies of one item are taken apart where an event belongs among them."""
    stage = Stage(opened, Settings())
    client, transport = stage.connect()
    client.data_received(bytes_of(SET, SET, SET))
    stage.timers.run()
    client.notify(2, replies.event(2, op.NODE_DATA_CHANGED, b"/"))
    frames = [replies.reply(xid, xid, b"") for xid in (1, 2, 3)]
    stage.say(ipc.REPLY, client.number, 3, frames)
    xids = [int.from_bytes(frame[:4], "big", signed=True) for frame in transport.frames()]
    assert xids == [1, op.XID_NOTIFICATION, 2, 3]


def test_a_client_that_goes_takes_its_runs_along(opened: Opened) -> None:
    stage = Stage(opened, Settings())
    client, _ = stage.connect()
    client.data_received(bytes_of(SET, SET, GET, SET))
    client.connection_lost(None)
    worker = stage.worker
    assert (worker.in_process, worker.queued, worker.outstanding_bytes) == (0, 0, 0)


def test_bytes_of_a_run_are_given_back_in_parts_without_a_rest() -> None:
    in_flight = InFlight()
    in_flight.add(1.0, op.SET_DATA, 3, 100)
    in_flight.add(2.0, op.SYNC, 1, 7)
    taken = [in_flight.take(2), in_flight.take(2), in_flight.take(1)]
    assert taken == [(1.0, op.SET_DATA, 2, 66), (1.0, op.SET_DATA, 1, 34), (2.0, op.SYNC, 1, 7)]
    assert (in_flight.count, in_flight.bytes) == (0, 0)


class Channel:
    def send(self, message: ipc.Message) -> None: ...

    def close(self) -> None: ...


def test_replies_that_follow_each_other_are_one_item() -> None:
    port = Port(Channel(), 0)
    port.reply(1, 5, b"a")
    port.reply(1, 6, b"b")
    port.reply(2, 7, b"c")
    Answer(Connection(port, 2, ""), lambda zxid: b"d%d" % zxid)(8)
    port.put(ipc.TEXT, 2, 0, b"e")
    port.reply(2, 9, b"f")
    assert port.taken(9) == [
        9,
        ipc.REPLY, 1, 6, [b"a", b"b"],
        ipc.REPLY, 2, 8, [b"c", b"d8"],
        ipc.TEXT, 2, 0, b"e",
        ipc.REPLY, 2, 9, [b"f"],
    ]  # fmt: skip
    port.reply(2, 10, b"g")
    assert port.taken(10) == [10, ipc.REPLY, 2, 10, [b"g"]]
