"""`zkstore shell` prints what Apache's zkCli prints: see shell_cases.py."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.conformance import servers
from tests.conformance.runner import APACHE_39_VARIABLE
from tests.conformance.servers import apache_classpath
from tests.ports import free_port
from tests.tools import apache_server, shell_cases
from tests.tools.shell_cases import CASES, DIFFERENCES, NOBODY, Case, Done, printed

# Each with the number of its attempts. Apache's own shell is judged by what was kept of it, where
# there is one: make soak. It prints events from a thread of its own, sometimes in mid-line.
APACHE_39: Final = os.environ.get(APACHE_39_VARIABLE)
SHELLS: Final = [
    pytest.param(shell_cases.run_ours, 1, id="zkstore"),
    *(
        [pytest.param(shell_cases.run_theirs, 3, id="apache", marks=pytest.mark.apache)]
        if APACHE_39
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
def test_an_ensemble_is_reconfigured_alike(tmp_path: Path) -> None:
    """By both shells, in an Apache ensemble of one."""
    assert APACHE_39, f"{APACHE_39_VARIABLE} names no folder of jars"
    shown = []
    for run in (shell_cases.run_theirs, shell_cases.run_ours):
        home = tmp_path / run.__name__
        (home / "data").mkdir(parents=True)
        (home / "data" / "myid").write_text("1\n")
        member = f"server.1=127.0.0.1:{free_port()}:{free_port()}\n"
        (home / "dynamic").write_text(member)
        more = f"initLimit=10\nsyncLimit=5\nstandaloneEnabled=false\nreconfigEnabled=true\n{member}"
        skip = {"zookeeper.skipACL": "yes"}
        jars = apache_classpath(APACHE_39)
        with apache_server.apache(jars, home / "data", more, **skip) as address:
            done = run(shell_cases.RECONFIG, address, home)
            text = printed(shell_cases.RECONFIG, done, address).text()
        # A version is the zxid of its reconfig.
        text = re.sub(r"\b1000000\w\w\b", "VERSION", text)
        shown.append(text.replace(member.strip(), "MEMBER"))
    assert shown[0] == shown[1]
    assert "version No is not valid :" in shown[0]


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
