"""What the micro-benchmarks share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bench.micro.replica import Replica, open_replica


@pytest.fixture(scope="module")
def replica(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replica]:
    with open_replica(tmp_path_factory.mktemp("hot")) as replica:
        yield replica
