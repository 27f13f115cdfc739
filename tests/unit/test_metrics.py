"""Summaries and the names of mntr."""

from __future__ import annotations

from zkstore.observability import metrics
from zkstore.observability.metrics import Summary, decimal, summed


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


def test_decimals_are_as_java_prints_them() -> None:
    assert [decimal(value) for value in (0, 1, 0.5, 1 / 3, 12.34567)] == [
        "0.0", "1.0", "0.5", "0.3333", "12.3457",
    ]  # fmt: skip


def test_counters_begin_at_zero() -> None:
    gathered = dict.fromkeys(
        ("received", "sent", "outstanding", "nodes", "watches", "ephemerals_count", "data_bytes",
         "open_files", "max_files", "sessions", "uptime_ms", "auth_failed", "drop_probability"),
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
