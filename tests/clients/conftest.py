"""A server and a proxy in front of it, for the tests of foreign clients."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.clients.support import Proxy
from tests.conformance import servers
from tests.conformance.servers import Server


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """One zkstore with two workers for all tests of clients; each uses paths of its own."""
    # How long a disk takes must not cost a client its connection.
    with servers.zkstore("--workers", "2", settings={"forceSync": "no"}) as running:
        yield running


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    standing = Proxy(server.address)
    yield standing
    standing.close()
