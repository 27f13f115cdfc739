"""Requests that are too many, too old or too large: who is refused, and who does not notice.

Design: the commit process is stopped while requests come in, so that what is in process, and what
        waits for room, is exactly known; the replica is then asked what became of each.
"""

from __future__ import annotations

import os
import signal
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conformance import requests
from tests.conformance.wire import ClosedError, Connection, Reader, connect_request
from tests.faults.bystander import (
    ANSWER_SECONDS,
    UNFLUSHED,
    Bystanders,
    ask,
    error_of,
    payload,
)
from tests.invariants.replica import Replica, wait_for
from zkstore.frontend import board

THROTTLED_OP = -127
MOST = 4
LATE_MS = 100
THROTTLE = {
    **UNFLUSHED,
    "request_throttle_max_requests": str(MOST),
    "request_throttle_stall_time": "10",
}
LARGE = {"largeRequestThreshold": "1000", "largeRequestMaxBytes": "5000"}
PATH = "/throttles"
WRITE = payload(requests.set_data(PATH, b"x"))


@contextmanager
def stopped(replica: Replica) -> Iterator[None]:
    """Nothing leaves the workers, and nothing is answered but by themselves."""
    pid = replica.commit()
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def in_hand(replica: Replica) -> tuple[int, int]:
    """What the workers tell each other: requests that are not answered, bytes of large ones."""
    folder = Path(f"/proc/{replica.workers()[0]}/fd")
    shared = next(one for one in folder.iterdir() if "zkstore-board" in os.readlink(one))
    content = shared.read_bytes()
    numbers = struct.unpack(f"={len(content) // 8}Q", content)
    loads = numbers[board.LOAD :: board.COLUMNS]
    return sum(load >> 32 for load in loads), sum(numbers[board.LARGE :: board.COLUMNS])


def is_ended(connection: Connection, seconds: float = ANSWER_SECONDS) -> bool:
    """Whether the server ends the connection, instead of saying anything."""
    try:
        connection.recv(seconds)
    except ClosedError:
        return True
    return False


def version(connection: Connection) -> int:
    """How often the data was written."""
    reader = Reader(ask(connection, requests.exists(PATH)))
    assert (reader.i32(), reader.i64() > 0, reader.i32()) == (1, True, 0)
    return int.from_bytes(reader.rest()[32:36], "big")


def counted(replica: Replica, *names: str) -> list[int]:
    mntr = replica.mntr()
    return [int(mntr[f"zk_{name}"]) for name in names]


def test_what_waits_too_long_for_room_is_refused_in_order(tmp_path: Path) -> None:
    """Source: Apache 3.9.3 answers -127 under the last zxid, takes none, and goes on serving."""
    settings = {**THROTTLE, "throttled_op_wait_time": str(LATE_MS)}
    with Replica(tmp_path, 2, settings) as replica:
        many = [replica.connect() for _ in range(4)]
        ask(many[0], requests.create(PATH))
        with stopped(replica):
            for number, connection in enumerate(many, start=1):
                connection.send(*[WRITE] * 5, payload(requests.exists(PATH)))
                wait_for(lambda: in_hand(replica)[0] == 6 * number)  # noqa: B023
            time.sleep(2 * LATE_MS / 1000)
        errors = [[error_of(one.recv()) for _ in range(6)] for one in many]
        # The first one's took all the room that there was, but for one for the other worker.
        done = [each.count(0) for each in errors]
        assert errors == [[0] * count + [THROTTLED_OP] * (6 - count) for count in done]
        assert done[0] == MOST and sum(done) <= MOST + 1
        assert version(many[0]) == sum(done)
        assert counted(replica, "throttled_ops") == [24 - sum(done)]
        waited_ms = int(replica.mntr()["zk_p50_request_throttle_queue_time_ms"])
        assert LATE_MS <= waited_ms < 1000 * ANSWER_SECONDS
        assert "throttled_op_wait_time=100, request_throttle_max_requests=4" in replica.output
        for one in many:
            assert error_of(ask(one, requests.set_data(PATH, b"y"))) == 0
            one.close()


