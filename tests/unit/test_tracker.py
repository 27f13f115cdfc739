"""session/tracker.py: no session dies too early, none lives on for ever. Time is made up."""

from __future__ import annotations

import random

import pytest

from zkstore.session.tracker import Session, Tracker

TICK_MS = 1000


def nobody(place: object) -> int:
    raise AssertionError("asked for a place where there is none")


def expired(tracker: Tracker, now_ms: int) -> list[int]:
    return [session.session_id for session in tracker.expired(now_ms, nobody)]


def test_a_session_dies_at_the_tick_behind_its_timeout() -> None:
    tracker = Tracker(TICK_MS)
    tracker.add(7, 4000, 10_500)  # until 14 500; that tick ends at 15 000
    assert expired(tracker, 14_999) == []
    assert expired(tracker, 15_000) == [7]


def test_a_timeout_that_ends_on_a_tick_is_given_the_whole_of_the_next() -> None:
    tracker = Tracker(TICK_MS)
    tracker.add(7, 4000, 10_000)
    assert expired(tracker, 14_000) == []
    assert expired(tracker, 15_000) == [7]


def test_a_session_dies_once() -> None:
    tracker = Tracker(TICK_MS)
    session = tracker.add(7, 1000, 0)
    assert expired(tracker, 10_000) == [7]
    assert session.closing
    assert expired(tracker, 20_000) == []
    tracker.remove(7)
    assert expired(tracker, 30_000) == []
    assert 7 not in tracker.sessions


def test_a_session_that_is_heard_lives_on() -> None:
    tracker = Tracker(TICK_MS)
    tracker.add(7, 2000, 0)
    for now_ms in range(0, 20_000, 500):
        tracker.touch(7, now_ms)
        assert expired(tracker, now_ms) == []
    assert expired(tracker, 22_000) == [7]


def test_an_older_touch_that_comes_later_takes_no_time_away() -> None:
    tracker = Tracker(TICK_MS)
    tracker.add(7, 2000, 0)
    tracker.touch(7, 5000)
    tracker.touch(7, 1000)
    assert expired(tracker, 7999) == []


def test_touches_of_a_session_that_is_gone_are_nothing() -> None:
    tracker = Tracker(TICK_MS)
    tracker.touch(7, 5000)
    assert not tracker.sessions


def test_a_connected_session_waits_for_its_workers_report() -> None:
    """A worker that was stopped may have heard the client; it tells when it goes on."""
    tracker = Tracker(TICK_MS)
    session = tracker.add(7, 2000, 0)
    session.place = "worker"
    reported_ms = 2999
    for now_ms in range(3000, 60_000, 500):
        assert tracker.expired(now_ms, lambda place: reported_ms) == []
    reported_ms = 3000
    (dead,) = tracker.expired(61_000, lambda place: reported_ms)
    assert dead is session


def test_what_a_late_report_says_counts() -> None:
    tracker = Tracker(TICK_MS)
    tracker.add(7, 2000, 0).place = "worker"
    assert tracker.expired(50_000, lambda place: 0) == []
    tracker.touch(7, 50_000)
    assert tracker.expired(52_500, lambda place: 52_500) == []
    assert len(tracker.expired(53_000, lambda place: 53_000)) == 1


@pytest.mark.parametrize(("timeout_ms", "dies_at_ms"), [(1000, 12_000), (30_000, 41_000)])
def test_a_client_that_comes_back_brings_its_own_timeout(timeout_ms: int, dies_at_ms: int) -> None:
    tracker = Tracker(TICK_MS)
    session = tracker.add(7, 10_000, 0)
    tracker.renegotiate(session, timeout_ms, 10_000)
    assert expired(tracker, dies_at_ms - 1) == []
    assert expired(tracker, dies_at_ms) == [7]


def test_a_close_that_failed_leaves_a_session_that_can_expire() -> None:
    tracker = Tracker(TICK_MS)
    session = tracker.add(7, 2000, 0)
    assert expired(tracker, 3000) == [7]
    session.closing = False
    tracker.renegotiate(session, 2000, 3000)
    assert expired(tracker, 5999) == []
    assert expired(tracker, 6000) == [7]


def test_buckets_say_when_which_session_dies() -> None:
    tracker = Tracker(TICK_MS)
    tracker.add(7, 4000, 0)
    tracker.add(8, 4500, 0)
    tracker.add(9, 9000, 0)
    tracker.touch(9, 100)
    assert tracker.buckets() == {5000: [7, 8], 10_000: [9]}


@pytest.mark.parametrize("seed", range(20))
def test_any_history(seed: int) -> None:
    """Sessions come, are heard, move and go, and the clock jumps ahead: each that dies was silent
    for its timeout as far as its worker reported; each without a worker is dead within a tick."""
    rng = random.Random(seed)
    tracker = Tracker(TICK_MS)
    reported = {"one": 0, "two": 0}
    live: dict[int, Session] = {}
    now_ms = 0
    for number in range(600):
        now_ms += rng.choice((10, 100, 400, 400, 5000))
        for place in reported:
            if rng.random() < 0.7:
                reported[place] = now_ms - rng.choice((0, 0, 150))
        if rng.random() < 0.2:
            live[number] = tracker.add(number, rng.choice((2000, 4000, 20_000)), now_ms)
        for session in rng.sample(list(live.values()), min(3, len(live))):
            if session.session_id % 2:  # the others never have a connection
                session.place = rng.choice(("one", "two", None))
            if rng.random() < 0.5:
                tracker.touch(session.session_id, now_ms)
            elif rng.random() < 0.2:
                tracker.renegotiate(session, rng.choice((2000, 6000)), now_ms)
        for dead in tracker.expired(now_ms, lambda place: reported[str(place)]):
            assert now_ms > dead.heard_ms + dead.timeout_ms
            if dead.place is not None:
                assert reported[str(dead.place)] > dead.heard_ms + dead.timeout_ms
            del live[dead.session_id]
            tracker.remove(dead.session_id)
        for session in live.values():
            if session.session_id % 2 == 0:
                assert now_ms < session.heard_ms + session.timeout_ms + TICK_MS
    assert len(live) < 100


def test_a_learner_forgets_who_is_gone_and_lets_nobody_expire() -> None:
    """It has a tracker too, whose buckets nobody empties."""
    tracker = Tracker(TICK_MS)
    for number in range(1000):
        tracker.add(number, 4000, number)
        if number:
            tracker.remove(number)
    assert tracker.remembered == 1000
    tracker.tidy(60_000)
    assert tracker.remembered == 1
    assert not tracker.sessions[0].closing
    assert expired(tracker, 70_000) == [0]
