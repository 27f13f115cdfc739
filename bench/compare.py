"""Two sets of results as one table.

`python -m bench.compare OLD NEW` with two commits measures both, in turns in one run, and compares
them; what else is given is handed on (`-k "setData and 64x1" --rounds 3 --size smoke`).
`python -m bench.compare OLD.jsonl NEW.jsonl` compares each server with itself in another run;
`python -m bench.compare FILE.jsonl` compares the servers of one file with Apache's.

Design: the last result of a workload and server in a file counts. A ratio is that of medians; with
  --spread the least and greatest ratio of any two rounds stand beside it: if 1 lies between them
  the ratio says nothing.
Not here: how results come about (harness.py).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.results import Row, Rows, is_apache, number, read_rows
from bench.servers import REPOSITORY, resolve


@dataclass(frozen=True, slots=True)
class Pair:
    """What is compared with what."""

    title: str
    row: Row
    base: Row


def pairs_of_servers(rows: Iterable[Row]) -> list[Pair]:
    """Every server beside the Apache of the same run; alone if there is none."""
    by_workload: dict[str, dict[str, Row]] = {}
    for row in rows:
        by_workload.setdefault(row.workload, {})[row.server] = row
    pairs = []
    for workload, by_server in by_workload.items():
        peers = [row for server, row in by_server.items() if is_apache(server)]
        base = peers[0] if peers else None
        others = [row for row in by_server.values() if row is not base] or peers
        for row in others:
            title = workload if len(others) == 1 else f"{workload} {row.server}"
            pairs.append(Pair(title, row, base or row))
    return pairs


def pairs_of_commits(old: Rows, new: Rows) -> list[Pair]:
    """Every server and workload that is in both."""
    servers = {server for _, server in new}
    return [
        Pair(row.workload if len(servers) == 1 else f"{row.workload} {row.server}", row, old[key])
        for key, row in new.items()
        if key in old
    ]


def _cells(pair: Pair, metric: str) -> list[str]:
    """The figure, the base's, their ratio; and how far the ratio goes from round to round."""
    value, least, greatest = pair.row.metrics[metric]
    if pair.row is pair.base:
        cells = [number(value), "", "", f"{number(least)}…{number(greatest)}"]
    else:
        base, base_least, base_greatest = pair.base.metrics[metric]
        cells = [number(value), number(base), "", ""]
        if base_least:
            cells[2] = f"{value / base:.2f}"
            cells[3] = f"{least / base_greatest:.2f}…{greatest / base_least:.2f}"
    return cells


def tables(pairs: Sequence[Pair], *, spread: bool = False) -> str:
    """One table for each set of metrics."""
    groups: dict[tuple[str, ...], list[Pair]] = {}
    for pair in pairs:
        metrics = tuple(name for name in pair.row.metrics if name in pair.base.metrics)
        groups.setdefault(metrics, []).append(pair)
    return "\n\n".join(_table(names, group, spread=spread) for names, group in groups.items())


def _table(metrics: Sequence[str], pairs: Sequence[Pair], *, spread: bool) -> str:
    compared = [pair for pair in pairs if pair.row is not pair.base]
    heads = [""]
    if compared:
        commits = any(not is_apache(pair.base.server) for pair in compared)
        heads = ["new", "old"] if commits else ["this", compared[0].base.server]
        heads += ["ratio", "from … to"] if spread else ["ratio"]
    lines = [
        ["", *(heads * len(metrics))],
        *(
            [pair.title, *(c for name in metrics for c in _cells(pair, name)[: len(heads)])]
            for pair in pairs
        ),
    ]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    every = len(heads)
    groups = range(1, len(widths), every)
    top = " " * widths[0]
    for name, i in zip(metrics, groups, strict=True):
        # A metric's name stands over its columns.
        lack = len(name) - (sum(widths[i : i + every]) + every - 1)
        widths[i] += max(lack, 0)
        top += "  | " + name.ljust(sum(widths[i : i + every]) + every - 1)
    body = []
    for line in lines if compared else lines[1:]:
        text = line[0].ljust(widths[0])
        for i in groups:
            cells = zip(line[i : i + every], widths[i : i + every], strict=True)
            text += "  | " + " ".join(cell.rjust(width) for cell, width in cells)
        body.append(text.rstrip())
    return "\n".join([top.rstrip(), *body])


def _measure(revisions: Sequence[str], options: Sequence[str]) -> list[Pair]:
    """Both commits in turns, by the benchmarks as they are here.

    Raises: ValueError if a commit is not one, or nothing was measured.
    """
    old, new = resolve([f"zkstore@{revision}" for revision in revisions])
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder) / "results.jsonl"
        servers = f"{old.name},{new.name}"
        command = [sys.executable, "-m", "bench", "--size", "real", "--suite", "main"]
        command += ["--servers", servers, "--results", str(results), *options]
        subprocess.run(command, cwd=REPOSITORY, check=False)
        if not results.exists():
            raise ValueError("nothing was measured")
        rows = read_rows(results)
    return [
        Pair(workload, row, rows[workload, old.name])
        for (workload, server), row in rows.items()
        if server == new.name
    ]


def _compared(names: Sequence[str], options: Sequence[str]) -> list[Pair]:
    """What is asked for: one file, two files or two commits. Raises: OSError, ValueError."""
    paths = [Path(name) for name in names]
    if len(names) == 2 and not any(path.exists() for path in paths):
        return _measure(names, options)
    if options:
        raise ValueError(f"these go with two commits only: {' '.join(options)}")
    rows = [read_rows(path) for path in paths]
    return pairs_of_commits(*rows) if len(rows) == 2 else pairs_of_servers(rows[0].values())


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.compare", description=__doc__)
    parser.add_argument("first", metavar="OLD", help="a commit or a file of results")
    parser.add_argument("second", metavar="NEW", nargs="?", help="the same")
    parser.add_argument("--spread", action="store_true", help="least and greatest ratio too")
    args, options = parser.parse_known_args(argv)
    try:
        pairs = _compared([name for name in (args.first, args.second) if name], options)
    except (OSError, ValueError) as error:
        print(f"bench.compare: {error}", file=sys.stderr)
        return 1
    print(tables(pairs, spread=args.spread) or "nothing in common")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
