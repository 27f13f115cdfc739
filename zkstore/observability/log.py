"""Sets up logging for one process, and keeps a repeated line from filling the disk.

Owns:   the root logger's one handler, on stderr.
Invariants:
  1. One record is one line that says when, how grave, and which process of the replica.
Not here: what operators measure (metrics.py), the audit log.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from typing import Final

_LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR")
_WINDOW_SECONDS: Final = 60.0


class _OneLine(logging.Formatter):
    """A record as one line, but for a traceback, which is worth its lines."""

    default_time_format = "%Y-%m-%d %H:%M:%S"
    default_msec_format = "%s.%03d"

    def formatMessage(self, record: logging.LogRecord) -> str:
        # What a client sent may be part of a message and must not look like a record of ours.
        record.message = record.message.replace("\r", "\\r").replace("\n", "\\n")
        return super().formatMessage(record)


def configure(role: str, level: str = "INFO") -> None:
    """Sends this process's records to stderr; `role` names the process: "worker 2"."""
    assert level in _LEVELS, level
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_OneLine(f"%(asctime)s %(levelname)-7s [{role}] %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)


class Limited:
    """Logs one kind of line at most `per_minute` times a minute.

    A client can cause such a line as often as it likes. The first line of the next minute says how
    many were left out.
    """

    def __init__(
        self,
        logger: logging.Logger,
        level: int,
        per_minute: int = 10,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._logger = logger
        self._level = level
        self._per_minute = per_minute
        self._clock = clock
        self._window_start = -_WINDOW_SECONDS
        self._logged = 0
        self._left_out = 0

    def __call__(self, message: str, *arguments: object) -> None:
        now = self._clock()
        if now - self._window_start >= _WINDOW_SECONDS:
            self._window_start = now
            self._logged = 0
        if self._logged >= self._per_minute:
            self._left_out += 1
            return
        self._logged += 1
        if self._left_out:
            message += f" ({self._left_out} more like this were not logged)"
            self._left_out = 0
        self._logger.log(self._level, message, *arguments)
