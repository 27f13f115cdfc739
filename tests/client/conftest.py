"""A server of each kind, shared by the tests; each test lives in a tree of its own."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Final

import pytest

from tests.client.servers import Running, kinds, running
from zkstore.client import SyncClient

_numbers: Final = itertools.count()


@pytest.fixture(scope="session", params=kinds())
def shared_server(request: pytest.FixtureRequest) -> Iterator[Running]:
    with running(request.param) as server:
        yield server


@pytest.fixture(scope="session")
def embedded_server() -> Iterator[Running]:
    """For what depends on the client alone."""
    with running("embedded") as server:
        yield server


@pytest.fixture
def chroot(shared_server: Running) -> str:
    """A path of the shared server that is empty and this test's own."""
    return _empty_tree(shared_server)


@pytest.fixture
def address(shared_server: Running, chroot: str) -> str:
    return shared_server.address + chroot


@pytest.fixture
def embedded(embedded_server: Running) -> str:
    return embedded_server.address + _empty_tree(embedded_server)


def _empty_tree(server: Running) -> str:
    path = f"/test-{next(_numbers)}"
    with SyncClient(server.address) as client:
        client.create(path)
    return path
