"""Three replicas, shared by the tests that leave them as they were."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.ensemble.ensemble import Ensemble


@pytest.fixture(scope="session")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ensemble]:
    """Every test uses a subtree of its own, and ends no process.

    Some measure how soon clients are answered, whatever the disk is busy with: it flushes nothing.
    """
    with Ensemble(tmp_path_factory.mktemp("three"), 3, {"forceSync": "no"}) as ensemble:
        yield ensemble
