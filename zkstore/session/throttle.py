"""How many clients may connect in a time: a bucket of tokens, and chance when it is often empty.

Owns:   the tokens of one replica. Time and chance come in as arguments.
Invariants:
  1. Over any stretch of time no more tokens are spent than the bucket held at its start plus those
     that it was filled with.
Design: with tokens alone, clients that always come a little late would never get in; so once the
        bucket was found empty, some are turned away by chance before they ask for tokens (BLUE).
Source: BlueThrottle; reference R4.
"""

from __future__ import annotations

from collections.abc import Callable

from zkstore.settings import Settings


class ConnectionThrottle:
    """Decides for each ConnectRequest; `tokens` 0: all are let in."""

    def __init__(self, settings: Settings, now_ms: int, chance: Callable[[], float]) -> None:
        """`chance` gives a number from 0 up to 1, as random.random does."""
        self._settings = settings
        self._chance = chance
        weighted = settings.connection_throttle_weight_enabled
        least = settings.connection_throttle_local_session_weight
        # A weight below a local session's would make the dearer one the cheaper.
        self._new = max(settings.connection_throttle_global_session_weight, least)
        self._renewed = max(settings.connection_throttle_renew_session_weight, least)
        if not weighted:
            self._new = self._renewed = 1
        # The configuration counts in new sessions.
        self._capacity = settings.connection_throttle_tokens * self._new
        self._fill_count = settings.connection_throttle_fill_count * self._new
        self._tokens = self._capacity
        self._filled_ms = self._adapted_ms = now_ms
        self.drop_probability = 0.0

    @property
    def deficit(self) -> int:
        """Tokens that the bucket lacks."""
        return self._capacity - self._tokens

    def admits(self, now_ms: int, *, renewed: bool) -> bool:
        """Whether a client may connect now; takes its tokens if so."""
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
        need = self._renewed if renewed else self._new
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
