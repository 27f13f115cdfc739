"""`zkstore cluster`: what it shows, and that nothing is left of it."""

from __future__ import annotations

import json
import os
import pty
import random
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tools import cluster
from tools.cluster import View, behind, headline, table
from zkstore.client import NodeExists, SyncClient

SECONDS_MAX: Final = 60.0
# Below those that tests/ports.py gives and those that the kernel gives to who dials.
BASE_PORTS: Final = range(8_000, 11_700)
COMMAND: Final = [sys.executable, "-m", "zkstore", "cluster"]


def view(sid: int, role: str, zxid: int = -1) -> View:
    return View(sid, f"127.0.0.1:{2180 + sid}", role, 100 + sid, zxid, "2", "1")


def test_a_table_of_replicas() -> None:
    views = [view(1, "follower", 0x200000003), view(2, "leader", 0x200000005), view(3, "died (-9)")]
    assert headline(views).startswith("replica 2 leads; connect to 127.0.0.1:2181,127.0.0.1:2182,")
    assert table(views) == [
        "id  address         role       zxid         behind  sessions  connections",
        "1   127.0.0.1:2181  follower   0x200000003  2       2         1",
        "2   127.0.0.1:2182  leader     0x200000005  0       2         1",
        "3   127.0.0.1:2183  died (-9)                       2         1",
    ]


def test_how_far_behind() -> None:
    leader = view(1, "leader", 0x200000005)
    assert behind(view(2, "follower", 0x100000009), [leader]) == "an epoch"
    assert behind(view(2, "follower", 0x200000009), [leader]) == "0"  # it was asked later
    assert behind(view(2, "follower", 5), [view(2, "follower", 5)]) == ""
    assert headline([view(2, "looking")]).startswith("nobody leads")


