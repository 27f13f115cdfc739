"""What a review found about the embedded server: how it fails."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

import zkstore


class Odd(Exception):
    """Nobody's request."""


def test_a_port_that_is_taken_does_not_keep_the_directory_locked(tmp_path: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as other,
        pytest.raises(OSError, match="in use"),
    ):
        zkstore.Server(tmp_path, port=other.getsockname()[1]).start()
    with zkstore.Server(tmp_path) as server:
        assert server.port


def test_what_made_a_server_fail_is_raised_when_it_is_stopped(tmp_path: Path) -> None:
    server = zkstore.Server(tmp_path).start()

    def fail() -> None:
        raise Odd

    assert server._aio is not None and server._thread is not None
    server._aio.call_soon_threadsafe(fail)
    server._thread.join()
    with pytest.raises(Odd):
        server.stop()
