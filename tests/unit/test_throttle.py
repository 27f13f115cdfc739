"""session/throttle.py: tokens, weights, and being turned away by chance."""

from __future__ import annotations

from dataclasses import replace

from zkstore.session.throttle import ConnectionThrottle
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