@pytest.mark.parametrize(
    "arguments", [["--nodes", "0"], ["--nodes", "many"], ["--base-port", "65500"], ["more"]]
)
def test_wrong_arguments(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cluster.main(arguments) == 2
    assert "zkstore cluster: error: " in capsys.readouterr().err


# ---- as a process


def base_port() -> int:
    """One from which all ports of three replicas are free."""
    for base in random.SystemRandom().sample(BASE_PORTS, len(BASE_PORTS)):
        ports = [base + above + node for above in (0, 100, 200) for node in range(3)]
        if all(_is_free(port) for port in ports):
            return base
    raise AssertionError("no free ports")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


class Cluster:
    """The command with --json, and what it has told so far."""

    def __init__(self, *arguments: str) -> None:
        self.base_port = base_port()
        self.process = subprocess.Popen(
            [*COMMAND, "--json", "--base-port", str(self.base_port), *arguments],
            stdout=subprocess.PIPE,
            text=True,
        )
        self.told: list[dict[str, Any]] = []
        self.roles: dict[int, str] = {}  # as they were told last
        self._more = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._more:
                told = json.loads(line)
                self.told.append(told)
                if "sid" in told:
                    self.roles[told["sid"]] = told["role"]
                self._more.notify_all()

    def wait_for(self, is_it: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The next that is told and is it; what was told before it is forgotten."""
        found: list[int] = []

        def look() -> bool:
            found[:] = [number for number, told in enumerate(self.told) if is_it(told)]
            return bool(found)

        with self._more:
            assert self._more.wait_for(look, SECONDS_MAX), self.told
            told = self.told[found[0]]
            del self.told[: found[0] + 1]
            return told

    def settled(self) -> int:
        """Who leads, once the others follow; what was told so far is forgotten."""

        def look() -> bool:
            return sorted(self.roles.values()) == ["follower", "follower", "leader"]

        with self._more:
            assert self._more.wait_for(look, SECONDS_MAX), self.told
            self.told.clear()
            return next(sid for sid, role in self.roles.items() if role == "leader")

    def pid(self, sid: int) -> int:
        """By the first that is told of a replica."""
        return int(self.wait_for(lambda told: told.get("sid") == sid)["pid"])

    def leader(self) -> int:
        return int(self.wait_for(lambda told: "leader" in told)["leader"])

    def role(self, sid: int, role: str) -> dict[str, Any]:
        return self.wait_for(lambda told: (told.get("sid"), told.get("role")) == (sid, role))

    @property
    def connect(self) -> str:
        return ",".join(f"127.0.0.1:{self.base_port + node}" for node in range(3))

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(SECONDS_MAX)

    def is_gone(self) -> bool:
        """Whether nobody has the replicas' ports any more."""
        return all(_is_free(self.base_port + node) for node in range(3))


Start = Callable[..., Cluster]


@pytest.fixture
def start() -> Iterator[Start]:
    started: list[Cluster] = []

    def start(*arguments: str) -> Cluster:
        started.append(Cluster(*arguments))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.wait()
        assert one.process.stdout is not None
        one.process.stdout.close()


def test_an_ensemble_is_kept_and_its_dead_stay_dead(start: Start, tmp_path: Path) -> None:
    first = start("--data-dir", str(tmp_path))
    leader = first.leader()
    with SyncClient(first.connect) as client:
        client.create("/kept", b"value")
    first.process.send_signal(signal.SIGINT)
    assert first.process.wait(SECONDS_MAX) == 0
    assert first.is_gone()
    assert sorted(path.name for path in (tmp_path / str(leader)).iterdir()) == [
        "data", "log", "zoo.cfg",
    ]  # fmt: skip
    again = start("--data-dir", str(tmp_path))
    again.leader()
    with SyncClient(again.connect) as client:
        assert client.get("/kept").value == b"value"
        with pytest.raises(NodeExists):
            client.create("/kept")
    assert again.stop() == 0


def test_a_leader_that_died_is_replaced(start: Start) -> None:
    ensemble = start()
    pids = {sid: ensemble.pid(sid) for sid in (1, 2, 3)}
    dead = ensemble.settled()
    os.kill(pids[dead], signal.SIGKILL)
    ensemble.role(dead, "died (-9)")
    assert ensemble.leader() != dead
    with SyncClient(ensemble.connect) as client:
        client.create("/alive")
    assert ensemble.stop() == 0
    assert not [told for told in ensemble.told if told.get("sid") == dead]


def test_what_died_is_started_again_if_asked(start: Start) -> None:
    ensemble = start("--restart")
    pid = ensemble.pid(1)
    ensemble.settled()
    os.kill(pid, signal.SIGKILL)
    ensemble.role(1, "died (-9)")
    told = ensemble.wait_for(lambda told: told.get("sid") == 1 and told["role"] == "follower")
    assert told["pid"] != pid
    assert ensemble.stop() == 0


def test_no_replica_outlives_the_command(start: Start) -> None:
    ensemble = start()
    ensemble.leader()
    ensemble.process.kill()
    ensemble.process.wait()
    deadline = time.monotonic() + SECONDS_MAX
    while not ensemble.is_gone():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_one_replica_that_cannot_start() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1] % 65_000)
        command = [*COMMAND, "--nodes", "1", "--base-port", port]
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS_MAX)
    assert done.returncode == 1
    assert "replica 1: died (" in done.stdout
    assert "all replicas died" in done.stderr and port in done.stderr


def test_a_table_is_kept_up_to_date_on_a_terminal() -> None:
    ours, theirs = pty.openpty()
    command = [*COMMAND, "--nodes", "1", "--base-port", str(base_port())]
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    try:
        seen = ""
        deadline = time.monotonic() + SECONDS_MAX
        while not re.search(r"\x1b\[6A.*standalone +0x", seen, re.DOTALL):
            assert time.monotonic() < deadline, seen
            if select.select([ours], [], [], 1.0)[0]:
                seen += os.read(ours, 65_536).decode()
        process.send_signal(signal.SIGINT)
        assert process.wait(SECONDS_MAX) == 0
    finally:
        process.kill()
        process.wait()
        os.close(ours)
