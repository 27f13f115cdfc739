"""Tables and plots of results: `python -m bench.report RESULTS.jsonl ...` writes docs/plots/*.svg
and, between their marks, the tables of docs/benchmarks.md and README.md.

Owns:   the text between `<!-- bench:NAME -->` and `<!-- /bench:NAME -->` in these two files.
Invariants:
  1. A ratio is of medians of one run, in which both servers took turns; else there is none.
  2. Each table and plot says which commit its figures are of, and when they were taken.
Design: of several files the newest result of a workload counts, so a suite may be measured alone.
Not here: what is expected (targets.py), how a plot is drawn (plots.py).
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from bench.plots import Bars, draw
from bench.results import Row, Rows, is_apache, number, peer_of, read_rows
from bench.servers import REPOSITORY
from bench.targets import ENSEMBLE, SERVER, Target

_OWN: Final = "zkstore"
_NAMES: Final = {"apache39": "Apache 3.9", "apache38": "Debian's 3.8"}
# How a metric is named in a table; the order is that of the columns.
_COLUMNS: Final[Mapping[str, str]] = {
    "ops_per_s": "ops/s",
    "first_ms": "first, ms",
    "middle_ms": "middle, ms",
    "last_ms": "last, ms",
    "p50_us": "p50 µs",
    "p99_us": "p99 µs",
    "cpu_us": "CPU µs/op",
    "arm_cpu_us": "CPU µs to set a watch",
    "cpu_ms_per_s": "CPU ms a second",
    "start_ms": "start, ms",
    "first_write_ms": "first write, ms",
    "back_ms": "back, ms",
    "anonymous_mb": "memory, MB",
    "file_mb": "file pages, MB",
    "disk_mb": "disk, MB",
    "peak_mb": "greatest use, MB",
    "cold_reads_per_s": "cold reads/s",
    "cold_read_p99_us": "their p99 µs",
    "writes_per_s": "writes/s",
    "write_p99_us": "their p99 µs",
    "run_s": "run, s",
    "cpu_s": "CPU, s",
    "memory_mb": "memory, MB",
}
_README_METRICS: Final = ("ops_per_s", "p50_us", "p99_us", "cpu_us")
# What a picture shows: (file, title, axis, metric, workloads' pattern).
_LOADS: Final = r"(getData|setData) \d+x\d+"
_PLOTS: Final = (
    ("throughput", "Throughput", "operations a second", "ops_per_s", _LOADS),
    ("cpu", "Server CPU, all processes", "µs an operation", "cpu_us", _LOADS),
    ("p50", "Latency, median", "µs", "p50_us", _LOADS),
    ("p99", "Latency, 99th percentile", "µs", "p99_us", _LOADS),
    ("fanout", "A change told to all watchers", "ms until the last", "last_ms", r"fan-out .*"),
    ("start", "Start to the first answer", "ms", "start_ms", r"start .*"),
    ("memory", "Memory after the start", "MB without file pages", "anonymous_mb", r"start .*"),
    ("ensemble", "Three servers: throughput", "operations a second", "ops_per_s", r"ensemble .*"),
)


class Report:
    """The rows of some files of results."""

    def __init__(self, rows: Rows) -> None:
        self._rows = list(rows.values())
        self._own = [row for row in self._rows if row.server == _OWN]

    @property
    def note(self) -> str:
        """What the figures are of."""
        commits = sorted({row.commit for row in self._own})
        days = sorted({row.run[:10] for row in self._own})
        machine = next((row.machine for row in self._own if row.machine), None) or {}
        text = f"commit {', '.join(commits)}; {', '.join(days)}"
        if machine:
            text += f"; {machine['cpu']}, {machine['cores']} cores, Python {machine['python']}"
        return text

    @property
    def peers(self) -> str:
        """The Apache servers that were measured, with their versions."""
        found = {row.server: row.version for row in self._rows if is_apache(row.server)}
        return ", ".join(f"{_NAMES[server]} ({found[server]})" for server in sorted(found))

    def tables(self) -> str:
        """One table for each kind of figures: zkstore's, Apache's, their ratio."""
        groups: dict[tuple[str, ...], list[Row]] = {}
        for row in self._own:
            metrics = tuple(name for name in _COLUMNS if name in row.metrics)
            groups.setdefault(metrics, []).append(row)
        tables = [self._table(rows, metrics) for metrics, rows in groups.items()]
        return "\n\n".join([self._heading(), *tables])

    def _heading(self) -> str:
        least = min((row.rounds for row in self._own), default=0)
        loads = [row.machine["load_at_start"] for row in self._own if row.machine]
        busy = f" Load of the machine before: {', '.join(map(str, sorted(set(loads), key=str)))}."
        peers = f" Beside it, in turns: {self.peers}." if self.peers else ""
        return f"Medians of at least {least} rounds; {self.note}.{peers}{busy if loads else ''}"

    def _table(self, rows: Iterable[Row], metrics: Sequence[str]) -> str:
        cells = [["", *(f"{_COLUMNS[m]} | Apache | ratio" for m in metrics)]]
        for row in rows:
            peer = peer_of(row, self._rows)
            cells.append(
                [_title(row), *(" | ".join(_figures(row, peer, metric)) for metric in metrics)]
            )
        return _markdown(cells, columns=1 + 3 * len(metrics))

    def summary(self) -> str:
        """README's: what a target is set for, with ratios."""
        every = (*SERVER, *ENSEMBLE)
        wanted = {target.workload for target in every}
        heads = [""]
        for metric in _README_METRICS:
            heads += [_COLUMNS[metric], "ratio"]
        cells = [heads]
        for row in self._own:
            if row.workload in wanted and row.metrics.keys() >= {"p50_us", "p99_us"}:
                cells.append([_title(row), *self._own_and_ratio(row, _README_METRICS)])
        others = [["", "zkstore", "ratio"]]
        for target in every:
            found = self._row(target.workload)
            if found and "p99_us" not in found.metrics and target.metric in found.metrics:
                title = f"{_title(found)}: {_COLUMNS[target.metric]}"
                others.append([title, *self._own_and_ratio(found, [target.metric])])
        tables = [_markdown(some) for some in (cells, others) if len(some) > 1]
        return "\n\n".join([*tables, self._heading()])

    def _own_and_ratio(self, row: Row, metrics: Sequence[str]) -> list[str]:
        peer = peer_of(row, self._rows)
        cells: list[str] = []
        for metric in metrics:
            own, _, ratio = _figures(row, peer, metric)
            cells += [own, ratio]
        return cells

    def _row(self, workload: str) -> Row | None:
        return next((row for row in self._own if row.workload == workload), None)

    def reached(self, some: Sequence[Target]) -> str:
        """Required, aimed at, reached."""
        cells = [["work", "figure", "required", "aim", "reached", ""]]
        for target in some:
            reached = self._reached(target)
            figure = _COLUMNS[target.metric] + (", ratio" if target.relative else "")
            required = "report" if target.required is None else f"{target.required:g}"
            shown = "" if reached is None else f"{reached:.3g}"
            verdict = target.verdict(reached).value
            title = _name(target.workload)
            cells.append([title, figure, required, f"{target.aim:g}", shown, verdict])
        return _markdown(cells)

    def _reached(self, target: Target) -> float | None:
        row = self._row(target.workload)
        if row is None or target.metric not in row.metrics:
            return None
        value = row.metrics[target.metric][0]
        if not target.relative:
            return value
        peer = peer_of(row, self._rows)
        return value / peer.metrics[target.metric][0] if peer else None

    def plots(self, folder: Path) -> list[str]:
        """Draw what there are figures for; returns the names."""
        drawn = []
        for name, title, axis, metric, pattern in _PLOTS:
            bars = self._bars(title, axis, metric, re.compile(pattern))
            if bars.groups:
                draw(bars, self.note, folder / f"{name}.svg")
                drawn.append(name)
        return drawn

    def _bars(self, title: str, axis: str, metric: str, wanted: re.Pattern[str]) -> Bars:
        rows = [r for r in self._own if wanted.fullmatch(r.workload) and metric in r.metrics]
        own = [row.metrics[metric][0] for row in rows]
        peers = [peer_of(row, self._rows) for row in rows]
        theirs = [peer.metrics[metric][0] if peer else None for peer in peers]
        series: list[tuple[str, Sequence[float | None]]] = [(_OWN, own)]
        if any(peers):
            series.append((self.peers, theirs))
        known = [value for value in (*own, *theirs) if value]
        wide = bool(known) and max(known) > 20 * min(known)
        return Bars(title, axis, [_name(row.workload) for row in rows], series, wide)


