"""The supervisor over stand-ins that speak its protocol: order, restarts, limits, ends."""

from __future__ import annotations

import os
import re
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.fakes.replica import FakeReplica, ask, is_alive, wait_for


@pytest.fixture
def replica(tmp_path: Path, signals_not_ignored: None) -> Iterator[FakeReplica]:
    with FakeReplica(tmp_path) as started:
        yield started


def is_listened_on(port: int) -> bool:
    """Binding it would not tell: a connection of somebody else may have the port meanwhile."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return any(row[3] == "0A" and row[1].endswith(f":{port:04X}") for row in rows)


def port_of(ready_line: str) -> int:
    match = re.search(r" ready on 127\.0\.0\.1:(\d+), ", ready_line)
    assert match is not None, ready_line
    return int(match[1])


def test_one_line_says_that_all_is_ready(replica: FakeReplica) -> None:
    replica.start()
    line = replica.ready()
    assert line.startswith("zkstore ")
    assert line.endswith(
        f"2 workers, data in {replica.folder}/data"
        " (zxid 0x12, 34 znodes, recovered 12 transactions in 0.03 s)"
    )
    number, pid = ask(port_of(line))
    assert replica.starts(f"worker{number}") == [pid]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_stop_drains_the_workers_before_the_commit_process(
    replica: FakeReplica, number: signal.Signals
) -> None:
    replica.start()
    replica.ready()
    assert replica.stop(number) == 0
    *workers, last = [line for line in replica.journal() if line.endswith("SIGTERM")]
    assert sorted(workers) == ["worker0 SIGTERM", "worker1 SIGTERM"]
    assert last == "commit SIGTERM"
    assert list((replica.folder / "data" / "zkstore").iterdir()) == []


def test_ctrl_c_reaches_all_processes_and_only_the_supervisor_decides(
    replica: FakeReplica,
) -> None:
    replica.start()
    replica.ready()
    os.killpg(replica.process.pid, signal.SIGINT)
    assert replica.exit_code() == 0
    assert replica.journal()[-1] == "commit SIGTERM"
    assert "Traceback" not in replica.log()


def test_a_stop_before_ready_is_clean(replica: FakeReplica) -> None:
    replica.script("commit", "unready")
    replica.start()
    for name in ("commit", "worker0", "worker1"):
        replica.wait_for_start(name, 1)
    assert replica.stop() == 0
    assert replica.ready() == ""


def test_a_second_signal_stops_at_once(replica: FakeReplica) -> None:
    replica.script("worker1", "deaf")
    replica.start()
    replica.ready()
    replica.process.send_signal(signal.SIGTERM)
    wait_for(lambda: "worker0 SIGTERM" in replica.journal())
    assert replica.stop() == 1
    assert "commit SIGTERM" not in replica.journal()
    assert not any(is_alive(pid) for pid in replica.pids())


def test_a_deaf_worker_is_killed_and_the_stop_is_still_clean(replica: FakeReplica) -> None:
    replica.script("worker0", "deaf")
    replica.start(drain_seconds=0.2)
    replica.ready()
    assert replica.stop() == 0
    assert "worker 0 did not stop in time and is killed" in replica.log()
    assert replica.journal()[-1] == "commit SIGTERM"


def test_a_deaf_commit_process_is_killed_and_the_stop_is_not_clean(replica: FakeReplica) -> None:
    replica.script("commit", "deaf")
    replica.start(close_seconds=0.2)
    replica.ready()
    assert replica.stop() == 1
    assert "the commit process did not stop in time" in replica.log()


def test_a_worker_that_dies_is_the_only_one_restarted(replica: FakeReplica) -> None:
    replica.start()
    line = replica.ready()
    os.kill(replica.starts("worker1")[0], signal.SIGKILL)
    replica.wait_for_start("worker1", 2)
    replica.wait_for_log("all processes are ready again")
    assert "worker 1 was killed by SIGKILL; its connections are cut" in replica.log()
    # Its count of connections went with it.
    assert replica.journal()[-1].endswith("count 0")
    assert len(replica.starts("worker0")) == len(replica.starts("commit")) == 1
    ask(port_of(line))
    assert replica.stop() == 0


def test_a_worker_that_cannot_start_ends_the_replica(replica: FakeReplica) -> None:
    replica.script("worker0", "exit 9")
    replica.start(quick_deaths_max=3, backoff_seconds=0.01)
    assert replica.exit_code() == 1
    assert len(replica.starts("worker0")) == 4
    assert replica.ready() == ""
    assert "worker 0 died 4 times at its start; the replica stops" in replica.log()
    assert replica.journal()[-1] == "commit SIGTERM"


def test_a_worker_may_fail_twice_at_its_start(replica: FakeReplica) -> None:
    replica.script("worker0", "exit 9", "kill SIGKILL", "serve")
    replica.start(backoff_seconds=0.01)
    assert replica.ready()
    assert replica.stop() == 0


@pytest.mark.parametrize("number", ["SIGBUS", "SIGSEGV"])
def test_a_worker_that_dies_of_the_map_makes_the_replica_suspect(
    replica: FakeReplica, number: str
) -> None:
    replica.script("worker0", f"kill {number}")
    replica.start()
    assert replica.exit_code() == 1
    assert len(replica.starts("worker0")) == 2
    assert f"data of this replica is suspect: worker 0 was killed by {number}" in replica.log()
    assert "workers die reading the data file; the replica stops" in replica.log()


def test_all_starts_again_when_the_commit_process_dies(replica: FakeReplica) -> None:
    replica.start()
    line = replica.ready()
    before = replica.pids()
    os.kill(replica.starts("commit")[0], signal.SIGKILL)
    replica.wait_for_log("all processes are ready again")
    assert "commit process was killed by SIGKILL; all starts again" in replica.log()
    for name in ("commit", "worker0", "worker1"):
        assert len(replica.starts(name)) == 2
    assert not any(is_alive(pid) for pid in before)
    ask(port_of(line))
    assert replica.stop() == 0
    assert replica.ready() == "", "a second ready line"


def test_a_commit_process_that_cannot_live_ends_the_replica(replica: FakeReplica) -> None:
    replica.script("commit", "exit 7")
    replica.start(commit_deaths_max=2)
    assert replica.exit_code() == 1
    assert len(replica.starts("commit")) == 3
    assert "commit process exited with code 7, death 3 within 60 s" in replica.log()


def test_a_commit_process_that_goes_on_failing_is_started_after_growing_pauses(
    replica: FakeReplica,
) -> None:
    replica.script("commit", "exit 7")
    started = time.monotonic()
    replica.start(commit_deaths_max=3, backoff_seconds=0.3)
    assert replica.exit_code() == 1
    assert len(replica.starts("commit")) == 4
    assert time.monotonic() - started > 0.3 + 0.6  # and none before the first new start


def test_control_the_pauses_are_the_limit_that_was_given(replica: FakeReplica) -> None:
    replica.script("commit", "exit 7")
    replica.start(commit_deaths_max=3, backoff_seconds=60, backoff_seconds_max=0.001)
    assert replica.exit_code() == 1
    assert len(replica.starts("commit")) == 4


def test_a_stop_during_such_a_pause_is_clean(replica: FakeReplica) -> None:
    replica.script("commit", "exit 7")
    replica.start(backoff_seconds=600, backoff_seconds_max=600)
    wait_for(lambda: replica.log().count("all starts again") == 2)
    assert replica.stop() == 0
    assert len(replica.starts("commit")) == 2


def test_a_fatal_error_that_a_restart_cannot_mend_ends_the_replica_at_once(
    replica: FakeReplica,
) -> None:
    replica.script("commit", "fatal stay")
    replica.start()
    assert replica.exit_code() == 1
    assert len(replica.starts("commit")) == 1
    assert "commit process: the disk is on fire" in replica.log()


def test_a_fatal_error_that_a_restart_may_mend_is_said_and_tried(replica: FakeReplica) -> None:
    replica.script("commit", "fatal restart", "serve")
    replica.start()
    assert replica.ready()
    assert len(replica.starts("commit")) == 2
    assert "commit process: the disk is on fire" in replica.log()


def test_a_worker_with_an_old_view_is_killed(replica: FakeReplica) -> None:
    replica.workers = 1
    replica.script("commit", "stale")
    replica.start()
    replica.ready()
    replica.wait_for_start("worker0", 2)
    first = replica.starts("worker0")[0]
    said = f"worker 0 (pid {first}) does not report, or holds an old view, and is killed"
    assert said in replica.log()
    replica.wait_for_log("data of this replica is suspect: commit process: a node fails its check")


def test_no_orphans_when_the_supervisor_is_killed(replica: FakeReplica) -> None:
    """The invariant NoOrphans of lifeline.py; a stopped process has to go, too."""
    replica.start()
    port = port_of(replica.ready())
    assert is_listened_on(port)
    os.kill(replica.starts("worker0")[0], signal.SIGSTOP)
    os.kill(replica.starts("commit")[0], signal.SIGSTOP)
    replica.process.kill()
    wait_for(lambda: not any(is_alive(pid) for pid in replica.pids()))
    # The last thread of a process may keep its sockets for a moment longer than its main thread.
    wait_for(lambda: not is_listened_on(port))


def test_systemd_is_told(replica: FakeReplica) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        path = str(replica.folder / "notify")
        systemd.bind(path)
        replica.start({"NOTIFY_SOCKET": path})
        replica.ready()
        assert replica.stop() == 0
        assert [systemd.recv(100), systemd.recv(100)] == [b"READY=1", b"STOPPING=1"]
