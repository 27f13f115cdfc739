"""What the supervisor listens on: the client port, exclusively, and the private commit socket."""

from __future__ import annotations

import dataclasses
import os
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from zkstore.errors import ConfigError, DirectoryInUse
from zkstore.server.listener import CommitSocket, bind_client_port
from zkstore.server.ready import Ready, ready_line
from zkstore.settings import Settings

ANY_PORT = Settings(client_port=0)


def connects(host: str, port: int) -> bool:
    with socket.create_connection((host, port), timeout=5):
        return True


def test_an_empty_address_takes_connections_of_both_families() -> None:
    with bind_client_port(ANY_PORT) as listening:
        port = listening.getsockname()[1]
        assert connects("127.0.0.1", port)
        if listening.family == socket.AF_INET6:
            assert connects("::1", port)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_an_address_is_kept_to(host: str) -> None:
    with bind_client_port(dataclasses.replace(ANY_PORT, client_port_address=host)) as listening:
        assert listening.getsockname()[0] in ("127.0.0.1", "::1")


@pytest.mark.parametrize("host", ["", "127.0.0.1"])
def test_a_port_is_not_shared(host: str) -> None:
    with bind_client_port(ANY_PORT) as listening:
        port = listening.getsockname()[1]
        settings = Settings(client_port=port, client_port_address=host)
        with pytest.raises(DirectoryInUse, match=rf"cannot listen on .*:{port}: Address already"):
            bind_client_port(settings)


def test_an_address_that_is_not_ours_is_a_wrong_configuration() -> None:
    with pytest.raises(ConfigError, match=r"cannot listen on 192\.0\.2\.1:0: Cannot assign"):
        bind_client_port(dataclasses.replace(ANY_PORT, client_port_address="192.0.2.1"))


def test_the_ready_line_says_where_and_what() -> None:
    found = Ready(zxid=0x12, znodes=34, replayed=12, seconds=0.034)
    assert ready_line(Settings(workers=1), found).endswith(
        " ready on 0.0.0.0:2181, 1 worker, data in data"
        " (zxid 0x12, 34 znodes, recovered 12 transactions in 0.03 s)"
    )
    settings = Settings(client_port_address="::1", embedded=True)
    assert " ready on [::1]:2181, embedded, " in ready_line(settings, found)


@pytest.fixture
def short_path() -> Iterator[Path]:
    """Not too long for a socket's path, wherever the tests run."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def test_the_commit_socket_is_private_and_goes_away(short_path: Path) -> None:
    commit = CommitSocket(short_path / "data")
    assert commit.path.parent == short_path / "data" / "zkstore"
    assert stat.S_IMODE(commit.path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(commit.path.stat().st_mode) == 0o600
    with socket.socket(socket.AF_UNIX) as worker:
        worker.connect(str(commit.path))
    commit.close()
    assert list(commit.path.parent.iterdir()) == []


def test_the_sockets_of_killed_servers_are_removed_but_not_those_of_live_ones(
    short_path: Path,
) -> None:
    killed, live = CommitSocket(short_path), CommitSocket(short_path)
    killed.listening.close()
    third = CommitSocket(short_path)
    assert set(third.path.parent.iterdir()) == {live.path, third.path}
    live.close()
    third.close()


def test_a_path_too_long_for_a_socket_is_avoided(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100)
    commit = CommitSocket(deep)
    assert len(os.fsencode(commit.path)) < 100
    assert stat.S_IMODE(commit.path.parent.stat().st_mode) == 0o700
    commit.close()
    assert not commit.path.parent.exists()


def test_a_data_directory_that_cannot_be_made_is_a_wrong_configuration(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"cannot make .*/file/zkstore: Not a directory"):
        CommitSocket(tmp_path / "file")
