"""What the tests of generators share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bench.selftest.rote import RoteServer, rote_server


@pytest.fixture
def server() -> Iterator[RoteServer]:
    with rote_server() as server:
        yield server
