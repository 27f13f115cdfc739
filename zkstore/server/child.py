"""One process of the replica as the supervisor sees it: started, heard from, killed, reaped.

Owns:   the process and the read end of its status pipe.
Invariants:
  1. A child is spawned, never forked: it starts as a fresh interpreter without our memory or locks.
  2. A child's last events are read before its exit is reported.
Design: a child gets one argument, `--bootstrap FD`: a pipe from which it reads one JSON object up
  to the end. It reports events to the pipe `status_fd`, one JSON object a line. JSON, so that a
  child written in anything can be put in for a test.
Not here: what an event or an exit leads to (supervisor.py).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

# A child of ours that writes a longer line has a bug.
_LINE_BYTES_MAX: Final = 1 << 20
_READ_BYTES: Final = 1 << 16


class Child:
    """A running process; `pid` is valid until `exit_status` is not None."""

    def __init__(
        self, name: str, module: str, bootstrap: dict[str, Any], fds: Sequence[int]
    ) -> None:
        """Spawns `python -m module`, which inherits `fds` under the same numbers.

        Raises: OSError if the system has no room for another process.
        """
        self.name = name
        self.ready = False
        self.silent = False  # it has closed its end of the status pipe, or is dead
        self.started = time.monotonic()
        self._unread = b""
        self.status_fd, status_end = os.pipe()
        bootstrap_end, self._bootstrap_fd = os.pipe()
        try:
            self._process = _spawn(module, bootstrap_end, [status_end, *fds])
        except OSError:
            os.close(self.status_fd)
            os.close(self._bootstrap_fd)
            raise
        finally:
            os.close(status_end)
            os.close(bootstrap_end)
        self.pid = self._process.pid
        os.set_blocking(self.status_fd, False)
        self._send({**bootstrap, "status_fd": status_end, "supervisor_pid": os.getpid()})

    def _send(self, bootstrap: dict[str, Any]) -> None:
        try:
            with open(self._bootstrap_fd, "wb") as pipe:
                pipe.write(json.dumps(bootstrap).encode())
        except BrokenPipeError:
            return  # it died already; its exit says so

    @property
    def exit_status(self) -> int | None:
        """The exit code, or -N if signal N killed it; None while it runs."""
        return self._process.poll()

    def events(self) -> list[dict[str, Any]]:
        """All whole events that have arrived; sets `silent` when no more can come."""
        while True:
            try:
                chunk = os.read(self.status_fd, _READ_BYTES)
            except BlockingIOError:
                break
            if not chunk:
                self.silent = True
                break
            self._unread += chunk
        *lines, self._unread = self._unread.split(b"\n")
        assert len(self._unread) < _LINE_BYTES_MAX, (self.name, len(self._unread))
        return [json.loads(line) for line in lines if line]

    def send_signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def close(self) -> None:
        """Ends the process, if it still runs, and forgets it."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        os.close(self.status_fd)


def _spawn(module: str, bootstrap_fd: int, fds: Sequence[int]) -> subprocess.Popen[bytes]:
    """Starts the interpreter with SIGINT blocked.

    Else a Ctrl-C in the terminal, which goes to all of its processes, would end a child that has
    not come to lifeline.follow_supervisor yet, with a traceback. The mask is inherited.
    """
    command = [sys.executable, *_module_path_options(), "-m", module]
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return subprocess.Popen(
            [*command, "--bootstrap", str(bootstrap_fd)],
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr.fileno(),
            pass_fds=[bootstrap_fd, *fds],
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def _module_path_options() -> list[str]:
    """-P keeps a file of the current directory from hiding a module; a checkout needs it there."""
    checkout = Path(__file__).resolve().parents[2]
    return [] if checkout == Path.cwd() and sys.path[0] == str(checkout) else ["-P"]
