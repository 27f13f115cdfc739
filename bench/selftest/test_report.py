"""Tables, targets and plots made from results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench import report
from bench.report import Report, replace_marked
from bench.results import read_rows
from bench.targets import SERVER, Target, Verdict


def line(workload: str, server: str, metrics: dict[str, float], **changes: Any) -> str:
    found = {
        "run": "2026-11-21T10:00:00Z",
        "commit": "abc",
        "workload": workload,
        "server": server,
        "version": "3.9.3",
        "median": metrics,
        "rounds": [metrics] * 5,
    }
    return json.dumps(found | changes) + "\n"


def load(ops_per_s: float, cpu_us: float) -> dict[str, float]:
    return {"ops_per_s": ops_per_s, "p50_us": 10.0, "p99_us": 20.0, "cpu_us": cpu_us}


RESULTS = (
    line("getData 64x1", "zkstore", load(30_000, 10.0))
    + line("getData 64x1", "apache39", load(20_000, 25.0))
    + line("setData 64x1", "zkstore", load(9_000, 60.0))
    + line("setData 64x1", "apache39", load(10_000, 40.0))
    + line("setData 16x64", "zkstore", load(100, 1.0), run="another", commit="def")
    + line("setData 16x64", "apache39", load(100, 1.0))
    + line("start 1 M, killed", "zkstore", {"start_ms": 400.0, "anonymous_mb": 90.0})
)
DOCUMENT = "before\n<!-- bench:{0} -->\nold\n<!-- /bench:{0} -->\nafter\n"


@pytest.fixture
def results(tmp_path: Path) -> Path:
    file = tmp_path / "results.jsonl"
    file.write_text(RESULTS)
    return file


def reached(results: Path) -> dict[tuple[str, str], tuple[str, str]]:
    """(workload, figure) → (what was reached, the verdict) of every target."""
    lines = Report(read_rows(results)).reached(SERVER).splitlines()[2:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {(cell[0], cell[1]): (cell[4], cell[5]) for cell in cells}


def test_targets_are_judged_by_the_ratio_of_one_run(results: Path) -> None:
    judged = reached(results)
    assert judged["getData 64×1", "CPU µs/op, ratio"] == ("0.4", Verdict.AIM.value)
    assert judged["getData 64×1", "ops/s, ratio"] == ("1.5", Verdict.REQUIRED.value)
    assert judged["setData 64×1", "CPU µs/op, ratio"] == ("1.5", Verdict.MISSED.value)
    assert judged["setData 64×1", "ops/s, ratio"] == ("0.9", Verdict.MISSED.value)
    # Apache's row is of another run.
    assert judged["setData 16×64", "ops/s, ratio"] == ("", Verdict.UNKNOWN.value)
    assert judged["start 1 M, killed", "start, ms"] == ("400", Verdict.REQUIRED.value)


def test_each_way_of_a_target_has_its_verdicts() -> None:
    falling = Target("w", "m", 1.0, 0.5)
    rising = Target("w", "m", 1.0, 2.0, rising=True)
    reported = Target("w", "m", None, 0.5)
    assert [falling.verdict(x) for x in (0.5, 1.0, 1.1)] == [
        Verdict.AIM, Verdict.REQUIRED, Verdict.MISSED,
    ]  # fmt: skip
    assert [rising.verdict(x) for x in (2.0, 1.0, 0.9)] == [
        Verdict.AIM, Verdict.REQUIRED, Verdict.MISSED,
    ]  # fmt: skip
    assert [reported.verdict(x) for x in (0.5, 9.0, None)] == [
        Verdict.AIM, Verdict.REPORTED, Verdict.UNKNOWN,
    ]  # fmt: skip


def test_one_command_writes_documents_and_plots(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    (tmp_path / "README.md").write_text(DOCUMENT.format("summary"))
    (docs / "benchmarks.md").write_text(DOCUMENT.format("tables") + DOCUMENT.format("plots"))
    command = [str(results), "--root", str(tmp_path)]
    assert report.main(command) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    readme, document = (tmp_path / "README.md").read_text(), (docs / "benchmarks.md").read_text()
    assert "| getData 64×1 | 30k | 1.50 | 10 | 1.00 | 20 | 1.00 | 10 | 0.40 |" in readme
    assert "commit abc, def" in readme and "old" not in readme
    assert readme.startswith("before\n") and readme.endswith("after\n")
    assert "![throughput](plots/throughput.svg)" in document
    drawn = {path.name: path.read_bytes() for path in (docs / "plots").iterdir()}
    assert {"throughput.svg", "cpu.svg", "start.svg"} <= drawn.keys()
    assert b"getData 64" in drawn["cpu.svg"] and b"commit abc" in drawn["cpu.svg"]

    # The same again changes nothing.
    assert report.main(command) == 0
    assert capsys.readouterr().out == ""
    assert {path.name: path.read_bytes() for path in (docs / "plots").iterdir()} == drawn


def test_the_newest_row_counts_whatever_the_order_of_the_files(tmp_path: Path) -> None:
    old, new = tmp_path / "b.jsonl", tmp_path / "a.jsonl"
    old.write_text(line("getData 1x1", "zkstore", load(1, 1.0), run="2026-01-01T00:00:00Z"))
    new.write_text(line("getData 1x1", "zkstore", load(2, 1.0), run="2026-01-02T00:00:00Z"))
    for files in ((old, new), (new, old)):
        (row,) = read_rows(*files).values()
        assert row.metrics["ops_per_s"][0] == 2


def test_text_without_marks_stays() -> None:
    assert replace_marked("text\n", "summary", "new") == "text\n"
    half = "<!-- bench:summary -->\ntext\n"
    assert replace_marked(half, "summary", "new") == half


def test_a_file_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report.main([str(tmp_path / "none.jsonl")]) == 1
    assert "none.jsonl" in capsys.readouterr().err
