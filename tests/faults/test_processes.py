"""Processes of the replica that are killed or stopped: who notices, and for how long."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.conformance import requests
from tests.conformance.requests import EPHEMERAL
from tests.conformance.wire import (
    ClosedError,
    Connection,
    ConnectResponse,
    DeadlineError,
    connect_request,
)
from tests.faults.bystander import UNFLUSHED, Bystanders, ask, error_of, payload
from tests.invariants.replica import (
    TICK_MS,
    Replica,
    cpu_seconds,
    is_dying,
    lives,
    wait_for,
)

CLIENTS = 12
READY_AGAIN = "all processes are ready again"


class Session:
    """A session with an ephemeral, that can come back over a new connection."""

    def __init__(self, replica: Replica, name: str) -> None:
        self._replica = replica
        self.path = f"/{name}"
        self.connection = Connection(replica.address)
        request = connect_request(timeout_ms=30_000)
        self.session: ConnectResponse = self.connection.handshake(request)
        assert error_of(ask(self.connection, requests.create(self.path, flags=EPHEMERAL))) == 0

    @property
    def port(self) -> int:
        """The client's."""
        return int(self.connection._socket.getsockname()[1])

    def is_cut(self) -> bool:
        """Whether the connection has ended."""
        try:
            ask(self.connection, requests.exists("/"))
        except (ClosedError, OSError):
            return True
        return False

    def come_back(self) -> None:
        """The session is there, and so is its ephemeral."""
        self.connection.close()
        self.connection = Connection(self._replica.address)
        again = connect_request(
            timeout_ms=30_000,
            session_id=self.session.session_id, password=self.session.password,
        )  # fmt: skip
        assert self.connection.handshake(again).session_id == self.session.session_id
        assert error_of(ask(self.connection, requests.exists(self.path))) == 0

    def close(self) -> None:
        ask(self.connection, requests.close_session())
        self.connection.close()


def shared_out(replica: Replica) -> list[Session]:
    """Sessions, so many that every worker has some."""
    sessions: list[Session] = []
    while len(sessions) < CLIENTS or not all(map(replica.client_ports, replica.workers())):
        assert len(sessions) < 20 * CLIENTS, "some worker gets none"
        sessions.append(Session(replica, f"session{len(sessions)}"))
    return sessions


def those_of(replica: Replica, worker: int, sessions: list[Session]) -> list[Session]:
    """The sessions whose connections this worker has."""
    ports = replica.client_ports(worker)
    return [one for one in sessions if one.port in ports]


def test_a_killed_worker_takes_only_its_connections(tmp_path: Path) -> None:
    with Replica(tmp_path, 3, UNFLUSHED) as replica:
        sessions = shared_out(replica)
        commit = replica.commit()
        for number in range(1, 4):
            victim = replica.workers()[0]
            its = those_of(replica, victim, sessions)
            replica.kill(victim)
            wait_for(lambda: not lives(victim))  # noqa: B023
            cut = [one for one in sessions if one.is_cut()]
            assert cut == its
            for one in cut:
                one.come_back()
            wait_for(lambda: replica.output.count(READY_AGAIN) == number)  # noqa: B023
            assert len(replica.workers()) == 3
        assert len(its) < len(sessions)
        assert replica.commit() == commit
        for one in sessions:
            one.close()


def test_a_killed_commit_process_restarts_the_replica(tmp_path: Path) -> None:
    with Replica(tmp_path, 2, UNFLUSHED) as replica:
        sessions = [Session(replica, f"session{number}") for number in range(CLIENTS)]
        replica.kill(replica.commit())
        wait_for(lambda: all(one.is_cut() for one in sessions))
        wait_for(replica.serves)
        for one in sessions:
            one.come_back()
            one.close()


@pytest.mark.parametrize("stopped", ["none", "worker", "commit"])
def test_a_killed_supervisor_leaves_nothing(tmp_path: Path, stopped: str) -> None:
    """All is gone within a second, a stopped process too; a new server starts at once."""
    with Replica(tmp_path, 2, UNFLUSHED) as replica:
        session = Session(replica, "session")
        pids = replica.pids()
        if stopped == "worker":
            os.kill(replica.workers()[0], signal.SIGSTOP)
        elif stopped == "commit":
            os.kill(replica.commit(), signal.SIGSTOP)
        os.kill(replica.supervisor, signal.SIGKILL)
        killed = time.monotonic()
        wait_for(lambda: all(map(is_dying, pids)))
        assert time.monotonic() - killed < 1
        wait_for(lambda: not any(map(lives, pids)))  # one may have to wait for the disk
        replica.kill_all()  # reaps the supervisor
        replica.start()
        session.come_back()
        session.close()


def test_a_stopped_worker_stops_nobody_else(tmp_path: Path) -> None:
    """Writes and reads go on, sessions of its clients move away, and it is replaced."""
    with Replica(tmp_path, 2, UNFLUSHED) as replica:
        sessions = shared_out(replica)
        victim = replica.workers()[0]
        stuck = those_of(replica, victim, sessions)
        os.kill(victim, signal.SIGSTOP)
        for one in sessions:
            one.connection.send(payload(requests.set_data("/", b"")))
        for one in sessions:
            if one not in stuck:
                assert error_of(one.connection.recv()) == 0
        for one in stuck:
            with pytest.raises((DeadlineError, ClosedError)):  # it is killed in the end
                one.connection.recv(0.1)
            one.come_back()
        for one in sessions:
            one.close()
        wait_for(lambda: victim not in replica.workers())
        wait_for(lambda: len(replica.workers()) == 2)


def test_a_stopped_worker_with_a_view_is_killed(tmp_path: Path) -> None:
    """It would keep every page that is freed meanwhile: the file would grow without end."""
    nodes, at_once = 20_000, 500
    with Replica(tmp_path, 2, UNFLUSHED) as replica:
        reader = replica.connect()
        ask(reader, requests.create("/many"))
        for start in range(0, nodes, at_once):
            some = (requests.create(f"/many/{n}") for n in range(start, start + at_once))
            ask(reader, requests.multi(*some))
        before = {pid: cpu_seconds(pid) for pid in replica.workers()}
        reader.send(*[payload(requests.get_all_children_number("/many"))] * 1000)
        (victim, *_) = wait_for(
            lambda: [pid for pid in before if cpu_seconds(pid) > before[pid] + 0.2]
        )
        os.kill(victim, signal.SIGSTOP)
        with Bystanders(replica, 1):
            wait_for(lambda: victim not in replica.workers())
        wait_for(lambda: len(replica.workers()) == 2)
        reader.close()


def test_a_stopped_commit_process_is_waited_for(tmp_path: Path) -> None:
    """Nobody is answered what was not done, and nobody expires for the server's fault."""
    with Replica(tmp_path, 2, UNFLUSHED) as replica:
        sessions = [Session(replica, f"session{number}") for number in range(4)]
        commit = replica.commit()
        os.kill(commit, signal.SIGSTOP)
        try:
            with pytest.raises(DeadlineError):
                ask(sessions[0].connection, requests.set_data("/", b"late"), 3 * TICK_MS / 1000)
            assert error_of(ask(sessions[1].connection, requests.exists("/"))) == 0
        finally:
            os.kill(commit, signal.SIGCONT)
        assert error_of(sessions[0].connection.recv()) == 0
        with Bystanders(replica):
            for one in sessions:
                one.come_back()
                one.close()
