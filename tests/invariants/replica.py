"""A zkstore server as processes, for tests that look at each of them, kill them and start again.

Owns:   the supervisor it started; what that wrote to stdout and stderr; nothing of the data.
Invariants:
  1. Gone: leaving the context kills every process that is left, and waits until none is.
Not here: a server that is only to be spoken to (tests/conformance/servers.py is enough), the server
  inside the test's own process (zkstore.Server).
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeVar

from tests.conformance.wire import ClosedError, Connection, DeadlineError, connect_request
from tests.ports import free_port

REPOSITORY: Final = Path(__file__).parents[2]
WAIT_SECONDS: Final = 60.0
TICK_MS: Final = 500
_SAMPLE_SECONDS: Final = 0.01
_PF_EXITING: Final = 4  # Source: linux/sched.h

SETTINGS: Final = {
    "clientPortAddress": "127.0.0.1",
    "tickTime": str(TICK_MS),
    "minSessionTimeout": "500",
    "maxSessionTimeout": "60000",
    "maxClientCnxns": "0",
    "4lw.commands.whitelist": "*",
    "zkstore.diskReserveBytes": str(16 << 20),
}
_READY: Final = re.compile(r"ready on 127\.0\.0\.1:(\d+)")
_WORKER: Final = "zkstore.frontend.process"
_COMMIT: Final = "zkstore.commit.process"

T = TypeVar("T")


def wait_for(what: Callable[[], T], seconds: float = WAIT_SECONDS) -> T:
    """The first true value of `what`, asked every few milliseconds."""
    deadline = time.monotonic() + seconds
    while not (value := what()):
        assert time.monotonic() < deadline, f"waited {seconds} s in vain for {what}"
        time.sleep(0.005)
    return value


def lives(pid: int) -> bool:
    """Whether the process is there; one that waits to be reaped is not.

    A killed one whose other thread waits for the disk looks like that, but has its files still, and
    its locks.
    """
    return any(_state(task) not in "ZX" for task in _tasks(pid))


def is_dying(pid: int) -> bool:
    """Whether the process is gone, or will be once it need not wait for the disk."""
    return all(
        _state(task) in "ZX" or _is_killed(task) or _is_exiting(task) for task in _tasks(pid)
    )


def _tasks(pid: int) -> list[Path]:
    """The threads."""
    try:
        return list(Path(f"/proc/{pid}/task").iterdir())
    except (FileNotFoundError, ProcessLookupError):
        return []


def _fields(task: Path) -> list[str]:
    """What the kernel tells of a thread, from its state on."""
    try:
        return (task / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ["X"]


def _state(task: Path) -> str:
    return _fields(task)[0]


def _is_exiting(task: Path) -> bool:
    fields = _fields(task)
    return fields[0] == "X" or bool(int(fields[6]) & _PF_EXITING)


def _is_killed(task: Path) -> bool:
    """Whether a SIGKILL waits for it."""
    try:
        lines = (task / "status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return True
    pending = (int(line.split()[1], 16) for line in lines if line.startswith(("SigP", "ShdP")))
    return any(signals >> signal.SIGKILL - 1 & 1 for signals in pending)


def rss_bytes(pid: int) -> int:
    """What the process has in memory of its own; the shared map does not count."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"no RssAnon of {pid}")


