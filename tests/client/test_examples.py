"""The examples in docs/examples run as printed."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
EXAMPLES: Final = sorted((ROOT / "docs" / "examples").glob("*.py"))
SLOW_DISK: Final = "flushing the journal took "  # what a server says that waited for it
GUIDE: Final = ROOT / "docs" / "client.md"


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_it_prints_what_it_says(example: Path) -> None:
    text = ast.get_docstring(ast.parse(example.read_text()))
    assert text is not None
    said = text.partition("Prints:\n")[2]
    assert said
    ran = subprocess.run(
        [sys.executable, str(example)],
        capture_output=True,
        text=True,
        timeout=100,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    complaints = [line for line in ran.stderr.splitlines() if not line.startswith(SLOW_DISK)]
    assert (ran.returncode, complaints) == (0, [])
    assert ran.stdout.strip() == said.strip()


def test_the_guide_names_each_of_them() -> None:
    named = set(re.findall(r"examples/(\w+)\.py", GUIDE.read_text()))
    assert named == {example.stem for example in EXAMPLES}


def test_the_guides_own_code_compiles() -> None:
    blocks = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    assert blocks
    for block in blocks:
        compile(block, str(GUIDE), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
