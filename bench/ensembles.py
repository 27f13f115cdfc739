"""Three servers that are one ensemble.

Owns:   the servers' directories, ports and processes.
Invariants:
  1. Every kind gets the same zoo.cfg: ZooKeeper's sample limits, one member line for each server.
Design: what is asked of an ensemble is asked of three ports; CPU is summed over all processes.
Not here: one server (servers.py).
"""

from __future__ import annotations

import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from bench import wire
from bench.servers import Kind, Server, free_port

MEMBERS: Final = 3
_LIMITS: Final = "tickTime=2000\ninitLimit=10\nsyncLimit=5\n"
_ELECTION_TIMEOUT_S: Final = 60.0
_PROBE_INTERVAL_S: Final = 0.005
_ANSWER_TIMEOUT_S: Final = 5.0


class Ensemble:
    """Members 1 … MEMBERS, all on this machine."""

    def __init__(self, kind: Kind, directory: Path, lay_out: Callable[[Path], None]) -> None:
        """`lay_out` fills a member's data directory, which does not exist yet."""
        self.kind = kind
        self.directory = directory
        ports = [(free_port(), free_port()) for _ in range(MEMBERS)]
        lines = "".join(
            f"server.{sid}={wire.HOST}:{quorum}:{election}\n"
            for sid, (quorum, election) in enumerate(ports, 1)
        )
        self.servers = []
        for sid in range(1, MEMBERS + 1):
            own = directory / str(sid)
            own.mkdir(parents=True)
            server = Server(kind, own, more_config=_LIMITS + lines)
            lay_out(server.data)
            server.data.mkdir(exist_ok=True)
            server.data.joinpath("myid").write_text(f"{sid}\n")
            self.servers.append(server)

    @property
    def ports(self) -> tuple[int, ...]:
        return tuple(server.port for server in self.servers)

    @property
    def pids(self) -> tuple[int, ...]:
        return tuple(server.pid for server in self.servers)

    def start(self) -> None:
        """All at once, as a machine room would; returns when each answers."""
        try:
            for server in self.servers:
                server.launch()
            for server in self.servers:
                server.await_answer()
        except BaseException:
            self.kill()
            raise

    def leader(self) -> Server:
        """Raises: BenchmarkError if none says that it leads."""
        deadline = time.monotonic() + _ELECTION_TIMEOUT_S
        while time.monotonic() < deadline:
            for server in self.servers:
                if "Mode: leader" in _four_letter_word(server.port, b"srvr"):
                    return server
            time.sleep(_PROBE_INTERVAL_S)
        raise wire.BenchmarkError(f"no leader among {self.ports}: {self.log()}")

    def follower(self) -> Server:
        leader = self.leader()
        return next(server for server in self.servers if server is not leader)

    @staticmethod
    def forget(server: Server) -> None:
        """Of a server that does not run: all of its data but who it is."""
        sid = server.data.joinpath("myid").read_text()
        shutil.rmtree(server.data)
        server.data.mkdir()
        server.data.joinpath("myid").write_text(sid)

    def log(self) -> str:
        return "\n".join(f"{server.directory.name}: {server.log()}" for server in self.servers)

    def kill(self) -> None:
        for server in self.servers:
            if server.running:
                server.kill()


def _four_letter_word(port: int, word: bytes) -> str:
    """The answer; empty if the server does not give one."""
    try:
        with socket.create_connection((wire.HOST, port), _ANSWER_TIMEOUT_S) as sock:
            sock.sendall(word)
            answer = b""
            while chunk := sock.recv(4096):
                answer += chunk
    except OSError:
        return ""
    return answer.decode("utf-8", "replace")
