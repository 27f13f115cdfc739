"""load.py's inner loop in C, built when it is first asked for, where there is a compiler.

Owns:   the library in the cache directory, named after its source; the memory the loop works on.
Design: Python opens the sessions and encodes the requests; C keeps them in flight and counts, at a
  cost that leaves the machine to the server. Only the loop differs: both are told to do the same,
  and the same tests judge both (selftest/test_load.py).
Not here: what the loop does (loop.c).
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import select
import shutil
import socket
import subprocess
import tempfile
from array import array
from collections.abc import Sequence
from functools import cache
from math import inf
from pathlib import Path
from typing import Any, Final

from bench import wire
from bench.loop import Latencies, wait_at_most
from bench.operations import RING_REQUESTS, Ring

_HERE: Final = Path(__file__).resolve().parent
_SOURCE: Final = _HERE / "loop.c"
_CACHE: Final = _HERE.parent / "build" / "bench"
_FLAGS: Final = ("-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC")
# The loop's own codes, in loop.c's order.
_FAULTS: Final = (
    "", "the server closed a connection under load", "", "a request did not fit its socket",
    "the server has stopped answering", "no memory",
)  # fmt: skip
_WRONG_REPLY: Final = 2
_FOREVER_NS: Final = (1 << 64) - 1
# 128 steps for each doubling of a 64-bit number.
_SUB: Final = 128
_STEPS: Final = 58 * _SUB
_POLL_S: Final = 0.1


class _Connection(ctypes.Structure):
    """struct connection of loop.c."""

    _fields_ = [
        ("fd", ctypes.c_int32),
        ("depth", ctypes.c_uint32),
        ("requests", ctypes.c_uint32),
        ("pattern", ctypes.c_uint32),
        ("serials", ctypes.c_uint32),
        ("block", ctypes.c_void_p),
        ("ends", ctypes.c_void_p),
        ("sizes", ctypes.c_void_p),
        ("serial_at", ctypes.c_void_p),
        ("sent", ctypes.c_uint64),
        ("answered", ctypes.c_uint64),
        ("round", ctypes.c_uint64),
        ("sent_ns", ctypes.c_void_p),
        ("received", ctypes.c_void_p),
        ("filled", ctypes.c_uint32),
    ]


class _Fault(ctypes.Structure):
    """struct fault of loop.c."""

    _fields_ = [
        ("reply", ctypes.c_uint64),
        ("size", ctypes.c_int32),
        ("xid", ctypes.c_int32),
        ("error", ctypes.c_int32),
        ("code", ctypes.c_int32),
    ]


@cache
def library() -> ctypes.CDLL | None:
    """The loop, or None where nothing compiles it.

    Raises: BenchmarkError if the compiler refuses it.
    """
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        return None
    built = _CACHE / f"loop-{hashlib.sha256(_SOURCE.read_bytes()).hexdigest()[:16]}.so"
    if not built.exists():
        _CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=_CACHE) as folder:
            made = Path(folder) / "loop.so"
            command = [compiler, *_FLAGS, "-o", str(made), str(_SOURCE)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise wire.BenchmarkError(f"{' '.join(command)}: {done.stderr}")
            # Two runs may build it at the same moment; either is good.
            made.replace(built)
    loaded = ctypes.CDLL(str(built))
    loaded.load_run.restype = ctypes.c_int64
    return loaded


class NativeLoop:
    """The loop of one run (bench.loop.Loop)."""

    def __init__(
        self, code: ctypes.CDLL, sessions: Sequence[tuple[socket.socket, Ring]], depth: int
    ) -> None:
        self._code = code
        self._connections = (_Connection * len(sessions))()
        # What C points to must live as long as it runs.
        self._memory: list[Any] = []
        for connection, (sock, ring) in zip(self._connections, sessions, strict=True):
            block, ends, digits = ring.image()
            connection.fd, connection.depth = sock.fileno(), depth
            connection.requests, connection.pattern = RING_REQUESTS, len(ring.reply_sizes)
            connection.serials = len(digits)
            connection.block = self._keep(ctypes.create_string_buffer(block, len(block)))
            connection.ends = self._keep_numbers(ends)
            connection.sizes = self._keep_numbers(ring.reply_sizes)
            connection.serial_at = self._keep_numbers(digits)
        if len(sessions) == 1:
            wait_at_most(sessions[0][0], _POLL_S)
        self._epoll = select.epoll()
        self._fault = _Fault()

    def _keep(self, memory: Any) -> int:
        self._memory.append(memory)
        return ctypes.addressof(memory)

    def _keep_numbers(self, numbers: Sequence[int]) -> int:
        return self._keep((ctypes.c_uint32 * len(numbers))(*numbers))

    def begin(self) -> None:
        count = len(self._connections)
        self._check(self._code.load_begin(self._connections, count, self._epoll.fileno()))

    def _check(self, code: int) -> None:
        fault = self._fault
        if code == _WRONG_REPLY:
            what = f"error {fault.error}, xid {fault.xid}, {fault.size} bytes"
            raise wire.BenchmarkError(f"reply {fault.reply} of a connection has {what}")
        if code:
            raise wire.BenchmarkError(_FAULTS[code])

    def run(self, seconds: float, ops_max: float, latencies: Latencies) -> int:
        return self._run(int(seconds * 1e9), ops_max, latencies, send=True)

    def _run(self, window_ns: int, ops_max: float, latencies: Latencies, *, send: bool) -> int:
        histogram = (ctypes.c_uint64 * _STEPS)()
        replies: int = self._code.load_run(
            self._connections,
            ctypes.c_uint32(len(self._connections)),
            ctypes.c_int(self._epoll.fileno()),
            ctypes.c_uint64(window_ns),
            ctypes.c_uint64(_FOREVER_NS if ops_max == inf else int(ops_max)),
            ctypes.c_uint64(int(wire.ANSWER_TIMEOUT_S * 1e9)),
            ctypes.c_int(send),
            histogram,
            ctypes.byref(self._fault),
        )
        self._check(self._fault.code)
        for step, count in enumerate(array("Q", histogram)):
            if count:
                latencies.steps[_middle_ns(step) >> Latencies.STEP_SHIFT] += count
        return replies

    def drain(self) -> None:
        self._run(_FOREVER_NS, inf, Latencies(), send=False)
        self._code.load_end(self._connections, len(self._connections))
        self._epoll.close()


def _middle_ns(step: int) -> int:
    """The middle of what a step of loop.c's histogram counts."""
    if step < _SUB:
        return step
    shift = step // _SUB - 1
    return ((_SUB + step % _SUB) << shift) + (1 << shift >> 1)
