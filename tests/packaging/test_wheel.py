"""The wheel holds what it should and nothing else, and its commands work where it is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import Distribution
from pathlib import Path

import pytest

from zkstore.version import VERSION

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy: setuptools leaves its traces beside the sources.

    Without __pycache__, where other processes write while this one copies.
    """
    source = tmp_path_factory.mktemp("source")
    files = ["setup.cfg", "pyproject.toml", "README.md", "LICENSE", "zkstore", "tools"]
    for path in (ROOT / name for name in files):
        if path.is_dir():
            shutil.copytree(path, source / path.name, ignore=shutil.ignore_patterns("__pycache__"))
        elif path.exists():
            shutil.copy(path, source)
    target = tmp_path_factory.mktemp("wheel")
    pip("wheel", "--no-build-isolation", "--wheel-dir", str(target), str(source))
    (built,) = target.iterdir()
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel installed; the dependencies are this interpreter's."""
    folder = tmp_path_factory.mktemp("installed")
    pip("install", "--target", str(folder), str(wheel))
    return folder


def pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    done = subprocess.run(
        [*command, arguments[0], "--no-deps", *arguments[1:]], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def run(installed: Path, *command: str) -> str:
    done = subprocess.run(
        command,
        cwd=installed,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_holds_all_sources_and_nothing_else(wheel: Path) -> None:
    assert wheel.name == f"zkstore-{VERSION}-py3-none-any.whl"
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    sources = {str(path.relative_to(ROOT)) for path in (ROOT / "zkstore").rglob("*.py")}
    tools = {f"zkstore/{path.relative_to(ROOT)}" for path in (ROOT / "tools").rglob("*.py")}
    assert names == sources | tools | {"zkstore/py.typed"}


def test_the_licence_is_in_the_wheel(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert f"zkstore-{VERSION}.dist-info/licenses/LICENSE" in names


def test_it_is_the_installed_package_that_runs(installed: Path) -> None:
    program = "import zkstore.server.cli, zkstore.tools as t; print(zkstore.__file__, t.__file__)"
    package, tools = run(installed, sys.executable, "-c", program).split()
    assert Path(package).parent == installed / "zkstore"
    assert Path(tools).parent == installed / "zkstore" / "tools"


def test_every_command_answers_help(installed: Path) -> None:
    command = str(installed / "bin" / "zkstore")
    listed_version = f"zkstore {VERSION}\n"
    assert run(installed, command, "--version") == listed_version
    (metadata,) = installed.glob("*.dist-info")
    points = Distribution.at(metadata).entry_points
    scripts = {point.name for point in points.select(group="console_scripts")}
    assert scripts == {"zkstore", "zkServer.sh", "zkCli.sh"}
    assert run(installed, str(installed / "bin" / "zkServer.sh"), "version") == listed_version
    assert "usage: zkstore shell " in run(installed, str(installed / "bin" / "zkCli.sh"), "--help")
    listed = run(installed, command, "--help")
    for point in points.select(group="zkstore.commands"):
        assert f"\n  {point.name} " in listed
        assert f"usage: zkstore {point.name} " in run(installed, command, point.name, "--help")
