"""A helper process that sends or takes in a tree, and the replica's side of it.

Owns:   the process and the pipe that it reports on; in the helper, that pipe's other end.
Invariants:
  1. A helper ends with the process that started it, and is reaped by it.
  2. `on_end` is called exactly once, when the helper is gone: whatever it did, the socket is free.
Shape:  started as `python -m MODULE` with a JSON object as its input; reports one a line:
        {"progress": what, "count": n}, at the end {"done": {…}} or {"failed": text}.
Design: a helper that is killed, or dies, has failed with what its exit says. It inherits the
        socket; the pipe's end is how its death is noticed, so no signal handler is needed.
Not here: what the two helpers do (snapshot_out.py, snapshot_in.py).
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from zkstore import lifeline
from zkstore.errors import ZkstoreError

SEND: Final = "zkstore.storage.snapshot_out"
RECEIVE: Final = "zkstore.storage.snapshot_in"
_READ_BYTES: Final = 1 << 16
_PROGRESS_S: Final = 0.2  # between two reports

OnEnd = Callable[[dict[str, Any], str], None]


class Transfer:
    """A running helper."""

    def __init__(
        self,
        aio: asyncio.AbstractEventLoop,
        module: str,
        job: dict[str, Any],
        fd: int,
        on_end: OnEnd,
        on_progress: Callable[[], None] = lambda: None,
    ) -> None:
        """Start a helper with a socket, whose descriptor is closed here.

        on_end: gets what the helper said when it was done, or why it failed (else empty).
        Raises: OSError if there is no room for another process.
        """
        self._aio = aio
        self._on_end = on_end
        self._on_progress = on_progress
        self._unread = b""
        self._done: dict[str, Any] = {}
        self._failed = ""
        root = str(Path(__file__).parents[2])
        try:
            with tempfile.TemporaryFile() as told:  # a pipe might not take all of it at once
                told.write(json.dumps({**job, "fd": fd, "parent": os.getpid()}).encode())
                told.seek(0)
                self._process = subprocess.Popen(
                    [sys.executable, "-m", module],
                    stdin=told,
                    stdout=subprocess.PIPE,
                    pass_fds=[fd],
                    env={**os.environ, "PYTHONPATH": root, "PYTHONSAFEPATH": "1"},
                )
        finally:
            os.close(fd)
        assert self._process.stdout is not None
        self._pipe = self._process.stdout.fileno()
        os.set_blocking(self._pipe, False)
        aio.add_reader(self._pipe, self._on_readable)

    def kill(self) -> None:
        """End it now; `on_end` follows."""
        self._process.kill()

    def _on_readable(self) -> None:
        try:
            chunk = os.read(self._pipe, _READ_BYTES)
        except BlockingIOError:
            return
        if not chunk:
            self._end()
            return
        *lines, self._unread = (self._unread + chunk).split(b"\n")
        for line in lines:
            said = json.loads(line)
            self._done = said.get("done", self._done)
            self._failed = said.get("failed", self._failed)
        self._on_progress()

    def _end(self) -> None:
        self._aio.remove_reader(self._pipe)
        status = self._process.wait()  # it has closed its end: it is about to exit
        assert self._process.stdout is not None
        self._process.stdout.close()
        if not self._done and not self._failed:
            self._failed = f"the helper process ended with {status}"
            if status == -signal.SIGBUS:  # the map of a file that could not grow
                self._failed += " (SIGBUS): the disk is full, or fails"
        self._on_end(self._done, self._failed)


# ---- in the helper


def job() -> dict[str, Any]:
    """What is to be done; from here on this process ends with the one that started it."""
    told: dict[str, Any] = json.load(sys.stdin)
    lifeline.follow_supervisor(told["parent"])
    os.set_blocking(told["fd"], True)
    return told


class Report:
    """Says how it goes, on the standard output."""

    def __init__(self) -> None:
        self._due = 0.0

    def progress(self, what: str, count: int) -> None:
        now = time.monotonic()
        if now >= self._due:
            self._due = now + _PROGRESS_S
            self._say(progress=what, count=count)

    def done(self, **found: Any) -> None:
        self._say(done=found)

    def failed(self, why: str) -> None:
        self._say(failed=why)

    def _say(self, **what: Any) -> None:
        sys.stdout.write(json.dumps(what) + "\n")
        sys.stdout.flush()


@contextmanager
def reporting() -> Iterator[Report]:
    """Turns an error of ours into a word about it."""
    report = Report()
    try:
        yield report
    except ZkstoreError as e:
        report.failed(str(e))
