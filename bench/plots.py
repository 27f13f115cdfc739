"""Pictures of results, as SVG.

Design: bars from zero where a share of a length means something, a logarithmic axis where figures
  differ by hundreds. Text stays text and nothing of the day is in the file, so the same results
  give the same bytes.
Not here: which results (report.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import matplotlib
from matplotlib.figure import Figure

from bench.results import number

matplotlib.rcParams.update(
    {
        "svg.fonttype": "none",
        "svg.hashsalt": "zkstore",
        "font.family": "sans-serif",
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
)

# zkstore first; told apart by lightness as well.
_COLOURS: Final = ("#1f5fa8", "#e0a04a", "#9a9a9a")
_BAR: Final = 0.38
_INCHES_WIDE: Final = 7.2
_INCHES_A_GROUP: Final = 0.46


@dataclass(frozen=True, slots=True)
class Bars:
    """Groups of bars, one bar for each series; a value that is None has none."""

    title: str
    axis: str
    groups: Sequence[str]
    # (its name, one value for each group).
    series: Sequence[tuple[str, Sequence[float | None]]]
    logarithmic: bool = False


def draw(bars: Bars, note: str, path: Path) -> None:
    """Write the picture; `note` says where the figures are from."""
    height = 1.3 + _INCHES_A_GROUP * len(bars.groups)
    figure = Figure(figsize=(_INCHES_WIDE, height), layout="constrained")
    axes: Any = figure.subplots()
    thickness = 2 * _BAR / len(bars.series)
    for index, (name, values) in enumerate(bars.series):
        offset = (index - (len(bars.series) - 1) / 2) * thickness
        places = [group + offset for group, value in enumerate(values) if value is not None]
        lengths = [value for value in values if value is not None]
        drawn = axes.barh(places, lengths, thickness * 0.92, label=name, color=_COLOURS[index])
        axes.bar_label(drawn, labels=[number(value) for value in lengths], padding=2, fontsize=8)
    axes.set_yticks(range(len(bars.groups)), bars.groups)
    axes.invert_yaxis()
    if bars.logarithmic:
        known = [value for _, values in bars.series for value in values if value]
        axes.set_xscale("log")
        axes.set_xlim(min(known) / 2, max(known) * 2)
    else:
        axes.margins(x=0.12)
    axes.xaxis.set_major_formatter(lambda value, _: number(value))
    axes.set_xlabel(bars.axis)
    axes.set_title(bars.title, loc="left", fontweight="bold")
    axes.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 1), ncols=len(bars.series))
    figure.supxlabel(note, fontsize=7, color="#666666", ha="left", x=0.01)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})
