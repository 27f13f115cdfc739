"""What several unit tests start from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from zkstore.commit.process import Opened, open_writer
from zkstore.settings import Settings
from zkstore.storage.disk import Disk


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opened]:
    """A data directory that is open for writing, with a small reserve."""
    settings = Settings(data_dir=str(tmp_path), disk_reserve_bytes=1 << 20)
    one = open_writer(settings, Disk())
    yield one
    one.reserve.close()
    one.replica.abandon()
