"""Bugs put into the core or the driver on purpose: the checkers have to find each of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final
from unittest.mock import patch

from zkstore.zab.election import Election
from zkstore.zab.leader import Leader, Stage
from zkstore.zab.learner import Learner
from zkstore.zab.membership import Membership
from zkstore.zab.peer import Peer
from zkstore.zab.proposals import Log


@dataclass(frozen=True)
class Bugs:
    """Of the driver."""

    ack_before_flush: bool = False
    snap_is_whole: bool = False
    sync_without_round: bool = False
    ack_though_refused: bool = False


NO_BUG: Final = Bugs()
Around = Callable[..., Any]  # gets the original method, then its arguments


@contextmanager
def around(owner: type, name: str, replacement: Around) -> Iterator[None]:
    """Put `replacement` around a method."""
    original = getattr(owner, name)

    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        return replacement(original, self, *args, **kwargs)

    with patch.object(owner, name, method):
        yield


def _head_count(original: Around, self: Membership, sids: Collection[int]) -> bool:
    return len(set(sids)) > len(self.voters) // 2


def _votes_without_history(
    original: Around, self: Election, zxid: int, epoch: int, *, whole: bool = True
) -> None:
    original(self, 0, 0, whole=whole)


def _follows_anybody(original: Around, self: Leader, *args: Any) -> None:
    original(self, *args)
    self._summary = (1 << 62, 1 << 62)


def _votes_though_damaged(
    original: Around, self: Election, zxid: int, epoch: int, *, whole: bool = True
) -> None:
    original(self, zxid, epoch)


def _votes_though_emptied(original: Around, self: Peer, sid: int, message: Any) -> bool:
    return False


def _commits_backwards(original: Around, self: Log, upto: int) -> list:
    committed = original(self, upto)
    if len(committed) > 1:
        self.next.committed[-len(committed) :] = committed[::-1]
    return committed


def _ignores_trunc(original: Around, self: Learner, zxid: int) -> None:
    pass


def _current_epoch_first(original: Around, self: Learner, packet: Any) -> None:
    original(self, packet)
    self._log.remember(self._log.hard._replace(current_epoch=self.epoch))


def _anybody_is_enough(original: Around, self: Leader, values: dict[int, int]) -> int:
    return max(values.values())


def _all_are_voters(original: Around, self: Leader, learner: Any, packet: Any) -> None:
    original(self, learner, packet)
    learner.voter = True


def _skips_outstanding(original: Around, self: Leader, learner: Any) -> None:
    log, outstanding = self._log, self._log.outstanding
    self._propose_to_all()
    log.outstanding = deque()
    original(self, learner)
    log.outstanding = outstanding


def _all_have_history(original: Around, self: Leader, stage: Stage) -> set[int]:
    return set(self._membership.voters) if stage is Stage.ACKED else original(self, stage)


def _drops_tail(
    original: Around, self: Leader, sid: int, membership: Any, timing: Any, log: Log, *args: Any
) -> None:
    if log.outstanding:
        log.truncate(log.last_committed)
        log.last_logged = log.last_appended
    original(self, sid, membership, timing, log, *args)


def _reuses_epoch(original: Around, self: Leader) -> None:
    self._epoch_min = max(1, self._epoch_min - 1) if not self.learners else self._epoch_min
    original(self)


def _tail_not_sent(original: Around, self: Leader) -> int:
    return self._log.last_committed


def _forgets_promise(original: Around, self: Learner, packet: Any) -> None:
    hard = self._log.hard
    original(self, packet)
    self._log.hard, self._log.next.hard_state = hard, None


def _believes_it_was_written(original: Around, self: Log, ready: Any) -> None:
    original(self, ready)
    if ready.append:
        self.outstanding.extend(ready.append)
        self.last_logged = self.last_appended = ready.append[-1].zxid


def _remembers_links(original: Around, self: Leader, link: int) -> bool:
    learner = self.learners.get(link)
    if learner is not None and learner.voter and learner.stage >= Stage.ACKED:
        self.__dict__.setdefault("gone", []).append(learner)
    return original(self, link)


def _counts_links_that_are_gone(original: Around, self: Leader) -> list:
    return original(self) + self.__dict__.get("gone", [])


def _commits_before_uptodate(original: Around, self: Learner, kind: int, packet: Any) -> None:
    original(self, kind, packet)
    self._log.commit(self._committed)


def _commits_all_at_uptodate(original: Around, self: Learner) -> None:
    self._committed = self._log.last_appended
    original(self)


def _forgets_epoch(original: Around, self: Learner, kind: int, packet: Any) -> None:
    current = self._log.hard.current_epoch
    original(self, kind, packet)
    if self._log.next.hard_state is not None:
        self._log.remember(self._log.hard._replace(current_epoch=current))


def _holds_everything(original: Around, self: Log, zxid: int) -> bool:
    return True


def _skips_what_came_meanwhile(original: Around, self: Leader, link: int, zxid: int) -> None:
    original(self, link, self._end())


@dataclass(frozen=True)
class Bug:
    """One mistake, by which faults it shows, and within how many seeds it has to be found."""

    seeds: int
    patches: tuple[tuple[type, str, Around], ...] = ()
    driver: Bugs = NO_BUG
    faults: tuple[str, ...] = ()


PLANTED: Final = {
    "ack before flush": Bug(10, driver=Bugs(ack_before_flush=True)),
    "sync without a round": Bug(
        20, driver=Bugs(sync_without_round=True), faults=("_pause_leader", "_isolate_leader")
    ),
    "history counts neither in votes nor in promises": Bug(
        20,
        ((Election, "look", _votes_without_history), (Leader, "__init__", _follows_anybody)),
        faults=("_crash_leader", "_crash_all"),
    ),
    "vote though damaged": Bug(
        100,
        ((Election, "look", _votes_though_damaged),),
        faults=("_damage", "_isolate", "_crash_leader"),
    ),
    "vote though emptied": Bug(
        50, ((Peer, "_may_have_lost", _votes_though_emptied),), faults=("_empty", "_isolate")
    ),
    "commit out of order": Bug(10, ((Log, "commit", _commits_backwards),)),
    "lost TRUNC": Bug(50, ((Learner, "_truncate", _ignores_trunc),), faults=("_behead",)),
    "current epoch before data": Bug(
        100,
        ((Learner, "_promise", _current_epoch_first),),
        faults=("_crash_learner", "_crash_leader"),
    ),
    "COMMIT before quorum": Bug(10, ((Leader, "_reached", _anybody_is_enough),)),
    "observers and strangers count": Bug(
        50, ((Leader, "_greet", _all_are_voters), (Membership, "is_quorum", _head_count))
    ),
    "outstanding proposals skipped": Bug(50, ((Leader, "_go_live", _skips_outstanding),)),
    "UPTODATE before quorum": Bug(50, ((Leader, "_voters", _all_have_history),)),
    "tail dropped by a new leader": Bug(
        50, ((Leader, "__init__", _drops_tail),), faults=("_behead", "_crash_all")
    ),
    "tail not sent by a new leader": Bug(50, ((Leader, "_end", _tail_not_sent),)),
    "epoch used again": Bug(100, ((Leader, "_agree_on_epoch", _reuses_epoch),)),
    "ack though the journal is full": Bug(
        100, driver=Bugs(ack_though_refused=True), faults=("_fill", "_crash_leader")
    ),
    "a promise that is not kept": Bug(
        50, ((Learner, "_promise", _forgets_promise),), faults=("_isolate_leader", "_crash_all")
    ),
    "a full journal is taken for written": Bug(
        50, ((Log, "undone", _believes_it_was_written),), faults=("_fill", "_crash_leader")
    ),
    "acks outlive their links": Bug(
        100,
        ((Leader, "_forget", _remembers_links), (Leader, "_counted", _counts_links_that_are_gone)),
        faults=("_damage", "_break_link"),
    ),
    "commits before UPTODATE": Bug(
        50, ((Learner, "_fill", _commits_before_uptodate),), faults=("_behead", "_crash_all")
    ),
    "all is committed at UPTODATE": Bug(
        100, ((Learner, "_serve", _commits_all_at_uptodate),), faults=("_break_link", "_slow_disk")
    ),
    "the epoch is not kept": Bug(
        50, ((Learner, "_fill", _forgets_epoch),), faults=("_behead", "_crash_all")
    ),
    "any log is taken for a part of the leader's": Bug(
        50, ((Log, "holds", _holds_everything),), faults=("_behead",)
    ),
    "what came during a SNAP is skipped": Bug(
        20, ((Leader, "snapshot_sent", _skips_what_came_meanwhile),), faults=("_interrupt_tree",)
    ),
}


@contextmanager
def planted(bug: Bug) -> Iterator[None]:
    """While this lasts, the core has the bug."""
    if not bug.patches:
        yield
        return
    with around(*bug.patches[0]), planted(Bug(bug.seeds, bug.patches[1:])):
        yield
