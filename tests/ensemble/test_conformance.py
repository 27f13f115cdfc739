"""What one server answers, a follower answers as well: the conformance scenarios, and Keeper's
operations, against a follower of three replicas.

Its writes go to the leader and their replies are made of the txns that come back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.conformance import golden, test_keeper
from tests.conformance.runner import Runner
from tests.conformance.scenarios import SCENARIOS
from tests.conformance.servers import PROPERTIES, SETTINGS, Server
from tests.ensemble.ensemble import Ensemble

DIFFERENCES: Final = {
    "k_quotas.limits": "what exceeds a quota is counted by the leader, which refuses it",
    "n_statistics.digests": "zxids have an epoch in front",
    "n_words.conf": "it has an id",
    "n_words.mntr": "it follows",
    "n_words.srvr": "it follows",
    "n_words.stat": "it follows",
}
"""Scenarios that are not played on a follower, and why it answers otherwise."""

FLAVOUR: Final = "zkstore-workers"
# Those with settings of their own would each start an ensemble, and tell of the settings.
PLAYED: Final = [
    name for name in golden.played(FLAVOUR) if name not in DIFFERENCES and SCENARIOS[name].shared
]


@contextmanager
def a_follower(
    folder: Path, settings: Mapping[str, str], properties: Mapping[str, str]
) -> Iterator[Server]:
    """One of three replicas, as a server to run scenarios against.

    Sessions of a second are made in some: three replicas' flushes may not take as long.
    """
    lines = {**SETTINGS, **PROPERTIES, "forceSync": "no", **settings, **properties}
    with Ensemble(folder, 3, lines) as ensemble:
        yield ensemble.followers()[0].as_server()


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    with Runner(lambda *given: a_follower(tmp_path_factory.mktemp("played"), *given)) as found:
        yield found


@pytest.mark.parametrize("name", PLAYED)
def test_transcript(name: str, runner: Runner) -> None:
    assert runner.play(name) == golden.expected(name, FLAVOUR)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Of Keeper's tests."""
    with a_follower(tmp_path_factory.mktemp("keeper"), {}, {}) as running:
        yield running


for _name, _test in vars(test_keeper).items():
    if _name.startswith("test_") or _name == "client":
        globals()[_name] = _test
