"""Every scenario on every kind of server of this machine; the golden text must come out.

zkstore runs with two workers and embedded. Apache ZooKeeper runs beside it when ZKSTORE_APACHE_39
names a folder with the jars of 3.9, and when Debian's zookeeper (3.8) is installed: then the
golden texts themselves are checked against the real server.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.conformance import golden
from tests.conformance.runner import Runner, flavours

_STARTS = flavours()


@pytest.fixture(scope="module")
def runner_of() -> Iterator[Callable[[str], Runner]]:
    """Gives the runner of a flavour; all are closed at the end."""
    runners: dict[str, Runner] = {}
    with ExitStack() as stack:

        def get(flavour: str) -> Runner:
            if flavour not in runners:
                runners[flavour] = stack.enter_context(Runner(_STARTS[flavour]))
            return runners[flavour]

        yield get


@pytest.mark.parametrize(
    ("flavour", "name"), [(flavour, name) for flavour in _STARTS for name in golden.played(flavour)]
)
def test_transcript(flavour: str, name: str, runner_of: Callable[[str], Runner]) -> None:
    assert runner_of(flavour).play(name) == golden.expected(name, flavour)