class Peak:
    """The most memory that any process of a replica took beyond what it had before.

    Use as a context manager; sampled by a thread, so a short peak may be missed.
    """

    def __init__(self, replica: Replica) -> None:
        self._before = {pid: rss_bytes(pid) for pid in replica.pids()}
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample)
        self.growth = 0

    def _sample(self) -> None:
        while not self._done.wait(_SAMPLE_SECONDS):
            for pid, before in self._before.items():
                self.growth = max(self.growth, rss_bytes(pid) - before)

    def __enter__(self) -> Peak:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Replica:
    """Use as a context manager; `start` may be called again after the server's end."""

    def __init__(
        self,
        folder: Path,
        workers: int = 2,
        settings: Mapping[str, str] | None = None,
        *,
        port: int = 0,
        before: Callable[[], None] | None = None,
    ) -> None:
        """`before` runs in the supervisor's process before it begins: limits, for example."""
        self.data_dir = folder / "data"
        self.port = port or free_port()
        self._config = folder / "zoo.cfg"
        self._output = folder / "output"
        self._workers = workers
        self.settings = {**SETTINGS, **(settings or {})}
        self._before = before
        self._known: set[int] = set()
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Replica:
        try:
            return self.start()
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *_: object) -> None:
        self.kill_all()

    def launch(self) -> subprocess.Popen[bytes]:
        """Start the process, without waiting for anything."""
        lines = [f"dataDir={self.data_dir}", f"clientPort={self.port}"]
        lines += [f"{key}={value}" for key, value in self.settings.items()]
        self._config.parent.mkdir(parents=True, exist_ok=True)
        self._config.write_text("\n".join(lines) + "\n")
        command = self.command(self._config)
        with open(self._output, "wb") as output:
            self._process = subprocess.Popen(
                command, cwd=REPOSITORY, stdout=output, stderr=output, preexec_fn=self._before
            )
        return self._process

    def command(self, config: Path) -> list[str]:
        return [
            sys.executable, "-m", "zkstore", "serve", str(config),
            "--workers", str(self._workers),
        ]  # fmt: skip

    def start(self) -> Replica:
        """Start, and wait until clients are served; the port is always the same."""
        self.launch()
        return self.await_ready()

    def await_ready(self) -> Replica:
        """Wait for a start that was begun."""
        process = self._process
        assert process is not None
        ready = wait_for(lambda: _READY.search(self.output) or process.poll() is not None)
        assert isinstance(ready, re.Match), self.output
        self.port = int(ready[1])
        self._known |= {self.supervisor, *self.pids()}
        return self

    @property
    def output(self) -> str:
        """What the server has written since its last start."""
        return self._output.read_text(errors="replace")

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", self.port

    @property
    def supervisor(self) -> int:
        assert self._process is not None
        return self._process.pid

    def pids(self) -> list[int]:
        """The supervisor's living children."""
        children = Path(f"/proc/{self.supervisor}/task/{self.supervisor}/children")
        try:
            found = [int(word) for word in children.read_text().split()]
        except (FileNotFoundError, ProcessLookupError):
            return []
        return [pid for pid in found if lives(pid)]

    def workers(self) -> list[int]:
        return [pid for pid in self.pids() if _WORKER in _command(pid)]

    def commit(self) -> int:
        (pid,) = (pid for pid in self.pids() if _COMMIT in _command(pid))
        return pid

    def client_ports(self, worker: int) -> set[int]:
        """The ports of the clients whose connections this worker has."""
        files = set()
        for file in Path(f"/proc/{worker}/fd").iterdir():
            with suppress(FileNotFoundError):  # closed meanwhile
                files.add(os.readlink(file))
        rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        return {
            int(there.partition(":")[2], 16)
            for _, here, there, _, *_, inode in (row[:10] for row in rows)
            if f"socket:[{inode}]" in files and int(here.partition(":")[2], 16) == self.port
        } - {0}  # the listening socket's

    def kill(self, pid: int) -> None:
        """kill -9 of one process; it may have ended by itself just now."""
        self._known |= {*self.pids()}
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

    def kill_all(self) -> None:
        """kill -9 of the supervisor; returns when nothing of the server is left."""
        if self._process is None:
            return
        # It might be about to start another process, which would be missing here.
        self._process.send_signal(signal.SIGSTOP)
        leader = Path(f"/proc/{self.supervisor}/task/{self.supervisor}")
        wait_for(lambda: _state(leader) in "TZX")
        self._known |= {self.supervisor, *self.pids()}
        self._process.kill()
        self._process.wait()
        for pid in self._known:
            wait_for(lambda pid=pid: not lives(pid))  # type: ignore[misc]
        self._known.clear()
        self._process = None

    def terminate(self) -> int:
        """SIGTERM; returns the exit code."""
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(WAIT_SECONDS)

    def connect(self, *, timeout_ms: int = 20_000) -> Connection:
        """A blocking connection with a new session."""
        connection = Connection(self.address)
        connection.handshake(connect_request(timeout_ms=timeout_ms))
        return connection

    def word(self, word: str) -> str:
        """The answer to a four-letter word."""
        connection = Connection(self.address)
        try:
            connection.send_raw(word.encode())
            return connection.recv_all().decode()
        finally:
            connection.close()

    def mntr(self) -> dict[str, str]:
        rows = (line.partition("\t") for line in self.word("mntr").splitlines())
        return {key: value for key, _, value in rows}

    def serves(self) -> bool:
        """Whether a new client gets a session."""
        try:
            self.connect().close()
        except (ClosedError, DeadlineError, OSError):
            return False
        return True


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
