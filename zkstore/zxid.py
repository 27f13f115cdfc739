"""The ids that order everything: zxid, and the names of the other 64-bit ids.

A zxid is signed 64-bit: epoch in the high half, counter in the low half. Source: ZxidUtils.
"""

from __future__ import annotations

from typing import NewType

Zxid = NewType("Zxid", int)
SessionId = NewType("SessionId", int)
Sid = NewType("Sid", int)  # a server's id

COUNTER_MAX = 0xFFFFFFFF


def make_zxid(epoch: int, counter: int) -> Zxid:
    """Join the two halves."""
    return Zxid((epoch << 32) | (counter & COUNTER_MAX))


def epoch_of(zxid: int) -> int:
    return zxid >> 32


def counter_of(zxid: int) -> int:
    return zxid & COUNTER_MAX
