"""`python -m bench --size smoke|real`: all benchmarks, with one table at the end.

It is pytest with the folders named and the options of conftest.py; whatever else is given is handed
on to pytest (`-k setData`, `--servers zkstore,apache38`, `--benchmark-json FILE`).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import pytest

_HERE: Final = Path(__file__).parent
_OPTIONS: Final = ("-q", "--tb=short", "--benchmark-columns=min,median,max,rounds")


def main(argv: list[str]) -> int:
    folders = [str(_HERE / folder) for folder in ("macro", "micro")]
    return int(pytest.main([*folders, *_OPTIONS, *argv]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
