"""The command line: subcommands, options, exit codes, and what `serve` finds out by itself."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from zkstore.server import cli, cores, serve
from zkstore.version import VERSION


def run(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    root = Path(__file__).parents[2]
    return subprocess.run(
        [sys.executable, "-m", "zkstore", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=cwd or root,
        env={**os.environ, "PYTHONPATH": str(root)},
    )


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"zkstore {VERSION}\n"


def test_the_help_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    assert "  serve      Runs a replica." in capsys.readouterr().out


@pytest.mark.parametrize("arguments, said", [([], "is missing"), (["fly"], "no command fly")])
def test_a_wrong_command_is_usage(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(arguments) == 2
    assert said in capsys.readouterr().err


def test_a_command_of_another_package_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    point = importlib.metadata.EntryPoint("list", f"{__name__}:command", cli.GROUP)
    monkeypatch.setattr(cli, "entry_points", lambda group: [point])
    assert cli.main(["list", "a", "b"]) == 2


def command(arguments: list[str]) -> int:
    """Counts its arguments."""
    return len(arguments)


@pytest.mark.parametrize(
    "arguments, fields",
    [
        ([], {"data_dir": "data", "client_port": 2181, "workers": 0}),
        (["--data-dir", "d", "--client-port", "0"], {"data_dir": "d", "client_port": 0}),
        (["zoo.cfg", "--workers", "3"], {"data_dir": "/cfg", "client_port": 5, "workers": 3}),
        (["--workers", "3", "zoo.cfg"], {"data_dir": "/cfg", "client_port": 5, "workers": 3}),
        (["2185", "/data", "100", "--embedded"], {"tick_time_ms": 100, "embedded": True}),
        (["-Dzookeeper.maxCnxns=7", "-Djute.maxbuffer=9", "zoo.cfg"], {"max_cnxns": 7}),
    ],
)
def test_the_options_of_serve(
    arguments: list[str],
    fields: dict[str, object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "zoo.cfg").write_text("dataDir=/cfg\nclientPort=5\n")
    monkeypatch.chdir(tmp_path)
    parsed: argparse.Namespace = serve._parser().parse_intermixed_args(arguments)
    settings = serve._configure(parsed).settings
    assert {name: getattr(settings, name) for name in fields} == fields


@pytest.mark.parametrize(
    "arguments, code, said",
    [
        (["missing.cfg"], 2, "zkstore: missing.cfg: No such file or directory\n"),
        (["--workers", "many"], 2, "zkstore: --workers many: expected a whole number from 0 to"),
        (["--fast"], 2, "error: unrecognized arguments: --fast"),
        (["x", "/d"], 2, "zkstore: argument 1: clientPort=x: expected a whole number from 0"),
        (["zoo.cfg"], 2, "zkstore: zoo.cfg:2: tickTime=0: expected a whole number of"),
    ],
)
def test_a_wrong_configuration_is_one_line_and_code_2(
    arguments: list[str], code: int, said: str, tmp_path: Path
) -> None:
    (tmp_path / "zoo.cfg").write_text("dataDir=d\ntickTime=0\nclientPort=0\n")
    done = run("serve", *arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_the_cores_that_a_container_grants(tmp_path: Path) -> None:
    usable = len(os.sched_getaffinity(0))
    cpu_max = tmp_path / "cpu.max"
    assert cores.cores_available(cpu_max) == usable
    for content, expected in (
        ("max 100000\n", usable),
        ("50000 100000\n", 1),
        (f"{usable * 50 * 1000} 100000\n", max(1, (usable + 1) // 2)),
        ("rubbish", usable),
    ):
        cpu_max.write_text(content)
        assert cores.cores_available(cpu_max) == expected, content


def test_all_files_that_are_allowed_are_taken() -> None:
    program = (
        "import resource; from zkstore.server import serve\n"
        "_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))\n"
        "serve._raise_file_limit()\n"
        "print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])\n"
    )
    output = subprocess.check_output(
        [sys.executable, "-c", program], text=True, cwd=Path(__file__).parents[2]
    )
    assert int(output) == resource.getrlimit(resource.RLIMIT_NOFILE)[1]
