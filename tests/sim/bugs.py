"""Bugs put into the core or the driver on purpose: the checkers have to find each of them."""

from __future__ import annotations

from dataclasses import dataclass

from zkstore.zab.membership import Membership


@dataclass(frozen=True)
class Bugs:
    """Of the driver and the set-up; those of the core are put in by `planted`."""

    ack_before_flush: bool = False
    snap_is_whole: bool = False
    sync_without_round: bool = False

    def membership(self, membership: Membership) -> Membership:
        return membership

    def honest(self, membership: Membership) -> Membership:
        return membership


NO_BUG = Bugs()
