"""How many clients may connect in a time, and how many requests may be in process at once.

Owns:   the tokens of one replica. Time and chance come in as arguments.
Invariants:
  1. Over any stretch of time no more tokens are spent than the bucket held at its start plus those
     that it was filled with.
  2. A worker whose requests wait is given room, whatever the other workers have in process: so
     there may be more in process than allowed, by one for each worker but the first.
Design: with tokens alone, clients that always come a little late would never get in; so once the
        bucket was found empty, some are turned away by chance before they ask for tokens (BLUE).
        Requests have one limit for the whole replica: a worker takes what the others leave, but
        while several have requests waiting, each takes an equal share, of one at least.
Not here: the requests that wait (frontend/line.py), what the others have (frontend/board.py).
Source: BlueThrottle, RequestThrottler, Request.isStale; reference R4, R5, R6.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from zkstore.settings import Settings


class ConnectionThrottle:
    """Decides for each ConnectRequest; `tokens` 0: all are let in."""

    def __init__(self, settings: Settings, now_ms: int, chance: Callable[[], float]) -> None:
        """`chance` gives a number from 0 up to 1, as random.random does."""
        self._chance = chance
        self._filled_ms = self._adapted_ms = now_ms
        self._capacity = self._tokens = 0
        self.drop_probability = 0.0
        self.adopt(settings)

    def adopt(self, settings: Settings) -> None:
        """Take other settings; the bucket lacks as many tokens as before."""
        self._settings = settings
        weighted = settings.connection_throttle_weight_enabled
        least = settings.connection_throttle_local_session_weight
        # A weight below a local session's would make the dearer one the cheaper.
        self._local = least
        self._new = max(settings.connection_throttle_global_session_weight, least)
        self._renewed = max(settings.connection_throttle_renew_session_weight, least)
        if not weighted:
            self._new = self._renewed = self._local = 1
        lacking = self.deficit
        # The configuration counts in new global sessions.
        self._capacity = settings.connection_throttle_tokens * self._new
        self._fill_count = settings.connection_throttle_fill_count * self._new
        self._tokens = max(0, self._capacity - lacking)

    @property
    def deficit(self) -> int:
        """Tokens that the bucket lacks."""
        return self._capacity - self._tokens

    def admits(self, now_ms: int, *, renewed: bool, local: bool = False) -> bool:
        """Whether a client may connect now; takes its tokens if so. `local`: new sessions are."""
        if not self._capacity:
            return True
        passed_ms = now_ms - self._filled_ms
        fill_time_ms = self._settings.connection_throttle_fill_time_ms
        if passed_ms > fill_time_ms:
            filled = self._tokens + passed_ms * self._fill_count // fill_time_ms
            self._tokens = min(filled, self._capacity)
            self._filled_ms = now_ms
        if self._settings.connection_throttle_freeze_time_ms >= 0:
            self._adapt(now_ms)
            if self._chance() < self.drop_probability:
                return False
        need = self._renewed if renewed else self._local if local else self._new
        if self._tokens < need:
            return False
        self._tokens -= need
        return True

    def _adapt(self, now_ms: int) -> None:
        """Move the probability, at most once in the freeze time."""
        settings = self._settings
        if now_ms - self._adapted_ms <= settings.connection_throttle_freeze_time_ms:
            return
        self._adapted_ms = now_ms
        if not self._tokens:
            raised = self.drop_probability + settings.connection_throttle_drop_increase
            self.drop_probability = min(raised, 1.0)
        elif self.deficit <= round(self._capacity * settings.connection_throttle_decrease_ratio):
            lowered = self.drop_probability - settings.connection_throttle_drop_decrease
            self.drop_probability = max(lowered, 0.0)


class RequestThrottle:
    """How much of the replica's room in process one worker may take, and what waited too long."""

    def __init__(self, settings: Settings) -> None:
        self.requests_max = settings.request_throttle_max_requests
        self.stall_ms = settings.request_throttle_stall_time_ms
        self.late_ms = settings.throttled_op_wait_time_ms
        # A connection that is closed; Apache asks for both.
        self.drops_closed = (
            settings.request_throttle_drop_stale and settings.request_stale_connection_check
        )
        self._drops_old = (
            settings.request_throttle_drop_stale and settings.request_stale_latency_check
        )

    def room(self, elsewhere: int, others_waiting: int) -> int:
        """How many requests a worker may have in process.

        `elsewhere` are those that the other workers have in process, `others_waiting` the number of
        other workers with requests that wait.
        """
        if not self.requests_max:
            return sys.maxsize
        left = self.requests_max - elsewhere
        if not others_waiting:
            return left
        share = max(1, self.requests_max // (others_waiting + 1))
        return min(share, max(left, 1))

    def is_late(self, waited_ms: float) -> bool:
        """Whether a request that waited so long is refused instead of processed."""
        return 0 < self.late_ms < waited_ms

    def is_stale(self, waited_ms: float, session_timeout_ms: int) -> bool:
        """Whether a request that waits so long ends its connection."""
        return self._drops_old and waited_ms > session_timeout_ms
