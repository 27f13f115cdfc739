"""How many cores this process may use: what the scheduler and the container allow."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Final

_CPU_MAX: Final = Path("/sys/fs/cgroup/cpu.max")


def cores_available(cpu_max: Path = _CPU_MAX) -> int:
    """At least 1. A container often sees all cores of its host and may use two of them."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    quota = _quota(cpu_max)
    return max(1, min(cores or 1, quota))


def _quota(cpu_max: Path) -> int:
    """The cores that the control group grants, rounded up; a great number if it grants all.

    Shape:  the file is "QUOTA PERIOD" in µs, or "max PERIOD". Source: cgroup v2 of Linux.
    """
    try:
        quota_us, period_us = cpu_max.read_text().split()
        return math.ceil(int(quota_us) / int(period_us))
    except (OSError, ValueError):
        return 1 << 16
