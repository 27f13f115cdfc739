"""The scenarios' server, in both forms, and clients of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.scenarios.place import Clients, Embedded, Place, Processes


@pytest.fixture(scope="session", params=["workers", "embedded"])
def place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    """Shared: what a scenario does to the server is over when the scenario ends."""
    folder = tmp_path_factory.mktemp(request.param)
    standing = Processes(folder) if request.param == "workers" else Embedded(folder)
    yield standing
    standing.close()


@pytest.fixture
def clients(place: Place) -> Iterator[Clients]:
    with ExitStack() as stack:
        yield Clients(place, stack)


@pytest.fixture
def root(request: pytest.FixtureRequest) -> str:
    """A path that no other scenario uses; recipes make it."""
    return "/" + re.sub(r"\W+", "-", request.node.name)
