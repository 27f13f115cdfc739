"""What one record of the journal says, and what all records behind a checkpoint say together.

Owns:   the layout of a record's payload; pure.
Invariants:
  1. One record is one step: it truncates first, then appends; a crash leaves all of it or nothing.
  2. Only what was known to be committed when some record was written is handed out as committed;
     the rest is the tail, which the next leader decides about. A server alone counts all of it.
Shape:  msgpack [[txn, …], committed, [accepted epoch, current epoch, whole] or nil, truncate after
        or nil]; committed: up to this zxid all is committed once the record is on the disk.
Design: a truncation that a checkpoint's tree already has must not be done to it again when older
  records are read once more for their proposals: the txns of a later leader would be lost with it.
  So a checkpoint says how many records its tree reflects.
Not here: bytes on the disk (journal.py), what is done about it (writer.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import msgpack

from zkstore.records import txn as txns
from zkstore.zab.ready import HardState, Proposal


class Record(NamedTuple):
    """A decoded payload."""

    append: list[bytes]
    committed: int
    hard_state: HardState | None
    truncate_after: int | None


def encode(
    append: list[Proposal],
    committed: int,
    hard_state: HardState | None = None,
    truncate_after: int | None = None,
) -> bytes:
    packed: bytes = msgpack.packb([[p.txn for p in append], committed, hard_state, truncate_after])
    return packed


def decode(payload: bytes) -> Record:
    append, committed, hard, truncate_after = msgpack.unpackb(payload)
    return Record(append, committed, HardState(*hard) if hard else None, truncate_after)


class SortedOut(NamedTuple):
    """What the journal holds beyond the tree."""

    committed: list[Proposal]
    tail: list[Proposal]  # journaled, and not known to be committed
    hard_state: HardState


def sort_out(
    payloads: Iterable[bytes],
    *,
    reflected: int,
    applied: int,
    hard_state: HardState,
    roll_back: Callable[[int], int],
) -> SortedOut:
    """Go through the records in order.

    reflected: of so many of the first ones the tree has the truncations already.
    applied: the zxid that the tree stands at; all up to it is committed.
    roll_back: takes the tree back to a zxid below `applied`, returns where it then stands.
    """
    committed = applied
    beyond: list[Proposal] = []
    for number, payload in enumerate(payloads):
        record = decode(payload)
        cut = record.truncate_after
        if cut is not None:
            beyond = [proposal for proposal in beyond if proposal.zxid <= cut]
            if cut < applied and number >= reflected:
                applied = roll_back(cut)
            committed = max(applied, min(committed, cut))
        for encoded in record.append:
            zxid = txns.zxid_of(encoded)
            if zxid > (beyond[-1].zxid if beyond else applied):
                beyond.append(Proposal(zxid, encoded))
        committed = max(committed, record.committed)
        hard_state = record.hard_state or hard_state
    known = sum(proposal.zxid <= committed for proposal in beyond)
    return SortedOut(beyond[:known], beyond[known:], hard_state)


def epochs_of(payloads: Iterable[bytes]) -> Any:
    """The greatest accepted epoch that any of these records promises, 0 if none does."""
    found = (decode(payload).hard_state for payload in payloads)
    return max((hard.accepted_epoch for hard in found if hard is not None), default=0)
