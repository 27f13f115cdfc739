"""Clients that want nothing special, while others misbehave: they must be served as before.

Owns:   some connections and the thread that keeps each busy.
Invariants:
  1. Every request is answered within REPLY_SECONDS, and right.
Design: their writes would wait for the disk as well, which may be busy with what is not the
        server's: so a server that they speak to does not flush.
"""

from __future__ import annotations

import threading
from typing import Final

from tests.conformance import requests
from tests.conformance.requests import Request
from tests.conformance.wire import ClosedError, Connection, DeadlineError, Reader, i32
from tests.invariants.replica import Replica, wait_for

REPLY_SECONDS: Final = 3.0
ANSWER_SECONDS: Final = 30.0  # whatever the machine is busy with
UNFLUSHED: Final = {"forceSync": "no"}  # what the disk takes is no matter of the test


def payload(request: Request) -> bytes:
    """A request as a frame's payload."""
    return i32(request.xid or 1) + i32(request.opcode) + request.body


def ask(connection: Connection, request: Request, seconds: float = ANSWER_SECONDS) -> bytes:
    """Send one request; returns the reply's payload, header and all."""
    connection.send(payload(request))
    return connection.recv(seconds)


def error_of(reply: bytes) -> int:
    reader = Reader(reply)
    reader.i32(), reader.i64()
    return reader.i32()


class Bystanders:
    """Use as a context manager around the misbehaviour; its end checks that all were served."""

    def __init__(self, replica: Replica, count: int = 4) -> None:
        assert replica.settings["forceSync"] == "no", "the disk's pace would be measured"
        self._connections = [replica.connect() for _ in range(count)]
        self._served = [0] * count
        self._failures: list[str] = []
        self._done = threading.Event()
        self._threads = [
            threading.Thread(target=self._keep_busy, args=(number,)) for number in range(count)
        ]
        for number, connection in enumerate(self._connections):
            reply = ask(connection, requests.create(f"/bystander{number}"))
            assert error_of(reply) in (0, -110)

    def _keep_busy(self, number: int) -> None:
        connection = self._connections[number]
        path = f"/bystander{number}"
        try:
            while not self._done.is_set():
                data = b"%d" % self._served[number]
                reply = ask(connection, requests.set_data(path, data), REPLY_SECONDS)
                assert error_of(reply) == 0, "a write failed"
                reply = ask(connection, requests.get_data(path), REPLY_SECONDS)
                assert Reader(reply[16:]).buffer() == data, "a read saw something else"
                self._served[number] += 1
                self._done.wait(0.002)
        except (AssertionError, ClosedError, DeadlineError) as error:
            self._failures.append(f"bystander {number}: {error!r} after {self._served[number]}")

    def __enter__(self) -> Bystanders:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self.check()
        finally:
            self._done.set()
            for thread in self._threads:
                thread.join()
            for connection in self._connections:
                connection.close()
        assert kind is not None or self._failures == []

    def check(self) -> None:
        """Each has been served, and is served still."""
        before = list(self._served)
        wait_for(
            lambda: (
                self._failures
                or all(now > then for now, then in zip(self._served, before, strict=True))
            )
        )
        assert self._failures == []
