"""Settings changed in a running server: all its processes have them, and those that come later."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

from tests.conformance import requests
from tests.conformance.wire import ClosedError, Connection
from tests.faults.bystander import (
    ANSWER_SECONDS,
    UNFLUSHED,
    Bystanders,
    ask,
    error_of,
    payload,
)
from tests.invariants.replica import Replica, lives, wait_for
from zkstore.admin_socket import path_of
from zkstore.storage.env import open_reader
from zkstore.storage.view import Views

WORKERS = 3
LARGE = payload(requests.set_data("/large", b"x" * 20_000))


def admin(replica: Replica, word: str, *arguments: str) -> Any:
    """The answer of the admin socket."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(ANSWER_SECONDS)
        connection.connect(str(path_of(str(replica.data_dir))))
        connection.sendall(json.dumps({"do": word, "arguments": arguments}).encode() + b"\n")
        with connection.makefile("rb") as answers:
            return json.loads(answers.readline())["answer"]


def is_served(replica: Replica) -> bool:
    """Whether a large request is; by whatever worker the connection comes to."""
    connection: Connection = replica.connect()
    try:
        connection.send(LARGE)
        return error_of(connection.recv()) == 0
    except ClosedError:
        return False
    finally:
        connection.close()


def are_served(replica: Replica) -> set[bool]:
    """Of enough connections, at the same time, that every worker has some."""
    held = [replica.connect() for _ in range(WORKERS)]
    found = {is_served(replica) for _ in range(2 * WORKERS)}
    for one in held:
        one.close()
    return found


def kill_and_wait(replica: Replica, victim: int) -> None:
    """Until all processes are there again."""
    ready = replica.output.count("all processes are ready again")
    replica.kill(victim)
    wait_for(lambda: not lives(victim))
    wait_for(lambda: replica.output.count("all processes are ready again") > ready)


def test_a_change_reaches_all_workers_at_once(tmp_path: Path) -> None:
    with Replica(tmp_path, WORKERS, UNFLUSHED) as replica, Bystanders(replica):
        first = replica.connect()
        ask(first, requests.create("/large"))
        assert are_served(replica) == {True}
        admin(replica, "set", "largeRequestMaxBytes", "15000")
        assert admin(replica, "set", "largeRequestThreshold", "10000") == {
            "before": "0", "after": "10000",
        }  # fmt: skip
        assert are_served(replica) == {False}
        assert (
            "largeRequestThreshold changed by the administrator from 0 to 10000" in replica.output
        )
        admin(replica, "set", "largeRequestThreshold", "0")
        assert are_served(replica) == {True}
        first.close()


def test_a_change_outlives_workers_and_the_commit_process(tmp_path: Path) -> None:
    with Replica(tmp_path, WORKERS, UNFLUSHED) as replica:
        first = replica.connect()
        ask(first, requests.create("/large"))
        first.close()
        admin(replica, "set", "largeRequestMaxBytes", "15000")
        admin(replica, "set", "largeRequestThreshold", "10000")
        for victim in (*replica.workers(), replica.commit()):
            kill_and_wait(replica, victim)
        wait_for(replica.serves)
        assert are_served(replica) == {False}
        settings = {one["name"]: one["value"] for one in admin(replica, "get")}
        assert settings["largeRequestThreshold"] == "10000"
        # Only the configuration is there after the server's own end.
        assert replica.terminate() == 0
        replica.kill_all()
        replica.start()
        assert are_served(replica) == {True}


def test_a_limit_of_requests_is_changed_under_load(tmp_path: Path) -> None:
    """The throttle is switched on, tightened and switched off while everybody goes on."""
    count = 150
    with Replica(tmp_path, 2, UNFLUSHED) as replica, Bystanders(replica) as bystanders:
        greedy = replica.connect()
        ask(greedy, requests.create("/large"))
        for most in ("2", "100", "1", "0", "2", "0"):
            # The limit changes while the requests before are still being served, and those after
            # are sent only then: what waits does not depend on how fast the server is.
            greedy.send(*[payload(requests.set_data("/large", b"x"))] * count)
            admin(replica, "set", "request_throttle_max_requests", most)
            greedy.send(*[payload(requests.set_data("/large", b"x"))] * count)
            for _ in range(2 * count):
                assert error_of(greedy.recv()) == 0
        bystanders.check()
        assert int(replica.mntr()["zk_request_throttle_wait_count"]) > 0
        greedy.close()


def test_a_shorter_retention_trims_the_log(tmp_path: Path) -> None:
    with Replica(tmp_path, 1) as replica:
        one = replica.connect()
        for number in range(50):
            ask(one, requests.create(f"/n{number}"))
        assert logged(replica) > 50
        admin(replica, "set", "zkstore.logRetentionMs", "0")

        def trimmed() -> bool:
            """A batch that is written lets two old ones go."""
            ask(one, requests.set_data("/n0", b"x"))
            return logged(replica) < 20

        wait_for(trimmed)
        one.close()


def logged(replica: Replica) -> int:
    """How many txns the log holds."""
    reader = open_reader(replica.data_dir)
    try:
        with Views(reader.env).open() as view:
            return sum(1 for _ in view.log(0))
    finally:
        reader.close()
