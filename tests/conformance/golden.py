"""The golden transcripts: one of Apache ZooKeeper 3.9 for each scenario, and the explained exceptions.

Owns:       golden/<scenario>.txt (Apache 3.9.3, the rule), golden/<scenario>.zkstore.txt and
            golden/<scenario>.apache-3.8.txt (exceptions).
Invariants:
  1. Explained: an exception's file exists exactly when its scenario stands in the table with a reason.
Not here:   how transcripts are made (scenario.py), recording them (record.py).
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

GOLDEN: Final = Path(__file__).parent / "golden"

DIFFERENCES: Final[dict[str, str]] = {}
"""Where zkstore means to differ from Apache ZooKeeper 3.9, and why."""

DIFFERENCES_38: Final[dict[str, str]] = {}
"""Where Apache ZooKeeper 3.8.0 differs from 3.9.3."""

EXCEPTIONS: Final = {
    "zkstore-workers": ("zkstore", DIFFERENCES),
    "zkstore-embedded": ("zkstore", DIFFERENCES),
    "apache-3.8": ("apache-3.8", DIFFERENCES_38),
}
"""For each flavour of server: the suffix of its exceptions' files and the table that explains them."""


def path(name: str, flavour: str = "apache-3.9") -> Path:
    """The file that a scenario's transcript on a flavour of server must equal."""
    suffix, table = EXCEPTIONS.get(flavour, ("", {}))
    return GOLDEN / (f"{name}.{suffix}.txt" if name in table else f"{name}.txt")
