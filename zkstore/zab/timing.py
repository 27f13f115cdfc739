"""The time limits of an ensemble. Time itself comes in as `tick(elapsed_ms)`."""

from __future__ import annotations

from typing import NamedTuple

from zkstore.zab.election import INTERVAL_MS_MAX, INTERVAL_MS_MIN


class Timing(NamedTuple):
    """tickTime, initLimit, syncLimit; fastleader.minNotificationInterval and its max."""

    tick_ms: int = 2000
    init_limit: int = 10  # ticks
    sync_limit: int = 5  # ticks
    interval_ms_min: int = INTERVAL_MS_MIN
    interval_ms_max: int = INTERVAL_MS_MAX

    @property
    def init_ms(self) -> int:
        """For each step until a learner has the leader's history."""
        return self.tick_ms * self.init_limit

    @property
    def sync_ms(self) -> int:
        """After which one that is not heard of is given up."""
        return self.tick_ms * self.sync_limit
