"""kill -9 of the processes of a server under load, and the control that shows the check can fail.

More: python -m tests.crash.server_kills --seeds 50
"""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

import zkstore
from tests.crash import server_powerloss
from tests.crash.authors import Author
from tests.crash.server_kills import Run
from tests.crash.server_powerloss import Broken
from zkstore.storage.journal import Journal, JournalPosition

KILLS = 8


@pytest.mark.timeout(300)  # eight times a load, a death and a start
@pytest.mark.parametrize("seed", [1, 2])
def test_nothing_acknowledged_is_lost_by_kill_9(tmp_path: Path, seed: int) -> None:
    run = Run(seed, tmp_path)
    assert run.run(KILLS) > 0
    assert len(run.seconds) == KILLS


def test_control_a_server_that_logs_nothing_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forget(self: Journal, payload: bytes) -> JournalPosition:
        return self.end

    author = Author(0, random.Random(0))
    pipelines = iter(range(10))
    server = zkstore.Server(tmp_path).start()
    with monkeypatch.context() as patched:
        patched.setattr(Journal, "begin", forget)
        address = ("127.0.0.1", server.port)
        asyncio.run(author.write(address, ended=lambda: next(pipelines, None) is None))
        server.kill()
    with pytest.raises(Broken):
        server_powerloss.check(tmp_path, [author], "")
