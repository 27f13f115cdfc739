"""One server with two workers and one with three, shared by the tests that do not end them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.invariants.replica import Replica


@pytest.fixture(scope="session", params=[2, 3], ids=lambda workers: f"{workers}-workers")
def replica(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Replica]:
    """Every test uses a subtree of its own."""
    workers: int = request.param
    with Replica(tmp_path_factory.mktemp(f"replica{workers}"), workers) as server:
        yield server
