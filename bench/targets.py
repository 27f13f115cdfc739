"""What is expected of the figures: required, and aimed at.

Design: most targets are ratios to Apache ZooKeeper's median in the same run, so that they mean the
  same on every machine; a start and its memory are absolute. No target is a gate: one that is
  missed is shown as missed.
Not here: how they are shown (report.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final


@dataclass(frozen=True, slots=True)
class Target:
    """One figure of one workload."""

    workload: str
    metric: str
    # None: reported only.
    required: float | None
    aim: float
    # Of the ratio to Apache's, else of the figure itself.
    relative: bool = True
    # More is better.
    rising: bool = False

    def verdict(self, reached: float | None) -> Verdict:
        if reached is None:
            return Verdict.UNKNOWN
        if self._meets(reached, self.aim):
            return Verdict.AIM
        if self.required is None:
            return Verdict.REPORTED
        return Verdict.REQUIRED if self._meets(reached, self.required) else Verdict.MISSED

    def _meets(self, reached: float, limit: float) -> bool:
        return reached >= limit if self.rising else reached <= limit


class Verdict(Enum):
    AIM = "aim reached"
    REQUIRED = "required reached"
    REPORTED = "reported"
    MISSED = "**missed**"
    UNKNOWN = "not measured"


def _cpu(workload: str, required: float, aim: float) -> Target:
    return Target(workload, "cpu_us", required, aim)


def _throughput(workload: str, required: float, aim: float) -> Target:
    return Target(workload, "ops_per_s", required, aim, rising=True)


_LOADS: Final = (
    "getData 1x1", "getData 64x1", "getData 16x64",
    "setData 1x1", "setData 64x1", "setData 256x1", "setData 16x64",
)  # fmt: skip

SERVER: Final[Sequence[Target]] = (
    _cpu("getData 1x1", 0.4, 0.28),
    _cpu("getData 64x1", 0.6, 0.45),
    _cpu("getData 16x64", 0.25, 0.13),
    _throughput("getData 64x1", 1.4, 1.6),
    _throughput("getData 16x64", 4, 10),
    Target("setData 1x1", "p50_us", 1.2, 0.8),
    _cpu("setData 64x1", 0.85, 0.55),
    _cpu("setData 16x64", 0.8, 0.4),
    _throughput("setData 64x1", 1.1, 1.3),
    _throughput("setData 256x1", 1.2, 1.6),
    _throughput("setData 16x64", 1.1, 1.8),
    *(Target(workload, "p99_us", None, 1.0) for workload in _LOADS),
    Target("fan-out 1000x1", "last_ms", 0.6, 0.3),
    Target("fan-out 10000x1", "last_ms", 0.6, 0.3),
    *(_cpu(f"connect+close {concurrency}", 0.8, 0.5) for concurrency in (1, 16, 64)),
    Target("start 1 M, clean", "start_ms", 500, 300, relative=False),
    Target("start 1 M, killed", "start_ms", 500, 300, relative=False),
    Target("start 1 M, clean", "anonymous_mb", 150, 100, relative=False),
    Target("16 M nodes in 512 MB", "start_ms", None, 300, relative=False),
    Target("idle 10000", "cpu_ms_per_s", 1.0, 0.7),
)

# CPU is summed over the three servers.
ENSEMBLE: Final[Sequence[Target]] = (
    Target("ensemble setData 1x1", "p50_us", 1.1, 0.8),
    _cpu("ensemble setData 64x1", 0.9, 0.5),
    _cpu("ensemble setData 16x64", 0.9, 0.5),
    _throughput("ensemble getData 16x64", 3, 8),
    Target("ensemble leader killed", "first_write_ms", 0.8, 0.4),
    Target("ensemble 100 k writes missed", "back_ms", 1.0, 0.3),
    Target("ensemble 1 M nodes lost", "back_ms", 1.0, 0.5),
)
