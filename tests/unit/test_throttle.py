"""session/throttle.py: tokens, weights, being turned away by chance; room for requests."""

from __future__ import annotations

from dataclasses import replace

import pytest

from zkstore.session.throttle import ConnectionThrottle, RequestThrottle
from zkstore.settings import Settings

TEN = Settings(connection_throttle_tokens=10, connection_throttle_fill_time_ms=100)


def throttle(settings: Settings, chance: float = 0.5) -> ConnectionThrottle:
    return ConnectionThrottle(settings, 0, lambda: chance)


def admitted(one: ConnectionThrottle, count: int, now_ms: int, *, renewed: bool = False) -> int:
    return sum(one.admits(now_ms, renewed=renewed) for _ in range(count))


def test_without_tokens_configured_all_are_admitted() -> None:
    one = throttle(Settings())
    assert admitted(one, 1000, 0) == 1000
    assert one.deficit == 0


def test_a_burst_empties_the_bucket_and_time_fills_it() -> None:
    one = throttle(TEN)
    assert admitted(one, 15, 1) == 10
    assert one.deficit == 10
    assert admitted(one, 5, 101) == 1
    assert admitted(one, 5, 351) == 2
    assert admitted(one, 50, 1_000_000) == 10


def test_weights_count_in_new_sessions() -> None:
    settings = replace(TEN, connection_throttle_weight_enabled=True)
    assert admitted(throttle(settings), 50, 1) == 10
    assert admitted(throttle(settings), 50, 1, renewed=True) == 15
    local_dearest = replace(settings, connection_throttle_local_session_weight=7)
    assert admitted(throttle(local_dearest), 50, 1, renewed=True) == 10
    one = throttle(settings)
    assert sum(one.admits(1, renewed=False, local=True) for _ in range(50)) == 30


def test_an_empty_bucket_raises_the_probability_and_a_full_one_lowers_it() -> None:
    settings = replace(
        TEN,
        connection_throttle_freeze_time_ms=10,
        connection_throttle_drop_increase=0.6,
        connection_throttle_drop_decrease=0.2,
    )
    one = throttle(settings)
    assert admitted(one, 10, 1) == 10
    assert one.drop_probability == 0.0
    assert admitted(one, 1, 20) == 0
    assert one.drop_probability == 0.6
    assert admitted(one, 1, 25) == 0  # frozen: not moved again
    assert one.drop_probability == 0.6
    assert admitted(one, 1, 40) == 0
    assert one.drop_probability == 1.0
    # The bucket is full again: the probability sinks until the one with chance 0.5 gets in.
    moved = [(admitted(one, 1, now), round(one.drop_probability, 1)) for now in (2000, 4000, 6000)]
    assert moved == [(0, 0.8), (0, 0.6), (1, 0.4)]


def test_without_a_limit_there_is_room_for_all() -> None:
    one = RequestThrottle(Settings())
    assert one.room(elsewhere=10**6, others_waiting=3) >= 10**9
    assert not one.is_late(10**9)
    assert not one.is_stale(10**9, 1)


@pytest.mark.parametrize(
    "elsewhere, others_waiting, room",
    [
        (0, 0, 10),
        (7, 0, 3),
        (10, 0, 0),
        (12, 0, -2),  # the limit was lowered meanwhile
        (0, 1, 5),
        (8, 1, 2),
        (10, 1, 1),  # who waits gets one, whatever the others have
        (0, 2, 3),
        (3, 20, 1),
    ],
)
def test_room_is_what_others_leave_and_a_share_while_they_wait(
    elsewhere: int, others_waiting: int, room: int
) -> None:
    one = RequestThrottle(Settings(request_throttle_max_requests=10))
    assert one.room(elsewhere, others_waiting) == room


def test_late_is_longer_than_the_time_allowed() -> None:
    one = RequestThrottle(Settings(throttled_op_wait_time_ms=100))
    assert [one.is_late(ms) for ms in (0, 100, 101)] == [False, False, True]


@pytest.mark.parametrize("drop", [True, False])
@pytest.mark.parametrize("latency", [True, False])
@pytest.mark.parametrize("connection", [True, False])
def test_stale_is_what_is_checked_and_goes_if_it_is_to(
    drop: bool, latency: bool, connection: bool
) -> None:
    """Source: RequestThrottler.run and Request.isStale."""
    one = RequestThrottle(
        Settings(
            request_throttle_drop_stale=drop,
            request_stale_latency_check=latency,
            request_stale_connection_check=connection,
        )
    )
    assert one.drops_closed == (drop and connection)
    assert one.is_stale(501, 500) == (drop and latency)
    assert not one.is_stale(500, 500)
