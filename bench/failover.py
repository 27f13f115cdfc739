"""How long a client goes without a write when the leader is killed.

`python -m bench.failover --ports A,B,C --leader 2 --leader-pid P` holds a session with a server
that does not lead, kills the leader's process group, and writes until a write succeeds, moving the
session to another server whenever its connection is lost. It prints one JSON object.

Owns:   one session.
Invariants:
  1. The time runs from the kill to the reply of the first write that was sent after it.
  2. The write that succeeds is made in the session that there was before.
Not here: starting servers and putting the leader back (ensembles.py).
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import signal
import socket
import struct
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Final

from bench import wire

_PATH: Final = "/bench-failover"
_DATA: Final = b"x" * 100
_RETRY_S: Final = 0.002
_GIVE_UP_S: Final = 60.0
# What a server is given, after the kill, to answer one attempt; then the next one is tried.
_ATTEMPT_S: Final = 1.0
_CONNECTION_LOST: Final = (OSError, wire.BenchmarkError)


@dataclass(frozen=True, slots=True)
class FailoverConfig:
    """One run."""

    ports: tuple[int, ...]
    # The number of the leader's port among `ports`, and its process group.
    leader: int
    leader_pid: int


class Client:
    """One session, on whichever server takes it."""

    def __init__(self, ports: Sequence[int]) -> None:
        self._ports = itertools.cycle(ports)
        self._session = (0, bytes(16))
        self._sock: socket.socket | None = None
        self._patience_s = wire.ANSWER_TIMEOUT_S

    def _connect(self) -> socket.socket:
        """Raises: OSError, BenchmarkError if the next server does not take the session."""
        session_id, password = self._session
        sock = wire.connect(next(self._ports))
        try:
            sock.settimeout(self._patience_s)
            sock.sendall(wire.connect_request(session_id=session_id, password=password))
            answer = wire.receive_frame(sock)
            _, timeout_ms, given = struct.unpack_from(">iiq", answer)
            if timeout_ms <= 0:
                raise SessionLost(f"the session {session_id:#x} was refused")
            self._session = given, answer[20:36]
        except BaseException:
            sock.close()
            raise
        return sock

    def write(self) -> None:
        """One write. Raises: OSError, BenchmarkError if the connection is lost or there is none."""
        try:
            if self._sock is None:
                self._sock = self._connect()
            wire.call(self._sock, wire.SET_DATA, wire.set_body(_PATH, _DATA))
        except _CONNECTION_LOST:
            self.drop()
            raise

    def make_node(self) -> None:
        self._sock = self._connect()
        made = (0, wire.NODE_EXISTS)
        wire.call(self._sock, wire.CREATE, wire.create_body(_PATH, b""), allowed=made)

    def hurry(self) -> None:
        """Give each attempt its time and no more."""
        self._patience_s = _ATTEMPT_S
        assert self._sock is not None
        self._sock.settimeout(_ATTEMPT_S)

    def drop(self) -> None:
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    def close(self) -> None:
        if self._sock is not None:
            self._sock.settimeout(wire.ANSWER_TIMEOUT_S)
            wire.close_sessions([self._sock])


class SessionLost(Exception):
    """The servers do not know the session any more: what was to be shown is refuted."""


def run_failover(config: FailoverConfig) -> dict[str, float]:
    """One run; returns its metrics."""
    others = [port for number, port in enumerate(config.ports) if number != config.leader]
    client = Client(others)
    client.make_node()
    client.write()
    client.hurry()
    begun = time.perf_counter()
    os.killpg(config.leader_pid, signal.SIGKILL)
    attempts = 0
    while True:
        attempts += 1
        try:
            client.write()
            break
        except _CONNECTION_LOST as error:
            if time.perf_counter() - begun > _GIVE_UP_S:
                raise wire.BenchmarkError(f"no write for {_GIVE_UP_S} s: {error}") from error
        time.sleep(_RETRY_S)
    first_write_s = time.perf_counter() - begun
    client.close()
    return {"first_write_ms": first_write_s * 1e3, "attempts": float(attempts)}


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.failover", description=__doc__)
    parser.add_argument("--ports", type=wire.numbers, required=True)
    parser.add_argument("--leader", type=int, required=True)
    parser.add_argument("--leader-pid", type=int, required=True)
    config = FailoverConfig(**vars(parser.parse_args(argv)))
    try:
        metrics = run_failover(config)
    except (wire.BenchmarkError, SessionLost, OSError) as error:
        print(f"bench.failover: {error}", file=sys.stderr)
        return 1
    print(json.dumps({"config": asdict(config), **metrics}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
