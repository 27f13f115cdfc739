"""Runs the file tools as the command does, and looks at what they print."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.golden.apache_log import DATA
from tools import compact, exports, imports, logs, snapshots

MAINS: dict[str, Callable[[list[str], Any], int]] = {
    "compact": compact.main,
    "export": exports.main,
    "import": imports.main,
    "log": logs.main,
    "snapshot": snapshots.main,
}
ROLLED = DATA / "zk393-rolled"


def run(line: str, *paths: object, code: int = 0) -> str:
    """What `zkstore LINE` prints; each {} of the line is the next path."""
    words = [str(paths[int(w[1:-1])]) if w.startswith("{") else w for w in line.split()]
    out = io.StringIO()
    found = MAINS[words[0]](words[1:], out)
    assert found == code, (found, out.getvalue())
    return out.getvalue()


def objects(line: str, *paths: object, code: int = 0) -> list[dict[str, Any]]:
    """The JSON lines that it prints."""
    return [json.loads(one) for one in run(f"{line} --json", *paths, code=code).splitlines()]


def imported(target: Path) -> Path:
    """zkstore's data of the server zk393-rolled."""
    run("import {0} --data-dir {1}", ROLLED, target)
    return target
