"""A server that no test of this folder may be able to hurt."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.bystander import UNFLUSHED
from tests.invariants.replica import Replica

SESSIONLESS_MS = 1000


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replica]:
    settings = {**UNFLUSHED, "nio.sessionlessCnxnTimeout": str(SESSIONLESS_MS)}
    with Replica(tmp_path_factory.mktemp("faults"), 2, settings) as replica:
        yield replica


@pytest.fixture
def unhurt(shared: Replica) -> Iterator[Replica]:
    """The shared server; none of its processes has died when the test is over."""
    before = sorted(shared.pids())
    yield shared
    assert sorted(shared.pids()) == before
    assert shared.serves()
