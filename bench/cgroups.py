"""A limit on a server's memory, page cache included, by a control group made for one measurement.

Owns:   the group, below the one that this process is in; it is gone afterwards.
Design: version 1 and 2 of the kernel's interface differ in names only. A process enters by itself,
  before it becomes the server, so that no page is accounted for elsewhere.
Source: the kernel's cgroup-v2 and cgroup-v1/memory documents.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench import wire

# How long the kernel may take to let go of a group whose processes have ended.
_REMOVAL_S: Final = 60.0
_MEMORY_AND_SWAP: Final = "memory.memsw.limit_in_bytes"


@dataclass(frozen=True, slots=True)
class _Interface:
    """Where groups are made, and the names of their files."""

    parent: Path
    limit: str
    peak: str
    swap: str  # there only where the kernel accounts for it; with the memory in version 1


_VERSION_1: Final = "memory.limit_in_bytes", "memory.max_usage_in_bytes", _MEMORY_AND_SWAP
_VERSION_2: Final = "memory.max", "memory.peak", "memory.swap.max"


def _interface() -> _Interface | None:
    """That of this process's own group, or None if memory is not accounted for."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        for mount in mounts:
            point = Path(mount[1] + path)
            if controllers == "memory" and mount[2] == "cgroup" and "memory" in mount[3].split(","):
                return _Interface(point, *_VERSION_1)
            if not controllers and mount[2] == "cgroup2":
                offered = point / "cgroup.subtree_control"
                if offered.exists() and "memory" in offered.read_text().split():
                    return _Interface(point, *_VERSION_2)
    return None


@dataclass(frozen=True, slots=True)
class Group:
    """A group with a limit."""

    path: Path
    interface: _Interface

    @property
    def enter(self) -> Sequence[str]:
        """What stands before a command so that it runs in the group."""
        script = f'echo $$ > "{self.path / "cgroup.procs"}" && exec "$@"'
        return ("/bin/sh", "-c", script, "sh")

    def peak_bytes(self) -> int:
        """The most that was ever in use."""
        return int((self.path / self.interface.peak).read_text())


@contextmanager
def memory_limit(size_bytes: int) -> Iterator[Group]:
    """A group for the time of the block; its processes must have ended then.

    Raises: BenchmarkError if it cannot be made, or not removed.
    """
    interface = _interface()
    if interface is None:
        raise wire.BenchmarkError("memory is not accounted for by control groups here")
    try:
        path = Path(tempfile.mkdtemp(prefix="zkstore-bench-", dir=interface.parent))
    except OSError as error:
        raise wire.BenchmarkError(f"no control group can be made: {error}") from error
    try:
        (path / interface.limit).write_text(str(size_bytes))
        if (path / interface.swap).exists():  # what is swapped out would not be limited
            both = interface.swap == _MEMORY_AND_SWAP
            (path / interface.swap).write_text(str(size_bytes) if both else "0")
        yield Group(path, interface)
    finally:
        _remove(path)


def _remove(path: Path) -> None:
    deadline = time.monotonic() + _REMOVAL_S
    while True:
        try:
            os.rmdir(path)
            return
        except OSError as error:
            # Its last process may still be ending.
            if time.monotonic() > deadline:
                raise wire.BenchmarkError(f"{path} cannot be removed: {error}") from error
        time.sleep(0.01)


def refusal() -> str:
    """Why no such group can be made here; empty if it can."""
    try:
        with memory_limit(1 << 30):
            return ""
    except (wire.BenchmarkError, OSError) as error:
        return str(error)
