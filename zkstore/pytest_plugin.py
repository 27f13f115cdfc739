"""A pytest fixture for other people's test suites: `zkstore_server`, a real server on a free port.

Found through the entry point `pytest11`; a test that takes the fixture gets a fresh server of its
own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from zkstore import Server


@pytest.fixture
def zkstore_server() -> Iterator[Server]:
    """A server with an empty tree; `zkstore_server.address` is what a client connects to."""
    from zkstore import Server

    with Server() as server:
        yield server
