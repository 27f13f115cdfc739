"""What the ZAB core wants done: the contract between the core and whoever drives it.

Invariants (the driver's duties):
  1. `append` and `hard_state` are in the journal, flushed, before `advance` is called with this
     Ready.
  2. `committed` is applied only after that, in order.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple


class Proposal(NamedTuple):
    """A txn with its zxid; the bytes are opaque here."""

    zxid: int
    txn: bytes


class HardState(NamedTuple):
    """The epochs: what a voter must remember over a crash."""

    accepted_epoch: int
    current_epoch: int


@dataclass(slots=True)
class Ready:
    """One round of work, all lists in zxid order."""

    hard_state: HardState | None = None  # changed epochs
    append: list[Proposal] = field(default_factory=list)  # to the journal, contiguous with its end
    committed: list[Proposal] = field(default_factory=list)  # each in this or an earlier `append`

    @property
    def must_sync(self) -> bool:
        """Whether anything has to reach the journal; else only the tree is touched."""
        return bool(self.append) or self.hard_state is not None
