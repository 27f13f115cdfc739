"""Summaries and the names of mntr."""

from __future__ import annotations

from zkstore.observability import metrics
from zkstore.observability.metrics import Distribution, Summary, decimal, spread, summed


def _of(*values: float) -> Summary:
    summary = Summary()
    for value in values:
        summary.add(1, value)
    return summary


def test_the_summary_of_parts_is_that_of_all_values() -> None:
    whole = _of(3, 1, 2, 10)
    parts = summed([_of(3, 1).part(), Summary().part(), _of(2, 10).part()])
    assert parts.part() == whole.part() == [4, 16.0, 1, 10]


def test_a_part_without_values_has_no_least() -> None:
    assert summed([Summary().part(), _of(5).part()]).least == 5
    assert summed([]).part() == [0, 0.0, 0.0, 0.0]


def test_names_are_those_of_apaches_basic_summary() -> None:
    assert _of(1, 2).values("fsynctime") == {
        "avg_fsynctime": "1.5",
        "min_fsynctime": 1,
        "max_fsynctime": 2,
        "cnt_fsynctime": 2,
        "sum_fsynctime": 3,
    }


def test_percentiles_are_those_of_all_values_of_all_parts() -> None:
    one, two = Distribution(), Distribution()
    one.add(900, 0.4)
    one.add(39, 1.7)
    two.add(50, 20.2)
    two.add(9, 63.9)
    two.add(2, 1000.0)
    whole = spread([one.part(), two.part()])
    assert whole.part()[:4] == [1000, *whole.part()[1:2], 0.4, 1000.0]
    names = whole.values("readlatency")
    percentiles = ("p50_readlatency", "p95_readlatency", "p99_readlatency", "p999_readlatency")
    assert [names[name] for name in percentiles] == [0, 20, 63, 992]  # 992: of 992 to 1007
    assert names["cnt_readlatency"] == 1000
    assert len(names) == 9


def test_many_different_times_take_little_room() -> None:
    one = Distribution()
    for ms in range(1, 1_000_000, 7):
        one.add(1, float(ms))
    assert len(one.buckets) < 600
    assert abs(one.percentile(0.5) / 500_000 - 1) < 1 / 32
    assert Distribution().percentile(0.99) == 0


def test_decimals_are_as_java_prints_them() -> None:
    assert [decimal(value) for value in (0, 1, 0.5, 1 / 3, 12.34567)] == [
        "0.0", "1.0", "0.5", "0.3333", "12.3457",
    ]  # fmt: skip


def test_counters_begin_at_zero() -> None:
    gathered = dict.fromkeys(
        ("received", "sent", "outstanding", "nodes", "watches", "ephemerals_count", "data_bytes",
         "open_files", "max_files", "sessions", "local_sessions", "uptime_ms", "auth_failed",
         "drop_probability"),
        0,
    )  # fmt: skip
    answer = metrics.metrics(
        gathered
        | {
            "latency": Summary(),
            "connections": [],
            "response_sizes": (-1, -1, -1),
            "counters": {"stale_sessions_expired": 2},
            "quotas": {},
            "summaries": {"fsynctime": Summary()},
        }
    )
    assert answer["stale_sessions_expired"] == 2
    assert answer["connection_rejected"] == 0
    assert answer["cnt_fsynctime"] == 0
