"""A follower whose disk is full leaves the quorum, says so, and is back when there is room."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.ensemble.ensemble import Ensemble
from tests.ensemble.test_catch_up import lose
from tests.ensemble.test_failover import agree, writes_on
from tests.ensemble.writers import Writer, client_of
from tests.faults.test_disk_full import FILE_SYSTEMS, MB, SETTINGS, Filler, mounted
from tests.invariants.replica import wait_for

_NODE_BYTES = 500_000


@pytest.mark.parametrize("kind", FILE_SYSTEMS)
def test_a_follower_with_a_full_disk(tmp_path: Path, kind: str) -> None:
    with mounted(kind, tmp_path) as disk, Ensemble(tmp_path, 3, SETTINGS) as ensemble:
        leader = ensemble.leader()
        poor, rich = ensemble.others(leader)
        poor.kill_all()
        poor.data_dir = disk / "data"
        poor.data_dir.mkdir()
        lose(poor)
        poor.start()
        wait_for(lambda: poor.mode == "follower")
        filler = Filler(disk)
        client = client_of(f"127.0.0.1:{leader.port},127.0.0.1:{rich.port}")
        with Writer(ensemble.hosts, "writer") as writer:
            writes_on(writer)
            filler.fill(leave_bytes=MB)
            for number in range(40):
                client.create(f"/large{number}", bytes(_NODE_BYTES))
            wait_for(lambda: poor.mode != "follower")
            writes_on(writer, 200)
            assert re.search("No space left on device|the disk is full", poor.output)
            assert poor.output.count("looking for a leader") <= 11  # a minute
            filler.remove()
            wait_for(lambda: poor.mode == "follower")
            writes_on(writer)
        agree(ensemble, writer)
        client.stop()
        for member in ensemble.members.values():
            member.kill_all()
