"""Barriers for linearizable reads: which one each read is behind, and who waits for it.

Owns:   the numbers of this worker's barriers.
Invariants:
  1. A read is behind a barrier that the commit process is asked for after the read came.
  2. Reads of one turn share one: it is asked for with the turn's message.
Design: a barrier is a sync without a client: a round of the quorum, and everything that was
        proposed before it applied here (commit/loop.py, commit/following.py). Under an Apache
        leader it is Apache's sync, which that leader answers without asking a quorum.
Not here: the requests that wait (frontend/client.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from zkstore.proto import opcodes as op

if TYPE_CHECKING:
    from zkstore.frontend.client import Client


class Barriers:
    """One worker's; where they are off, no read waits for any."""

    def __init__(self, ask: Callable[[int], None], *, on: bool) -> None:
        """`ask` puts a barrier into this turn's message."""
        self.on = on
        self.passed = 0
        self._ask = ask
        self._number = 0
        self._asked = False  # the last one, and its message has not left
        self._waiting: dict[int, dict[Client, None]] = {}

    def behind(self, client: Client, kind: int) -> int:
        """The barrier that a request of this client waits for; 0: none."""
        if not self.on or kind in op.WRITES:
            return 0
        if not self._asked:
            self._asked = True
            self._number += 1
            self._waiting[self._number] = {}
            self._ask(self._number)
        self._waiting[self._number][client] = None
        return self._number

    def sent(self) -> None:
        """The turn's message leaves: whoever comes now needs another barrier."""
        self._asked = False

    def passes(self, number: int) -> dict[Client, None]:
        """This barrier, and with it all before: who may have waited for them."""
        self.passed = number
        passed = [one for one in self._waiting if one <= number]
        return {client: None for one in passed for client in self._waiting.pop(one)}
