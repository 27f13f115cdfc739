"""What the ZAB core wants done: the contract between the core and whoever drives it.

Invariants (the driver's duties):
  1. A Ready is performed in the order of its fields, and `advance` is called with it when what it
     asks for is durable and applied. There is one at a time.
  2. `truncate_after`, `append` and `hard_state` are one journal record, flushed once, before
     anything of `send_after_sync` leaves.
  3. The packets of one link keep their order: `send`, then `send_after_sync`, Ready after Ready.
  4. Packets for a link that is gone are dropped.
Design: durability is data, not the order of calls: the same contract holds for one server and for
        an ensemble, on disks and in the simulator.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from zkstore.proto.quorum import Notification, Packet, Role


class Proposal(NamedTuple):
    """A txn with its zxid; the bytes are opaque here."""

    zxid: int
    txn: bytes


class HardState(NamedTuple):
    """What a voter must remember over a crash.

    A replica that is not whole may lack what it has acknowledged once: it takes part in no vote.
    It is whole again with the first HardState that says so, at the end of a synchronisation.
    """

    accepted_epoch: int
    current_epoch: int
    whole: bool = True


class Snapshot(NamedTuple):
    """A tree that is coming in on a link, and stands at `zxid`.

    `whole`: what the tree's generation is journaled with as HardState.whole. False while txns may
    be missing that this replica has acknowledged, or the tree may hold parts of later txns.
    """

    link: int
    zxid: int
    whole: bool


@dataclass(slots=True)
class Ready:
    """One round of work, all lists in the order in which they are to be done."""

    # At once, before the flush: a leader's proposals leave while its own journal is being written.
    notifications: list[tuple[int, Notification]] = field(default_factory=list)  # (sid, vote)
    dial: list[tuple[int, int]] = field(default_factory=list)  # (link, sid): its quorum port
    hang_up: list[tuple[int, str]] = field(default_factory=list)  # (link, why); no closed() needed
    send: list[tuple[int, Packet]] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)  # for the operator: who lacks what it had
    # The journal: drop what is behind, append behind it, then the changed epochs. If the tree
    # cannot be rolled back to `truncate_after`, nothing more is done and not_whole() is called
    # instead of advance().
    truncate_after: int | None = None
    append: list[Proposal] = field(default_factory=list)  # contiguous with the journal's end
    hard_state: HardState | None = None
    send_after_sync: list[tuple[int, Packet]] = field(default_factory=list)
    # The tree.
    committed: list[Proposal] = field(default_factory=list)  # each in this or an earlier `append`
    # For the server above, behind `committed`: a SYNC comes behind what it waited for.
    inbox: list[tuple[int, Packet]] = field(default_factory=list)
    # Links that a helper process takes over; it gives them back with snapshot_sent/_received.
    send_snapshot: list[int] = field(default_factory=list)
    receive_snapshot: Snapshot | None = None
    # What this replica is from here on, if that changed.
    role: Role | None = None
    serving: bool = False  # valid with `role`: whether clients are served

    @property
    def must_sync(self) -> bool:
        """Whether anything has to reach the journal; else only the tree is touched."""
        return bool(self.append) or self.hard_state is not None or self.truncate_after is not None
