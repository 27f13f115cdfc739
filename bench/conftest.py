"""What the benchmarks share under pytest: options, the contest, and the table at the end.

Design: pytest-benchmark's own table shows one figure of each result. It was measured before, in
  turns with the other servers (harness.py), and is handed to it through a clock of our own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Final

import pytest

from bench import compare
from bench.harness import (
    MEASURED_TIME,
    SIZES,
    SUITES,
    Arena,
    Benchmark,
    Contest,
    Result,
    Size,
    Workload,
)
from bench.results import Row
from bench.servers import REPOSITORY, Kind, commit, default_kinds, resolve

_CONTEST: Final = pytest.StashKey[Contest]()
_HERE: Final = Path(__file__).parent
# What `--suite` may be, and which suites it means.
_CHOICES: Final = {
    "main": ("main",),
    "server": ("main", "more"),
    "ensemble": ("ensemble",),
    "all": SUITES,
}


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("zkstore benchmarks")
    group.addoption("--size", choices=SIZES, default="smoke", help="how much to measure")
    group.addoption("--suite", choices=_CHOICES, default="all", help="which workloads")
    group.addoption("--rounds", type=int, default=0, help="instead of the size's own number")
    group.addoption("--servers", default="", help="names, separated by commas")
    group.addoption("--seed", type=int, default=1)
    group.addoption("--results", type=Path, help="JSON-lines file to append to")
    group.addoption("--work-dir", type=Path, default=REPOSITORY / "build" / "bench")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    _kinds(config)  # a server that cannot be run is refused before anything else
    if config.getoption("--size") == "smoke":
        # That a function can be measured is seen after a few calls.
        config.option.benchmark_max_time = Decimal("0.005")
        config.option.benchmark_min_rounds = 2


def _size(config: pytest.Config) -> Size:
    size = SIZES[config.getoption("--size")]
    rounds: int = config.getoption("--rounds")
    return replace(size, rounds=rounds) if rounds else size


def _kinds(config: pytest.Config) -> list[Kind]:
    given = config.getoption("--servers")
    names = given.split(",") if given else default_kinds(peers=config.getoption("--size") == "real")
    try:
        return resolve(names)
    except ValueError as error:
        raise pytest.UsageError(str(error)) from error


def _contest(config: pytest.Config) -> Contest:
    if _CONTEST not in config.stash:
        size = _size(config)
        results: Path | None = config.getoption("--results")
        if results is None and size.name == "real":
            results = _HERE / "results" / f"{commit()}.jsonl"
        work_dir: Path = config.getoption("--work-dir")
        arena = Arena(size, config.getoption("--seed"), work_dir.resolve())
        config.stash[_CONTEST] = Contest(arena, _kinds(config), results)
    return config.stash[_CONTEST]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "kind" in metafunc.fixturenames:
        metafunc.parametrize("kind", _kinds(metafunc.config), ids=lambda kind: kind.name)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    ours = [item for item in items if item.path.is_relative_to(_HERE)]
    if config.getoption("--size") == "real":
        for item in ours:
            # One test measures all servers of its workload; generators have their own limit.
            item.add_marker(pytest.mark.timeout(0))
    others = [item for item in ours if not _is_wanted(item, config)]
    config.hook.pytest_deselected(items=others)
    items[:] = [item for item in items if item not in others]


def _is_wanted(item: pytest.Item, config: pytest.Config) -> bool:
    """Tests of the harness itself and micro-benchmarks are more."""
    suites = _CHOICES[config.getoption("--suite")]
    parameters = getattr(item, "callspec", None)
    workload = parameters.params.get("workload") if parameters else None
    if not isinstance(workload, Workload):
        return "more" in suites
    return workload.suite in suites and (workload.smoke or config.getoption("--size") == "real")


@pytest.fixture(scope="session")
def contest(pytestconfig: pytest.Config) -> Iterator[Contest]:
    contest = _contest(pytestconfig)
    yield contest
    contest.close()


@pytest.fixture(scope="session")
def size(pytestconfig: pytest.Config) -> Size:
    return _size(pytestconfig)


@pytest.fixture
def report(contest: Contest, benchmark: Benchmark) -> Callable[[Workload, Kind], Result]:
    """Measure a workload on a server, and hand the rounds to pytest-benchmark."""

    def measure(workload: Workload, kind: Kind) -> Result:
        if refusal := workload.refusal(kind):
            pytest.skip(refusal)
        result = contest.result(workload, kind)
        taken_s = iter([workload.seconds(metrics) for metrics in result.rounds])

        def replay() -> None:
            MEASURED_TIME.now_s += next(taken_s)

        benchmark.group = workload.name
        benchmark.extra_info.update(result.median)
        benchmark.pedantic(replay, rounds=len(result.rounds))
        return result

    return measure


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    if _CONTEST in config.stash and config.stash[_CONTEST].results:
        rows = [
            Row.of(result.workload, result.server, result.median, result.rounds)
            for result in config.stash[_CONTEST].results
        ]
        terminalreporter.section("medians, and ratios to Apache ZooKeeper where it was measured")
        terminalreporter.write_line(compare.tables(compare.pairs_of_servers(rows)))
