"""A supervised replica of stand-ins as a test holds it: its script, its lines, its processes."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

WAIT_SECONDS = 60.0


def wait_for(what: Callable[[], T]) -> T:
    """The first true value of `what`, asked every few milliseconds."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not (value := what()):
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.005)
    return value


def is_alive(pid: int) -> bool:
    """Whether the process runs; one that waits to be reaped does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):  # the latter: gone between open and read
        return False
    return state not in "ZX"


class FakeReplica:
    """Use as a context manager; kills what is left at the end."""

    def __init__(self, folder: Path, workers: int = 2) -> None:
        self.folder = folder
        self.workers = workers
        self._started: subprocess.Popen[str] | None = None

    def __enter__(self) -> FakeReplica:
        return self

    def __exit__(self, *_: object) -> None:
        if self._started is not None:
            self.process.kill()
            self.process.wait()
            assert self.process.stdout is not None
            self.process.stdout.close()
        for pid in self.pids():
            wait_for(lambda pid=pid: not is_alive(pid))  # type: ignore[misc]

    @property
    def process(self) -> subprocess.Popen[str]:
        assert self._started is not None
        return self._started

    def script(self, name: str, *lines: str) -> None:
        """What the n-th start of a process does; see fakes/protocol.py."""
        (self.folder / f"{name}.script").write_text("\n".join(lines))

    def start(self, environment: dict[str, str] | None = None, **limits: Any) -> None:
        command = [sys.executable, "-m", "tests.unit.fakes.supervised"]
        with open(self.folder / "log", "w") as log:
            self._started = subprocess.Popen(
                [*command, str(self.folder / "data"), str(self.workers)],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=Path(__file__).parents[3],
                start_new_session=True,
                env={
                    **os.environ,
                    **(environment or {}),
                    "ZKSTORE_TEST_FOLDER": str(self.folder),
                    "LIMITS": json.dumps(limits),
                },
            )

    def ready(self) -> str:
        """Waits for the line on stdout; empty if the replica ended without one."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip()

    def exit_code(self) -> int:
        return self.process.wait(WAIT_SECONDS)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.exit_code()

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def wait_for_log(self, text: str) -> None:
        wait_for(lambda: text in self.log())

    def journal(self) -> list[str]:
        """What the stand-ins have noted so far."""
        path = self.folder / "journal"
        return path.read_text().splitlines() if path.exists() else []

    def starts(self, name: str) -> list[int]:
        """The pids of all starts of one process, in order."""
        pattern = re.compile(rf"{name} start (\d+)")
        return [int(match[1]) for line in self.journal() if (match := pattern.match(line))]

    def wait_for_start(self, name: str, count: int) -> int:
        """The pid of the count-th start."""
        return wait_for(lambda: len(self.starts(name)) >= count and self.starts(name)[count - 1])

    def pids(self) -> list[int]:
        names = ["commit", *(f"worker{number}" for number in range(self.workers))]
        return [pid for name in names for pid in self.starts(name)]


def ask(port: int) -> tuple[int, int]:
    """Connects as a client: (number, pid) of the worker that answers."""
    with socket.create_connection(("127.0.0.1", port), timeout=WAIT_SECONDS) as connection:
        number, pid = connection.makefile().readline().split()
    return int(number), int(pid)
