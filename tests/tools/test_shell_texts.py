"""`zkstore shell` prints what Apache's zkCli prints: see shell_cases.py."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from typing import Final

import pytest

from tests.conformance import servers
from tests.conformance.runner import APACHE_39_VARIABLE
from tests.tools import shell_cases
from tests.tools.shell_cases import CASES, DIFFERENCES, NOBODY, Case, Done, printed

# Each with the number of its attempts. Apache's own shell is judged by what was kept of it, where
# there is one: make soak. It prints events from a thread of its own, sometimes in mid-line.
SHELLS: Final = [
    pytest.param(shell_cases.run_ours, 1, id="zkstore"),
    *(
        [pytest.param(shell_cases.run_theirs, 3, id="apache", marks=pytest.mark.apache)]
        if os.environ.get(APACHE_39_VARIABLE)
        else []
    ),
]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with servers.zkstore("--workers", "2") as running:
        yield f"127.0.0.1:{running.address[1]}"


@pytest.mark.parametrize(("run", "attempts"), SHELLS)
@pytest.mark.parametrize("name", CASES)
def test_a_case_prints_what_apache_printed(
    name: str, run: Callable[[Case, str], Done], attempts: int, address: str
) -> None:
    case = CASES[name]
    server = NOBODY if case.nobody else address
    shown = ""
    for _ in range(attempts):
        if shown != shell_cases.kept(name):
            shown = printed(case, run(case, server), server + case.chroot).text()
    assert shown == shell_cases.kept(name)


def test_the_comparison_can_fail(address: str) -> None:
    case = CASES["one-command"]
    done = shell_cases.run_ours(case, address)
    changed = Done(done.args, done.returncode, done.stdout, done.stderr + "More\n")
    assert printed(case, changed, address).text() != shell_cases.kept("one-command")


@pytest.mark.apache
@pytest.mark.parametrize("difference", DIFFERENCES, ids=lambda difference: difference.why)
def test_every_difference_is_made(difference: shell_cases.Difference, address: str) -> None:
    """A reason that explains nothing any more has to go."""
    outputs = []
    for name in ("nodes", "service", "nobody-in-time"):
        case = CASES[name]
        for run in (shell_cases.run_ours, shell_cases.run_theirs):
            done = run(case, NOBODY if case.nobody else address)
            outputs.append(done.stdout + done.stderr)
    found = [bool(re.search(difference.pattern, output)) for output in outputs]
    assert any(found)
