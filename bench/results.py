"""Lines of results as rows: one workload on one server, in one run.

Design: files of results are only ever appended to; the newest row of a workload and server counts,
  in whatever order the files are given.
Not here: how results come about (harness.py), what is made of them (compare.py, report.py).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

# About the generator, not the server.
HIDDEN: Final = ("generator_cpu_us", "generator_load")


@dataclass(frozen=True, slots=True)
class Row:
    """One workload on one server: each metric's median, least and greatest over the rounds."""

    workload: str
    server: str
    metrics: dict[str, tuple[float, float, float]]
    # When the run began, in UTC; rows of one run were taken in turns.
    run: str = ""
    commit: str = ""
    version: str = ""
    machine: Mapping[str, object] | None = None
    rounds: int = 0
    took_s: float = 0.0

    @classmethod
    def of(
        cls,
        workload: str,
        server: str,
        median: Mapping[str, float],
        rounds: Sequence[Mapping[str, float]],
    ) -> Row:
        return cls(workload, server, _spreads(median, rounds), rounds=len(rounds))

    @classmethod
    def read(cls, line: str) -> Row:
        """Raises: KeyError, TypeError, json.JSONDecodeError if it is not a result."""
        found = json.loads(line)
        return cls(
            found["workload"],
            found["server"],
            _spreads(found["median"], found["rounds"]),
            found.get("run", ""),
            found.get("commit", ""),
            found.get("version", ""),
            found.get("machine"),
            len(found["rounds"]),
            found.get("took_s", 0.0),
        )


def _spreads(
    median: Mapping[str, float], rounds: Sequence[Mapping[str, float]]
) -> dict[str, tuple[float, float, float]]:
    return {
        name: (value, min(r[name] for r in rounds), max(r[name] for r in rounds))
        for name, value in median.items()
        if name not in HIDDEN
    }


Rows = dict[tuple[str, str], Row]


def read_rows(*paths: Path) -> Rows:
    """The newest result of each (workload, server), in the order in which they first appear.

    Raises: OSError, ValueError (a line that is not a result).
    """
    rows: Rows = {}
    for path in paths:
        for number, line in enumerate(path.read_text().splitlines(), 1):
            try:
                row = Row.read(line)
            except (KeyError, TypeError, json.JSONDecodeError) as error:
                raise ValueError(f"{path}:{number}: not a result: {error!r}") from error
            known = rows.get((row.workload, row.server))
            if known is None or row.run >= known.run:
                rows[row.workload, row.server] = row
    return rows


def is_apache(server: str) -> bool:
    return server.startswith("apache")


def peer_of(row: Row, rows: Iterable[Row]) -> Row | None:
    """Apache's row of the same workload that was taken in turns with this one."""
    for other in rows:
        if other.workload == row.workload and is_apache(other.server) and other.run == row.run:
            return other
    return None


def number(value: float) -> str:
    """Three digits that matter, in at most 6 characters."""
    if value >= 10_000_000:
        return f"{value / 1e6:.0f}M"
    if value >= 1_000_000:
        return f"{value / 1e6:.1f}M"
    if value >= 10_000:
        return f"{value / 1e3:.0f}k"
    if value >= 1000:
        return f"{value / 1e3:.1f}k"
    return f"{value:.3g}"
