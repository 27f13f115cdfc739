"""Every scenario on every kind of server of this machine; the golden text must come out.

zkstore runs with two workers and embedded. With `-m apache` (`make soak`) the golden texts
themselves are checked against real servers: 3.9 when ZKSTORE_APACHE_39 names a folder with its
jars, 3.8 when Debian's zookeeper is installed. A crowded machine makes some of Apache's own
answers late, so these judge the texts, not a change of ours.
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
    ("flavour", "name"),
    [
        pytest.param(
            flavour, name, marks=[pytest.mark.apache] if flavour.startswith("apache") else []
        )
        for flavour in _STARTS
        for name in golden.played(flavour)
    ],
)
def test_transcript(flavour: str, name: str, runner_of: Callable[[str], Runner]) -> None:
    assert runner_of(flavour).play(name) == golden.expected(name, flavour)