def test_requests_wait_for_room_and_all_are_served(tmp_path: Path) -> None:
    """One client sends more than there is room for; the others have their turns between."""
    count = 1000
    with Replica(tmp_path, 2, THROTTLE) as replica:
        greedy = replica.connect()
        ask(greedy, requests.create(PATH))
        with Bystanders(replica):
            greedy.send(*[WRITE] * count)
            for _ in range(count):
                assert error_of(greedy.recv()) == 0
        assert version(greedy) == count
        assert counted(replica, "throttled_ops", "stale_requests_dropped") == [0, 0]
        greedy.close()


@pytest.mark.parametrize("drop", [True, False])
def test_what_waited_when_its_client_went(tmp_path: Path, drop: bool) -> None:
    """Source: Apache drops it, or does it all the same if told not to drop."""
    settings = {**THROTTLE, "request_throttle_drop_stale": str(drop).lower()}
    count = 10
    with Replica(tmp_path, 1, settings) as replica:
        watcher, leaver = replica.connect(), replica.connect()
        ask(watcher, requests.create(PATH))
        with stopped(replica):
            leaver.send(*[WRITE] * count)
            leaver.shut_write()
            assert is_ended(leaver)
        done = MOST if drop else count
        wait_for(lambda: version(watcher) >= done)
        waiting = count - MOST
        assert counted(replica, "stale_requests_dropped", "stale_requests") == (
            [waiting, 0] if drop else [0, waiting]
        )
        assert version(watcher) == done
        watcher.close()


def test_a_request_older_than_its_session_ends_the_connection(tmp_path: Path) -> None:
    settings = {**THROTTLE, "request_stale_latency_check": "true"}
    with Replica(tmp_path, 1, settings) as replica:
        young, old = replica.connect(timeout_ms=60_000), Connection(replica.address)
        ask(young, requests.create(PATH))
        old.handshake(connect_request(timeout_ms=3000))
        with stopped(replica):
            old.send(*[WRITE] * 6)
            wait_for(lambda: in_hand(replica)[0] == 6)
            young.send(*[WRITE] * 6)
            assert is_ended(old)
        for _ in range(6):
            assert error_of(young.recv()) == 0
        assert "ms for room: request_stale_latency_check" in replica.output
        assert counted(replica, "stale_requests_dropped") == [2]
        young.close()


def large(size: int) -> bytes:
    """A write whose frame has this many bytes."""
    empty = len(payload(requests.set_data(PATH, b"")))
    return payload(requests.set_data(PATH, b"x" * (size - empty)))


def test_large_requests_beyond_the_room_for_them_end_their_connections(tmp_path: Path) -> None:
    """Source: Apache 3.9.3 serves a frame of 5000 bytes, and closes at the length of 5001."""
    with Replica(tmp_path, 2, {**UNFLUSHED, **LARGE}) as replica, Bystanders(replica):
        first = replica.connect()
        ask(first, requests.create(PATH))
        for size in (5000, 1000, 5000):
            first.send(large(size))
            assert error_of(first.recv()) == 0
        second = replica.connect()
        second.send(large(5001))
        assert is_ended(second)
        assert counted(replica, "large_requests_rejected") == [1]
        assert "large request of 5001 bytes refused: largeRequestMaxBytes=5000" in replica.output
        assert "127.0.0.1" in replica.output
        first.close()


def test_large_requests_are_counted_for_the_whole_replica(tmp_path: Path) -> None:
    with Replica(tmp_path, 2, {**UNFLUSHED, **LARGE}) as replica:
        many = [replica.connect() for _ in range(4)]
        ask(many[0], requests.create(PATH))
        with stopped(replica):
            many[0].send(large(4000))
            wait_for(lambda: in_hand(replica) == (1, 4000))
            for one in many[1:]:
                one.send(large(1500))
            assert all(map(is_ended, many[1:]))
        assert error_of(many[0].recv()) == 0
        # The room is there again.
        again = replica.connect()
        again.send(large(5000))
        assert error_of(again.recv()) == 0
        assert counted(replica, "large_requests_rejected") == [3]
        many[0].close()
        again.close()
