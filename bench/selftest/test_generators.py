"""Sessions, idle sessions and fail-over against a server that answers by rote."""

from __future__ import annotations

import os
import subprocess

import pytest

from bench import wire
from bench.failover import FailoverConfig, run_failover
from bench.idle import PERIOD_S, IdleConfig, run_idle
from bench.selftest.rote import RoteServer, rote_server
from bench.sessions import SessionsConfig, run_sessions


def test_sessions_are_counted(server: RoteServer) -> None:
    metrics = run_sessions(SessionsConfig(server.port, 4, 0.0, 0.2, os.getpid()))
    assert metrics["ops_per_s"] > 0
    assert server.answered >= metrics["ops_per_s"] * 0.2


def test_a_session_that_is_not_closed_ends_the_run(server: RoteServer) -> None:
    server.refuse = 3
    with pytest.raises(wire.BenchmarkError, match="not closed"):
        run_sessions(SessionsConfig(server.port, 1, 0.0, 30, os.getpid()))


def test_every_idle_session_pings_once_a_period(server: RoteServer) -> None:
    sessions, seconds = 20, 0.5
    metrics = run_idle(IdleConfig(server.port, sessions, 0.0, seconds, os.getpid()))
    assert metrics["cpu_ms_per_s"] > 0
    pings = server.answered - sessions
    assert 0 < pings <= sessions * seconds / PERIOD_S


def test_a_ping_that_is_refused_ends_the_run(server: RoteServer) -> None:
    server.refuse = 1
    with pytest.raises(wire.BenchmarkError, match="ping"):
        run_idle(IdleConfig(server.port, 20, 0.0, 30, os.getpid()))


def test_the_first_write_after_the_kill_ends_the_time(server: RoteServer) -> None:
    with (
        rote_server() as other,
        subprocess.Popen(["sleep", "60"], start_new_session=True) as leader,
    ):
        # The connection is lost with the write that follows the kill.
        server.hang_up = 3
        ports = (server.port, other.port, 1)
        metrics = run_failover(FailoverConfig(ports, leader=2, leader_pid=leader.pid))
        assert leader.wait() < 0
    assert metrics["attempts"] == 2
    assert other.sessions == [server.session_id]
