"""A replica that is suspect or damaged: what is checked at its start, and what it says."""

from __future__ import annotations

from pathlib import Path

import pytest
from kazoo.client import KazooClient

import zkstore
from zkstore.errors import CorruptionError
from zkstore.storage.env import SUSPECT_NAME

DATA = b"x" * 3000
DAMAGED = b"y" + DATA[1:]


def fill(data_dir: Path) -> None:
    """A tree with one large node, stopped cleanly."""
    with zkstore.Server(data_dir) as server:
        client = KazooClient(server.address)
        client.start()
        client.create("/large", DATA)
        client.create("/small", b"1")
        client.stop()
        client.close()


def damage(data_dir: Path) -> None:
    """One byte of the large node's data, wherever it is kept, is another."""
    path = data_dir / "zkstore" / "data.1.mdb"
    content = path.read_bytes()
    assert DATA in content
    path.write_bytes(content.replace(DATA, DAMAGED))


def test_a_suspect_replica_without_damage_is_checked_and_served(tmp_path: Path) -> None:
    fill(tmp_path)
    mark = tmp_path / "zkstore" / SUSPECT_NAME
    mark.write_text("a worker died of SIGBUS\n")
    with zkstore.Server(tmp_path):
        assert not mark.exists()


def test_damage_is_named_and_refused_until_told(tmp_path: Path) -> None:
    fill(tmp_path)
    damage(tmp_path)
    mark = tmp_path / "zkstore" / SUSPECT_NAME
    mark.write_text("a worker died of SIGBUS\n")
    with pytest.raises(CorruptionError, match="node /large: wrong crc32"):
        zkstore.Server(tmp_path).start()
    assert mark.exists()
    with zkstore.Server(tmp_path, accept_damage=True) as server:
        client = KazooClient(server.address)
        client.start()
        assert client.get("/small")[0] == b"1"
        client.stop()
        client.close()
    assert mark.exists()


def test_a_replica_that_is_not_suspect_is_not_read_through_at_its_start(tmp_path: Path) -> None:
    """The control: the check is what finds the damage."""
    fill(tmp_path)
    damage(tmp_path)
    with zkstore.Server(tmp_path):
        pass


def test_a_refused_start_lets_go_of_the_directory(tmp_path: Path) -> None:
    fill(tmp_path)
    damage(tmp_path)
    mark = tmp_path / "zkstore" / SUSPECT_NAME
    mark.write_text("told by the operator\n")
    with pytest.raises(CorruptionError):
        zkstore.Server(tmp_path).start()
    mark.unlink()
    with zkstore.Server(tmp_path):
        pass
