"""What setup.cfg says is true of the tree."""

from __future__ import annotations

import configparser
import shutil
import subprocess
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from zkstore.server import cli

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def metadata() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


def words(text: str) -> list[str]:
    return text.split()


def test_every_package_is_listed(metadata: configparser.ConfigParser) -> None:
    folders = [
        init.parent.relative_to(ROOT).parts
        for top in ("zkstore", "tools")
        for init in (ROOT / top).rglob("__init__.py")
    ]
    # tools/ is installed as zkstore.tools.
    found = {".".join(p if p[0] == "zkstore" else ("zkstore", *p)) for p in folders}
    listed = words(metadata["options"]["packages"])
    assert listed == sorted(listed)
    assert set(listed) == found


def test_the_extras_of_tests_and_benchmarks_are_the_same(
    metadata: configparser.ConfigParser,
) -> None:
    extras = metadata["options.extras_require"]
    assert extras["test"] == extras["bench"]


def test_serve_is_registered_as_the_command_knows_it(metadata: configparser.ConfigParser) -> None:
    lines = metadata["options.entry_points"][cli.GROUP].strip().split("\n")
    registered = dict(line.split(" = ") for line in lines)
    assert EntryPoint("serve", registered["serve"], cli.GROUP) == cli._SERVE


def test_the_makefile_says_so_where_there_is_no_python(tmp_path: Path) -> None:
    """Its search is the first thing that a newcomer meets."""
    for tool in ("make", "sh"):
        path = shutil.which(tool)
        assert path is not None, f"{tool} is needed to build zkstore"
        (tmp_path / tool).symlink_to(path)
    done = subprocess.run(
        ["make", "-f", str(ROOT / "Makefile"), "VENV=none", "serve"],
        cwd=tmp_path,
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert "zkstore needs Python 3.11 or newer, and none was found." in done.stderr
