"""A server that finds only Apache's data: it says what to do, or does it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from kazoo.client import KazooClient

import zkstore
from tests.tools.commands import ROLLED
from zkstore.errors import ConfigError, CorruptionError
from zkstore.storage.env import storage_dir


def apache_dir(folder: Path) -> Path:
    shutil.copytree(ROLLED, folder / "version-2")
    return folder


def test_it_says_which_command_to_run(tmp_path: Path) -> None:
    data_dir = apache_dir(tmp_path / "da ta")
    with pytest.raises(ConfigError) as said:
        zkstore.Server(data_dir).start()
    assert f"zkstore import '{data_dir}' --data-dir '{data_dir}'; or" in str(said.value)
    logs = tmp_path / "logs"
    logs.mkdir()
    with pytest.raises(ConfigError, match=f"--source-log-dir {logs} --data-log-dir {logs}"):
        zkstore.Server(data_dir, data_log_dir=str(logs)).start()
    assert not storage_dir(data_dir).exists()


def test_it_imports_by_itself_once(tmp_path: Path) -> None:
    data_dir = apache_dir(tmp_path)
    for _ in range(2):
        with zkstore.Server(data_dir, auto_import=True) as server:
            one = KazooClient(server.address)
            one.start()
            assert one.get("/m")[0] == b"multi2"
            if one.exists("/made") is None:
                one.create("/made")
            else:
                one.delete("/made")
            one.stop()
        shutil.rmtree(data_dir / "version-2", ignore_errors=True)


def test_it_does_not_serve_damaged_data(tmp_path: Path) -> None:
    data_dir = apache_dir(tmp_path)
    (data_dir / "version-2" / "log.32.gz").unlink()
    with pytest.raises(CorruptionError, match="txns between them are missing"):
        zkstore.Server(data_dir, auto_import=True).start()