def _figures(row: Row, peer: Row | None, metric: str) -> tuple[str, str, str]:
    """zkstore's, Apache's, their ratio; empty where there is none."""
    value = row.metrics[metric][0]
    if peer is None or metric not in peer.metrics:
        return number(value), "", ""
    other = peer.metrics[metric][0]
    ratio = value / other if other else 0.0
    shown = f"{ratio:.2f}" if ratio < 100 else number(ratio)
    return number(value), number(other), shown if other else ""


def _name(workload: str) -> str:
    return re.sub(r"(\d)x(\d)", r"\1×\2", workload)


def _title(row: Row) -> str:
    return _name(row.workload)


def _markdown(cells: Sequence[Sequence[str]], columns: int = 0) -> str:
    columns = columns or len(cells[0])
    lines = ["| " + " | ".join(line) + " |" for line in cells]
    return "\n".join([lines[0], "|---" * columns + "|", *lines[1:]])


def replace_marked(text: str, name: str, content: str) -> str:
    """`text` with `content` between the marks of `name`; as it is if it has no such marks."""
    begin, end = f"<!-- bench:{name} -->", f"<!-- /bench:{name} -->"
    head, found_begin, rest = text.partition(begin)
    _, found_end, tail = rest.partition(end)
    if not found_begin or not found_end:
        return text
    return f"{head}{begin}\n{content}\n{end}{tail}"


def write(report: Report, root: Path) -> list[Path]:
    """Everything below `root`; returns the documents that were written."""
    plots = report.plots(root / "docs" / "plots")
    contents = {
        "summary": report.summary(),
        "tables": report.tables(),
        "targets": report.reached(SERVER),
        "ensemble-targets": report.reached(ENSEMBLE),
        "plots": "\n".join(f"![{name}](plots/{name}.svg)" for name in plots),
    }
    written = []
    for document in (root / "README.md", root / "docs" / "benchmarks.md"):
        text = old = document.read_text()
        for name, content in contents.items():
            text = replace_marked(text, name, content)
        if text != old:
            document.write_text(text)
            written.append(document)
    return written


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.report", description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, metavar="RESULTS")
    parser.add_argument("--root", type=Path, default=REPOSITORY, help="where docs/ and README are")
    args = parser.parse_args(argv)
    try:
        report = Report(read_rows(*args.files))
        for document in write(report, args.root):
            print(document)
    except (OSError, ValueError) as error:
        print(f"bench.report: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
