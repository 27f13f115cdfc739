"""zab/absence.py: how long a member without room stays away, and when a full leader gives way."""

from __future__ import annotations

from zkstore.zab.absence import ELECTION_MS, LATELY, LEADING_TICKS, Absence
from zkstore.zab.timing import Timing

TIMING = Timing(tick_ms=200, init_limit=20)  # 4 s


def pauses(absence: Absence, count: int) -> list[int]:
    """Lengths of pauses that follow each other."""
    lengths = []
    for _ in range(count):
        absence.begin()
        lengths.append(absence.left_ms)
        absence.tick(absence.left_ms)
    return lengths


def test_a_pause_ends() -> None:
    absence = Absence(TIMING)
    absence.begin()
    absence.tick(ELECTION_MS - 1)
    assert absence.left_ms == 1
    absence.tick(50)
    assert absence.left_ms == 0


def test_pauses_in_a_row_double_up_to_init_limit() -> None:
    assert pauses(Absence(TIMING), 4) == [ELECTION_MS, 2 * ELECTION_MS, 4000, 4000]
    assert pauses(Absence(Timing()), 5) == [2000, 4000, 8000, 16000, 20000]


def test_one_that_is_long_ago_does_not_count() -> None:
    absence = Absence(TIMING)
    assert pauses(absence, 2) == [ELECTION_MS, 2 * ELECTION_MS]
    absence.tick(LATELY * 2 * ELECTION_MS)
    assert pauses(absence, 1) == [ELECTION_MS]


def test_room_ends_a_pause_and_what_it_was_doubled_for() -> None:
    absence = Absence(TIMING)
    absence.set_full(True)
    pauses(absence, 3)
    absence.begin()
    absence.set_full(True)
    assert absence.left_ms
    absence.set_full(False)
    assert absence.left_ms == 0
    assert pauses(absence, 1) == [ELECTION_MS]


def test_where_nobody_says_that_the_disk_is_full_a_pause_lasts() -> None:
    absence = Absence(TIMING)
    absence.begin()
    absence.set_full(False)
    assert absence.left_ms == ELECTION_MS


def test_a_full_leader_gives_way_ever_more_rarely() -> None:
    absence = Absence(TIMING)
    assert not absence.gives_way(10**9)
    absence.set_full(True)
    assert absence.gives_way(1)
    for times in (1, 2, 4):
        led_ms = times * LEADING_TICKS * TIMING.tick_ms
        assert not absence.gives_way(led_ms - 1)
        assert absence.gives_way(1)
    absence.set_full(False)
    absence.set_full(True)
    assert absence.gives_way(1)
