"""How a member that has no room to journal keeps out of the way of those that have.

Owns:   the pause of such a member, and whether the disk is full.
Invariants:
  1. Every pause ends: its log may be needed, as it may hold what a quorum has acknowledged. Until
     then it is to the others what a crashed server is, so they lose nothing by it.
Design: a pause is long enough for the others' election; twice as long if there was one lately, so
        that it is neither elected nor brought up to date in vain again and again.
        A leader with a full disk would refuse writes for all: it gives way if its followers are a
        quorum without it, each time after having led for longer, as they may be no better off.
Not here: what is refused (commit/loop.py), how it looks for a leader (peer.py).
"""

from __future__ import annotations

from typing import Final

from zkstore.zab.election import FINALIZE_MS
from zkstore.zab.timing import Timing

ELECTION_MS: Final = 5 * FINALIZE_MS  # what the others need, at least
LATELY: Final = 10  # times a pause's length: when the next comes within, it is longer
LEADING_TICKS: Final = 15  # before a full leader gives way for the second time; doubled each time


class Absence:
    """Time comes in as milliseconds."""

    def __init__(self, timing: Timing) -> None:
        self.left_ms = 0  # of the pause
        self._timing = timing
        self._full = False
        self._pause_ms = 0  # how long the last one was
        self._since_ms = 0  # it ended
        self._leading_ms = self._stays_ms = 0  # left to lead, and of how much, before giving way

    def begin(self) -> None:
        """A pause."""
        lately = self._since_ms < LATELY * self._pause_ms
        shortest_ms = max(self._timing.tick_ms, ELECTION_MS)
        longest_ms = max(self._timing.init_ms, ELECTION_MS)
        self._pause_ms = min(2 * self._pause_ms, longest_ms) if lately else shortest_ms
        self.left_ms = self._pause_ms
        self._since_ms = 0

    def tick(self, elapsed_ms: int) -> None:
        """Time has passed."""
        if self.left_ms:
            self.left_ms = max(0, self.left_ms - elapsed_ms)
        else:
            self._since_ms += elapsed_ms

    def set_full(self, full: bool) -> None:
        """Whether the disk is full; where it is not any more there is no reason to stay away."""
        if self._full and not full:
            self.left_ms = self._pause_ms = self._leading_ms = self._stays_ms = 0
        self._full = full

    def gives_way(self, elapsed_ms: int) -> bool:
        """Whether a leader that the others do not need should; to be asked with each tick."""
        if not self._full:
            return False
        self._leading_ms -= elapsed_ms
        if self._leading_ms > 0:
            return False
        self._stays_ms = 2 * self._stays_ms or LEADING_TICKS * self._timing.tick_ms
        self._leading_ms = self._stays_ms
        return True
