"""More connections than are allowed, and more than there are open files for."""

from __future__ import annotations

import resource
from contextlib import ExitStack
from pathlib import Path

from tests.conformance import requests
from tests.conformance.wire import (
    ClosedError,
    Connection,
    DeadlineError,
    Reader,
    connect_request,
)
from tests.faults.bystander import (
    ANSWER_SECONDS,
    UNFLUSHED,
    Bystanders,
    ask,
    error_of,
    payload,
)
from tests.invariants.replica import Replica, cpu_seconds, wait_for

LIMIT = 20
FLOOD = 150
FILES_MAX = 64  # of each process; a worker needs some twenty for itself


def greeted(connection: Connection, seconds: float = ANSWER_SECONDS) -> bool:
    """Whether the connection gets a session."""
    try:
        connection.send(connect_request(timeout_ms=60_000))
        connection.recv(seconds)
    except (ClosedError, OSError):
        connection.close()
        return False
    return True


def test_an_address_with_too_many_connections(tmp_path: Path) -> None:
    """Those beyond the limit are closed; when others go, there is room again."""
    with Replica(tmp_path, 2, {**UNFLUSHED, "maxClientCnxns": str(LIMIT)}) as replica:
        with Bystanders(replica, 3):
            flood = [Connection(replica.address) for _ in range(FLOOD)]
            accepted = [one for one in flood if greeted(one)]
            assert len(accepted) == LIMIT - 3
        for one in accepted:
            assert error_of(ask(one, requests.exists("/"))) == 0
            one.close()
        wait_for(replica.serves)
        assert int(replica.mntr()["zk_connection_rejected"]) >= FLOOD - LIMIT
        assert "too many connections from 127.0.0.1" in replica.output


def test_a_server_with_too_many_connections(tmp_path: Path) -> None:
    """The limit for all addresses together."""
    with (
        Replica(tmp_path, 2, {**UNFLUSHED, "maxCnxns": str(LIMIT)}) as replica,
        ExitStack() as stack,
    ):
        flood = [Connection(replica.address) for _ in range(FLOOD)]
        accepted = [one for one in flood if greeted(one)]
        for one in accepted:
            stack.callback(one.close)
        assert len(accepted) == LIMIT
        accepted.pop().close()
        wait_for(replica.serves)


def test_connections_that_come_and_go(tmp_path: Path) -> None:
    """Each is counted off when it goes, however far it came."""
    with (
        Replica(tmp_path, 2, {**UNFLUSHED, "maxClientCnxns": str(LIMIT)}) as replica,
        Bystanders(replica, 3),
    ):
        for number in range(300):
            connection = Connection(replica.address)
            if number % 3 == 1:
                connection.send(connect_request(timeout_ms=500))
            elif number % 3 == 2:
                greeted(connection)
            connection.close()
        # Nothing of them is left: the full number is there again.
        wait_for(lambda: int(replica.mntr()["zk_num_alive_connections"]) <= 4)
        again: list[Connection] = []

        def one_more() -> bool:
            again.append(Connection(replica.address))
            return greeted(again[-1])

        for _ in range(LIMIT - 3):
            wait_for(one_more)  # the question's own connection may not be counted off yet
        assert not one_more()
        for one in again:
            one.close()


def test_no_more_open_files(tmp_path: Path) -> None:
    """Who is in is served, nobody spins, and who waited gets in when others go."""

    def few_files() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (FILES_MAX, FILES_MAX))

    with Replica(tmp_path, 2, UNFLUSHED, before=few_files) as replica:
        before = sorted(replica.pids())
        with Bystanders(replica):
            flood = [Connection(replica.address) for _ in range(FLOOD)]
            waiting: list[Connection] = []
            accepted: list[Connection] = []
            for one in flood:
                one.send(connect_request(timeout_ms=60_000))
            for one in flood:
                try:
                    one.recv(0.01 if accepted else ANSWER_SECONDS)  # the first one surely is in
                    accepted.append(one)
                except DeadlineError:
                    waiting.append(one)
            assert accepted and waiting
            for one in accepted:
                assert error_of(ask(one, requests.exists("/"))) == 0
        used = {pid: cpu_seconds(pid) for pid in before}
        assert stays_silent(waiting[-1], 1.0)
        for pid, then in used.items():
            assert cpu_seconds(pid) - then < 0.3, "it spins"
        for one in accepted:
            one.close()
        for one in waiting:
            one.recv()
            assert error_of(ask(one, requests.exists("/"))) == 0
            one.close()
        assert sorted(replica.pids()) == before


def stays_silent(connection: Connection, seconds: float) -> bool:
    """Whether nothing comes for so long."""
    try:
        connection.recv(seconds)
    except DeadlineError:
        return True
    return False


def test_expensive_reads_in_a_pipeline(tmp_path: Path) -> None:
    """Somebody has large subtrees counted, again and again: the others get their turns between."""
    nodes, at_once, reads = 20_000, 500, 150
    with Replica(tmp_path, 2, UNFLUSHED) as replica:
        greedy = replica.connect()
        ask(greedy, requests.create("/many"))
        for start in range(0, nodes, at_once):
            some = (requests.create(f"/many/{n}") for n in range(start, start + at_once))
            ask(greedy, requests.multi(*some))
        with Bystanders(replica):
            greedy.send(*[payload(requests.get_all_children_number("/many"))] * reads)
            for _ in range(reads):
                assert Reader(greedy.recv()[16:]).i32() == nodes
        greedy.close()
