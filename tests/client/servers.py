"""Servers that a test can stop and start again: zkstore in both forms, and Apache ZooKeeper.

Owns:   the server's process or thread, its port and its data directory.
Design: every kind gets the same settings, with ticks short enough to see sessions expire. None
        flushes what it writes: a pause of the disk is not the clients' matter.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Protocol

import zkstore
from tests.conformance.servers import START_SECONDS_MAX, apache_classpath, debian_classpath
from tests.ports import free_port
from zkstore.client import OperationTimeout, SyncClient
from zkstore.settings import Settings

TICK_MS: Final = 200
SETTINGS: Final = {
    "tickTime": str(TICK_MS),
    "minSessionTimeout": "400",
    "maxSessionTimeout": "60000",
    "maxClientCnxns": "0",
    "extendedTypesEnabled": "true",
    "admin.enableServer": "false",
    "forceSync": "no",
    "znode.container.checkIntervalMs": "200",
    "clientPortAddress": "127.0.0.1",
}
JAVA: Final = ["java", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]


class Running(Protocol):
    """A server at an address that stays the same."""

    address: str

    def start(self) -> None: ...

    def stop(self) -> None: ...


class Embedded:
    def __init__(self, home: Path) -> None:
        settings = Settings(
            tick_time_ms=TICK_MS,
            min_session_timeout_ms=400,
            max_session_timeout_ms=60_000,
            max_client_cnxns=0,
            container_check_interval_ms=200,
            force_sync=False,
        )
        self._server = zkstore.Server(home / "data", port=free_port(), settings=settings)
        self.address = self._server.address

    def start(self) -> None:
        self._server.start()

    def stop(self) -> None:
        self._server.stop()


class Process:
    """A server in processes of its own; `command` takes the configuration as last argument."""

    def __init__(self, home: Path, command: list[str]) -> None:
        port = free_port()
        lines = [f"dataDir={home / 'data'}", f"clientPort={port}"]
        lines += [f"{key}={value}" for key, value in SETTINGS.items()]
        config = home / "zoo.cfg"
        config.write_text("\n".join(lines) + "\n")
        self._command = [*command, str(config)]
        self._log = home / "server.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.address = f"127.0.0.1:{port}"

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        deadline = time.monotonic() + START_SECONDS_MAX
        while not self._serves():
            text = self._log.read_text(errors="replace")[-3000:]
            assert self._process.poll() is None, text
            assert time.monotonic() < deadline, text

    def _serves(self) -> bool:
        """Whether a session can be opened; waits up to a second for it."""
        try:
            with SyncClient(self.address, operation_timeout_s=1):
                return True
        except OperationTimeout:
            return False

    def stop(self) -> None:
        assert self._process is not None
        self._process.terminate()
        self._process.wait(START_SECONDS_MAX)


def kinds() -> list[str]:
    """What can be tested on this machine."""
    return ["embedded", "workers", *(["apache"] if _apache_classpath() else [])]


def _apache_classpath() -> str | None:
    """Release 3.9 where the environment names its jars, else Debian's package."""
    folder = os.environ.get("ZKSTORE_APACHE_39")
    return apache_classpath(folder) if folder else debian_classpath()


@contextmanager
def running(kind: str) -> Iterator[Running]:
    home = Path(tempfile.mkdtemp(prefix="zkstore-client-"))
    server: Running
    if kind == "embedded":
        server = Embedded(home)
    elif kind == "workers":
        program = [sys.executable, "-m", "zkstore", "serve", "--workers", "2"]
        server = Process(home, program)
    else:
        classpath = _apache_classpath()
        assert classpath is not None
        # In 3.8 this one is only read as a property.
        options = ["-Dznode.container.checkIntervalMs=200", "-cp", classpath]
        main = "org.apache.zookeeper.server.quorum.QuorumPeerMain"
        server = Process(home, [*JAVA, *options, main])
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(home, ignore_errors=True)
