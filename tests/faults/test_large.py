"""What is large in itself: a session with 100,000 ephemerals, a txn larger than a frame."""

from __future__ import annotations

import time
from pathlib import Path

from tests.conformance import requests
from tests.conformance.requests import EPHEMERAL, SEQUENTIAL
from tests.conformance.wire import Connection, Reader, connect_request
from tests.faults.bystander import UNFLUSHED, Bystanders, ask, error_of, payload
from tests.invariants.history import DELETED, read_names
from tests.invariants.replica import Replica

RECURSIVE = 1
EPHEMERALS = 100_000
AT_ONCE = 1000
FRAME_BYTES_MAX = 0xFFFFF


def fill(connection: Connection, parent: str, count: int) -> None:
    """Ephemerals of this connection's session, in multis, one at a time: it is heard meanwhile."""
    ask(connection, requests.create(parent))
    for start in range(0, count, AT_ONCE):
        some = (
            requests.create(f"{parent}/{number}", flags=EPHEMERAL)
            for number in range(start, start + AT_ONCE)
        )
        assert error_of(ask(connection, requests.multi(*some), 60)) == 0


def deletions(watcher: Connection, count: int) -> set[int]:
    """The zxids of the next events, which must all tell of a deletion."""
    zxids = set()
    for _ in range(count):
        event = Reader(watcher.recv(60))
        assert event.i32() == -1
        zxids.add(event.i64())
        event.i32()
        assert event.i32() == DELETED
    return zxids


def test_a_session_with_a_hundred_thousand_ephemerals(tmp_path: Path) -> None:
    """It closes in one txn, watchers see every deletion, and it stays closed over a crash."""
    with Replica(tmp_path, 2, UNFLUSHED) as replica:
        owner = replica.connect(timeout_ms=60_000)
        watcher = replica.connect(timeout_ms=60_000)
        fill(owner, "/many", EPHEMERALS)
        assert len(read_names(Reader(ask(watcher, requests.get_children("/many"), 60)[16:]))) == (
            EPHEMERALS
        )
        ask(watcher, requests.add_watch("/many", RECURSIVE))
        owner.send(payload(requests.close_session()))
        closed = Reader(owner.recv(60))
        assert closed.i32() == 1
        assert deletions(watcher, EPHEMERALS) == {closed.i64()}
        owner.close()
        with Bystanders(replica):
            assert error_of(ask(watcher, requests.delete("/many"))) == 0
        watcher.close()
        replica.kill_all()
        replica.start()
        assert replica.mntr()["zk_ephemerals_count"] == "0"


def test_such_a_session_expires_over_a_restart(tmp_path: Path) -> None:
    """Nobody closes it: the server does, after the client's timeout."""
    with Replica(tmp_path, 2, UNFLUSHED) as replica:
        owner = Connection(replica.address)
        owner.handshake(connect_request(timeout_ms=4000))
        fill(owner, "/many", EPHEMERALS // 5)
        replica.kill_all()
        owner.close()
        replica.start()
        assert replica.mntr()["zk_ephemerals_count"] == str(EPHEMERALS // 5)
        watcher = replica.connect()
        started = time.monotonic()
        while ask(watcher, requests.exists("/many"))[-12:-8] != bytes(4):  # numChildren
            assert time.monotonic() - started < 60
            time.sleep(0.05)
        assert error_of(ask(watcher, requests.delete("/many"))) == 0
        watcher.close()


def test_ephemerals_with_long_paths(tmp_path: Path) -> None:
    """All paths together are many times a frame, and more than a closeSession txn lists."""
    name = "x" * 8000
    with Replica(tmp_path, 2, UNFLUSHED) as replica, Bystanders(replica):
        owner = replica.connect()
        ask(owner, requests.create("/long"))
        for number in range(500):
            created = ask(owner, requests.create(f"/long/{number}{name}", flags=EPHEMERAL))
            assert error_of(created) == 0
        watcher = replica.connect()
        ask(watcher, requests.add_watch("/long", RECURSIVE))
        closed = Reader(ask(owner, requests.close_session(), 30))
        closed.i32()
        assert deletions(watcher, 500) == {closed.i64()}
        owner.close()
        watcher.close()


def test_a_txn_larger_than_a_frame(tmp_path: Path) -> None:
    """A multi of as many sequential creates as a frame holds: each name grows by ten digits."""
    with Replica(tmp_path, 2, UNFLUSHED) as replica:
        connection = replica.connect()
        ask(connection, requests.create("/s"))
        create = requests.create("/s/", flags=SEQUENTIAL)
        one = len(payload(requests.multi(create, create))) - len(payload(requests.multi(create)))
        empty = len(payload(requests.multi()))
        count = (FRAME_BYTES_MAX - empty) // one
        assert FRAME_BYTES_MAX - one < empty + count * one <= FRAME_BYTES_MAX
        assert error_of(ask(connection, requests.multi(*[create] * count), 30)) == 0
        # The same as deletes, each with its full name, in two halves: one would not fit.
        replica.kill_all()
        connection.close()
        replica.start()
        with Bystanders(replica):
            connection = replica.connect()
            names = read_names(Reader(ask(connection, requests.get_children("/s"), 30)[16:]))
            assert len(names) == count
            for half in (names[: count // 2], names[count // 2 :]):
                deletes = (requests.delete(f"/s/{name}") for name in half)
                assert error_of(ask(connection, requests.multi(*deletes), 30)) == 0
            assert ask(connection, requests.exists("/s"))[-12:-8] == bytes(4)
            connection.close()
