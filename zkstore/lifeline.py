"""Ties the life of a replica's process to its supervisor's.

Owns:   the process's parent-death signal, and that it ignores SIGINT.
Invariants:
  1. NoOrphans: when the supervisor is gone, however it died, none of its processes is left within a
     second, not even a stopped one: nothing keeps the port or the lock of the data directory.
Design: on Linux the kernel kills the child (PR_SET_PDEATHSIG). Elsewhere a thread waits for the
  supervisor's end. A heartbeat would need a process that still runs, and a stopped one does not.
Not here: what the supervisor does when a child dies (server/supervisor.py).
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys
import threading
from typing import Final

_PR_SET_PDEATHSIG: Final = 1


def follow_supervisor(supervisor_pid: int) -> None:
    """Makes this process end with its supervisor. A child calls it before anything else.

    A terminal sends Ctrl-C to every process of the foreground group; it is ignored here, so that
    only the supervisor decides in which order the replica stops.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _die_with_parent(supervisor_pid)
    # The supervisor may have died before the line above took effect.
    if os.getppid() != supervisor_pid:
        os._exit(1)


if sys.platform == "linux":

    def _die_with_parent(_parent_pid: int) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
            code = ctypes.get_errno()
            raise OSError(code, f"prctl: {os.strerror(code)}")

else:

    def _die_with_parent(parent_pid: int) -> None:
        queue = select.kqueue()
        exits = select.kevent(
            parent_pid, select.KQ_FILTER_PROC, select.KQ_EV_ADD, select.KQ_NOTE_EXIT
        )
        queue.control([exits], 0)

        def wait() -> None:
            queue.control(None, 1)
            os.kill(os.getpid(), signal.SIGKILL)

        threading.Thread(target=wait, name="lifeline", daemon=True).start()
