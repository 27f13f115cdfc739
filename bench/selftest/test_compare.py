"""Tables of results."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import compare


def line(workload: str, server: str, values: list[float]) -> str:
    rounds = [{"ops_per_s": value, "generator_cpu_us": 1.0} for value in values]
    median = sorted(rounds, key=lambda metrics: metrics["ops_per_s"])[len(rounds) // 2]
    found = {"workload": workload, "server": server, "median": median, "rounds": rounds}
    return json.dumps(found) + "\n"


def test_one_file_is_compared_with_its_apache(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text(
        line("get 1x1", "zkstore", [19_000, 20_000, 22_000])
        + line("get 1x1", "apache39", [8000, 10_000, 11_000])
        + line("start", "zkstore", [0.5])
    )
    assert compare.main([str(file), "--spread"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "         | ops_per_s",
        "         | this apache39 ratio from … to",
        "get 1x1  |  20k      10k  2.00 1.73…2.75",
        "start    |  0.5                  0.5…0.5",
    ]


def test_two_files_are_compared_server_by_server(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = tmp_path / "old.jsonl", tmp_path / "new.jsonl"
    old.write_text(line("get", "zkstore", [100]) + line("gone", "zkstore", [1]))
    new.write_text(line("get", "zkstore", [5]) + line("get", "zkstore", [150]))
    assert compare.main([str(old), str(new)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "     | ops_per_s",
        "     | new old ratio",
        "get  | 150 100  1.50",
    ]


def test_a_line_that_is_no_result_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text(line("get", "zkstore", [1]) + '{"other": 1}\n')
    assert compare.main([str(file)]) == 1
    assert f"{file}:2: not a result" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["no-such-commit", "HEAD"], "no-such-commit"),
        (["FILE", "-k", "setData"], "-k setData"),
        (["FILE", "no-such-file"], "no-such-file"),
    ],
)
def test_what_cannot_be_compared_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text(line("get", "zkstore", [1]))
    assert compare.main([str(file) if word == "FILE" else word for word in words]) == 1
    assert said in capsys.readouterr().err
