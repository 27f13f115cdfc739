"""The lock of a data directory: who has it open, and whether for itself alone.

Owns:   the file `lock`: the lock itself, and the process id of who wrote the directory last.
Design: flock, as it belongs to the open file and not to the process (two servers in one process
  exclude each other as well) and goes with the process.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Final

from zkstore.errors import DirectoryInUse

_LOCK_NAME: Final = "lock"


class DirectoryLock:
    """The lock of one directory: exclusive while it is recovered, shared while it is in use."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / _LOCK_NAME
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)

    def take(self, *, exclusive: bool) -> None:
        """Take the lock, or turn it into the other kind.

        Raises: DirectoryInUse, naming who has it.
        """
        try:
            fcntl.flock(self._fd, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except BlockingIOError as error:
            users = self._users()
            raise DirectoryInUse(f"{self._path.parent} is in use by {users}") from error
        if exclusive:
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        os.close(self._fd)

    def _users(self) -> str:
        """Who holds the lock: the kernel knows all, the file names who opened it for writing."""
        status = os.fstat(self._fd)
        place = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
        try:
            rows = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
        except OSError:
            rows = []
        holders = sorted({r[4] for r in rows if len(r) > 5 and r[1] == "FLOCK" and r[5] == place})
        if not holders:
            holders = os.pread(self._fd, 32, 0).decode("ascii", "replace").split()
        return f"process {', '.join(holders)}" if holders else "another process"
